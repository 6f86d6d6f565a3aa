"""How far the groups' whole distributions of predictions are apart, beside what chance alone makes
of it.

In: predictions, membership and weights. Out: :class:`Unfairness`, three numbers. Differences of
rates look at one threshold; these look at all of them (strong demographic parity).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.notions.distribution import Steps, apart, largest_gap, steps

CHANCE = math.sqrt(math.pi / 2) * math.log(2)  # 0.8687, the mean of Kolmogorov's distribution


class Unfairness(NamedTuple):
    """Distances between the groups' distributions; NaN where fewer than two groups are present."""

    kolmogorov_smirnov: Array  # max_t max_gh |F_g(t) - F_h(t)|, in [0, 1]
    floor: Array  # of kolmogorov_smirnov where there is no difference
    wasserstein: (
        Array  # int |F_g - F_h| dt, mean over pairs of groups, in the unit of the prediction
    )


def unfairness(score: Array, groups: Array, weight: Array) -> Unfairness:
    """Kolmogorov-Smirnov and first Wasserstein distance between groups, and the floor of the
    former.

    ``floor = 0.8687 sqrt(1/n + 1/m)``, what two samples of one law are apart on average, n and m
    the effective sizes ``(sum w)^2 / sum w^2`` of the two smallest groups. A distance about there
    is no evidence of any difference; with more than two groups the largest of several pairs is
    above it by chance.

    Args:
      score: ``[N]``; NaN with weight gives NaN.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``, 0 for padding.

    Reference:
      Kolmogorov, 1933, and Smirnov, 1948, for the limit law; Hu, Ratz, Charpentier, ECML-PKDD 2023,
      Definition 2, for the statistic as unfairness of a task.
    """
    return unfairness_of(steps(score, groups, weight), rarities(groups, weight))


def rarities(groups: Array, weight: Array) -> Array:
    """``sum w^2 / (sum w)^2`` of every group, ``[G]``: one over its effective size; 0 of one that
    is not there."""
    member = groups * weight[:, None]
    return divide(jnp.sum(jnp.square(member), axis=0), jnp.square(jnp.sum(member, axis=0)))


def unfairness_of(found: Steps, rarity: Array) -> Unfairness:
    """:func:`unfairness` from the groups' distribution functions and :func:`rarities`."""
    floor = CHANCE * jnp.sqrt(jnp.sum(jax.lax.top_k(rarity, min(2, len(rarity)))[0]))
    value = Unfairness(largest_gap(found), floor, jnp.sum(jnp.diff(found.score) * apart(found)))
    broken = (jnp.sum(found.mass > 0) < 2) | jnp.any(jnp.isnan(found.score))
    return jax.tree.map(lambda v: jnp.where(broken, jnp.nan, v), value)


def unfairness_on_host(
    score: np.ndarray, codes: np.ndarray, size: int, weight: np.ndarray
) -> Unfairness:
    """:func:`unfairness` in numpy and double precision, of rows in ascending order of their scores.

    Args:
      score: ``[N]``, ascending.
      codes: ``[N]`` index of the group in ``0 .. size - 1``, -1 where unknown.
      size: number of groups.
      weight: ``[N]``.
    """
    # An audit measures a million rows for a dozen amounts: XLA's sort on a CPU is twenty times as
    # slow as numpy's, and pairs of a thousand groups do not fit into memory.
    known = np.flatnonzero((codes >= 0) & (weight > 0))
    score = score[known]
    codes = codes[known]
    weight = weight[known]
    mass = np.bincount(codes, weight, size)
    square = np.bincount(codes, weight**2, size)
    present = np.flatnonzero(mass > 0)
    if len(present) < 2:
        return Unfairness(np.nan, np.nan, np.nan)
    member_ng = np.zeros((len(codes), size))
    member_ng[np.arange(len(codes)), codes] = weight
    # within equal scores nothing can be told apart
    ends = np.append(score[1:] > score[:-1], True)
    reached_ng = np.cumsum(member_ng, axis=0, out=member_ng)[ends][:, present] / mass[present]
    reached_ng.sort(axis=1)
    largest = np.max(reached_ng[:, -1] - reached_ng[:, 0])
    # of G functions in order the k-th is above k others and below the remaining ones, so that no
    # pair need be looked at
    count = len(present)
    above = (2 * np.arange(count) - count + 1) / math.comb(count, 2)
    rarity = np.sort(square[present] / mass[present] ** 2)[-2:]
    floor = CHANCE * math.sqrt(rarity.sum())
    return Unfairness(largest, floor, np.diff(score[ends]) @ (reached_ng[:-1] @ above))
