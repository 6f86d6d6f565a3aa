"""Loss scaling for half precision: rows of scaled losses in, an update or a skipped step out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients.aggregators import check_rows


class ScaleState(NamedTuple):
    """The scale of the next losses, and what became of the last ones."""

    scale: Array  # [], of the losses of the next step
    count: Array  # [], finite steps since the scale changed
    finite: Array  # [] bool, whether all rows of the last step were finite
    inner: PyTree  # of the chain


def dynamic_scale(
    tx: optax.GradientTransformation,
    *,
    scale: float = 2.0**16,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    growth_interval: int = 2000,
    minimum_scale: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """A chain behind a dynamic loss scale: small gradients survive half precision.

    The losses are multiplied by ``scale`` (``value_and_rows(losses, scale=state.scale)``), and the
    rows are divided by it here, in float32. Where all rows are finite the chain makes its update,
    and after ``growth_interval`` such steps the scale grows. Where a row is not finite, the update
    is zero, the chain's state stays as it was (moments and memory of the aggregator too), and the
    scale backs off. A row that is never finite (a NaN in the data) thus stops training: no step is
    made, and the scale stays at ``minimum_scale``.

    Args:
      tx: a chain that begins with an aggregator.
      scale: of the first losses. 1 for bfloat16, whose range is that of float32.
      growth_factor: of the scale, after ``growth_interval`` finite steps in a row.
      backoff_factor: of the scale, after a step that is not finite.
      growth_interval: finite steps.
      minimum_scale: the scale never falls below it.

    Returns:
      A whole chain whose state is a :class:`ScaleState`. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` of scaled losses and gives one update. Extra arguments go to the chain;
      ``values`` are the losses themselves. On several devices, average the rows before: then all
      devices skip the same steps.

    Raises:
      ValueError: at trace time, for updates that are not rows.

    Reference:
      Micikevicius, Narang, Alben, Diamos, Elsen, Garcia, Ginsburg, Houston, Kuchaiev, Venkatesh,
      Wu: Mixed precision training, ICLR 2018. Constants are those of ``flax``'s ``DynamicScale``,
      but for ``minimum_scale``.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> params = jnp.zeros(2)
      >>> tx = fairjax.gradients.dynamic_scale(
      ...     optax.chain(fairjax.pcgrad(2), optax.sgd(1.0)), scale=8.0
      ... )
      >>> rows = jnp.array([[8.0, 0.0], [0.0, jnp.inf]])
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(update, state.scale, state.finite)
      [0. 0.] 4.0 False
    """
    chain = optax.with_extra_args_support(tx)

    def init_fn(params: PyTree) -> ScaleState:
        return ScaleState(
            scale=jnp.asarray(scale, jnp.float32),
            count=jnp.zeros((), jnp.int32),
            finite=jnp.ones((), bool),
            inner=chain.init(params),
        )

    def update_fn(updates: PyTree, state: ScaleState, params: PyTree | None = None, **extra: Any):
        check_rows(updates, params, given=extra.get("given_rows"))
        rows = jax.tree.map(lambda leaf: _unscaled(leaf, state.scale), updates)
        if "given_rows" in extra:
            extra["given_rows"] = jax.tree.leaves(rows)
        finite = _all_finite(rows)
        update, inner = chain.update(rows, state.inner, params, **extra)

        def made(leaf: Array) -> Array:
            return jnp.where(finite, leaf, 0)

        def kept(new: Array, old: Array) -> Array:
            # A scan needs the types it began with.
            return jnp.where(finite, new, old).astype(jnp.result_type(old))

        next_scale, count = _next_scale(state, finite)
        inner = jax.tree.map(kept, inner, state.inner)
        return jax.tree.map(made, update), ScaleState(next_scale, count, finite, inner)

    def _next_scale(state: ScaleState, finite: Array) -> tuple[Array, Array]:
        count = jnp.where(finite, state.count + 1, 0)
        grows = count >= growth_interval
        grown = state.scale * growth_factor
        # A scale that is not finite would never come back.
        grown = jnp.where(jnp.isfinite(grown), grown, state.scale)
        backed_off = jnp.maximum(state.scale * backoff_factor, minimum_scale)
        after_finite = jnp.where(grows, grown, state.scale)
        next_scale = jnp.where(finite, after_finite, backed_off)
        return next_scale, jnp.where(grows, 0, count)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _unscaled(leaf: Array, scale: Array) -> Array:
    dtype = jnp.promote_types(leaf.dtype, jnp.float32)
    return leaf.astype(dtype) / scale.astype(dtype)


def _all_finite(rows: PyTree) -> Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(rows)]
    return jnp.all(jnp.stack([jnp.ones((), bool), *finite]))
