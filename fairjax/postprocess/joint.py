"""Repair that is jointly fair across tasks: one map of all scores of a row, per group, to the groups' common barycenter.

Repaired task by task, every score has the same law in every group, but the scores together may still tell the groups apart,
by how they vary together. Here the rows' whole score vectors are transported to the Wasserstein barycenter of the groups' laws.

Every function makes a :class:`fairjax.core.types.Post`:
``fit(scores[N, T], groups[N, G], weight[N]) -> state`` and ``apply(state, scores[M, T], groups[M, G], key=None, amount=1.0)
-> [M, T]``; nothing is drawn, and a ``key`` is for the second of two repairs.
``groups`` is 0/1 membership in one attribute, or in its crossed cells. A row of zeros, of unknown group, and a row of a group
that the pool did not have are moved by the map of the whole pool's law, as if the pool were one more group of share 0.
``amount`` goes along the straight line from a score (0) to its repaired place (1), the geodesic between the laws. Rows of
weight 0 are padding. A state is a pytree of arrays.

Tasks are standardised by the pool's deviation first, since the cost of a move adds up squares of different units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep, weighted_mean
from fairjax.core.types import Array, Post, PyTree
from fairjax.notions.transport import ott

ROWS_AT_ONCE = 1024  # of the out-of-sample map, which compares each with every point


class Affine(NamedTuple):
    """State of :func:`gaussian`: ``x -> target + turn_g (x - mean_g)``, in the units of the scores; the pool's map is last."""

    present: Array  # [G]
    mean: Array  # [G + 1, T]
    turn: Array  # [G + 1, T, T]
    target: Array  # [T]


class Smoother(NamedTuple):
    """A map by weighted means: ``slope x + sum_j p_j value_j``, ``p = softmax((bias_j - |x - point_j|^2) / temperature)``."""

    point: Array  # [S, T]
    bias: Array  # [S]; -inf where there is no point
    value: Array  # [S, T]
    temperature: Array
    slope: Array  # 0: the values are places; 1: the values are moves


class Cloud(NamedTuple):
    """State of :func:`free_support`."""

    present: Array  # [G]
    centre: Array  # [T]
    scale: Array  # [T]
    smoother: Smoother  # leading axis G + 1, the pool's map last


# ------------------------------------------------------------------------------------------------- the closed form


