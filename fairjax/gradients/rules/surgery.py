"""Rules that project each row off the rows it conflicts with: PCGrad, GradVac, and fairness giving way to accuracy.

In Gram coordinates: row i starts as ``C_i = e_i`` and becomes ``C_i J``; ``<C_i J, g_j> = C_i G_j``. Every row is
projected against the rows as they came, so rows do not depend on one another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import normalised
from fairjax.gradients.task_space import Rule, linked


@linked
def pcgrad(*, ascending: bool = False, against=None, mean: bool = False) -> Rule:
    """PCGrad, gradient surgery: ``g_i <- g_i - <g_i, g_j> / ||g_j||^2 g_j`` for every j in turn with ``<g_i, g_j> < 0``.

    Args:
      ascending: take j in ascending order; the default draws an order per row at every update, as published.
      against: ``[K, K]`` bool, whether row i gives way to row j; default: all to all others. See
        :func:`accuracy_first`.
      mean: divide the sum of the projected rows by K.

    Reference:
      Yu et al.: Gradient surgery for multi-task learning, NeurIPS 2020.
    """

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        order = _order(gram.shape[0], key, ascending)
        c, _ = _project(unit, order, _others(gram.shape[0], against), 0.0, None)
        return jnp.sum(c, axis=0) / (gram.shape[0] if mean else 1), memory, jnp.zeros(())

    return Rule(lambda rows: (), weights)


@linked
def gradvac(*, beta=0.01, ascending: bool = False, against=None) -> Rule:
    """Gradient vaccine: PCGrad with a goal ``phi_ij`` for each cosine, its running mean, in place of 0.

    Where ``rho = cos(g_i, g_j) < phi_ij``: ``g_i <- g_i + ||g_i|| (phi sqrt(1 - rho^2) - rho sqrt(1 - phi^2)) /
    (||g_j|| sqrt(1 - phi^2)) g_j``; then ``phi <- (1 - beta) phi + beta rho``. The first update is PCGrad's.

    Args:
      beta: step of the running mean.
      ascending: see :func:`pcgrad`.
      against: see :func:`pcgrad`.

    Reference:
      Wang, Tsvetkov, Firat, Cao: Gradient vaccine, ICLR 2021.
    """

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        order = _order(gram.shape[0], key, ascending)
        c, phi = _project(
            unit, order, _others(gram.shape[0], against), memory.astype(gram.dtype), beta
        )
        return jnp.sum(c, axis=0), phi, jnp.zeros(())

    return Rule(lambda rows: jnp.zeros((rows, rows)), weights)


def accuracy_first(tasks: int) -> np.ndarray:
    """``against`` for rows ``L_1..L_T, F_1..F_T``: fairness rows give way to all accuracy rows and to one another.

    Accuracy rows are left as they are. ``[2T, 2T]`` bool.
    """
    against = np.zeros((2 * tasks, 2 * tasks), bool)
    against[tasks:] = True
    return against


def _others(rows: int, against) -> np.ndarray:
    given = np.ones((rows, rows), bool) if against is None else np.asarray(against, bool)
    if given.shape != (rows, rows):
        raise ValueError(
            f"against must be [{rows}, {rows}] for {rows} rows, got shape {given.shape}"
        )
    return given & ~np.eye(rows, dtype=bool)


def _order(rows: int, key: Array, ascending: bool) -> Array:
    """``[K, K]``: at step s row i looks at row ``order[i, s]``."""
    index = jnp.broadcast_to(jnp.arange(rows), (rows, rows))
    return index if ascending else jax.random.permutation(key, index, axis=1, independent=True)


def _project(
    gram: Array, order: Array, against: np.ndarray, phi: Array | float, beta
) -> tuple[Array, Array]:
    """Coordinates ``C[K, K]`` of the projected rows, and phi after them; all rows at once, K steps."""
    rows, here, squared = gram.shape[0], jnp.arange(gram.shape[0]), jnp.diagonal(gram)
    allowed = jnp.asarray(against)

    def step(s, at):
        c, phi = at
        j = order[:, s]
        inner = jnp.sum(c * gram[j], axis=1)
        looks = allowed[here, j] & (squared[j] > 0)
        if beta is None:
            add = jnp.where(looks & (inner < 0), -divide(inner, squared[j]), 0.0)
        else:
            own = jnp.sqrt(jnp.maximum(jnp.sum((c @ gram) * c, axis=1), 0.0))
            looks = looks & (own > 0)
            length = jnp.sqrt(squared[j])
            rho = jnp.clip(divide(inner, own * length), -1.0, 1.0)
            goal = phi[here, j]
            flat = jnp.sqrt(1.0 - goal**2)
            turn = own * (goal * jnp.sqrt(1.0 - rho**2) - rho * flat)
            add = jnp.where(looks & (rho < goal), divide(turn, length * flat), 0.0)
            phi = phi.at[here, j].set(jnp.where(looks, (1.0 - beta) * goal + beta * rho, goal))
        return c.at[here, j].add(add), phi

    nothing = jnp.zeros_like(gram)  # what a loop carries must vary over devices as the rows do
    return jax.lax.fori_loop(
        0, rows, step, (jnp.eye(rows, dtype=gram.dtype) + nothing, phi + nothing), unroll=rows <= 8
    )
