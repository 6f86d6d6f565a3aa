"""A linear term plus a norm, minimised on the simplex: the problem inside CAGrad.

The problem, over the free rows, with ``||w||_G = sqrt(w' G w)``::

    min  linear' w + reach ||w||_G     with  w >= 0,  sum w = 1

The norm has no gradient at 0, and CAGrad often ends there (Pareto-stationary points). So the norm
becomes a variable n, and the problem a second-order cone program::

    min  linear' w + reach n           with  w >= 0,  sum w = 1,  n >= ||w||_G

Multipliers are z for ``w >= 0``, y for the sum, and ``(t, -a)`` for the cone, which is its own
dual under the product ``n t - w' G a``. A minimum meets::

    (1)  linear + G a = z + y,   reach = t           the gradients by w and by n
    (2)  w, z >= 0,   n >= ||w||_G,   t >= ||a||_G   both sides are feasible
    (3)  w_i z_i = 0,   n t - w' G a = 0             no gap

The dual is therefore ``max_a min_i (linear + G a)_i`` with ``||a||_G <= reach``.

One step is Newton's step for (1) and the linearised (3), with the right sides of (3) at mu, a tenth
of the mean gap. For the weights the linearised (3) is ``z + dz + (z / w) dw = mu / w``. For the
cone it is, in Nesterov and Todd's scaling::

    (t, -G a) + (dt, -G da) + H (dn, dw) = mu (n, -G w) / (n^2 - w' G w)

Let p and q be the square roots of ``n^2 - w' G w`` and ``t^2 - a' G a``. The scaling point is the
middle of the two sides, each at depth 1::

    (b_n, b) = (n / p + t / q, w / p + a / q) / sqrt(2 + 2 (n t - w' G a) / (p q))
    H = (q / p) (2 v v' - diag(1, -G)),   v = (b_n, -G b)

This is the scaling of the ordinary cone ``n >= ||R w||`` for ``G = R' R``, written such that R is
never needed. Then dz, da and dt are put into (1), which leaves one system of K + 1 equations for
``(dw, dn)``, and y follows from the sum.

Only G a counts, and what G maps to 0 grows in a without end where ``||w||_G`` goes to 0, until no
digit of ``a' G a`` is left. So every step takes it out of a.

Reference:
  Nesterov, Todd: Primal-dual interior-point methods for self-scaled cones, SIAM Journal on
  Optimization, 1998.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.types import Array
from fairjax.gradients.solve import SHRINK, STEPS, room_to_zero

POLISH_STEPS = 3


class _Program(NamedTuple):
    """The problem; rows that are not free are zero in ``gram`` and ``mask``."""

    gram: Array  # [K, K]
    linear: Array  # [K]
    reach: Array  # []
    free: Array  # [K] bool
    mask: Array  # [K], 1 where free
    span: Array  # [K, K], see _span


class _Point(NamedTuple):
    """Variables and multipliers, in the letters of this file's docstring; or a change of them."""

    w: Array  # [K]
    n: Array  # []
    z: Array  # [K]
    a: Array  # [K]
    t: Array  # []
    y: Array  # []


def min_with_norm(
    gram: Array, linear: Array, reach: Array, free: Array
) -> tuple[Array, Array, Array]:
    """``min linear' w + reach ||w||_G`` on the simplex over the free rows; all of order one.

    ``||w||_G^2 = w' G w``. The file's docstring derives the steps.

    Args:
      gram: G, ``[K, K]``.
      linear: ``[K]``.
      reach: the factor of the norm, a scalar.
      free: ``[K]`` bool, the rows that take part.

    Returns:
      ``w[K]``, the dual's ``a[K]``, and the residual, a scalar. Where ``w' G w`` is not 0, a is
      ``reach w / ||w||_G`` up to rounding.
    """
    mask = free.astype(gram.dtype)
    gram = jnp.where(free[:, None] & free[None, :], gram, 0.0)
    program = _Program(gram, linear, reach, free, mask, _span(gram))

    def step(_, carry):
        point, best, least_error = carry
        point = _take_step(program, point)
        # In the last digits rounding may spoil a step, so the best point is kept.
        error = _error(program, point)
        best = _select(error < least_error, point, best)
        return point, best, jnp.minimum(error, least_error)

    start = _start(program)
    carry = (start, start, _error(program, start))
    _, best, least_error = jax.lax.fori_loop(0, STEPS, step, carry)

    def polish(_, point: _Point) -> _Point:
        return _polish(program, point)

    polished = jax.lax.fori_loop(0, POLISH_STEPS, polish, best)
    return polished.w, best.a, jnp.where(jnp.any(free), least_error, 0.0)


