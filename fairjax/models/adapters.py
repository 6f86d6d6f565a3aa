"""Any trunk and heads as a :class:`fairjax.core.types.Model`: flax linen, flax nnx, equinox.

A model that is one module does not need this: links take its gradients as they are, and a ``Model``
by hand is three functions.

A trunk may drop out: in a step of training it gets a key, otherwise it is deterministic. Heads get
no key and may not.

A trunk may begin with given weights. What it has beside them, such as the statistics of a batch
normalisation, then stays as given: it is part of the function, as it is in evaluation. To freeze
layers of such a trunk, make it a :class:`fairjax.pretrained.Pretrained` and give it to
:func:`fairjax.models.fine_tuned`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.errors import InvalidRngError, ModifyScopeVariableError

from fairjax.core.types import Array, Model, PyTree

if TYPE_CHECKING:
    import equinox as eqx
    from flax import nnx

# how a linen module may call the flag of its dropout, and its value without dropout
_FLAGS = {"deterministic": True, "train": False, "training": False}


def _model(
    init_parts: Callable[[Array, PyTree], tuple[Any, ...]],
    apply: Callable[..., Any],
    x: PyTree,
    dropout: bool = False,
) -> Model:
    """Build a model from both parts.

    Args:
      init_parts: ``init_parts(key, x)`` gives the parameters of trunk and heads.
      apply: ``apply("trunk" or "heads", params, *inputs)``; with ``key=``, a trunk drops out.
      x: some rows of inputs.
      dropout: whether the trunk drops out.
    """

    def init(key: Array) -> PyTree:
        trunk, heads = init_parts(key, x)
        return {
            "trunk": trunk,
            "heads": heads,
        }

    def represent(
        params: PyTree,
        x: PyTree,
        condition: Array | None = None,
        **key: Array,
    ) -> PyTree:
        if condition is None:
            return apply("trunk", params, x, **key)
        return apply("trunk", params, x, condition, **key)

    def predict(params: PyTree, z: PyTree) -> Array:
        return apply("heads", params, z)

    def scores_of(params: PyTree) -> Array:
        z = represent(params["trunk"], x)
        return predict(params["heads"], z)

    params = jax.eval_shape(init, jax.random.key(0))
    scores = jax.eval_shape(scores_of, params)
    first_leaf = jax.tree.leaves(x)[0]
    rows = first_leaf.shape[0]
    if getattr(scores, "ndim", None) != 2 or scores.shape[0] != rows:
        shapes = jax.tree.map(lambda leaf: leaf.shape, scores)
        raise ValueError(
            f"the heads give {shapes} for {rows} rows; a model gives scores [rows, columns], one "
            "column per number to predict: concatenate the tasks' outputs along the last axis"
        )
    if dropout:
        jax.eval_shape(
            lambda trunk, key: represent(trunk, x, key=key), params["trunk"], jax.random.key(0)
        )
    return Model(init, represent, predict, dropout=dropout)


def _refuse_state(part: str, names: list[str]) -> None:
    if names:
        state = ", ".join(names)
        cure = "use a module without them"
        if part == "trunk":
            cure += ", or one that is trained already (given=), so that they stay as they are"
        raise ValueError(f"the {part} module has {state} beside its parameters; {cure}")


def _refuse_dropout_of_heads() -> None:
    raise ValueError(
        "the heads module drops out, but only a trunk gets a key; move its dropout to the end of "
        "the trunk"
    )


def from_linen(
    trunk: nn.Module,
    heads: nn.Module,
    x: PyTree,
    *,
    given: PyTree | None = None,
) -> Model:
    """Two linen modules as a model; parameters are their ``"params"`` dicts.

    A trunk with dropout takes one of the flags ``deterministic``, ``train`` and ``training``. In a
    step of training it gets ``rngs={"dropout": key}``. One flag is for dropout and normalisation
    alike, so a trunk with given statistics never drops out.

    Args:
      trunk: ``trunk(x) -> z`` for B rows at a time.
      heads: ``heads(z) -> scores [B, C]``.
      x: some rows of inputs, for shapes.
      given: variables of the trunk, as ``trunk.init`` returns them. Its parameters are where
        training begins, other collections (``batch_stats``, say) stay as they are.

    Raises:
      ValueError: for modules with other collections than parameters (running statistics, say) that
        are not given, because a pure function of the parameters cannot carry them; for given
        variables of other names or shapes than the trunk's; for a trunk that writes given ones; for
        dropout without a flag, or in the heads; for heads that do not give ``[B, C]``.
    """
    modules = {"trunk": trunk, "heads": heads}
    fixed: dict[str, dict[str, Any]] = {"trunk": {}, "heads": {}}
    flags = {part: _flag_of(module) for part, module in modules.items()}

    def flag(part: str, drops: bool) -> dict[str, Any]:
        name = flags[part]
        return {name: _FLAGS[name] != drops} if name else {}

    def init_part(
        part: str,
        key: Array,
        inputs: PyTree,
    ) -> tuple[PyTree, PyTree]:
        off = flag(part, False)
        if part == "trunk" and given is not None:
            params = start["params"]
            return apply(part, params, inputs), params
        output, variables = modules[part].init_with_output(key, inputs, **off)
        collections = set(variables) - {"params"}
        _refuse_state(part, sorted(collections))
        return output, variables.get("params", {})

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        z, trunk_params = init_part("trunk", trunk_key, x)
        _, heads_params = init_part("heads", heads_key, z)
        return trunk_params, heads_params

    def apply(part: str, params: PyTree, *inputs: PyTree, key: Array | None = None) -> PyTree:
        rngs = None if key is None else {"dropout": key}
        on_or_off = flag(part, key is not None)
        variables = {"params": params, **fixed[part]}
        return modules[part].apply(variables, *inputs, rngs=rngs, **on_or_off)

    def draws(part: str, params: PyTree, inputs: PyTree, drops: bool) -> bool:
        """Whether a module asks for a key when its flag says so."""
        on_or_off = flag(part, drops)
        variables = {"params": params, **fixed[part]}
        try:
            jax.eval_shape(lambda v, i: modules[part].apply(v, i, **on_or_off), variables, inputs)
        except InvalidRngError:
            return True
        return False

    if given is not None:
        start = _checked(trunk, x, flag("trunk", False), given)
        fixed["trunk"] = {name: part for name, part in start.items() if name != "params"}
    trunk_shapes, heads_shapes = jax.eval_shape(init_parts, jax.random.key(0), x)
    if draws("trunk", trunk_shapes, x, drops=False):
        names = ", ".join(_FLAGS)
        raise ValueError(
            "the trunk module draws random numbers whenever it is called; give its __call__ one of "
            f"the flags {names}, and Dropout its deterministic= from it"
        )
    z = jax.eval_shape(lambda params: apply("trunk", params, x), trunk_shapes)
    if draws("heads", heads_shapes, z, drops=True):
        _refuse_dropout_of_heads()
    drops = not fixed["trunk"] and draws("trunk", trunk_shapes, x, drops=True)
    return _model(init_parts, apply, x, drops)


def _checked(trunk: nn.Module, x: PyTree, off: dict[str, Any], given: PyTree) -> PyTree:
    """The given variables as arrays, if they are those of the trunk and it does not write them."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    own = _shapes(jax.eval_shape(lambda x: trunk.init(keys, x, **off), x))
    start = jax.tree.map(jnp.asarray, {"params": {}, **unfreeze(given)})
    shapes = _shapes(start)
    names = own.keys() | shapes.keys()
    wrong = sorted(name for name in names if own.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{len(wrong)} of {len(names)} given arrays are not those of the trunk module, the "
            f"first is {name}: it has the shape {own.get(name)}, given is {shapes.get(name)}; give "
            "what its init or its training returned"
        )
    try:
        jax.eval_shape(lambda variables, x: trunk.apply(variables, x, **off), start, x)
    except ModifyScopeVariableError as error:
        names = ", ".join(_FLAGS)
        raise ValueError(
            "the trunk module writes the variables that are given, but they stay as they are; give "
            f"its __call__ one of the flags {names}, and BatchNorm its use_running_average= from it"
        ) from error
    return start


