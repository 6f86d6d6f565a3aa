"""Metrics of one task and one attribute, keyed by :class:`fairjax.core.keys.Metric`.

Every function takes a ``subject``: a key that names task, attribute and threshold. The functions
fill in the metric and, in tables, the level of the attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.keys import Metric
from fairjax.core.types import Array
from fairjax.metrics import group
from fairjax.metrics.distribution import unfairness_of
from fairjax.notions.distribution import Steps

Metrics = dict[Metric, Array]

DIFFERENCES = {
    "demographic_parity_difference": group.parity_gap,
    "true_positive_rate_difference": group.true_positive_gap,
    "false_positive_rate_difference": group.false_positive_gap,
    "equalized_odds_difference": group.odds_gap,
}
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
SIGNED_GAPS = {
    "selection_rate_signed_gap": "selection_rate",
    "true_positive_rate_signed_gap": "true_positive_rate",
    "false_positive_rate_signed_gap": "false_positive_rate",
}


def by_level(subject: Metric, levels: Sequence[str], value_g: Array) -> Metrics:
    """One entry per level of the attribute."""
    return {subject._replace(group=level): value_g[g] for g, level in enumerate(levels)}


def rate_metrics(
    subject: Metric,
    levels: Sequence[str],
    rates: group.GroupRates,
    measured: group.GroupRates,
) -> Metrics:
    """Rates of every group and their differences; of two groups the signed gaps too.

    Args:
      subject: the key.
      levels: names of the G groups.
      rates: ``[G]``.
      measured: the rates of enough rows, of which the differences are; see
        :func:`fairjax.metrics.group.with_rows`.
    """
    out: Metrics = {}
    for name, difference in DIFFERENCES.items():
        out[subject._replace(metric=name)] = difference(measured)
    for name in RATES:
        out |= by_level(subject._replace(metric=name), levels, getattr(rates, name))
    out |= by_level(subject._replace(metric="count"), levels, rates.count)
    if len(levels) == 2:
        for name, rate in SIGNED_GAPS.items():
            out[subject._replace(metric=name)] = group.signed_gap(getattr(measured, rate))
    return out


def class_metrics(
    subject: Metric,
    classes: Sequence[str],
    levels: Sequence[str],
    rates_cg: group.GroupRates,
    measured_cg: group.GroupRates,
) -> Metrics:
    """Differences in the worst class, each against the rest, and selection rates of every class.

    Args:
      subject: the key.
      classes: names of the C classes or labels.
      levels: names of the G groups.
      rates_cg: rates ``[C, G]``.
      measured_cg: the rates of enough rows, of which the differences are.
    """
    parity = _worst(measured_cg.selection_rate, measured_cg.count)
    true_positive = _worst(measured_cg.true_positive_rate, measured_cg.positives)
    false_positive = _worst(measured_cg.false_positive_rate, measured_cg.negatives)
    odds = jnp.maximum(true_positive, false_positive)
    out = {
        subject._replace(metric="demographic_parity_difference"): parity,
        subject._replace(metric="true_positive_rate_difference"): true_positive,
        subject._replace(metric="false_positive_rate_difference"): false_positive,
        subject._replace(metric="equalized_odds_difference"): odds,
    }
    out |= by_level(subject._replace(metric="count"), levels, rates_cg.count[0])
    for c, name in enumerate(classes):
        selection_rate = subject._replace(metric="selection_rate", outcome=name)
        out |= by_level(selection_rate, levels, rates_cg.selection_rate[c])
    return out


def _worst(rate_cg: Array, mass_cg: Array) -> Array:
    """Largest difference over the classes whose rate at least two groups have.

    NaN if there is no such class, or if a rate is NaN where its group has weight.
    """
    comparable_c = jnp.sum(mass_cg > 0, axis=1) >= 2
    gap_c = jax.vmap(group.rate_difference)(rate_cg, mass_cg)
    worst = jnp.max(jnp.where(comparable_c, gap_c, -jnp.inf))
    return jnp.where(jnp.any(comparable_c), worst, jnp.nan)


def mean_metrics(
    subject: Metric,
    levels: Sequence[str],
    mean_g: Array,
    mass_g: Array,
    has_rows_g: Array,
) -> Metrics:
    """Mean prediction of every group and the difference; of two groups the signed gap too.

    Groups without enough rows, ``has_rows_g[G]``, are in no difference.
    """
    difference = subject._replace(metric="mean_prediction_difference")
    measured_g = jnp.where(has_rows_g, mean_g, jnp.nan)
    measured_mass_g = jnp.where(has_rows_g, mass_g, 0.0)
    out = {difference: group.rate_difference(measured_g, measured_mass_g)}
    out |= by_level(subject._replace(metric="mean_prediction"), levels, mean_g)
    out |= by_level(subject._replace(metric="count"), levels, mass_g)
    if len(levels) == 2:
        signed_gap = subject._replace(metric="mean_prediction_signed_gap")
        out[signed_gap] = group.signed_gap(measured_g)
    return out


def distribution_metrics(subject: Metric, steps: Steps, rarity_g: Array) -> Metrics:
    """Distances between the groups' distributions of a prediction.

    Args:
      subject: the key.
      steps: distribution functions of this attribute's groups.
      rarity_g: ``[G]`` of :func:`fairjax.metrics.distribution.rarities`.
    """
    distances = unfairness_of(steps, rarity_g)
    return {
        subject._replace(metric="kolmogorov_smirnov"): distances.kolmogorov_smirnov,
        subject._replace(metric="kolmogorov_smirnov_floor"): distances.floor,
        subject._replace(metric="wasserstein"): distances.wasserstein,
    }


def correlation_metrics(
    subject: Metric,
    value_nc: Array,
    groups: Array,
    weight: Array,
    positive: Array | None = None,
    negative: Array | None = None,
) -> Metrics:
    """Correlations with an attribute that is a number, the largest over classes.

    Args:
      subject: the key.
      value_nc: decisions or predictions ``[N, C]``.
      groups: the attribute's block ``[N, 2]``, known and value.
      weight: ``[N]``.
      positive: ``[N]`` weight of rows whose label is 1; with ``negative`` it adds the correlations
        given the label.
      negative: ``[N]`` weight of rows whose label is 0.
    """
    out = {subject._replace(metric="correlation"): _largest_correlation(value_nc, groups, weight)}
    if positive is not None and negative is not None:
        given_positive = _largest_correlation(value_nc, groups, positive)
        given_negative = _largest_correlation(value_nc, groups, negative)
        given_label = jnp.maximum(given_positive, given_negative)
        out[subject._replace(metric="correlation_given_positive")] = given_positive
        out[subject._replace(metric="correlation_given_negative")] = given_negative
        out[subject._replace(metric="correlation_given_label")] = given_label
    out[subject._replace(metric="count")] = jnp.sum(weight * groups[:, 0])
    return out


def _largest_correlation(value_nc: Array, groups: Array, weight: Array) -> Array:
    correlation_c = jax.vmap(group.attribute_correlation, (1, None, None))(value_nc, groups, weight)
    return jnp.max(correlation_c)
