"""How far the groups' whole distributions of predictions are apart, beside what chance alone makes of it.

In: predictions, membership and weights. Out: :class:`Unfairness`, three numbers. Differences of rates look at one threshold;
these look at all of them (strong demographic parity).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.masked import divide, keep
from fairjax.notions.gaps import difference
from fairjax.types import Array

CHANCE = math.sqrt(math.pi / 2) * math.log(2)  # 0.8687, the mean of Kolmogorov's distribution


class Unfairness(NamedTuple):
    """Distances between the groups' distributions; NaN where fewer than two groups are present."""

    kolmogorov_smirnov: Array  # max_t max_gh |F_g(t) - F_h(t)|, in [0, 1]
    floor: Array  # of kolmogorov_smirnov where there is no difference
    wasserstein: Array  # int |F_g - F_h| dt, mean over pairs of groups, in the unit of the prediction


def unfairness(score: Array, groups: Array, weight: Array) -> Unfairness:
    """Kolmogorov-Smirnov and first Wasserstein distance between groups, and the floor of the former.

    ``floor = 0.8687 sqrt(1/n + 1/m)``, what two samples of one law are apart on average, n and m the effective sizes
    ``(sum w)^2 / sum w^2`` of the two smallest groups. A distance about there is no evidence of any difference; with more
    than two groups the largest of several pairs is above it by chance.

    Args:
      score: ``[N]``; NaN with weight gives NaN.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``, 0 for padding.

    Reference:
      Kolmogorov, 1933, and Smirnov, 1948, for the limit law; Hu, Ratz, Charpentier, ECML-PKDD 2023, Definition 2, for the
      statistic as unfairness of a task.
    """
    return unfairness_in_order(*ascending(score, groups, weight))


def ascending(score: Array, groups: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Rows by their scores: one sort for all attributes of a task; ``groups`` may hold several side by side."""
    order = jnp.argsort(keep(score, weight))
    return keep(score, weight)[order], groups[order], weight[order]


def unfairness_in_order(score: Array, groups: Array, weight: Array) -> Unfairness:
    """:func:`unfairness` of rows in ascending order of their scores, as of :func:`ascending`."""
    member_gn = (groups * weight[:, None]).T
    mass = jnp.sum(member_gn, axis=1)
    reached_gn = divide(jnp.cumsum(member_gn, axis=1), mass[:, None])
    last = jnp.append(score[1:] > score[:-1], True)  # within equal scores nothing can be told apart
    gap_n = jax.vmap(difference, (1, None))(reached_gn, mass)
    present = (mass > 0).astype(score.dtype)
    pair = present[:, None] * present[None]
    width = jnp.append(jnp.diff(score), 0.0)
    apart_gh = jnp.sum(jnp.abs(reached_gn[:, None] - reached_gn[None]) * width[None, None], axis=2)
    apart = divide(jnp.sum(pair * apart_gh), jnp.sum(pair) - jnp.sum(present))
    value = Unfairness(jnp.max(jnp.where(last, gap_n, 0.0)), _floor(mass, jnp.sum(jnp.square(member_gn), axis=1)), apart)
    broken = (jnp.sum(present) < 2) | jnp.any(jnp.isnan(score))
    return jax.tree.map(lambda v: jnp.where(broken, jnp.nan, v), value)


def _floor(mass: Array, square: Array) -> Array:
    """Of the two smallest groups by their effective size; any number where there are not two."""
    rarity = divide(square, jnp.square(mass))
    return CHANCE * jnp.sqrt(jnp.sum(jax.lax.top_k(rarity, min(2, len(mass)))[0]))
