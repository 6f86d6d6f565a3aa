"""Excess-MTL: more weight to rows that are far from their optimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath, PyTree
from fairjax.gradients._link import LinkState, link
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.gram_matrix import present, squared_norms
from fairjax.gradients.task_space import Rule

EPSILON = 1e-7


class ExcessState(NamedTuple):
    """The link's state, and the sums of squared gradients."""

    link: LinkState
    squares: list[Array]  # [K, ...] of each measured leaf


class Excess(NamedTuple):
    """Memory of the weights of Excess-MTL."""

    logits: Array  # [K]
    first: Array  # [K], the first excess risk of each row; 0 until it is present


def excess_mtl(
    rows: int,
    *,
    step_size: Array | float = 1.0,
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Excess-MTL: weights grow with the excess risk of a row, not with its loss.

    The excess risk is ``E_k = sum_i g_ki^2 / sqrt(S_ki + 1e-7)`` with the sum S of squared
    gradients over all steps, which stands for the curvature. ``w_k`` is multiplied by
    ``exp(step_size E_k / E_k(0))`` and the weights are divided by their sum; in the first step the
    factor is ``exp(step_size E_k)``, as in the authors' code. A loss that cannot fall, because
    labels are noise, gets no more weight. It keeps K copies of the measured parameters.

    Args:
      rows: K, the number of losses.
      step_size: of the weights.
      measure: from key path to bool: the leaves that the excess risk is taken of. Default: all.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is an
      :class:`ExcessState` with a :class:`LinkState`. The link has no rule in task space.

    Reference:
      He, Zhou, Zhang, Yang, Zhao: Robust multi-task learning with excess risks, ICML 2024.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.excess_mtl(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.link.weights).round(3))
      [4.808 1.    1.   ] [0.119 0.881]
    """

    def init(rows: int) -> Excess:
        return Excess(jnp.zeros(rows), jnp.zeros(rows))

    def weights(gram, excess, memory: Excess, key):
        is_present = present(gram)
        relative = jnp.where(memory.first > 0, divide(excess, memory.first), excess)
        logits = memory.logits + jnp.where(is_present, step_size * relative, 0.0)
        is_first = (memory.first == 0) & is_present
        first = jnp.where(is_first, excess, memory.first)
        w = jax.nn.softmax(logits, where=is_present)
        w = jnp.where(is_present, w, 0.0).astype(gram.dtype)
        return w, Excess(logits - jnp.max(logits), first), jnp.zeros(())

    weigh = link(Rule(init, weights, needs_values=True), rows, measure=measure)

    def measured(tree: PyTree) -> list[Array]:
        entries = jax.tree.leaves_with_path(tree)
        return [leaf for path, leaf in entries if measure is None or measure(path)]

    def init_fn(params: PyTree) -> ExcessState:
        def zeros(leaf) -> Array:
            dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
            return jnp.zeros((rows, *jnp.shape(leaf)), dtype)

        return ExcessState(weigh.init(params), [zeros(leaf) for leaf in measured(params)])

    def update_fn(updates: PyTree, state: ExcessState, params: PyTree | None = None, **extra: Any):
        given = extra.get("given_rows")
        check_rows(updates, params, rows, given)
        leaves = measured(updates)
        is_finite = jnp.isfinite(squared_norms(leaves))
        excess = jnp.zeros(rows)
        squares = []
        for leaf, total in zip(leaves, state.squares, strict=True):
            counts = is_finite.reshape(rows, *(1,) * (leaf.ndim - 1))
            square = jnp.where(counts, leaf.astype(total.dtype) ** 2, 0.0)
            total = total + square
            share = square / jnp.sqrt(total + EPSILON)
            excess = excess + jnp.sum(share, axis=tuple(range(1, leaf.ndim)))
            squares.append(total)
        update, link_state = weigh.update(
            updates, state.link, params, values=excess, given_rows=given
        )
        return update, ExcessState(link_state, squares)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
