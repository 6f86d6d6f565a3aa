"""Any trunk and heads as a :class:`fairjax.core.types.Model`: flax linen, flax nnx, equinox.

A model that is one module does not need this: links take its gradients as they are, and a ``Model``
by hand is three functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import flax.linen as nn
import jax

from fairjax.core.types import Array, Model, PyTree

if TYPE_CHECKING:
    import equinox as eqx
    from flax import nnx


def _model(
    init_parts: Callable[[Array, PyTree], tuple],
    apply: Callable,
    x: PyTree,
) -> Model:
    """Build a model from both parts.

    Args:
      init_parts: ``init_parts(key, x)`` gives the parameters of trunk and heads.
      apply: ``apply("trunk" or "heads", params, *inputs)``.
      x: some rows of inputs.
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
    ) -> PyTree:
        if condition is None:
            return apply("trunk", params, x)
        return apply("trunk", params, x, condition)

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
    return Model(init, represent, predict)


def _refuse_state(part: str, names: list[str]) -> None:
    if names:
        state = ", ".join(names)
        raise ValueError(
            f"the {part} module has {state} beside its parameters; use a module without them"
        )


def from_linen(
    trunk: nn.Module,
    heads: nn.Module,
    x: PyTree,
) -> Model:
    """Two linen modules as a model; parameters are their ``"params"`` dicts.

    Args:
      trunk: ``trunk(x) -> z`` for B rows at a time.
      heads: ``heads(z) -> scores [B, C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for modules with other collections than parameters (running statistics, say),
        because a pure function of the parameters cannot carry them; for heads that do not give
        ``[B, C]``.
    """
    modules = {"trunk": trunk, "heads": heads}

    def init_part(
        part: str,
        key: Array,
        inputs: PyTree,
    ) -> tuple[PyTree, PyTree]:
        output, variables = modules[part].init_with_output(key, inputs)
        collections = set(variables) - {"params"}
        _refuse_state(part, sorted(collections))
        return output, variables.get("params", {})

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        z, trunk_params = init_part("trunk", trunk_key, x)
        _, heads_params = init_part("heads", heads_key, z)
        return trunk_params, heads_params

    def apply(part: str, params: PyTree, *inputs: PyTree) -> PyTree:
        return modules[part].apply({"params": params}, *inputs)

    return _model(init_parts, apply, x)


def from_nnx(
    trunk: Callable[[nnx.Rngs], nnx.Module],
    heads: Callable[[nnx.Rngs], nnx.Module],
    x: PyTree,
) -> Model:
    """Two nnx modules as a model, each given by a function that makes it.

    Parameters are their ``nnx.Param`` states.
    ``from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs), Heads, x)``.

    Args:
      trunk: makes the trunk from ``nnx.Rngs``; the trunk takes B rows at a time.
      heads: makes the heads, ``z -> scores [B, C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for modules with other variables than parameters; for heads that do not give
        ``[B, C]``.
    """
    from flax import nnx

    makers = {"trunk": trunk, "heads": heads}

    def split(part: str, key: Array) -> tuple:
        rngs = nnx.Rngs(key)
        module = makers[part](rngs)
        return nnx.split(module, nnx.Param, ...)

    graphs = {}
    for part in makers:
        graphs[part], _, state = split(part, jax.random.key(0))
        paths = [path for path, _ in jax.tree.leaves_with_path(state)]
        variables = [jax.tree_util.keystr(path) for path in paths]
        _refuse_state(part, variables)

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        _, trunk_params, _ = split("trunk", trunk_key)
        _, heads_params, _ = split("heads", heads_key)
        return trunk_params, heads_params

    def apply(part: str, params: PyTree, *inputs: PyTree) -> PyTree:
        module = nnx.merge(graphs[part], params)
        return module(*inputs)

    return _model(init_parts, apply, x)


def from_equinox(
    trunk: Callable[[Array], eqx.Module],
    heads: Callable[[Array], eqx.Module],
    x: PyTree,
) -> Model:
    """Two equinox modules as a model, each given by a function that makes it from a key.

    Parameters are their inexact arrays. As is usual in equinox, modules take one row.
    ``from_equinox(lambda key: eqx.nn.Linear(6, 3, key=key), Heads, x)``.

    Args:
      trunk: makes the trunk from a key.
      heads: makes the heads, ``z -> scores [C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for heads that do not give ``[C]`` for a row.
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

    def init_parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        trunk_key, heads_key = jax.random.split(key)
        trunk_params, _ = split("trunk", trunk_key)
        heads_params, _ = split("heads", heads_key)
        return trunk_params, heads_params

    def apply(part: str, params: PyTree, inputs: PyTree, *shared: Array) -> Array:
        module = eqx.combine(params, static[part])
        return jax.vmap(lambda row: module(row, *shared))(inputs)

    return _model(init_parts, apply, x)
