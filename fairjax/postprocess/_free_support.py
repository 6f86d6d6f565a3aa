"""Joint repair for any laws: a cloud of points as the barycenter, and maps to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide
from fairjax.core.types import Array, Post
from fairjax.notions.transport import ott
from fairjax.postprocess._joint import map_index, members_of, standard_of, standardise

ROWS_AT_ONCE = 1024  # of the out-of-sample map, which compares each row with every point


class Smoother(NamedTuple):
    """A map by weighted means, ``x -> slope x + sum_j p_j value_j``.

    ``p = softmax((bias_j - |x - point_j|^2) / temperature)``.
    """

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


def entropic(epsilon: float = 0.02) -> Callable[..., Smoother]:
    """Out-of-sample map of the entropic potentials, ``x -> sum_j p_j(x) y_j``.

    ``p(x) = softmax((g_j - |x - y_j|^2) / epsilon)``. ``y`` are the barycenter's points, and ``g``
    is the dual potential there, of the group's points against them. OTT calls this map
    ``to_dual_potentials().transport``. ``epsilon`` is in squared deviations of the pool. A smaller
    one shrinks less and takes more iterations.

    Reference:
      Pooladian, Niles-Weed, arXiv 2109.12004 (entropic estimation of optimal transport maps).
    """

    def extend(points: Array, mass: Array, bar: Array) -> Smoother:
        potential = _solve(points, mass, bar, epsilon).g
        return Smoother(
            point=bar,
            bias=potential,
            value=bar,
            temperature=jnp.asarray(epsilon),
            slope=jnp.asarray(0.0),
        )

    return extend


def kernel(
    bandwidth: float = 0.1, epsilon: float = 0.02, moves: bool = False
) -> Callable[..., Smoother]:
    """Out-of-sample map by kernel regression of where the plan sends the group's points.

    ``x -> sum_i k_i(x) T_i``, ``k_i`` proportional to ``mass_i exp(-|x - x_i|^2 / 2 bandwidth^2)``,
    ``T_i`` the mean of the barycenter's points under the plan's row ``i``.

    Args:
      bandwidth: in deviations of the pool.
      epsilon: of the plan.
      moves: regress ``T_i - x_i`` and add it to ``x``, which does not shrink the spread of ``x`` to
        the kernel's mean.

    Reference:
      Li, Lin, Ghosh, Yang, "Multi-Output Distributional Fairness via Post-Processing", TMLR 2025,
      arXiv 2409.00553. They use an exact plan to an approximate barycenter of points of the pool,
      bandwidth 0.1 in the units of the scores, and by default one of the barycenter's points drawn
      at random for each row; here the plan is entropic, the scores are standardised, and the mean
      is taken.
    """

    def extend(points: Array, mass: Array, bar: Array) -> Smoother:
        plan = _solve(points, mass, bar, epsilon).matrix
        row_mass = jnp.sum(plan, axis=1)[:, None]
        place = divide(plan @ bar, row_mass)
        temperature = 2.0 * bandwidth**2
        return Smoother(
            point=points,
            bias=temperature * jnp.log(mass),
            value=place - moves * points,
            temperature=jnp.asarray(temperature),
            slope=jnp.asarray(float(moves)),
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
    """Maps to the groups' barycenter as a cloud of ``size`` points, by optimal transport.

    No shape of the laws is assumed. The barycenter is of at most ``size`` rows of every group,
    drawn at random without regard to their weights; the rows keep their weights. Then
    :func:`entropic` or :func:`kernel` extends the plan to any row. Time and memory of the fit grow
    with ``G size^2``.

    Args:
      key: for the rows that are drawn. The same rows whatever the groups' order.
      size: points of every group and of the barycenter.
      extend: ``(points[S, T], mass[S], bar[S, T]) -> Smoother``; :func:`entropic` of ``epsilon`` if
        not given.
      epsilon: of the barycenter, in squared deviations of the pool. The barycenter shrinks with it.
      cost: as in :func:`gaussian`.
      share: as in :func:`gaussian`.
      rounds: of moving the barycenter's points, at most.

    Returns:
      Post whose state is a :class:`Cloud`. For groups of fewer than some fifty rows
      :func:`gaussian` is the better choice.

    Raises:
      ImportError: from ``fit``, if OTT is missing. ``apply`` does without.

    Reference:
      Cuturi, Doucet, ICML 2014 (free support), with the solver of OTT (Cuturi et al., arXiv
      2201.12324).
    """
    extend = extend or entropic(epsilon)

    def fit(scores: Array, groups: Array, weight: Array) -> Cloud:
        standard = standard_of(scores, weight, cost)
        members = members_of(groups, weight, share)
        standardised = standardise(scores, weight, standard)
        points_of_group = min(size, len(standardised))
        points, mass, start = draw_points(key, standardised, members.weight, points_of_group)
        bar = _free_barycenter(points[:-1], mass[:-1], members.share, start, epsilon, rounds)
        smoother = jax.vmap(extend, (0, 0, None))(points, mass, bar)
        centre, scale = standard
        return Cloud(members.present, centre, scale, smoother)

    def apply(
        state: Cloud,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        check_membership(groups, scores)

        def place_of(row: tuple[Array, Array]) -> Array:
            score, index = row
            smoother = jax.tree.map(lambda leaf: leaf[index], state.smoother)
            standardised = (score - state.centre) / state.scale
            return smooth(smoother, standardised)

        rows = (scores, map_index(groups, state.present))
        place = jax.lax.map(place_of, rows, batch_size=ROWS_AT_ONCE)
        moved = state.centre + state.scale * place
        return scores + amount * (moved - scores)

    return Post(fit, apply)


def draw_points(
    key: Array,
    standardised: Array,
    member: Array,
    size: int,
) -> tuple[Array, Array, Array]:
    """Points ``[G + 1, S, T]`` and mass ``[G + 1, S]`` of the groups; and S points of the pool."""
    rows = len(standardised)
    luck = jax.random.uniform(key, (rows,))

    def draw_from_group(weight: Array) -> tuple[Array, Array]:
        luck_in_group = jnp.where(weight > 0, luck, -1.0)
        _, drawn = jax.lax.top_k(luck_in_group, size)
        drawn_weight = weight[drawn]
        mass = divide(drawn_weight, jnp.sum(drawn_weight))
        return standardised[drawn], mass

    points, mass = jax.lax.map(draw_from_group, member.T)
    # if the pool has too few rows, the barycenter starts from some of them twice
    pool_mass = mass[-1]
    pool_points = jnp.maximum(jnp.sum(pool_mass > 0), 1)
    start = points[-1][jnp.arange(size) % pool_points]
    return points, mass, start


def _free_barycenter(
    points: Array,
    mass: Array,
    share: Array,
    start: Array,
    epsilon: float,
    rounds: int,
) -> Array:
    """Points ``[S, T]`` of the barycenter, all of the same mass."""
    sinkhorn_solver = ott("solvers.linear.sinkhorn")
    barycenter_solver = ott("solvers.linear.continuous_barycenter")
    barycenter_problem = ott("problems.linear.barycenter_problem")
    sinkhorn = sinkhorn_solver.Sinkhorn(threshold=1e-2, max_iterations=1000)
    solver = barycenter_solver.FreeWassersteinBarycenter(sinkhorn, max_iterations=rounds)
    problem = barycenter_problem.FreeBarycenterProblem(points, mass, share, epsilon=epsilon)
    barycenter = solver(problem, bar_size=len(start), x_init=start)
    return barycenter.x


def _solve(
    points: Array,
    mass: Array,
    bar: Array,
    epsilon: float,
):
    """Entropic transport of a group's points to the barycenter's points."""
    pointcloud = ott("geometry.pointcloud")
    linear = ott("solvers.linear")
    cloud = pointcloud.PointCloud(points, bar, epsilon=epsilon)
    return linear.solve(cloud, a=mass, max_iterations=2000)


def smooth(smoother: Smoother, score: Array) -> Array:
    """Where a smoother sends one standardised score ``[T]``."""
    squared_difference = (score - smoother.point) ** 2
    squared_distance = jnp.sum(squared_difference, axis=-1)
    logit = (smoother.bias - squared_distance) / smoother.temperature
    prob = jax.nn.softmax(logit)
    mean = prob @ smoother.value
    return smoother.slope * score + mean
