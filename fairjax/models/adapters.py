"""Anybody's trunk and heads as a :class:`fairjax.core.types.Model`: flax linen, flax nnx, equinox.

A model written as one module needs none of this: links take its gradients as they are, and a ``Model`` by hand is three
functions.
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


def _model(parts: Callable[[Array, PyTree], tuple], apply: Callable, x: PyTree) -> Model:
    """``parts(key, x) -> (trunk, heads)`` parameters; ``apply(which, params, *inputs)``."""

    def init(key: Array) -> PyTree:
        trunk, heads = parts(key, x)
        return {"trunk": trunk, "heads": heads}

    def represent(params: PyTree, x: PyTree, condition: Array | None = None) -> PyTree:
        return (
            apply("trunk", params, x) if condition is None else apply("trunk", params, x, condition)
        )

    def predict(params: PyTree, z: PyTree) -> Array:
        return apply("heads", params, z)

    params = jax.eval_shape(init, jax.random.key(0))
    found = jax.eval_shape(lambda p: predict(p["heads"], represent(p["trunk"], x)), params)
    rows = jax.tree.leaves(x)[0].shape[0]
    if getattr(found, "ndim", None) != 2 or found.shape[0] != rows:
        told = jax.tree.map(lambda a: a.shape, found)
        raise ValueError(
            f"the heads give {told} for {rows} rows; a model gives scores [rows, columns], one column per number "
            "to predict: concatenate the tasks' outputs along the last axis"
        )
    return Model(init, represent, predict)


def from_linen(trunk: nn.Module, heads: nn.Module, x: PyTree) -> Model:
    """Two linen modules as a model; parameters are their ``"params"`` dicts.

    Args:
      trunk: ``trunk(x) -> z`` for B rows at a time.
      heads: ``heads(z) -> scores [B, C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for modules with other collections than parameters (running statistics, say), which a pure function of
        parameters cannot carry; for heads that do not give ``[B, C]``.
    """
    modules = {"trunk": trunk, "heads": heads}

    def start(which: str, key: Array, inputs: PyTree) -> tuple[PyTree, PyTree]:
        out, variables = modules[which].init_with_output(key, inputs)
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(
                f"the {which} module has {', '.join(others)} beside its parameters; use a module without them"
            )
        return out, variables.get("params", {})

    def parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        one, two = jax.random.split(key)
        z, body = start("trunk", one, x)
        return body, start("heads", two, z)[1]

    return _model(
        parts, lambda which, params, *inputs: modules[which].apply({"params": params}, *inputs), x
    )


def from_nnx(
    trunk: Callable[[nnx.Rngs], nnx.Module], heads: Callable[[nnx.Rngs], nnx.Module], x: PyTree
) -> Model:
    """Two nnx modules, given as what makes them, as a model; parameters are their ``nnx.Param`` states.

    ``from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs), Heads, x)``.

    Args:
      trunk: makes the trunk from ``nnx.Rngs``; it takes B rows at a time.
      heads: makes the heads, ``z -> scores [B, C]``.
      x: some rows of inputs, for shapes.

    Raises:
      ValueError: for modules with other variables than parameters; for heads that do not give ``[B, C]``.
    """
    from flax import nnx

    makers = {"trunk": trunk, "heads": heads}

    def split(which: str, key: Array) -> tuple:
        return nnx.split(makers[which](nnx.Rngs(key)), nnx.Param, ...)

    graphs = {}
    for which in makers:
        graphs[which], _, rest = split(which, jax.random.key(0))
        others = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(rest)]
        if others:
            raise ValueError(
                f"the {which} module has {', '.join(others)} beside its parameters; use a module without them"
            )

    def parts(key: Array, x: PyTree) -> tuple[PyTree, PyTree]:
        one, two = jax.random.split(key)
        return split("trunk", one)[1], split("heads", two)[1]

    return _model(
        parts, lambda which, params, *inputs: nnx.merge(graphs[which], params)(*inputs), x
    )


def from_equinox(
    trunk: Callable[[Array], eqx.Module], heads: Callable[[Array], eqx.Module], x: PyTree
) -> Model:
    """Two equinox modules, given as what makes them from a key, as a model; parameters are their inexact arrays.

    ``from_equinox(lambda key: eqx.nn.Linear(6, 3, key=key), Heads, x)``. As is usual in equinox, modules take one row.

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
    train_config = {
        which: eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)[1]
        for which, make in makers.items()
    }

    def parts(key: Array, x: PyTree) -> tuple[PyTree, ...]:
        keys = jax.random.split(key)
        return tuple(
            eqx.partition(make(k), eqx.is_inexact_array)[0]
            for make, k in zip(makers.values(), keys, strict=True)
        )

    def apply(which: str, params: PyTree, inputs: PyTree, *shared: Array) -> Array:
        module = eqx.combine(params, train_config[which])
        return jax.vmap(lambda row: module(row, *shared))(inputs)

    return _model(parts, apply, x)
