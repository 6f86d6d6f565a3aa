"""Thresholds and areas under the curve by cumulative sums over rows in ascending order of score."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.ordering import Ordered, sums_of_equals
from fairjax.core.types import Array


class Ranked(NamedTuple):
    """Rows in ascending order of score; rows of weight 0 stand at the end with score infinity."""

    score: Array  # [N] float32
    weight: Array  # [N]
    positive: Array  # [N] weight times label


def rank(
    score: Array,
    label: Array,
    weight: Array,
) -> Ranked:
    """Sort rows by score, equal scores by weight, so that the order of the rows does not matter.

    Args:
      score: ``[N]``, any increasing function of the probability.
      label: ``[N]`` of 0/1, anything where the weight is 0.
      weight: ``[N]``, 0 for padding and missing labels.
    """
    counts = weight > 0
    score = score.astype(jnp.float32)
    score = jnp.where(counts, score, jnp.inf)
    positive = weight * keep(label, weight)
    columns = (score, weight, positive)
    ascending = jax.lax.sort(columns, num_keys=2)
    return Ranked(*ascending)


def threshold_at_rate(ranked: Ranked, rate: Array) -> Array:
    """The threshold of :func:`fairjax.metrics.base_rate_threshold`, from ranked rows."""
    counts_n = ranked.weight > 0
    reach_n = jnp.cumsum(ranked.weight)
    total = reach_n[-1]
    not_selected = (1.0 - rate) * total
    # this product carries float32 rounding: a sum of weights that close to it counts as reached
    rounding = total * 2.0**-23
    reached_n = counts_n & (reach_n <= not_selected + rounding)
    score_or_high_n = jnp.where(counts_n, ranked.score, jnp.inf)
    score_or_low_n = jnp.where(reached_n, ranked.score, -jnp.inf)
    lowest = jnp.min(score_or_high_n)
    highest_reached = jnp.max(score_or_low_n)
    threshold = jnp.where(jnp.any(reached_n), highest_reached, lowest)
    defined = (total > 0) & ~jnp.isnan(rate) & ~_has_nan(ranked)
    return jnp.where(defined, threshold, jnp.nan)


def cut_between(below: Array, above: Array) -> Array:
    """The threshold between two neighbouring scores: 0 where 0 lies between them, else halfway.

    Of neighbours without a number between them, and below every score (``below`` of -infinity), it
    is ``above``.
    """
    halfway = 0.5 * (below + above)
    cut = jnp.where(halfway > below, halfway, above)
    return jnp.where((below < 0) & (above >= 0), 0.0, cut)


def threshold_of_least_error(ranked: Ranked) -> Array:
    """The threshold of :func:`fairjax.metrics.least_error_threshold`, from ranked rows."""
    counts_n = ranked.weight > 0
    negative_n = ranked.weight - ranked.positive
    positive_below = jnp.pad(jnp.cumsum(ranked.positive), (1, 0))
    negative_below = jnp.pad(jnp.cumsum(negative_n), (1, 0))
    # errors where the cut lies below row i, for i = 0 ... N
    wrong = positive_below + negative_below[-1] - negative_below

    last = jnp.sum(counts_n)  # rows without weight stand at the end
    greatest = ranked.score[last - 1]
    score_n = jnp.where(counts_n, ranked.score, greatest + 1.0)
    above = jnp.append(score_n, greatest + 1.0)
    below = jnp.insert(score_n, 0, -jnp.inf)
    is_cut = below < above
    cut = cut_between(below, above)
    least = jnp.min(jnp.where(is_cut, wrong, jnp.inf))
    # sums of weights carry float32 rounding: errors that close are equal
    rounding = jnp.sum(ranked.weight) * 2.0**-20
    is_best = is_cut & (wrong <= least + rounding)
    distance = jnp.where(is_best, jnp.abs(cut), jnp.inf)
    threshold = cut[jnp.argmin(distance)]
    defined = (last > 0) & ~_has_nan(ranked)
    return jnp.where(defined, threshold, jnp.nan)


def area_under_curve(order: Ordered, label: Array, weight: Array) -> Array:
    """The value of :func:`fairjax.metrics.auc`: ``sum_i p_i (n_<i + n_i / 2)`` over scores.

    ``p_i`` and ``n_i`` are the shares of positives and negatives with the i-th score.

    Args:
      order: of the scores.
      label: ``[N]`` of 0/1, anything where the weight is 0.
      weight: ``[N]``, 0 for padding and missing labels.
    """
    positive = weight * keep(label, weight)
    weight_n2 = jnp.stack([positive, weight - positive], axis=1)
    total_2 = jnp.sum(weight_n2, axis=0)
    weight_n2 = sums_of_equals(order, weight_n2)
    share_n2 = divide(weight_n2, total_2[None])
    positive_n, negative_n = share_n2.T
    below_n = jnp.cumsum(negative_n) - negative_n
    area = jnp.sum(positive_n * (below_n + 0.5 * negative_n))
    is_nan = jnp.isnan(order.value) & (jnp.sum(weight_n2, axis=1) > 0)
    defined = jnp.all(total_2 > 0) & ~jnp.any(is_nan)
    return jnp.where(defined, area, jnp.nan)


def _has_nan(ranked: Ranked) -> Array:
    return jnp.any(jnp.isnan(ranked.score))
