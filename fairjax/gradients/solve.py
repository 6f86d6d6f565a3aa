"""Small convex problems over K weights, solved by a fixed number of interior-point steps.

They run under vmap, jit and scan, so there is no host solver and no early exit. If a problem needs
more steps than it gets, the residual shows it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from fairjax.core.types import Array

STEPS = 24
STEPS_32 = 16  # float32 has no digits left after these, up to K = 100
SHRINK = 0.1  # each step aims at a tenth of the gap


class _Point(NamedTuple):
    """Where the interior-point method stands."""

    x: Array  # [K], the weights
    z: Array  # [K], multipliers of x >= lower
    y: Array  # [], multiplier of share' x = 1


def interior_point(
    gram: Array, lower: Array, free: Array, share: Array | None = None
) -> tuple[Array, Array]:
    """``min x' G x / 2`` with ``x >= lower`` and, with ``share``, ``share' x = 1``.

    G is positive semidefinite and of order one.

    A minimum has ``G x = z + y share``, ``s z = 0`` and ``s, z >= 0``, where ``s = x - lower`` is
    the slack. Each step is Newton's step towards ``s z = mu / 10``, where mu is the mean of ``s z``
    now. The step is cut to keep s and z positive. The point stays where rounding leaves Newton's
    matrix without a Cholesky factor.

    Args:
      gram: ``[K, K]``.
      lower: ``[K]``.
      free: ``[K]`` bool. The other entries are left out of the problem and are ``lower`` in the
        answer.
      share: ``[K]``, from 0 to 1. None leaves out the condition on the sum.

    Returns:
      ``x[K]`` and the residual of the Karush-Kuhn-Tucker conditions, a scalar.
    """
    dtype = jnp.result_type(lower, jnp.float32)
    mask = free.astype(dtype)
    free_count = jnp.maximum(jnp.sum(free), 1)
    if share is None:
        start = lower + mask
        share = jnp.zeros_like(mask)
        has_share = False
    else:
        share = mask * share
        has_share = jnp.any(share > 0)
        start = mask / jnp.where(has_share, jnp.sum(share), 1.0)
    smallest_gap = jnp.finfo(dtype).eps ** (1.0 if dtype == jnp.float64 else 1.2)
    hessian = jnp.where(free[:, None] & free[None, :], gram, 0.0)
    eye = jnp.eye(lower.shape[0], dtype=dtype)

    def step(_, point: _Point) -> _Point:
        x, z, y = point
        gradient = gram @ x
        slack = jnp.where(free, x - lower, 1.0)
        mu = jnp.sum(mask * slack * z) / free_count

        # dz is eliminated: (G + z / s) dx = mu / (10 s) - G x + y share + dy share.
        matrix = hessian + eye * jnp.where(free, z / slack, 1.0)
        right = jnp.where(free, SHRINK * mu / slack - gradient + y * share, 0.0)
        factor = jnp.linalg.cholesky(matrix, symmetrize_input=False), True
        dx, dx_per_y = cho_solve(factor, jnp.stack([right, share], axis=1)).T
        slope = jnp.where(has_share, share @ dx_per_y, 1.0)
        dy = jnp.where(has_share, (1.0 - share @ (x + dx)) / slope, 0.0)
        dx = dx + dy * dx_per_y
        dz = jnp.where(free, SHRINK * mu / slack - z - z / slack * dx, 0.0)

        room = jnp.minimum(room_to_zero(slack, dx), room_to_zero(z, dz))
        length = jnp.minimum(1.0, 0.99 * room)
        sound = (mu > smallest_gap) & jnp.all(jnp.isfinite(dx)) & jnp.all(jnp.isfinite(dz))
        # A select, not a product with 0: a step that is not taken may be NaN.
        return jax.tree.map(
            lambda old, change: jnp.where(sound, old + length * change, old),
            point,
            _Point(dx, dz, dy),
        )

    point = _Point(start.astype(dtype), mask, jnp.zeros_like(gram[0, 0]))
    steps = STEPS if dtype == jnp.float64 else STEPS_32
    x, z, y = jax.lax.fori_loop(0, steps, step, point)
    gap = jnp.abs(gram @ x - z - y * share) + jnp.abs((x - lower) * z)
    return jnp.where(free, x, lower), jnp.max(jnp.where(free, gap, 0.0))


def room_to_zero(inside: Array, change: Array) -> Array:
    """The largest factor t with ``inside + t change >= 0``, a scalar; 2 where there is no limit."""
    shrinks = change < 0
    return jnp.min(jnp.where(shrinks, -inside / jnp.where(shrinks, change, -1.0), 2.0))


def unit_rows(gram: Array, free: Array) -> tuple[Array, Array, Array]:
    """The Gram matrix C of rows of length 1, their lengths l, and shares in the sum of weights.

    In unit rows, rows of all lengths are equally well solved. With ``x = w l``, ``sum w = 1``
    becomes ``share' x = 1``, up to a factor: shares are in units of the shortest row, so that the
    largest is 1.
    """
    length = jnp.where(free, jnp.sqrt(jnp.diagonal(gram)), jnp.inf)
    share = jnp.where(free, jnp.min(length) / length, 0.0)
    length = jnp.where(free, length, 1.0)
    return gram / length[:, None] / length[None, :], length, share


def min_norm(gram: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_w w' G w`` on the simplex over the free rows, and the residual."""
    unit, _, share = unit_rows(gram, free)
    lower = jnp.zeros(gram.shape[0], gram.dtype)
    x, residual = interior_point(unit, lower, free, share)
    return x * share, residual


def project_on_cone(gram: Array, weights: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_v v' G v`` with ``v >= weights``, and the residual.

    ``J' v`` is the projection of ``J' weights`` onto the dual cone ``{u: J u >= 0}``.
    """
    unit, length, _ = unit_rows(gram, free)
    lower = weights * length
    largest = jnp.max(jnp.abs(jnp.where(free, lower, 0.0)))
    scale = jnp.where(largest > 0, largest, 1.0)
    x, residual = interior_point(unit, lower / scale, free)
    return x * (scale / length), residual


def pseudo_inverse(gram: Array, power: float = -1.0) -> tuple[Array, Array]:
    """``V diag(l^power) V'`` and l, for a symmetric matrix with eigenvectors V and eigenvalues l.

    Only eigenvalues that are not zero up to rounding take part.

    Eigenvalues below ``K eps max l`` count as zero, and are zero in the l that is returned.
    """
    values, vectors = jnp.linalg.eigh(gram)
    keep = values > gram.shape[0] * jnp.finfo(gram.dtype).eps * jnp.max(values)
    values = jnp.where(keep, values, 0.0)
    powers = jnp.where(keep, jnp.where(keep, values, 1.0) ** power, 0.0)
    return (vectors * powers[None]) @ vectors.T, values
