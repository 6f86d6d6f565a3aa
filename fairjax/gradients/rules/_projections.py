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
    rows = 2 * tasks
    against = np.zeros((rows, rows), bool)
    against[tasks:] = True
    return against


def among_fairness(tasks: int) -> np.ndarray:
    """``against`` for rows ``L_1..L_T, F_1..F_T``: fairness rows give way to one another alone.

    Args:
      tasks: T.

    Returns:
      ``[2T, 2T]`` bool; with it :func:`pcgrad` on a shared layer is FairBranch's surgery.
    """
    against = np.zeros((2 * tasks, 2 * tasks), bool)
    against[tasks:, tasks:] = True
    return against


def pairs_to_project(rows: int, against: ArrayLike | None) -> np.ndarray:
    """Whether row i gives way to row j, ``[K, K]`` bool, never to itself."""
    shape = (rows, rows)
    if against is None:
        pairs = np.ones(shape, bool)
    else:
        pairs = np.asarray(against, bool)
    if pairs.shape != shape:
        raise ValueError(
            f"against must be [{rows}, {rows}] for {rows} rows, got shape {pairs.shape}"
        )
    itself = np.eye(rows, dtype=bool)
    return pairs & ~itself


def projection_order(rows: int, key: Array, ascending: bool) -> Array:
    """``[K, K]``: at step s row i is projected against row ``order[i, s]``."""
    index = jnp.arange(rows)
    orders = jnp.broadcast_to(index, (rows, rows))
    if ascending:
        return orders
    return jax.random.permutation(key, orders, axis=1, independent=True)


def project(gram: Array, order: Array, pairs: np.ndarray) -> Array:
    """PCGrad's projections: coordinates ``C[K, K]`` of the projected rows, all rows at once."""
    row_count = gram.shape[0]
    rows = jnp.arange(row_count)
    squared_norms = jnp.diagonal(gram)
    allowed = jnp.asarray(pairs)

    def step(s, coordinates):
        other = order[:, s]
        other_gram = gram[other]
        product = jnp.sum(coordinates * other_gram, axis=1)
        other_squared_norm = squared_norms[other]
        is_allowed = allowed[rows, other]
        may_change = is_allowed & (other_squared_norm > 0)
        is_conflict = may_change & (product < 0)
        share = divide(product, other_squared_norm)
        change = jnp.where(is_conflict, -share, 0.0)
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
        other_gram = gram[other]
        product = jnp.sum(coordinates * other_gram, axis=1)
        products = coordinates @ gram
        squared_norm = jnp.sum(products * coordinates, axis=1)
        norm = jnp.sqrt(jnp.maximum(squared_norm, 0.0))
        other_squared_norm = squared_norms[other]
        other_norm = jnp.sqrt(other_squared_norm)
        is_allowed = allowed[rows, other]
        may_change = is_allowed & (other_squared_norm > 0) & (norm > 0)

        cosine = divide(product, norm * other_norm)
        cosine = jnp.clip(cosine, -1.0, 1.0)
        goal = goals[rows, other]
        goal_sine = jnp.sqrt(1.0 - goal**2)
        sine = jnp.sqrt(1.0 - cosine**2)
        turn = norm * (goal * sine - cosine * goal_sine)
        is_conflict = may_change & (cosine < goal)
        share = divide(turn, other_norm * goal_sine)
        change = jnp.where(is_conflict, share, 0.0)
        moved_goal = (1.0 - beta) * goal + beta * cosine
        new_goal = jnp.where(may_change, moved_goal, goal)

        coordinates = coordinates.at[rows, other].add(change)
        goals = goals.at[rows, other].set(new_goal)
        return coordinates, goals

    goals_of_pairs = goals + jnp.zeros_like(gram)
    start = (_identity_like(gram), goals_of_pairs)
    return jax.lax.fori_loop(0, row_count, step, start, unroll=row_count <= 8)


def _identity_like(gram: Array) -> Array:
    """The identity, plus zeros of the Gram matrix.

    What a loop carries must vary over devices as the rows do.
    """
    row_count = gram.shape[0]
    identity = jnp.eye(row_count, dtype=gram.dtype)
    return identity + jnp.zeros_like(gram)
