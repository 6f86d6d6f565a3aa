"""Small convex problems over K weights, solved by a fixed number of interior-point steps; they vmap, jit and scan.

No host solver and no early exit: what a problem needs more than the steps give is told by the residual.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.types import Array

STEPS = 24
AIM = 0.1  # each step aims at a tenth of the gap


def interior_point(
    gram: Array, lower: Array, free: Array, share: Array | None = None
) -> tuple[Array, Array]:
    """``min x' G x / 2`` with ``x >= lower`` and, with ``share``, ``share' x = 1``; G positive semidefinite, of order one.

    Primal-dual Newton steps towards ``s z = mu / 10`` with ``s = x - lower``, each cut to stay inside.

    Args:
      gram: ``[K, K]``.
      lower: ``[K]``.
      free: ``[K]`` bool; the other entries are left out of the problem and are ``lower`` in the answer.
      share: ``[K]`` at least 0, and 1 at most; None for no such condition.

    Returns:
      ``x[K]`` and the residual of the Karush-Kuhn-Tucker conditions, a scalar.
    """
    count, kind = lower.shape[0], jnp.result_type(lower, jnp.float32)
    one, size = free.astype(kind), jnp.maximum(jnp.sum(free), 1)
    plus = jnp.zeros_like(one) if share is None else one * share
    some = jnp.any(plus > 0)
    tiny = jnp.finfo(kind).eps ** (1.0 if kind == jnp.float64 else 1.2)
    hessian = jnp.where(free[:, None] & free[None, :], gram, 0.0)
    eye = jnp.eye(count, dtype=kind)

    def step(_, at):
        x, z, y = at
        gradient = gram @ x
        s = jnp.where(free, x - lower, 1.0)
        mu = jnp.sum(one * s * z) / size
        matrix = hessian + eye * jnp.where(free, z / s, 1.0)
        right = jnp.where(free, AIM * mu / s - gradient + y * plus, 0.0)
        move, along = jnp.linalg.solve(matrix, jnp.stack([right, plus], axis=1)).T
        more = jnp.where(some, (1.0 - plus @ (x + move)) / jnp.where(some, plus @ along, 1.0), 0.0)
        move = move + more * along
        turn = jnp.where(free, AIM * mu / s - z - z / s * move, 0.0)
        go = jnp.minimum(1.0, 0.99 * jnp.minimum(_room(s, move), _room(z, turn)))
        fine = (mu > tiny) & jnp.all(jnp.isfinite(move)) & jnp.all(jnp.isfinite(turn))
        # where, not a product: what is not gone may be NaN
        return tuple(jnp.where(fine, a + go * d, a) for a, d in ((x, move), (z, turn), (y, more)))

    start = lower + one if share is None else one / jnp.where(some, jnp.sum(plus), 1.0)
    x, z, y = jax.lax.fori_loop(
        0, STEPS, step, (start.astype(kind), one, jnp.zeros_like(gram[0, 0]))
    )
    gap = jnp.abs(gram @ x - z - y * plus) + jnp.abs((x - lower) * z)
    return jnp.where(free, x, lower), jnp.max(jnp.where(free, gap, 0.0))


def _room(inside: Array, move: Array) -> Array:
    """How far to go along ``move`` and stay positive; 2 where there is no end."""
    return jnp.min(jnp.where(move < 0, -inside / jnp.where(move < 0, move, -1.0), 2.0))


def min_with_norm(
    gram: Array, linear: Array, reach: Array, free: Array
) -> tuple[Array, Array, Array]:
    """``min linear' w + reach ||w||_G`` on the simplex over the free rows, ``||w||_G^2 = w' G w``; all of order one.

    The dual is ``max_a min_i (linear + G a)_i`` with ``||a||_G <= reach``. A second-order cone program in ``(w, n)``,
    ``n >= ||w||_G``, by primal-dual steps in Nesterov and Todd's scaling, which are sound where the norm has no gradient.

    Returns:
      ``w[K]``, ``a[K]``, and the residual, a scalar. Where w' G w is not 0, a is ``reach w / ||w||_G`` but for rounding.

    Reference:
      Nesterov, Todd: Primal-dual interior-point methods for self-scaled cones, 1998.
    """
    count, kind = gram.shape[0], gram.dtype
    one = free.astype(kind)
    size = jnp.sum(one) + 1
    g = jnp.where(free[:, None] & free[None, :], gram, 0.0)
    corner = jnp.zeros((count + 1, count + 1), kind).at[:-1, :-1].set(g).at[-1, -1].set(-1.0)
    plus = jnp.append(one, 0.0)

    def depth(n, w):
        """``n^2 - w' G w`` with less rounding."""
        norm = jnp.sqrt(jnp.maximum(w @ g @ w, 0.0))
        return (n - norm) * (n + norm)

    def cone_room(inside, n, w, dn, dw):
        """How far (n, w) goes along (dn, dw) and stays in the cone: the least root of a quadratic."""
        cross, square = n * dn - w @ g @ dw, dn**2 - dw @ g @ dw
        root = cross**2 - square * inside
        under = jnp.sqrt(jnp.maximum(root, 0.0)) - cross
        ends = (root >= 0) & (under > 0)
        return jnp.where(ends, inside / jnp.where(ends, under, 1.0), 2.0)

    def error(w, n, z, a, t, y):
        dual = jnp.max(jnp.where(free, jnp.abs(linear + g @ a - z - y), 0.0)) + jnp.abs(reach - t)
        return dual + (jnp.sum(one * w * z) + n * t - w @ g @ a) / size

    def step(_, held):
        at, best, least = held
        w, n, z, a, t, y = at
        s = jnp.where(free, w, 1.0)
        inside, facing = depth(n, w), depth(t, a)
        p, q = jnp.sqrt(inside), jnp.sqrt(facing)
        inner = n * t - w @ g @ a
        aim = AIM * (jnp.sum(one * w * z) + inner) / size
        half = jnp.sqrt(2.0 + 2.0 * inner / (p * q))
        b, b_n = (w / p + a / q) / half, (n / p + t / q) / half  # the scaling point
        scale, v = q / p, jnp.append(-(g @ b), b_n)
        matrix = scale * (2.0 * v[:, None] * v[None, :] + corner) + jnp.diag(
            jnp.append(jnp.where(free, z / s, 1.0), 0.0)
        )
        right = (
            jnp.append(
                jnp.where(free, aim / s - linear - aim * (g @ w) / inside, 0.0),
                aim * n / inside - reach,
            )
            + y * plus
        )
        move, along = jnp.linalg.solve(matrix, jnp.stack([right, plus], axis=1)).T
        more = (1.0 - one @ (w + move[:-1])) / jnp.where(plus @ along == 0, 1.0, plus @ along)
        move = move + more * along
        dw, dn, toward = move[:-1], move[-1], v @ move
        dz = jnp.where(free, aim / s - z - z / s * dw, 0.0)
        da = aim * w / inside - a + scale * (dw - 2.0 * b * toward)
        dt = aim * n / inside - t - scale * (2.0 * b_n * toward - dn)
        room = jnp.minimum(
            jnp.minimum(_room(s, dw), _room(jnp.where(free, z, 1.0), dz)),
            jnp.minimum(cone_room(inside, n, w, dn, dw), cone_room(facing, t, a, dt, da)),
        )
        go = jnp.minimum(1.0, 0.98 * room)
        new = tuple(x + go * d for x, d in zip(at, (dw, dn, dz, da, dt, more), strict=True))
        sound = (
            (depth(new[1], new[0]) > 0) & (depth(new[4], new[3]) > 0) & jnp.isfinite(error(*new))
        )
        new = tuple(jnp.where(sound, x, old) for x, old in zip(new, at, strict=True))
        off = error(*new)  # in the last digits rounding may spoil a step
        return (
            new,
            tuple(jnp.where(off < least, x, old) for x, old in zip(new, best, strict=True)),
            jnp.minimum(off, least),
        )

    def polish(_, held):
        """Newton's step for ``linear + reach G w / ||w||_G = y + z``, which finds digits that the cone's scaling loses."""
        w, z, y = held
        gw = g @ w
        norm = jnp.sqrt(jnp.maximum(w @ gw, jnp.finfo(kind).tiny))
        s = jnp.where(free, w, 1.0)
        matrix = reach * (g / norm - gw[:, None] * gw[None, :] / norm**3) + jnp.diag(
            jnp.where(free, z / s, 1.0)
        )
        right = jnp.where(free, y - linear - reach * gw / norm, 0.0)
        move, along = jnp.linalg.solve(matrix, jnp.stack([right, one], axis=1)).T
        more = (1.0 - one @ (w + move)) / jnp.where(one @ along == 0, 1.0, one @ along)
        move = move + more * along
        turn = jnp.where(free, -z - z / s * move, 0.0)
        go = jnp.minimum(
            1.0, 0.99 * jnp.minimum(_room(s, move), _room(jnp.where(free, z, 1.0), turn))
        )
        sound = jnp.all(jnp.isfinite(move)) & jnp.all(jnp.isfinite(turn))
        return tuple(jnp.where(sound, x + go * d, x) for x, d in ((w, move), (z, turn), (y, more)))

    w = one / jnp.maximum(size - 1, 1)
    n = 1.0 + jnp.sqrt(jnp.maximum(w @ g @ w, 0.0))
    nothing = jnp.zeros_like(g[0, 0])
    at = (w, n, one, jnp.zeros_like(w), nothing + 1.0, nothing)
    _, (w, _, z, a, _, y), least = jax.lax.fori_loop(0, STEPS, step, (at, at, error(*at)))
    w, _, _ = jax.lax.fori_loop(0, 3, polish, (w, z, y))
    return w, a, jnp.where(jnp.any(free), least, 0.0)


