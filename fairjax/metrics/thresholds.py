"""From scores to decisions: a fixed threshold, or one that selects the training base rate.

Scores are logits; a decision is 1 where ``score >= threshold``, ties with the threshold included.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from fairjax.core.types import Array
from fairjax.metrics.ranking import rank, threshold_at_rate


def fixed(probability: float = 0.5) -> float:
    """The logit of a probability, ``log(p / (1 - p))``: 0 for 0.5.

    Raises:
      ValueError: the probability is not strictly between 0 and 1.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(
            f"threshold: expected a probability strictly between 0 and 1, got {probability}"
        )
    odds = probability / (1.0 - probability)
    return math.log(odds)


def base_rate_threshold(
    score: Array,
    weight: Array,
    rate: Array,
) -> Array:
    """The score above which about a share ``rate`` of the weight lies.

    With the rows in ascending order,

        threshold = max { s_i : sum_{j <= i} w_j <= (1 - rate) sum w },

    or the lowest score if there is none. With weights of 0 and 1 this is the score at position
    ``max(0, int((1 - rate) n) - 1)`` of the n weighted rows, the rule behind the published tables.
    It selects the rows with ``score >= threshold``: about one more than ``rate n``, and all rows at
    the threshold. A constant score therefore selects everyone. Where ``(1 - rate) n`` is within
    ``n 2^-23`` below an integer it is that integer.

    Args:
      score: ``[N]``, NaN allowed where the weight is 0.
      weight: ``[N]``, not negative.
      rate: scalar in [0, 1], the share of positives in the training labels.

    Returns:
      A scalar; NaN without weight, or when a weighted score is NaN.

    Source: code released with Wang, Wang, Beutel, Prost, Chen, Chi, "Understanding and Improving
    Fairness-Accuracy Trade-offs in Multi-Task Learning", KDD 2021. Weights are our addition.
    """
    no_label = jnp.zeros_like(weight)
    ranked = rank(score, no_label, weight)
    return threshold_at_rate(ranked, jnp.asarray(rate))


def decide(score: Array, threshold: Array) -> Array:
    """``1[score >= threshold]`` as float32; NaN where the score or the threshold is NaN."""
    unknown = jnp.isnan(score) | jnp.isnan(threshold)
    selected = score >= threshold
    return jnp.where(unknown, jnp.nan, selected.astype(jnp.float32))


def constant_output(decision: Array, weight: Array) -> Array:
    """1 if every weighted row gets the same value: such a run has gap 0 because it decides nothing.

    Args:
      decision: ``[N]`` decisions, class indices or predictions.
      weight: ``[N]``.

    Returns:
      1.0 or 0.0; NaN when a weighted value is NaN or no row has weight.
    """
    counts = weight > 0
    high = jnp.max(jnp.where(counts, decision, -jnp.inf))
    low = jnp.min(jnp.where(counts, decision, jnp.inf))
    mass = jnp.sum(weight)
    unknown = jnp.isnan(high) | (mass <= 0)
    constant = high == low
    return jnp.where(unknown, jnp.nan, constant.astype(jnp.float32))
