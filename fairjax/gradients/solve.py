"""Small convex problems over K weights, solved by a fixed number of interior-point steps; they vmap, jit and scan.

No host solver and no early exit: what a problem needs more than the steps give is told by the residual.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.types import Array

STEPS = 24  # twice that where Newton steps are cut by a search


def interior_point(derivatives: Callable[[Array], tuple[Array, Array]], lower: Array, free: Array,
                   simplex: Array | None = None, quadratic: bool = True) -> tuple[Array, Array]:
    """``min f(x)`` with ``x >= lower`` and, with a simplex, ``sum x = 1`` over its entries; f convex.

    Primal-dual Newton steps towards ``s z = mu / 10`` with ``s = x - lower``, each cut to stay inside.

    Args:
      derivatives: ``x[K] -> (gradient[K], Hessian[K, K])``, of order one.
      lower: ``[K]``.
      free: ``[K]`` bool; the other entries are left out of the problem and are ``lower`` in the answer.
      simplex: ``[K]`` bool, which free entries add up to one; None for no such condition.
      quadratic: whether f is; if not, each step is cut by a search too.

    Returns:
      ``x[K]`` and the residual of the Karush-Kuhn-Tucker conditions, a scalar.
    """
    count, kind = lower.shape[0], jnp.result_type(lower, jnp.float32)
    one, size = free.astype(kind), jnp.maximum(jnp.sum(free), 1)
    summed = jnp.zeros(count, bool) if simplex is None else simplex & free
    some, plus = jnp.any(summed), summed.astype(kind)
    tiny = jnp.finfo(kind).eps ** (1.0 if kind == jnp.float64 else 1.2)
    pairs, eye = free[:, None] & free[None, :], jnp.eye(count, dtype=kind)

    def step(_, at):
        x, z, y = at
        gradient, hessian = derivatives(x)
        s = jnp.where(free, x - lower, 1.0)
        mu = jnp.sum(one * s * z) / size
        aim = 0.1 * mu
        matrix = jnp.where(pairs, hessian, 0.0) + eye * jnp.where(free, z / s, 1.0)
        right = jnp.where(free, aim / s - gradient, 0.0)
        move, along = jnp.linalg.solve(matrix, jnp.stack([right, plus], axis=1)).T
        new = jnp.where(some, (1.0 - plus @ (x + move)) / jnp.where(some, plus @ along, 1.0), 0.0)
        move = move + new * along
        turn = jnp.where(free, aim / s - z - z / s * move, 0.0)
        room = jnp.minimum(_room(s, move), _room(z, turn))
        if quadratic:
            share = 1.0
        else:  # Newton's step may overshoot: of some shares of it, that with the least error
            shares = 0.5 ** jnp.arange(8, dtype=kind)

            def error(share):
                go = share * room
                g, _ = derivatives(x + go * move)
                slack = g - z - go * turn - (y + go * (new - y)) * plus
                centred = (s + go * move) * (z + go * turn) - aim
                return jnp.sum(jnp.where(free, slack**2 + centred**2, 0.0))
            errors = jax.vmap(error)(shares)
            share = shares[jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))]
        go = jnp.where((mu > tiny) & jnp.all(jnp.isfinite(move)) & jnp.all(jnp.isfinite(turn)), share * room, 0.0)
        # where, not a product: what is not gone may be NaN
        return tuple(jnp.where(go > 0, a + go * d, a) for a, d in ((x, move), (z, turn), (y, new - y)))

    even = 1.0 / jnp.maximum(jnp.sum(summed), 1)
    start = (jnp.where(summed, even, jnp.where(free, lower + 1.0, lower)).astype(kind), one, jnp.zeros((), kind))
    x, z, y = jax.lax.fori_loop(0, STEPS if quadratic else 2 * STEPS, step, start)
    gradient, _ = derivatives(x)
    gap = jnp.abs(gradient - z - y * plus) + jnp.abs((x - lower) * z)
    return jnp.where(free, x, lower), jnp.max(jnp.where(free, gap, 0.0))


def _room(inside: Array, move: Array) -> Array:
    """How far to go along ``move`` and stay strictly positive, at most 1."""
    return jnp.minimum(1.0, 0.99 * jnp.min(jnp.where(move < 0, -inside / jnp.where(move < 0, move, -1.0), 2.0)))


def min_norm(gram: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_w w' G w`` on the simplex over the free rows, and the residual; G of order one."""
    return interior_point(lambda w: (gram @ w, gram), jnp.zeros(gram.shape[0], gram.dtype), free, free)


def project_on_cone(gram: Array, weights: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_v v' G v`` with ``v >= weights``: weights of the projection of ``J' weights`` onto ``{u: J u >= 0}``."""
    # in unit rows, x = v ||g||, and with a bound of order one, rows of all lengths are equally well solved
    length = jnp.where(free, jnp.sqrt(jnp.diagonal(gram)), 1.0)
    unit = gram / length[:, None] / length[None, :]
    lower = weights * length
    largest = jnp.max(jnp.abs(jnp.where(free, lower, 0.0)))
    size = jnp.where(largest > 0, largest, 1.0)
    x, residual = interior_point(lambda x: (unit @ x, unit), lower / size, free)
    return x * (size / length), residual


def pseudo_inverse(gram: Array, power: float = -1.0) -> tuple[Array, Array]:
    """``(V diag(l^power) V', l)`` over the eigenvalues of a symmetric matrix that are not zero but for rounding.

    Eigenvalues below ``K eps max l`` count as zero; in ``l`` they are.
    """
    values, vectors = jnp.linalg.eigh(gram)
    keep = values > gram.shape[0] * jnp.finfo(gram.dtype).eps * jnp.max(values)
    values = jnp.where(keep, values, 0.0)
    powers = jnp.where(keep, jnp.where(keep, values, 1.0) ** power, 0.0)
    return (vectors * powers[None]) @ vectors.T, values