def _shapes(variables: PyTree) -> dict[str, tuple[int, ...]]:
    """Shapes by name, such as ``params.Dense_0.kernel``."""
    leaves = jax.tree.leaves_with_path(unfreeze(variables))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {name: leaf.shape for name, (_, leaf) in zip(names, leaves, strict=True)}


def _flag_of(module: nn.Module) -> str | None:
    """The name of the flag of a module's dropout."""
    parameters = inspect.signature(module.__call__).parameters
    return next((name for name in _FLAGS if name in parameters), None)


def from_nnx(
    trunk: Callable[[nnx.Rngs], nnx.Module] | nnx.Module,
    heads: Callable[[nnx.Rngs], nnx.Module],
    x: PyTree,
) -> Model:
    """Two nnx modules as a model, each given by a function that makes it.

    Parameters are their ``nnx.Param`` states.
    ``from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs), Heads, x)``. A trunk with dropout keeps
    ``nnx.Rngs``; it is as it was made in a step of training, with every stream begun anew from the
    step's key, and in ``eval()`` mode otherwise.

    Args:
      trunk: makes the trunk from ``nnx.Rngs``; the trunk takes B rows at a time. Or the trunk
        itself: training begins with its parameters, its other variables stay as they are, and its
        batch normalisation uses its running statistics.
      heads: makes the heads, ``z -> scores [B, C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for modules with other variables than parameters and streams of random numbers,
        unless the trunk itself is given; for dropout in the heads; for heads that do not give
        ``[B, C]``.
    """
    from flax import nnx

    makers = {"trunk": trunk, "heads": heads}

    def made(part: str, key: Array) -> nnx.Module:
        if part == "trunk" and isinstance(trunk, nnx.Module):
            module = nnx.clone(trunk)
            module.set_attributes(use_running_average=True, raise_if_not_found=False)
            return module
        return makers[part](nnx.Rngs(key))

    def split(part: str, key: Array, drops: bool = True) -> tuple[Any, ...]:
        module = made(part, key)
        if not drops:
            module.eval()
        return nnx.split(module, nnx.Param, nnx.RngState, ...)

    graphs = {}
    streams = {}
    states = {}
    for part in makers:
        graphs[part, True], _, streams[part], states[part] = split(part, jax.random.key(0))
        if part == "heads" or not isinstance(trunk, nnx.Module):
            paths = [path for path, _ in jax.tree.leaves_with_path(states[part])]
            _refuse_state(part, [jax.tree_util.keystr(path) for path in paths])
        has_streams = bool(jax.tree.leaves(streams[part]))
        if has_streams and part == "heads":
            _refuse_dropout_of_heads()
        graphs[part, False] = graphs[part, True]
        if has_streams:
            graphs[part, False] = split(part, jax.random.key(0), drops=False)[0]
        streams[part] = jax.eval_shape(lambda streams: streams, streams[part])

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        trunk_params = split("trunk", trunk_key)[1]
        heads_params = split("heads", heads_key)[1]
        return trunk_params, heads_params

    def apply(part: str, params: PyTree, *inputs: PyTree, key: Array | None = None) -> PyTree:
        # without a key no stream is read, but the graph has a place for each
        begun = _begun(streams[part], jax.random.key(0) if key is None else key)
        module = nnx.merge(graphs[part, key is not None], params, begun, states[part])
        return module(*inputs)

    return _model(init_parts, apply, x, bool(jax.tree.leaves(streams["trunk"])))