def by_length(gram: Array, free: Array) -> tuple[Array, Array, Array]:
    """``(C, l, share)``: the Gram matrix of unit rows, their lengths, and how weights ``x = w l`` add up: ``share' x = 1``.

    In unit rows, rows of all lengths are equally well solved. Lengths are in units of the shortest.
    """
    length = jnp.where(free, jnp.sqrt(jnp.diagonal(gram)), jnp.inf)
    shortest = jnp.min(length)
    share = jnp.where(free, shortest / length, 0.0)
    length = jnp.where(free, length, 1.0)
    return gram / length[:, None] / length[None, :], length, share


def min_norm(gram: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_w w' G w`` on the simplex over the free rows, and the residual."""
    unit, _, share = by_length(gram, free)
    x, residual = interior_point(unit, jnp.zeros(gram.shape[0], gram.dtype), free, share)
    return x * share, residual


def project_on_cone(gram: Array, weights: Array, free: Array) -> tuple[Array, Array]:
    """``argmin_v v' G v`` with ``v >= weights``: weights of the projection of ``J' weights`` onto ``{u: J u >= 0}``."""
    unit, length, _ = by_length(gram, free)
    lower = weights * length
    largest = jnp.max(jnp.abs(jnp.where(free, lower, 0.0)))
    size = jnp.where(largest > 0, largest, 1.0)
    x, residual = interior_point(unit, lower / size, free)
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
