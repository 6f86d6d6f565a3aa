"""From scores to decisions: one threshold per binary task, by a rule.

Scores are logits; a decision is 1 where ``score >= threshold``, ties with the threshold included.

- ``"half"``: probability one half.
- ``"least_error"``: the threshold with the fewest errors on given rows.
- ``"base_rate"``: the threshold that selects the training base rate of given rows.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Spec
from fairjax.metrics.ranking import Ranked, rank, threshold_at_rate, threshold_of_least_error
from fairjax.metrics.scores import mean

RULES = ("half", "least_error", "base_rate")


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


def least_error_threshold(
    score: Array,
    label: Array,
    weight: Array,
) -> Array:
    """The threshold with the least weight of wrong decisions,

        argmin_s sum_i w_i 1[1(s_i >= s) != y_i].

    The cut lies halfway between two neighbouring scores, or at 0 where 0 lies between them. Where
    everybody is selected it is the least score, where nobody is, one half above the greatest. Of
    several best cuts it is the one nearest to 0, probability one half.

    Args:
      score: ``[N]``, NaN allowed where the weight is 0.
      label: ``[N]`` of 0/1, anything where the weight is 0.
      weight: ``[N]``, not negative, 0 for missing labels.

    Returns:
      A scalar; NaN without weight, or when a weighted score is NaN.
    """
    return threshold_of_least_error(rank(score, label, weight))


def decision_thresholds(
    rule: str,
    spec: Spec,
    scores: Array,
    data: Dataset,
    base_rate: Array,
) -> Array:
    """The threshold on the score of every binary task, found on rows with known labels.

    Args:
      rule: one of :data:`RULES`.
      spec: what the columns mean.
      scores: ``[N, C]`` logits.
      data: the rows of the scores, of validation where the decisions are for others.
      base_rate: ``[T]`` from :func:`base_rates` on training data.

    Returns:
      ``[T]``; NaN for tasks of another kind, which need none.

    Raises:
      ValueError: there is no such rule.
    """
    if rule not in RULES:
        raise ValueError(f"decision {rule!r} is not one of {', '.join(RULES)}")
    found = []
    for t, task in enumerate(spec.tasks):
        threshold = jnp.asarray(jnp.nan)
        if task.kind == "binary":
            ranked = _ranked(spec, t, scores, data)
            threshold = _threshold(rule, ranked, base_rate[t])
        found.append(threshold)
    return jnp.stack(found)


def _ranked(spec: Spec, task: int, scores: Array, data: Dataset) -> Ranked:
    """The labelled rows of a binary task in the order of their scores."""
    score = scores[:, spec.score_slice(task).start]
    column = spec.label_slice(task).start
    label_weight = data.weight * data.label_mask[:, column]
    return rank(score, data.labels[:, column], label_weight)


def _threshold(rule: str, ranked: Ranked, base_rate: Array) -> Array:
    if rule == "half":
        return jnp.asarray(fixed(0.5))
    if rule == "least_error":
        return threshold_of_least_error(ranked)
    return threshold_at_rate(ranked, base_rate)


def base_rates(spec: Spec, train: Dataset) -> Array:
    """Share of positives among the known training labels of every binary task.

    Returns:
      ``[T]``; NaN for tasks of another kind, whose decisions need no rate, and for tasks without
      labels.
    """
    rates = []
    for t, task in enumerate(spec.tasks):
        rate = jnp.asarray(jnp.nan)
        if task.kind == "binary":
            column = spec.label_slice(t).start
            label_weight = train.weight * train.label_mask[:, column]
            rate = mean(train.labels[:, column], label_weight)
        rates.append(rate)
    return jnp.stack(rates)


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
