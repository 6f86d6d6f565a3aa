"""Distances between the groups' whole distributions of predictions, and what chance makes of them.

In: predictions, membership and weights. Out: :class:`Unfairness`, three numbers. A difference of
rates looks at one threshold. These distances look at all thresholds (strong demographic parity).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide, keep, members
from fairjax.core.ordering import ordered
from fairjax.core.types import Array
from fairjax.notions.distribution import Steps, apart, largest_gap, steps

CHANCE = math.sqrt(math.pi / 2) * math.log(2)  # 0.8687, the mean of Kolmogorov's distribution


class Unfairness(NamedTuple):
    """Distances between the groups' distributions; NaN where fewer than two groups are present."""

    kolmogorov_smirnov: Array  # max_t max_gh |F_g(t) - F_h(t)|, in [0, 1]
    floor: Array  # of kolmogorov_smirnov where there is no difference
    # int |F_g - F_h| dt, mean over pairs of groups, in the unit of the prediction
    wasserstein: Array


def unfairness(
    score: Array,
    groups: Array,
    weight: Array,
) -> Unfairness:
    """Kolmogorov-Smirnov distance between groups, its floor, and first Wasserstein distance.

    ``floor = 0.8687 sqrt(1/n + 1/m)`` is the average distance between two samples of one law. Here
    n and m are the effective sizes ``(sum w)^2 / sum w^2`` of the two smallest groups. A distance
    near the floor is no evidence of a difference. With more than two groups the largest distance of
    a pair is above the floor by chance.

    Args:
      score: ``[N]``; NaN with weight gives NaN.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``, 0 for padding.

    Reference:
      Kolmogorov, 1933, and Smirnov, 1948, for the limit law; Hu, Ratz, Charpentier, ECML-PKDD 2023,
      Definition 2, for the statistic as unfairness of a task.
    """
    group_steps = steps(ordered(keep(score, weight)), groups, weight)
    rarity_g = rarities(groups, weight)
    return unfairness_of(group_steps, rarity_g)


def rarities(groups: Array, weight: Array) -> Array:
    """``sum w^2 / (sum w)^2`` of every group, ``[G]``: one over its effective size.

    0 for an absent group.
    """
    weight_ng = members(groups, weight)
    square_g = jnp.sum(jnp.square(weight_ng), axis=0)
    mass_g = jnp.sum(weight_ng, axis=0)
    return divide(square_g, jnp.square(mass_g))


def unfairness_of(group_steps: Steps, rarity_g: Array) -> Unfairness:
    """:func:`unfairness` from the groups' distribution functions and :func:`rarities`."""
    pair = min(2, len(rarity_g))
    largest_rarities, _ = jax.lax.top_k(rarity_g, pair)
    floor = CHANCE * jnp.sqrt(jnp.sum(largest_rarities))
    kolmogorov_smirnov = largest_gap(group_steps)
    width_n = jnp.diff(group_steps.score)
    wasserstein = jnp.sum(width_n * apart(group_steps))
    distances = Unfairness(kolmogorov_smirnov, floor, wasserstein)
    alone = jnp.sum(group_steps.mass > 0) < 2
    has_nan = jnp.any(jnp.isnan(group_steps.score))
    undefined = alone | has_nan
    return jax.tree.map(lambda value: jnp.where(undefined, jnp.nan, value), distances)


def unfairness_on_host(
    score: np.ndarray,
    codes: np.ndarray,
    size: int,
    weight: np.ndarray,
) -> Unfairness:
    """:func:`unfairness` in numpy and double precision, of rows in ascending order of score.

    Args:
      score: ``[N]``, ascending.
      codes: ``[N]`` index of the group in ``0 .. size - 1``, -1 where unknown.
      size: number of groups.
      weight: ``[N]``.
    """
    # An audit measures a million rows for a dozen amounts. XLA's sort on a CPU is twenty times as
    # slow as numpy's, and pairs of a thousand groups do not fit into memory.
    counts = (codes >= 0) & (weight > 0)
    rows = np.flatnonzero(counts)
    score = score[rows]
    codes = codes[rows]
    weight = weight[rows]
    mass_g = np.bincount(codes, weight, size)
    square_g = np.bincount(codes, weight**2, size)
    present = np.flatnonzero(mass_g > 0)
    count = len(present)
    if count < 2:
        return Unfairness._make((np.nan, np.nan, np.nan))
    mass_g = mass_g[present]
    square_g = square_g[present]
    reached_ng = np.zeros((len(codes), size))
    reached_ng[np.arange(len(codes)), codes] = weight
    np.cumsum(reached_ng, axis=0, out=reached_ng)
    # a distribution function has one value per score: the value at the last of equal scores
    next_differs = score[1:] > score[:-1]
    last = np.append(next_differs, True)
    score = score[last]
    function_ng = reached_ng[last][:, present] / mass_g
    function_ng.sort(axis=1)
    gap_n = function_ng[:, -1] - function_ng[:, 0]
    # Of G sorted values the k-th is above k others and below the remaining ones. The difference of
    # both counts is its factor in the sum over pairs, so that no pair need be looked at.
    number_g = np.arange(count)
    factor_g = 2 * number_g - count + 1
    factor_g = factor_g / math.comb(count, 2)
    apart_n = function_ng[:-1] @ factor_g
    rarity_g = np.sort(square_g / mass_g**2)
    largest_rarities = rarity_g[-2:]
    floor = CHANCE * math.sqrt(largest_rarities.sum())
    wasserstein = np.diff(score) @ apart_n
    return Unfairness._make((np.max(gap_n), floor, wasserstein))
