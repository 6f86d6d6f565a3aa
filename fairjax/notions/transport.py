"""Distances by optimal transport, smooth in the scores: what it costs to move the groups'
distributions onto one another.

In: predictions ``[N]``, or ``[N, U]`` for several columns at once, membership and weights. Out: a
scalar in squared units of the predictions. :func:`barycenter_distance` is exact in one dimension,
by one sort. For columns that are to be fair together there are :func:`sliced`, :func:`sinkhorn`
(both of OTT: ``pip install 'fairjax[ot]'``) and :func:`projected`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array


def barycenter_distance(levels: int | None = 256):
    """What it costs to move every group to the barycenter: ``sum_g pi_g int_0^1 (Q_g(u) -
    Qbar(u))^2 du``.

    ``Q_g`` is the quantile function of group g, ``pi_g`` its share of the weight, ``Qbar = sum_g
    pi_g Q_g`` the quantile
    function of the Wasserstein barycenter: the least mean squared change of the scores that makes
    their distribution the same in all groups. It equals ``sum_{g<h} pi_g pi_h W_2^2(g, h)``; groups
    against all rows together are further apart.

    Args:
      levels: K mid-points ``u = (k + 1/2) / K`` at which quantiles are compared; only rows that are
        a quantile there are moved, at most K per group and step. None for every level at which a
        function jumps: exact, and slower with many groups.

    Returns:
      ``distance(prob[N], groups[N, G], weight[N]) -> scalar``, differentiable in ``prob``, the
      order of the scores taken for fixed; 0 with gradient 0 when fewer than two groups are present.

    Reference:
      Hu, Ratz, Charpentier: Fairness in multi-task learning via Wasserstein barycenters, ECML-PKDD
      2023, Theorem 1; there the scores are moved after training, here this is a loss.
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        prob, groups, weight = (_single(a) for a in (prob, groups, weight))
        prob = keep(prob, weight)
        order = jnp.argsort(jax.lax.stop_gradient(prob))
        member = (groups * weight[:, None])[order]
        mass = jnp.sum(member, axis=0)
        reached_gn = divide(jnp.cumsum(member, axis=0), mass[None]).T
        level_k, width_k = _levels(reached_gn, levels)
        row_gk = jax.vmap(jnp.searchsorted, (0, None))(reached_gn, level_k)
        quantile_gk = prob[order[jnp.minimum(row_gk, len(prob) - 1)]]
        two = jnp.sum(mass > 0) >= 2
        share_g1 = jnp.where(two, divide(mass, jnp.sum(mass)), 0.0)[:, None]
        apart_gk = quantile_gk - jnp.sum(share_g1 * quantile_gk, axis=0, keepdims=True)
        return jnp.sum(share_g1 * jnp.square(apart_gk) * width_k[None]) + _poison(prob)

    return distance


def _levels(reached_gn: Array, levels: int | None) -> tuple[Array, Array]:
    """Levels and how much of [0, 1] each stands for, ``[K]``."""
    if levels is not None:
        return (jnp.arange(levels, dtype=reached_gn.dtype) + 0.5) / levels, jnp.full(
            levels, 1.0 / levels, reached_gn.dtype
        )
    edge = jnp.concatenate([jnp.zeros(1), jnp.sort(jnp.ravel(jax.lax.stop_gradient(reached_gn)))])
    return (edge[1:] + edge[:-1]) / 2, jnp.diff(edge)


def projected(distance: Callable[..., Array], key: Array, directions: int = 64):
    """The mean of a distance over projections of ``[N, U]`` columns on random directions of length
    1.

    ``projected(barycenter_distance(), key)`` compares what :func:`sliced` compares, with a sort per
    direction instead of four per direction and pair of groups. Of one column there is one
    direction.

    Args:
      distance: of one column; it must take numbers of any sign.
      key: of the directions; the same ones in every call.
      directions: how many.

    Returns:
      ``distance(prob[N, U] or [N], groups[N, G], weight[N]) -> scalar``.
    """

    def mean(prob: Array, groups: Array, weight: Array) -> Array:
        point = _points(prob, weight)
        along_dn = _directions(key, directions, point.shape[1]) @ point.T
        return jnp.mean(jax.vmap(distance, (0, None, None))(along_dn, groups, weight))

    return mean


def average(value: Array, there: Array) -> Array:
    """The mean over the pairs of groups that are there; 0 if there is none."""
    return divide(jnp.sum(jnp.where(there, value, 0.0)), jnp.sum(there))


def largest(value: Array, there: Array) -> Array:
    """The largest over the pairs of groups that are there; 0 if there is none."""
    return jnp.max(jnp.where(there, value, 0.0), initial=0.0)