def gaussian(
    cost: Array | None = None,
    share: Array | None = None,
    prior: float = 1.0,
    ridge: float = 1e-5,
    steps: int = 64,
) -> Post:
    """The affine maps that are optimal between Gaussians of the groups' means and covariances.

    ``x -> m + A_g (x - m_g)``, ``m = sum_g pi_g m_g``, ``A_g = S_g^-1/2 (S_g^1/2 S S_g^1/2)^1/2 S_g^-1/2``; the barycenter's
    covariance solves ``S = sum_g pi_g (S^1/2 S_g S^1/2)^1/2``. Makes means and covariances equal, whatever the laws; makes
    the laws equal if they are Gaussian.

    Args:
      cost: ``[T]`` positive weights of the tasks in the cost of a move; equal if not given.
      share: ``[G]`` weights of the groups in the barycenter; their shares of the pool's weight if not given.
      prior: how much a group's covariance leans on the mean covariance within groups, in rows per task. With 0 a group of no
        more rows than tasks has a singular covariance, and a wild map.
      ridge: added to every variance, in squared deviations of the pool.
      steps: of the fixed point.

    Returns:
      Post whose state is an :class:`Affine`; mapped and compiled like any jax function.

    Reference:
      Agueh, Carlier, SIAM J. Math. Anal. 2011 (barycenter of Gaussians); Alvarez-Esteban et al., J. Math. Anal. Appl. 2016
      (fixed point). OTT has the same iteration (``Bures.barycenter``); with square roots by eigenvectors it needs no extra,
      and is more exact where tasks nearly repeat each other.
    """

    def fit(scores: Array, groups: Array, weight: Array) -> Affine:
        centre, scale = _units(scores, weight, cost)
        present, pi, member = _members(groups, weight, share)
        mean, cov = _moments(_standardised(scores, weight, centre, scale), member, present, prior)
        cov = cov + ridge * jnp.eye(scores.shape[1])
        turn = jax.vmap(_turn, (0, None))(cov, _bures(cov[:-1], pi, steps))
        return Affine(
            present,
            centre + scale * mean,
            scale[:, None] * turn / scale,
            centre + scale * (pi @ mean[:-1]),
        )

    def apply(
        state: Affine,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        g = _which(groups, state.present)
        moved = state.target + jnp.einsum("nij,nj->ni", state.turn[g], scores - state.mean[g])
        return scores + amount * (moved - scores)

    return Post(fit, apply)


def _moments(z: Array, member: Array, present: Array, prior: float) -> tuple[Array, Array]:
    """Means ``[G + 1, T]`` and covariances ``[G + 1, T, T]``, groups' covariances leaning on the one within groups."""
    mean = divide(member.T @ z, jnp.sum(member, axis=0)[:, None])

    def spread(both):
        w, m = both
        return divide((w[:, None] * (z - m)).T @ (z - m), jnp.sum(w))

    cov = jax.lax.map(spread, (member.T, mean))
    rows = divide(jnp.sum(member, axis=0) ** 2, jnp.sum(member**2, axis=0))[
        :, None, None
    ]  # as many equal weights would be
    of_present = jnp.append(present, False)[:, None, None]
    within = divide(jnp.sum(of_present * rows * cov, axis=0), jnp.sum(of_present * (rows - 1)))
    borrowed = prior * z.shape[1]
    return mean, jnp.where(
        of_present, divide(rows * cov + borrowed * within, rows - 1 + borrowed), cov
    )


def _power(cov: Array, exponent: float) -> Array:
    """Power of a positive definite matrix."""
    value, vector = jnp.linalg.eigh(cov)
    smallest = jnp.finfo(cov.dtype).eps * jnp.max(
        value
    )  # rounding leaves small eigenvalues below 0
    return (vector * jnp.maximum(value, smallest) ** exponent) @ vector.T


def _bures(cov: Array, pi: Array, steps: int) -> Array:
    """Covariance of the barycenter of centred Gaussians."""

    def step(_, mid):
        root, inverse = _power(mid, 0.5), _power(mid, -0.5)
        mixed = jnp.einsum("g,gij->ij", pi, jax.vmap(lambda s: _power(root @ s @ root, 0.5))(cov))
        mid = inverse @ mixed @ mixed @ inverse
        return (mid + mid.T) / 2

    return jax.lax.fori_loop(0, steps, step, jnp.einsum("g,gij->ij", pi, cov))


def _turn(cov: Array, target: Array) -> Array:
    """The optimal linear map of ``N(0, cov)`` to ``N(0, target)``."""
    root, inverse = _power(cov, 0.5), _power(cov, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


# ------------------------------------------------------------------------------------------------- any laws


def entropic(epsilon: float = 0.02) -> Callable[..., Smoother]:
    """Out-of-sample map of the entropic potentials: ``sum_j p_j(x) y_j``, ``p(x) = softmax((g_j - |x - y_j|^2) / epsilon)``.

    ``y`` are the barycenter's points and ``g`` the dual potential there, of the group's points against them; what OTT calls
    ``to_dual_potentials().transport``. Smaller ``epsilon``, in squared deviations of the pool: less shrinkage, more iterations.

    Reference:
      Pooladian, Niles-Weed, arXiv 2109.12004 (entropic estimation of optimal transport maps).
    """

    def extend(points: Array, mass: Array, bar: Array) -> Smoother:
        return Smoother(
            bar, _solve(points, mass, bar, epsilon).g, bar, jnp.asarray(epsilon), jnp.asarray(0.0)
        )

    return extend


def kernel(
    bandwidth: float = 0.1, epsilon: float = 0.02, moves: bool = False
) -> Callable[..., Smoother]:
    """Out-of-sample map by kernel regression of where the plan sends the group's points.

    ``x -> sum_i k_i(x) T_i``, ``k_i`` proportional to ``mass_i exp(-|x - x_i|^2 / 2 bandwidth^2)``, ``T_i`` the mean of the
    barycenter's points under the plan's row ``i``.

    Args:
      bandwidth: in deviations of the pool.
      epsilon: of the plan.
      moves: regress ``T_i - x_i`` and add it to ``x``, which does not shrink the spread of ``x`` to the kernel's mean.

    Reference:
      Li, Lin, Ghosh, Yang, "Multi-Output Distributional Fairness via Post-Processing", TMLR 2025, arXiv 2409.00553. Theirs:
      an exact plan to an approximate barycenter of points of the pool, bandwidth 0.1 in the units of the scores, and by default
      one of the barycenter's points drawn at random for each row; here an entropic plan, standardised scores and the mean.
    """

    def extend(points: Array, mass: Array, bar: Array) -> Smoother:
        plan = _solve(points, mass, bar, epsilon).matrix
        place = divide(plan @ bar, jnp.sum(plan, axis=1)[:, None])
        width = 2.0 * bandwidth**2
        return Smoother(
            points,
            width * jnp.log(mass),
            place - moves * points,
            jnp.asarray(width),
            jnp.asarray(float(moves)),
        )

    return extend


def free_support(
    key: Array,
    size: int = 400,
    extend: Callable[..., Smoother] | None = None,
    epsilon: float = 0.02,
    cost: Array | None = None,
    share: Array | None = None,
    rounds: int = 50,
) -> Post:
    """Maps to the groups' barycenter as a cloud of ``size`` points, found by optimal transport: no shape of the laws assumed.

    The barycenter of at most ``size`` rows of every group, drawn at random without regard to weights, which they keep; then
    :func:`entropic` or :func:`kernel` extends the plan to any row. Time and memory of the fit grow with ``G size^2``.

    Args:
      key: for the rows that are drawn. The same rows whatever the groups' order.
      size: points of every group and of the barycenter.
      extend: ``(points[S, T], mass[S], bar[S, T]) -> Smoother``; :func:`entropic` of ``epsilon`` if not given.
      epsilon: of the barycenter, in squared deviations of the pool. The barycenter shrinks with it.
      cost: as in :func:`gaussian`.
      share: as in :func:`gaussian`.
      rounds: of moving the barycenter's points, at most.

    Returns:
      Post whose state is a :class:`Cloud`. For groups of fewer than some fifty rows :func:`gaussian` is the better choice.

    Raises:
      ImportError: from ``fit``, if OTT is missing. ``apply`` does without.

    Reference:
      Cuturi, Doucet, ICML 2014 (free support), with the solver of OTT (Cuturi et al., arXiv 2201.12324).
    """
    extend = extend or entropic(epsilon)

    def fit(scores: Array, groups: Array, weight: Array) -> Cloud:
        centre, scale = _units(scores, weight, cost)
        present, pi, member = _members(groups, weight, share)
        z = _standardised(scores, weight, centre, scale)
        points, mass, start = _drawn(key, z, member, min(size, len(z)))
        bar = _barycenter(points[:-1], mass[:-1], pi, start, epsilon, rounds)
        return Cloud(present, centre, scale, jax.vmap(extend, (0, 0, None))(points, mass, bar))

    def apply(
        state: Cloud,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key

        def place(row):
            x, g = row
            return _smooth(
                jax.tree.map(lambda leaf: leaf[g], state.smoother), (x - state.centre) / state.scale
            )

        moved = jax.lax.map(place, (scores, _which(groups, state.present)), batch_size=ROWS_AT_ONCE)
        return scores + amount * (state.centre + state.scale * moved - scores)

    return Post(fit, apply)


def _drawn(key: Array, z: Array, member: Array, size: int) -> tuple[Array, Array, Array]:
    """At most ``size`` rows of each group: points ``[G + 1, S, T]``, their mass ``[G + 1, S]``; and as many of the pool."""
    luck = jax.random.uniform(key, (len(z),))

    def of_group(w):
        _, chosen = jax.lax.top_k(jnp.where(w > 0, luck, -1.0), size)
        return z[chosen], divide(w[chosen], jnp.sum(w[chosen]))

    points, mass = jax.lax.map(of_group, member.T)
    number = jnp.maximum(jnp.sum(mass[-1] > 0), 1)
    return (
        points,
        mass,
        points[-1][jnp.arange(size) % number],
    )  # too few rows in the pool: start from some of them twice


def _barycenter(
    points: Array, mass: Array, pi: Array, start: Array, epsilon: float, rounds: int
) -> Array:
    """Points ``[S, T]`` of the barycenter, all of the same mass."""
    sinkhorn = ott("solvers.linear.sinkhorn").Sinkhorn(threshold=1e-2, max_iterations=1000)
    solver = ott("solvers.linear.continuous_barycenter").FreeWassersteinBarycenter(
        sinkhorn, max_iterations=rounds
    )
    problem = ott("problems.linear.barycenter_problem").FreeBarycenterProblem(
        points, mass, pi, epsilon=epsilon
    )
    return solver(problem, bar_size=len(start), x_init=start).x


def _solve(points: Array, mass: Array, bar: Array, epsilon: float):
    """Entropic transport of a group's points to the barycenter's."""
    cloud = ott("geometry.pointcloud").PointCloud(points, bar, epsilon=epsilon)
    return ott("solvers.linear").solve(cloud, a=mass, max_iterations=2000)


def _smooth(by: Smoother, x: Array) -> Array:
    logit = (by.bias - jnp.sum((x - by.point) ** 2, axis=-1)) / by.temperature
    return by.slope * x + jax.nn.softmax(logit) @ by.value


# ------------------------------------------------------------------------------------------------- one after another


def compose(joint: Post, exact: Post) -> Post:
    """A joint repair, then another of each task alone, fitted to the jointly repaired pool.

    A joint map makes the tasks' own laws only nearly equal, and an exact map of each task alone mends that on the pool. Being
    increasing per task, it keeps most of what the joint map did to how tasks vary together. It is fitted to the same pool:
    with a few hundred rows per group the tasks' laws on other rows come no closer by it than :func:`gaussian` brings them.

    Args:
      joint: any Post.
      exact: any Post; its ``apply`` is called with the key and without an amount.

    Returns:
      Post whose state is ``(state of joint, state of exact)``; ``amount`` goes along the line from a score to its final place.
    """

    def fit(scores: Array, groups: Array, weight: Array) -> PyTree:
        first = joint.fit(scores, groups, weight)
        return first, exact.fit(joint.apply(first, scores, groups), groups, weight)

    def apply(
        state: PyTree,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        moved = exact.apply(state[1], joint.apply(state[0], scores, groups), groups, key)
        return scores + amount * (moved - scores)

    return Post(fit, apply)


# ------------------------------------------------------------------------------------------------- what they share


def _units(scores: Array, weight: Array, cost: Array | None) -> tuple[Array, Array]:
    """Mean of the pool and what one unit of standardised score is, ``[T]`` each; a constant task keeps its own unit."""
    centre = weighted_mean(scores, weight[:, None])
    variance = weighted_mean((scores - centre) ** 2, weight[:, None])
    rounding = (jnp.finfo(centre.dtype).eps * centre) ** 2
    return centre, jnp.sqrt(
        jnp.where(variance > rounding, variance, 1.0) / (1.0 if cost is None else cost)
    )


def _standardised(scores: Array, weight: Array, centre: Array, scale: Array) -> Array:
    return keep((scores - centre) / scale, weight[:, None])


def _members(groups: Array, weight: Array, share: Array | None) -> tuple[Array, Array, Array]:
    """Which groups are there ``[G]``, their shares ``[G]``, and rows' weights in each ``[N, G + 1]``.

    The pool is the last, and stands in for a group that is not there.
    """
    member = groups * weight[:, None]
    mass = jnp.sum(member, axis=0)
    present = mass > 0
    pi = jnp.where(present, mass if share is None else share, 0.0)
    member = jnp.where(present, member, weight[:, None])
    pi = divide(pi, jnp.sum(pi), 1 / len(pi))
    return present, pi, jnp.concatenate([member, weight[:, None]], axis=1)


def _which(groups: Array, present: Array) -> Array:
    """Index of each row's map ``[M]``; the last for a row whose group is unknown or was not in the pool."""
    known = groups * present
    return jnp.where(jnp.any(known > 0, axis=1), jnp.argmax(known, axis=1), groups.shape[1])
