"""Rows in ascending order of their scores: one sort for the threshold and the area under the curve.

In: scores, labels and weights ``[N]``. Out: a :class:`Ranked`; cumulative sums give both from it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array


class Ranked(NamedTuple):
    """Rows in ascending order of score; rows of weight 0 stand at the end with score infinity."""

    score: Array  # [N] float32
    weight: Array  # [N]
    positive: Array  # [N] weight times label


def rank(score: Array, label: Array, weight: Array) -> Ranked:
    """Sort rows by score, equal scores by weight, so that the order of the rows does not matter.

    Args:
      score: ``[N]``, any increasing function of the probability.
      label: ``[N]`` of 0/1, anything where the weight is 0.
      weight: ``[N]``, 0 for padding and missing labels.
    """
    score = jnp.where(weight > 0, score.astype(jnp.float32), jnp.inf)
    return Ranked(*jax.lax.sort((score, weight, weight * keep(label, weight)), num_keys=2))


def threshold_at_rate(ranked: Ranked, rate: Array) -> Array:
    """The threshold of :func:`fairjax.metrics.base_rate_threshold`, from ranked rows."""
    weight_n = ranked.weight
    reach_n = jnp.cumsum(ranked.weight)
    total = reach_n[-1]
    # (1 - rate) total carries float32 rounding; a sum of weights that close to it counts as reached
    reached_n = (weight_n > 0) & (reach_n <= (1.0 - rate) * total + total * 2.0**-23)
    lowest = jnp.min(jnp.where(weight_n > 0, ranked.score, jnp.inf))
    highest = jnp.max(jnp.where(reached_n, ranked.score, -jnp.inf))
    threshold = jnp.where(jnp.any(reached_n), highest, lowest)
    return jnp.where((total > 0) & ~jnp.isnan(rate) & ~_broken(ranked), threshold, jnp.nan)


def area_under_curve(ranked: Ranked) -> Array:
    """The value of :func:`fairjax.metrics.auc`, from ranked rows.

    The trapezoid rule over distinct scores.
    """
    both_2n = jnp.stack([ranked.positive, ranked.weight - ranked.positive])
    total_2 = jnp.sum(both_2n, axis=1, keepdims=True)
    share_2n = divide(jnp.cumsum(both_2n, axis=1), total_2)
    last_n = jnp.append(ranked.score[1:] != ranked.score[:-1], True)
    # shares never fall, so the running maximum over ends of ties is the share at the latest end
    ends_2n = jax.lax.cummax(jnp.where(last_n[None, :], share_2n, 0.0), axis=1)
    before_2n = jnp.pad(ends_2n[:, :-1], ((0, 0), (1, 0)))
    step_n = share_2n[0] - before_2n[0]
    height_n = 0.5 * (share_2n[1] + before_2n[1])
    area = jnp.sum(jnp.where(last_n, step_n * height_n, 0.0))
    return jnp.where(jnp.all(total_2 > 0) & ~_broken(ranked), area, jnp.nan)


def _broken(ranked: Ranked) -> Array:
    return jnp.any(jnp.isnan(ranked.score))