def sliced(key: Array, directions: int = 64, over: Callable[[Array, Array], Array] = average):
    """Sliced ``W_2^2``: the mean over random directions of the squared distance of projections, for
    every pair of groups.

    ``mean_d W_2^2(d . scores | g, d . scores | h)``, ``d`` uniform on the sphere: 0 only if the
    joint laws are equal, at most ``W_2^2``; of a shift of length s in U columns ``s^2 / U``.

    Args:
      key: of the directions; the same ones in every call.
      directions: how many. Of one column there is one, and this is ``W_2^2`` itself.
      over: from the pairs' values and which pairs are there to a scalar, :func:`average` or
        :func:`largest`.

    Returns:
      ``distance(prob[N, U] or [N], groups[N, G], weight[N]) -> scalar``; 0 with gradient 0 when
      fewer than two groups are present.

    Raises:
      ImportError: OTT is missing.

    Reference:
      Rabin, Peyre, Delon, Bernot: Wasserstein barycenter and its application to texture mixing,
        SSVM 2011; by ott-jax.
    """
    solve = ott("tools.sliced").sliced_wasserstein

    def project(point: Array) -> Array:
        return point @ _directions(key, directions, point.shape[1]).T

    return _over_pairs(lambda point, a, b: solve(point, point, a, b, proj_fn=project)[0], over)


def sinkhorn(
    epsilon: Array | float = 0.05,
    iterations: int = 100,
    over: Callable[[Array, Array], Array] = average,
):
    """Sinkhorn divergence ``S(g, h) = OT_eps(g, h) - (OT_eps(g, g) + OT_eps(h, h)) / 2`` of every
    pair of groups.

    Cost ``|x - y|^2``; between ``W_2^2`` (epsilon to 0) and the squared distance of means (epsilon
    to infinity). Over all pairs
    of rows, ``iterations`` times: for small batches.

    Args:
      epsilon: of the entropy, in squared units of the predictions.
      iterations: of Sinkhorn's algorithm, always as many; the gradient is that of its limit.
      over: as of :func:`sliced`.

    Returns:
      As :func:`sliced`.

    Raises:
      ImportError: OTT is missing.

    Reference:
      Feydy, Sejourne, Vialard, Amari, Trouve, Peyre: Interpolating between optimal transport and
      MMD using Sinkhorn divergences, AISTATS 2019; by ott-jax.
    """
    solve, cloud = (
        ott("tools.sinkhorn_divergence").sinkhorn_divergence,
        ott("geometry.pointcloud").PointCloud,
    )
    fixed = {"min_iterations": iterations, "max_iterations": iterations}

    def of(point: Array, a: Array, b: Array) -> Array:
        return solve(cloud, point, point, a=a, b=b, epsilon=epsilon, solve_kwargs=fixed)[0]

    return _over_pairs(of, over)


def _over_pairs(of: Callable[[Array, Array, Array], Array], over: Callable[[Array, Array], Array]):
    """``of(points[N, U], shares[N], shares[N])`` of all pairs of groups, those present taken
    together by ``over``.
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        groups, weight = _single(groups), _single(weight)
        member = groups * weight[:, None]
        mass = jnp.sum(member, axis=0)
        # an absent group stands everywhere: it is left out below, and must not bring NaN to the
        # gradient
        share_gn = divide(member, mass[None], 1.0 / len(member)).T
        first, second = np.triu_indices(len(mass), 1)
        pair = (mass[first] > 0) & (mass[second] > 0)
        point = _points(prob, weight)
        apart = jnp.stack(
            [of(point, share_gn[g], share_gn[h]) for g, h in zip(first, second, strict=True)]
            or [jnp.zeros(())]
        )
        return over(apart, pair) + _poison(point)

    return distance


def _points(prob: Array, weight: Array) -> Array:
    """Predictions as points ``[N, U]``, 0 where the weight is."""
    return keep(_single(prob).reshape(len(prob), -1), weight[:, None])


def _single(a: Array) -> Array:
    """In single precision at least."""
    return jnp.asarray(a, jnp.promote_types(a.dtype, jnp.float32))


def _poison(prob: Array) -> Array:
    """NaN where a prediction is: it may stand between two levels, or drop out of a cost."""
    return jnp.where(jnp.any(jnp.isnan(prob)), jnp.nan, 0.0)


def _directions(key: Array, directions: int, width: int) -> Array:
    """Unit vectors ``[D, U]``; of one column the one there is."""
    if width == 1:
        return jnp.ones((1, 1))
    way = jax.random.normal(key, (directions, width))
    return way / jnp.linalg.norm(way, axis=1, keepdims=True)


def ott(module: str):
    """A module of OTT.

    Raises:
      ImportError: it is missing; names the extra.
    """
    try:
        importlib.import_module("ott")
        return importlib.import_module(f"ott.{module}")
    except ImportError as error:
        raise ImportError(
            "transport of several columns at once needs OTT: pip install 'fairjax[ot]'"
        ) from error