def _begun(streams: PyTree, key: Array) -> PyTree:
    """Streams of random numbers from a key: own keys, counts of 0."""
    leaves, structure = jax.tree.flatten(streams)
    begun = []
    for i, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            begun.append(jax.random.split(jax.random.fold_in(key, i), leaf.shape))
        else:
            begun.append(jnp.zeros(leaf.shape, leaf.dtype))
    return jax.tree.unflatten(structure, begun)


def from_equinox(
    trunk: Callable[[Array], eqx.Module],
    heads: Callable[[Array], eqx.Module],
    x: PyTree,
) -> Model:
    """Two equinox modules as a model, each given by a function that makes it from a key.

    Parameters are their inexact arrays. As is usual in equinox, modules take one row.
    ``from_equinox(lambda key: eqx.nn.Linear(6, 3, key=key), Heads, x)``. A trunk with
    ``eqx.nn.Dropout`` takes ``key=``; in a step of training it gets one per row, otherwise none, in
    inference mode.

    Args:
      trunk: makes the trunk from a key.
      heads: makes the heads, ``z -> scores [C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for dropout in the heads; for heads that do not give ``[C]`` for a row.
      ImportError: equinox is missing.
    """
    import equinox as eqx

    makers = {"trunk": trunk, "heads": heads}

    def split(part: str, key: Array) -> tuple[PyTree, PyTree]:
        module = makers[part](key)
        return eqx.partition(module, eqx.is_inexact_array)

    static = {}
    for part in makers:
        _, static[part] = split(part, jax.random.key(0))
    if _has_dropout(static["heads"]):
        _refuse_dropout_of_heads()
    dropout = _has_dropout(static["trunk"])

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        trunk_params, _ = split("trunk", trunk_key)
        heads_params, _ = split("heads", heads_key)
        return trunk_params, heads_params

    def apply(
        part: str, params: PyTree, inputs: PyTree, *shared: Array, key: Array | None = None
    ) -> Array:
        module = eqx.combine(params, static[part])
        if key is not None:
            rows = len(jax.tree.leaves(inputs)[0])
            row_keys = jax.random.split(key, rows)
            return jax.vmap(lambda row, key: module(row, *shared, key=key))(inputs, row_keys)
        if dropout:
            module = eqx.nn.inference_mode(module)
        return jax.vmap(lambda row: module(row, *shared))(inputs)

    return _model(init_parts, apply, x, dropout)


def _has_dropout(module: eqx.Module) -> bool:
    """Whether a part of an equinox module drops out."""
    import equinox as eqx

    def is_dropout(node) -> bool:
        return isinstance(node, eqx.nn.Dropout)

    nodes = jax.tree.leaves(module, is_leaf=is_dropout)
    return any(is_dropout(node) and node.p != 0 and not node.inference for node in nodes)