def _span(gram: Array) -> Array:
    """The projection ``[K, K]`` onto what G does not map to 0."""
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(gram))
    cutoff = gram.shape[0] * jnp.finfo(gram.dtype).eps * values[-1]
    basis = jnp.where(values > cutoff, vectors, 0.0)
    return basis @ basis.T


def _start(program: _Program) -> _Point:
    """Equal weights, and everything well inside."""
    w = program.mask / jnp.maximum(jnp.sum(program.mask), 1)
    n = 1.0 + jnp.sqrt(jnp.maximum(w @ program.gram @ w, 0.0))
    zero = jnp.zeros_like(program.gram[0, 0])
    return _Point(w, n, z=program.mask, a=jnp.zeros_like(w), t=zero + 1.0, y=zero)


def _take_step(program: _Program, point: _Point) -> _Point:
    """One primal-dual step, cut to stay inside; no step where rounding has spoilt it."""
    change = _newton_change(program, point)
    length = jnp.minimum(1.0, 0.98 * _room(program, point, change))
    moved = jax.tree.map(lambda old, delta: old + length * delta, point, change)
    moved = moved._replace(a=program.span @ moved.a)
    sound = (
        (_depth(program.gram, moved.n, moved.w) > 0)
        & (_depth(program.gram, moved.t, moved.a) > 0)
        & jnp.isfinite(_error(program, moved))
    )
    return _select(sound, moved, point)


def _newton_change(program: _Program, point: _Point) -> _Point:
    gram, linear, reach, free, mask, _ = program
    w, n, z, a, t, y = point
    positive_w = jnp.where(free, w, 1.0)
    depth = _depth(gram, n, w)
    dual_depth = _depth(gram, t, a)
    cone_gap = n * t - w @ gram @ a
    mu = SHRINK * (jnp.sum(mask * w * z) + cone_gap) / (jnp.sum(mask) + 1)

    # The scaling point (b_n, b), and H = scale (2 v v' - diag(1, -G)). The entry of n is last.
    p = jnp.sqrt(depth)
    q = jnp.sqrt(dual_depth)
    middle = jnp.sqrt(2.0 + 2.0 * cone_gap / (p * q))
    b = (w / p + a / q) / middle
    b_n = (n / p + t / q) / middle
    scale = q / p
    v = jnp.append(-(gram @ b), b_n)
    count = gram.shape[0]
    reflection = jnp.zeros((count + 1, count + 1), gram.dtype)
    reflection = reflection.at[:-1, :-1].set(gram).at[-1, -1].set(-1.0)
    cone_hessian = scale * (2.0 * v[:, None] * v[None, :] + reflection)

    # The system for (dw, dn) after dz, da and dt are eliminated.
    diagonal = jnp.append(jnp.where(free, z / positive_w, 1.0), 0.0)
    in_sum = jnp.append(mask, 0.0)
    right_w = jnp.where(free, mu / positive_w - linear - mu * (gram @ w) / depth, 0.0)
    right_n = mu * n / depth - reach
    right = jnp.append(right_w, right_n) + y * in_sum
    move, move_per_y = _solve_two(cone_hessian + jnp.diag(diagonal), right, in_sum)
    slope = in_sum @ move_per_y
    dy = (1.0 - mask @ (w + move[:-1])) / jnp.where(slope == 0, 1.0, slope)
    move = move + dy * move_per_y

    # Back to what was eliminated.
    dw = move[:-1]
    dn = move[-1]
    toward = v @ move
    return _Point(
        w=dw,
        n=dn,
        z=jnp.where(free, mu / positive_w - z - z / positive_w * dw, 0.0),
        a=mu * w / depth - a + scale * (dw - 2.0 * b * toward),
        t=mu * n / depth - t - scale * (2.0 * b_n * toward - dn),
        y=dy,
    )


