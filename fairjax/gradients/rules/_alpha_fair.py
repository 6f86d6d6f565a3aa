"""What Nash-MTL, FairGrad and PIVRG share: weights that are fair in the sense of a power.

The gains ``G w`` of the rows maximise ``sum_k u(gain_k)`` per length of the update, where u is the
utility of alpha-fairness. The condition of that is ``G w = (p / w)^power``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import cosines, normalised, present, row_norms
from fairjax.gradients.solve import room_to_zero

STEPS = 40


def fair_weights(
    gram: Array, preference: ArrayLike, power: Array | float, ridge: Array | float
) -> tuple[Array, Array]:
    """``w > 0`` with ``G w = (p / w)^power``, and the largest relative error of a row.

    It is the minimum of a strictly convex function: for a positive definite G there is one
    solution.

    Args:
      gram: G, ``[K, K]``.
      preference: p, ``[K]`` or a number, above 0.
      power: above 0.
      ridge: added to the Gram matrix of unit rows.

    Returns:
      ``w[K]``, 0 for absent rows, and the residual, a scalar.
    """
    unit, scale = normalised(gram)
    free = present(unit)
    norm = jnp.where(free, row_norms(unit), 1.0)
    preference = jnp.broadcast_to(jnp.asarray(preference, gram.dtype), norm.shape)
    power = jnp.asarray(power, gram.dtype)
    # In unit rows, with b = w ||g||, the equation is C b = amount / b^power.
    amount = preference**power * norm ** (power - 1.0)
    rounding = 4 * jnp.finfo(gram.dtype).eps
    least_ridge = jnp.maximum(jnp.asarray(ridge, gram.dtype), rounding)
    ridge_matrix = least_ridge * jnp.eye(gram.shape[0], dtype=gram.dtype)
    absent_rows = jnp.diag(jnp.where(free, 0.0, 1.0))
    b = _solve(cosines(unit) + ridge_matrix + absent_rows, amount, power)
    error = jnp.abs(cosines(unit) @ b * b**power / amount - 1.0)
    residual = jnp.max(jnp.where(free, error, 0.0))
    weights = jnp.where(free, b / norm, 0.0)
    return weights * scale ** (-1.0 / (1.0 + power)), residual


def _solve(matrix: Array, amount: Array, power: Array) -> Array:
    """``b > 0`` with ``C b = amount / b^power``, ``[K]``.

    Newton's steps for ``C b = z`` and ``log z + power log b = log amount``, cut to keep b and z
    positive. They begin where C is the identity.
    """

    def step(_, point):
        b, z = point
        error = jnp.log(amount / z) - power * jnp.log(b)
        db = jnp.linalg.solve(matrix + jnp.diag(power * z / b), z - matrix @ b + z * error)
        dz = z * (error - power * db / b)
        length = jnp.minimum(1.0, 0.9 * jnp.minimum(room_to_zero(b, db), room_to_zero(z, dz)))
        moved = (b + length * db, z + length * dz)
        sound = jnp.all(jnp.isfinite(moved[0])) & jnp.all(jnp.isfinite(moved[1]))
        return jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, point)

    start = amount ** (1.0 / (1.0 + power)) * jnp.ones_like(jnp.diagonal(matrix))
    b, _ = jax.lax.fori_loop(0, STEPS, step, (start, start))
    return b
