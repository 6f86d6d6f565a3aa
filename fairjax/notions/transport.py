"""Distances by optimal transport, smooth in the scores: the cost of moving groups onto one another.

In: predictions ``[N]``, or ``[N, U]`` for several columns at once, membership and weights. Out: a
scalar in squared units of the predictions. :func:`barycenter_distance` is exact in one dimension,
by one sort. For columns that are to be fair together there are :func:`sliced` and :func:`sinkhorn`
(both need OTT: ``pip install 'fairjax[ot]'``), and :func:`projected`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import check_membership, divide, keep, members
from fairjax.core.types import Array


def barycenter_distance(
    prob: Array, groups: Array, weight: Array, *, levels: int | None = 256
) -> Array:
    """What it costs to move every group to the Wasserstein barycenter of all groups.

    ``sum_g pi_g int_0^1 (Q_g(u) - Qbar(u))^2 du``, where ``Q_g`` is the quantile function of group
    g, ``pi_g`` is its share of the weight, and ``Qbar = sum_g pi_g Q_g`` is the quantile function
    of the barycenter. It is the least mean squared change of the scores that gives all groups one
    distribution. It equals ``sum_{g<h} pi_g pi_h W_2^2(g, h)``.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      levels: K mid-points ``u = (k + 1/2) / K`` at which quantiles are compared. Only rows that are
        a quantile there have a gradient, at most K per group and step. None takes every level at
        which a function jumps: exact, and slower with many groups.

    Returns:
      A scalar, differentiable in ``prob`` for a fixed order of the scores; 0 with gradient 0 when
      fewer than two groups are present.

    Reference:
      Hu, Ratz, Charpentier: Fairness in multi-task learning via Wasserstein barycenters, ECML-PKDD
      2023, Theorem 1; there the scores are moved after training, here this is a loss.
    """
    check_membership(groups, weight)
    prob = _at_least_single(prob)
    groups = _at_least_single(groups)
    weight = _at_least_single(weight)
    prob = keep(prob, weight)
    order = jnp.argsort(jax.lax.stop_gradient(prob))
    member = members(groups, weight)[order]
    mass_g = jnp.sum(member, axis=0)
    reached_gn = divide(jnp.cumsum(member, axis=0), mass_g[None]).T
    level_k, width_k = _levels(reached_gn, levels)
    rank_gk = jax.vmap(jnp.searchsorted, (0, None))(reached_gn, level_k)
    quantile_gk = prob[order[jnp.minimum(rank_gk, len(prob) - 1)]]
    comparable = jnp.sum(mass_g > 0) >= 2
    share_g = jnp.where(comparable, divide(mass_g, jnp.sum(mass_g)), 0.0)
    share_g1 = share_g[:, None]
    barycenter_1k = jnp.sum(share_g1 * quantile_gk, axis=0, keepdims=True)
    cost_gk = share_g1 * jnp.square(quantile_gk - barycenter_1k) * width_k[None]
    return jnp.sum(cost_gk) + _poison(prob)


def _levels(reached_gn: Array, levels: int | None) -> tuple[Array, Array]:
    """Levels, and the width of the part of [0, 1] that each stands for: ``[K]`` both."""
    dtype = reached_gn.dtype
    if levels is not None:
        level_k = (jnp.arange(levels, dtype=dtype) + 0.5) / levels
        return level_k, jnp.full(levels, 1.0 / levels, dtype)
    jumps = jnp.sort(jnp.ravel(jax.lax.stop_gradient(reached_gn)))
    edges = jnp.concatenate([jnp.zeros(1), jumps])
    return (edges[1:] + edges[:-1]) / 2, jnp.diff(edges)


def projected(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    key: Array,
    distance: Callable[..., Array] = barycenter_distance,
    directions: int = 64,
) -> Array:
    """The mean of a distance over projections of ``[N, U]`` columns on random directions.

    By default it compares what :func:`sliced` compares, with one sort per direction instead of four
    per direction and pair of groups. Of one column there is one direction.

    Args:
      prob: ``[N, U]``, or ``[N]`` of one column.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      key: of the directions; the same key gives the same directions.
      distance: of one column; it must take numbers of any sign.
      directions: how many; each has length 1.
    """
    points = _points(prob, weight)
    column_dn = _directions(key, directions, points.shape[1]) @ points.T
    distance_d = jax.vmap(distance, (0, None, None))(column_dn, groups, weight)
    return jnp.mean(distance_d)


def average(value: Array, present: Array) -> Array:
    """The mean over the pairs of groups that are present; 0 if there is none."""
    return divide(jnp.sum(jnp.where(present, value, 0.0)), jnp.sum(present))


def largest(value: Array, present: Array) -> Array:
    """The largest over the pairs of groups that are present; 0 if there is none."""
    return jnp.max(jnp.where(present, value, 0.0), initial=0.0)


def sliced(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    key: Array,
    directions: int = 64,
    over: Callable[[Array, Array], Array] = average,
) -> Array:
    """Sliced ``W_2^2`` of every pair of groups: the mean over random directions.

    ``mean_d W_2^2(d . scores | g, d . scores | h)`` with d uniform on the sphere. It is 0 only if
    the joint distributions are equal, and at most ``W_2^2``. Of a shift of length s in U columns it
    is ``s^2 / U``.

    Args:
      prob: ``[N, U]``, or ``[N]`` of one column.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      key: of the directions; the same key gives the same directions.
      directions: how many. Of one column there is one, and this is ``W_2^2`` itself.
      over: makes one number of the pairs' values and which pairs are present: :func:`average` or
        :func:`largest`.

    Returns:
      A scalar; 0 with gradient 0 when fewer than two groups are present.

    Raises:
      ImportError: OTT is missing.

    Reference:
      Rabin, Peyre, Delon, Bernot: Wasserstein barycenter and its application to texture mixing,
      SSVM 2011; by ott-jax.
    """
    solve = ott("tools.sliced").sliced_wasserstein

    def project(points: Array) -> Array:
        return points @ _directions(key, directions, points.shape[1]).T

    def of_pair(points: Array, share_g: Array, share_h: Array) -> Array:
        value, _ = solve(points, points, share_g, share_h, proj_fn=project)
        return value

    return _over_pairs(of_pair, over, prob, groups, weight)


def sinkhorn(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    epsilon: Array | float = 0.05,
    iterations: int = 100,
    over: Callable[[Array, Array], Array] = average,
) -> Array:
    """Sinkhorn divergence of every pair of groups.

    ``S(g, h) = OT_eps(g, h) - (OT_eps(g, g) + OT_eps(h, h)) / 2`` with cost ``|x - y|^2``. It lies
    between ``W_2^2`` (epsilon to 0) and the squared distance of means (epsilon to infinity). It
    takes all pairs of rows, ``iterations`` times: for small batches.

    Args:
      prob: as of :func:`sliced`.
      groups: as of :func:`sliced`.
      weight: as of :func:`sliced`.
      epsilon: of the entropy, in squared units of the predictions.
      iterations: of Sinkhorn's algorithm, always all of them; the gradient is that of its limit.
      over: as of :func:`sliced`.

    Returns:
      As :func:`sliced`.

    Raises:
      ImportError: OTT is missing.

    Reference:
      Feydy, Sejourne, Vialard, Amari, Trouve, Peyre: Interpolating between optimal transport and
      MMD using Sinkhorn divergences, AISTATS 2019; by ott-jax.
    """
    solve = ott("tools.sinkhorn_divergence").sinkhorn_divergence
    cloud = ott("geometry.pointcloud").PointCloud
    fixed = {"min_iterations": iterations, "max_iterations": iterations}

    def of_pair(points: Array, share_g: Array, share_h: Array) -> Array:
        value, _ = solve(
            cloud, points, points, a=share_g, b=share_h, epsilon=epsilon, solve_kwargs=fixed
        )
        return value

    return _over_pairs(of_pair, over, prob, groups, weight)


def _over_pairs(
    of_pair: Callable[[Array, Array, Array], Array],
    over: Callable[[Array, Array], Array],
    prob: Array,
    groups: Array,
    weight: Array,
) -> Array:
    """``of_pair(points[N, U], share[N], share[N])`` of all pairs of groups, joined by ``over``."""
    check_membership(groups, weight)
    groups = _at_least_single(groups)
    weight = _at_least_single(weight)
    member = members(groups, weight)
    mass = jnp.sum(member, axis=0)
    # An absent group gets equal shares: ``over`` leaves it out, and its gradient is not NaN.
    share_gn = divide(member, mass[None], 1.0 / len(member)).T
    first, second = np.triu_indices(len(mass), 1)
    present = (mass[first] > 0) & (mass[second] > 0)
    points = _points(prob, weight)
    values = [of_pair(points, share_gn[g], share_gn[h]) for g, h in zip(first, second, strict=True)]
    value = jnp.stack(values or [jnp.zeros(())])
    return over(value, present) + _poison(points)


def _points(prob: Array, weight: Array) -> Array:
    """Predictions as points ``[N, U]``, 0 where the weight is 0."""
    points = _at_least_single(prob).reshape(len(prob), -1)
    return keep(points, weight[:, None])


def _at_least_single(a: Array) -> Array:
    return jnp.asarray(a, jnp.promote_types(a.dtype, jnp.float32))


def _poison(prob: Array) -> Array:
    """NaN where a prediction is NaN: sorts and costs may lose it."""
    return jnp.where(jnp.any(jnp.isnan(prob)), jnp.nan, 0.0)


def _directions(key: Array, directions: int, width: int) -> Array:
    """Unit vectors ``[D, U]``; of one column the only one."""
    if width == 1:
        return jnp.ones((1, 1))
    vectors = jax.random.normal(key, (directions, width))
    return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


def ott(module: str) -> ModuleType:
    """A module of OTT.

    Raises:
      ImportError: it is missing; the message names the extra.
    """
    try:
        importlib.import_module("ott")
        return importlib.import_module(f"ott.{module}")
    except ImportError as error:
        raise ImportError(
            "transport of several columns at once needs OTT: pip install 'fairjax[ot]'"
        ) from error
