"""Projections of each row off the rows that it conflicts with: PCGrad and GradVac share them.

Row i starts as ``C_i = e_i`` and becomes the gradient ``C_i J``. Its product with row j is
``<C_i J, g_j> = C_i G_j``. Every row is projected against the original rows, so projected rows do
not depend on one another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array


def accuracy_first(tasks: int) -> np.ndarray:
    """``against`` for rows ``L_1..L_T, F_1..F_T``: fairness rows give way to accuracy rows.

    A fairness row gives way to all accuracy rows and to all other fairness rows.

    Args:
      tasks: T.

    Returns:
      ``[2T, 2T]`` bool, the argument ``against`` of :func:`pcgrad` and :func:`gradvac` for 2T rows.
    """
    against = np.zeros((2 * tasks, 2 * tasks), bool)
    against[tasks:] = True
    return against


def pairs_to_project(rows: int, against: ArrayLike | None) -> np.ndarray:
    """Whether row i gives way to row j, ``[K, K]`` bool, never to itself."""
    pairs = np.ones((rows, rows), bool) if against is None else np.asarray(against, bool)
    if pairs.shape != (rows, rows):
        raise ValueError(
            f"against must be [{rows}, {rows}] for {rows} rows, got shape {pairs.shape}"
        )
    return pairs & ~np.eye(rows, dtype=bool)


def projection_order(rows: int, key: Array, ascending: bool) -> Array:
    """``[K, K]``: at step s row i is projected against row ``order[i, s]``."""
    index = jnp.broadcast_to(jnp.arange(rows), (rows, rows))
    if ascending:
        return index
    return jax.random.permutation(key, index, axis=1, independent=True)


def project(gram: Array, order: Array, pairs: np.ndarray) -> Array:
    """PCGrad's projections: coordinates ``C[K, K]`` of the projected rows, all rows at once."""
    row_count = gram.shape[0]
    rows = jnp.arange(row_count)
    squared_norms = jnp.diagonal(gram)
    allowed = jnp.asarray(pairs)

    def step(s, coordinates):
        other = order[:, s]
        product = jnp.sum(coordinates * gram[other], axis=1)
        looks = allowed[rows, other] & (squared_norms[other] > 0)
        change = jnp.where(looks & (product < 0), -divide(product, squared_norms[other]), 0.0)
        return coordinates.at[rows, other].add(change)

    start = _identity_like(gram)
    return jax.lax.fori_loop(0, row_count, step, start, unroll=row_count <= 8)


def project_to_goals(
    gram: Array, order: Array, pairs: np.ndarray, goals: Array, beta: Array | float
) -> tuple[Array, Array]:
    """GradVac's projections: coordinates ``C[K, K]`` of the projected rows, and the new goals."""
    row_count = gram.shape[0]
    rows = jnp.arange(row_count)
    squared_norms = jnp.diagonal(gram)
    allowed = jnp.asarray(pairs)

    def step(s, carry):
        coordinates, goals = carry
        other = order[:, s]
        product = jnp.sum(coordinates * gram[other], axis=1)
        squared_norm = jnp.sum((coordinates @ gram) * coordinates, axis=1)
        norm = jnp.sqrt(jnp.maximum(squared_norm, 0.0))
        other_norm = jnp.sqrt(squared_norms[other])
        looks = allowed[rows, other] & (squared_norms[other] > 0) & (norm > 0)

        cosine = jnp.clip(divide(product, norm * other_norm), -1.0, 1.0)
        goal = goals[rows, other]
        goal_sine = jnp.sqrt(1.0 - goal**2)
        turn = norm * (goal * jnp.sqrt(1.0 - cosine**2) - cosine * goal_sine)
        change = jnp.where(looks & (cosine < goal), divide(turn, other_norm * goal_sine), 0.0)
        new_goal = jnp.where(looks, (1.0 - beta) * goal + beta * cosine, goal)
        return coordinates.at[rows, other].add(change), goals.at[rows, other].set(new_goal)

    start = (_identity_like(gram), goals + jnp.zeros_like(gram))
    return jax.lax.fori_loop(0, row_count, step, start, unroll=row_count <= 8)


def _identity_like(gram: Array) -> Array:
    """The identity, plus zeros of the Gram matrix.

    What a loop carries must vary over devices as the rows do.
    """
    return jnp.eye(gram.shape[0], dtype=gram.dtype) + jnp.zeros_like(gram)
