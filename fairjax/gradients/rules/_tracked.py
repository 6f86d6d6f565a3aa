"""Rows that are averaged over steps before a link sees them: DB-MTL and MoCo share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients._link import LinkState
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.gram_matrix import squared_norms


class TrackedState(NamedTuple):
    """The running rows, in float32 or better, and the state of the link that sees them."""

    rows: PyTree  # [K, ...]
    link: LinkState


def tracked(
    inner: optax.GradientTransformationExtraArgs,
    rows: int,
    rate: Callable[[Array], Array],
    scale: Callable[[Array], Array] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A link whose rows y follow the gradients: ``y_k += rate (scale_k g_k - y_k)``, from 0.

    A row that is absent or not finite stays where it was. It costs K copies of the parameters.

    Args:
      inner: a link.
      rows: K.
      rate: from the number of the step, 1 first, to a factor from 0 to 1.
      scale: from the losses to ``[K]``, which then are needed. Default: 1.
    """

    def init_fn(params: PyTree) -> TrackedState:
        def zeros(leaf) -> Array:
            dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
            return jnp.zeros((rows, *jnp.shape(leaf)), dtype)

        return TrackedState(jax.tree.map(zeros, params), inner.init(params))

    def update_fn(
        updates: PyTree,
        state: TrackedState,
        params: PyTree | None = None,
        *,
        values=None,
        key=None,
        **extra: Any,
    ):
        check_rows(updates, params, rows, extra.get("given_rows"))
        if scale is not None and values is None:
            raise ValueError(
                "this aggregator divides by losses: call tx.update(rows, state, params, "
                f"values=losses), {rows} losses in an array"
            )
        factors = jnp.ones(rows) if scale is None else scale(jnp.asarray(values))
        step = rate(state.link.count + 1)
        squared = squared_norms(jax.tree.leaves(updates))
        is_finite = jnp.isfinite(squared) & jnp.isfinite(factors)
        is_new = is_finite & (squared > 0)

        def follow(row: Array, gradient: Array) -> Array:
            shape = (rows, *(1,) * (gradient.ndim - 1))
            target = factors.reshape(shape) * gradient
            moved = row + step * (target - row)
            return jnp.where(is_new.reshape(shape), moved, row).astype(row.dtype)

        averaged = jax.tree.map(follow, state.rows, updates)
        seen = jax.tree.map(lambda row, gradient: row.astype(gradient.dtype), averaged, updates)
        update, link_state = inner.update(seen, state.link, params, key=key)
        bad = jnp.sum(~is_finite).astype(jnp.int32)
        link_state = link_state._replace(quarantined=link_state.quarantined + bad)
        return update, TrackedState(averaged, link_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