def _solve_two(matrix: Array, right: Array, other: Array) -> Array:
    """``M^-1 right`` and ``M^-1 other``, ``[2, K]``, by one factorisation."""
    return jnp.linalg.solve(matrix, jnp.stack([right, other], axis=1)).T


def _room(program: _Program, point: _Point, change: _Point) -> Array:
    """How many times the change fits before w, z or one of the cones is left."""
    gram = program.gram
    free = program.free
    w_room = room_to_zero(jnp.where(free, point.w, 1.0), change.w)
    z_room = room_to_zero(jnp.where(free, point.z, 1.0), change.z)
    cone_room = _cone_room(gram, point.n, point.w, change.n, change.w)
    dual_room = _cone_room(gram, point.t, point.a, change.t, change.a)
    return jnp.minimum(jnp.minimum(w_room, z_room), jnp.minimum(cone_room, dual_room))


def _cone_room(gram: Array, n: Array, w: Array, dn: Array, dw: Array) -> Array:
    """How many times (dn, dw) fits before (n, w) leaves the cone, else 2.

    The least positive root of a quadratic equation.
    """
    depth = _depth(gram, n, w)
    cross = n * dn - w @ gram @ dw
    square = dn**2 - dw @ gram @ dw
    discriminant = cross**2 - square * depth
    divisor = jnp.sqrt(jnp.maximum(discriminant, 0.0)) - cross
    leaves = (discriminant >= 0) & (divisor > 0)
    return jnp.where(leaves, depth / jnp.where(leaves, divisor, 1.0), 2.0)


def _depth(gram: Array, n: Array, w: Array) -> Array:
    """``n^2 - w' G w``, as a product, which rounds less."""
    norm = jnp.sqrt(jnp.maximum(w @ gram @ w, 0.0))
    return (n - norm) * (n + norm)


def _error(program: _Program, point: _Point) -> Array:
    """How far (1) is from true, plus the mean gap of (3)."""
    gram, linear, reach, free, mask, _ = program
    w, n, z, a, t, y = point
    gradient_error = jnp.max(jnp.where(free, jnp.abs(linear + gram @ a - z - y), 0.0))
    gap = jnp.sum(mask * w * z) + n * t - w @ gram @ a
    return gradient_error + jnp.abs(reach - t) + gap / (jnp.sum(mask) + 1)


def _polish(program: _Program, point: _Point) -> _Point:
    """Newton's step for ``linear + reach G w / ||w||_G = z + y``.

    It finds digits of w that the cone's scaling loses.
    """
    gram, linear, reach, free, mask, _ = program
    w, _, z, _, _, y = point
    gram_w = gram @ w
    norm = jnp.sqrt(jnp.maximum(w @ gram_w, jnp.finfo(gram.dtype).tiny))
    positive_w = jnp.where(free, w, 1.0)
    norm_hessian = gram / norm - gram_w[:, None] * gram_w[None, :] / norm**3
    matrix = reach * norm_hessian + jnp.diag(jnp.where(free, z / positive_w, 1.0))
    right = jnp.where(free, y - linear - reach * gram_w / norm, 0.0)

    dw, dw_per_y = _solve_two(matrix, right, mask)
    slope = mask @ dw_per_y
    dy = (1.0 - mask @ (w + dw)) / jnp.where(slope == 0, 1.0, slope)
    dw = dw + dy * dw_per_y
    dz = jnp.where(free, -z - z / positive_w * dw, 0.0)

    w_room = room_to_zero(positive_w, dw)
    z_room = room_to_zero(jnp.where(free, z, 1.0), dz)
    length = jnp.minimum(1.0, 0.99 * jnp.minimum(w_room, z_room))
    sound = jnp.all(jnp.isfinite(dw)) & jnp.all(jnp.isfinite(dz))
    moved = point._replace(w=w + length * dw, z=z + length * dz, y=y + length * dy)
    return _select(sound, moved, point)


def _select(condition: Array, chosen: _Point, other: _Point) -> _Point:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
