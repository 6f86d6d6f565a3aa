"""Distances between whole distributions of scores (strong demographic parity), in any unit.

Of more than two groups, Kolmogorov-Smirnov is the largest distance of a pair, and Wasserstein the
mean over pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep, members
from fairjax.core.ordering import Ordered, ordered, reached, sums_of_equals
from fairjax.core.types import Array
from fairjax.notions.gaps import difference, pairs

MOST_IN_PAIRS = 10  # groups up to which all pairs cost less than a sort


class Steps(NamedTuple):
    """Distribution functions of groups, which step at scores.

    Groups of several attributes may stand side by side, one block of columns each.
    """

    score: Array  # [N], ascending
    reached: Array  # [N, G], each group's distribution function after each score
    mass: Array  # [G], weight of each group


def steps(order: Ordered, groups: Array, weight: Array) -> Steps:
    """Distribution functions of ordered scores; they do not step at those of weight 0.

    Equal scores stand side by side with the value behind all of them. There is no gradient.
    """
    member = members(groups, weight)
    mass = jnp.sum(member, axis=0)
    return Steps(order.value, divide(reached(order, member), mass[None]), mass)


def largest_gap(functions: Steps) -> Array:
    """``max_t max_gh |F_g(t) - F_h(t)|``."""
    score = functions.score
    # Thresholds lie between different scores: only the last of equal scores counts.
    last_n = jnp.append(score[1:] > score[:-1], True)
    gap_n = jax.vmap(difference, (0, None))(functions.reached, functions.mass)
    gap = jnp.max(jnp.where(last_n, gap_n, 0.0))
    return jnp.where(jnp.any(jnp.isnan(score)), jnp.nan, gap)


def apart(functions: Steps) -> Array:
    """``|F_g - F_h|`` after each score but the last, mean over present pairs: ``[N - 1]``."""
    reached = functions.reached
    if reached.shape[1] > MOST_IN_PAIRS:
        return _apart_sorted(functions)
    pair = pairs(functions.mass > 0).astype(functions.score.dtype)
    gap_ngh = jnp.abs(reached[:, :, None] - reached[:, None, :])
    total_n = jnp.sum(gap_ngh * pair[None], axis=(1, 2))
    return divide(total_n, jnp.sum(pair))[:-1]


def _apart_sorted(functions: Steps) -> Array:
    """:func:`apart` by a sort of the groups: a step from the k-th value to the next parts k groups
    from all others.
    """
    is_present = functions.mass > 0
    count = jnp.sum(is_present)
    # an absent group is above all others, and parts nothing
    ascending_ng = jnp.sort(jnp.where(is_present, functions.reached, 2.0), axis=1)
    below = jnp.arange(1, ascending_ng.shape[1])
    parted = below * jnp.maximum(count - below, 0)
    total_n = jnp.sum(jnp.diff(ascending_ng, axis=1) * parted, axis=1)
    all_pairs = (count * (count - 1) / 2).astype(total_n.dtype)
    return divide(total_n, all_pairs)[:-1]


def kolmogorov_smirnov(prob: Array, groups: Array, weight: Array) -> Array:
    """``max_t max_gh |F_g(t) - F_h(t)|``: the largest gap of selection rates over all thresholds.

    It is exact, and a metric: its gradient is 0. To train, take :func:`soft_kolmogorov_smirnov`.
    """
    return largest_gap(steps(ordered(keep(prob, weight)), groups, weight))


def soft_kolmogorov_smirnov(
    prob: Array, groups: Array, weight: Array, *, thresholds: Array, temperature: Array | float
) -> Array:
    """The largest gap of soft selection rates ``mean sigmoid((p - t) / tau)``.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      thresholds: t, ``[M]``.
      temperature: tau.
    """
    prob = keep(prob, weight)
    excess_nm = prob[:, None] - jnp.asarray(thresholds, prob.dtype)[None]
    selected_nm = jax.nn.sigmoid(excess_nm / temperature)
    member = members(groups, weight)
    mass = jnp.sum(member, axis=0)
    rate_mg = divide(selected_nm.T @ member, mass[None])
    return jnp.max(jax.vmap(difference, (0, None))(rate_mg, mass))


def wasserstein(prob: Array, groups: Array, weight: Array) -> Array:
    """``W_1 = int |F_g(t) - F_h(t)| dt`` by a sort, in the units of the scores.

    Of more than two groups it is the mean over pairs of present groups.

    Source: in one dimension, the transport distance is the area between distribution functions
    (Vallender, 1974).
    """
    prob = keep(prob, weight)
    order = ordered(prob)
    gap_n = apart(steps(order, groups, weight))
    value = jnp.sum(jnp.diff(order.value) * gap_n)
    # A score's slope is the gap below it less the gap above it. Equal scores share their slopes.
    slope_n = jnp.diff(-jnp.pad(gap_n, 1))
    rows_n = sums_of_equals(order, jnp.ones_like(slope_n)[:, None])[:, 0]
    slope_of_row = divide(slope_n, rows_n)[order.place]
    # This sum is 0. It carries the gradient.
    return value + jnp.sum(slope_of_row * (prob - jax.lax.stop_gradient(prob)))
