"""Rates of decisions per group, and their gaps, in traced code.

In: decisions, labels, membership and weights of one task. Out: :class:`GroupRates`, arrays over
groups. Every gap is a function of the rates of one attribute. Definitions are those of
:mod:`fairjax.notions`, on hard decisions. :mod:`fairjax.metrics.disparities` has fairlearn's names
and arguments.

A group without positives has no true positive rate: it is NaN, and gaps leave it out. The same
holds for a group without negatives. A gap or a ratio between fewer than two groups is NaN, not a
perfect value. A ratio of rates that are all 0 is NaN.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from fairjax.core.masked import (
    check_membership,
    check_probabilities,
    check_rows,
    group_mean,
    keep,
    members,
)
from fairjax.core.types import Array
from fairjax.notions.conditions import everyone, negatives, positives
from fairjax.notions.continuous import pearson
from fairjax.notions.gaps import difference, ratio

Rates = TypeVar("Rates")


class GroupRates(NamedTuple):
    """Rates of decisions per group, NaN where the denominator is 0, and four sums of weights."""

    selection_rate: Array  # [G] P(d = 1 | g)
    true_positive_rate: Array  # [G] P(d = 1 | y = 1, g)
    false_positive_rate: Array  # [G] P(d = 1 | y = 0, g)
    accuracy: Array  # [G] P(d = y | g), where the label is known
    count: Array  # [G] weight of the group
    positives: Array  # [G] its weight with label 1
    negatives: Array  # [G] its weight with label 0
    labelled: Array  # [G] its weight with a known label


class GroupRows(NamedTuple):
    """Numbers of rows per group, ``[G]``, that rates rest on."""

    count: Array
    positives: Array  # with label 1
    negatives: Array  # with label 0
    labelled: Array  # with a known label


def group_rates(
    decision: Array,
    label: Array,
    groups: Array,
    weight: Array,
    mask: Array | None = None,
) -> GroupRates:
    """Selection, true positive and false positive rate and accuracy of every group.

    Args:
      decision: ``[N]`` of 0/1; NaN makes every rate it enters NaN.
      label: ``[N]`` of 0/1, anything where the mask is 0.
      groups: membership ``[N, G]``, several attributes side by side; a row of zeros belongs to
        nobody.
      weight: ``[N]``, 0 for padding.
      mask: ``[N]``, 1 where the label is known; all by default. Selection rates look at all rows.

    Returns:
      Rates with leading axis G.

    Raises:
      ValueError: decisions are neither decisions nor probabilities, where they can be looked at:
        see :func:`fairjax.core.masked.check_probabilities`.
    """
    check_rows(decision, weight)
    check_probabilities(decision, weight)
    if mask is None:
        mask = jnp.ones_like(weight)
    mask = keep(mask, weight)  # a label without weight is missing: padding may hold anything
    unknown = jnp.isnan(decision)
    correct = decision == keep(label, mask)
    correct = jnp.where(unknown, jnp.nan, correct)
    selection_rate, count = _rate(decision, groups, weight * everyone(label, mask))
    true_positive_rate, positive = _rate(decision, groups, weight * positives(label, mask))
    false_positive_rate, negative = _rate(decision, groups, weight * negatives(label, mask))
    accuracy, labelled = _rate(correct.astype(jnp.float32), groups, weight * mask)
    return GroupRates(
        selection_rate,
        true_positive_rate,
        false_positive_rate,
        accuracy,
        count,
        positive,
        negative,
        labelled,
    )


def of_attribute(rates: Rates, block: slice) -> Rates:
    """The rates or rows of one attribute's groups; ``block`` as in ``Spec.group_slice``."""
    return jax.tree.map(lambda rate_g: rate_g[block], rates)


def row_counts(groups: Array, weight: Array) -> Array:
    """Rows with weight in every group, ``[G]``."""
    counts = (weight > 0).astype(jnp.float32)
    return jnp.sum(members(groups, counts) > 0, axis=0)


def group_rows(
    label: Array,
    groups: Array,
    weight: Array,
    mask: Array,
) -> GroupRows:
    """Rows behind every rate of :func:`group_rates`, whose arguments these are."""
    mask = keep(mask, weight)
    return GroupRows(
        count=row_counts(groups, weight),
        positives=row_counts(groups, weight * positives(label, mask)),
        negatives=row_counts(groups, weight * negatives(label, mask)),
        labelled=row_counts(groups, weight * mask),
    )


def with_rows(rates: GroupRates, rows: GroupRows, smallest: float) -> GroupRates:
    """The rates that rest on so many rows; the others are NaN, of mass 0, in no difference."""
    enough = jax.tree.map(lambda count_g: count_g >= smallest, rows)

    def rate(value: Array, is_enough: Array) -> Array:
        return jnp.where(is_enough, value, jnp.nan)

    def mass(value: Array, is_enough: Array) -> Array:
        return jnp.where(is_enough, value, 0.0)

    return GroupRates(
        selection_rate=rate(rates.selection_rate, enough.count),
        true_positive_rate=rate(rates.true_positive_rate, enough.positives),
        false_positive_rate=rate(rates.false_positive_rate, enough.negatives),
        accuracy=rate(rates.accuracy, enough.labelled),
        count=mass(rates.count, enough.count),
        positives=mass(rates.positives, enough.positives),
        negatives=mass(rates.negatives, enough.negatives),
        labelled=mass(rates.labelled, enough.labelled),
    )


def _rate(
    value: Array,
    groups: Array,
    weight: Array,
) -> tuple[Array, Array]:
    mean_g, mass_g = group_mean(value, groups, weight)
    rate_g = jnp.where(mass_g > 0, mean_g, jnp.nan)
    return rate_g, mass_g


def rate_difference(rate: Array, mass: Array) -> Array:
    """``max_g rate_g - min_g rate_g`` over groups with mass; NaN for fewer than two of them."""
    measurable = _measurable(rate, mass)
    return jnp.where(measurable, difference(rate, mass), jnp.nan)


def rate_ratio(rate: Array, mass: Array) -> Array:
    """``min_g rate_g / max_g rate_g`` over groups with mass.

    NaN for fewer than two such groups, and for 0/0.
    """
    rate_or_zero = jnp.where(mass > 0, rate, 0.0)
    any_positive = jnp.any(rate_or_zero > 0)
    measurable = any_positive & _measurable(rate, mass)
    return jnp.where(measurable, ratio(rate, mass), jnp.nan)


def signed_gap(rate: Array) -> Array:
    """``rate_1 - rate_0``: second level minus first, with its sign; NaN when either is absent.

    Raises:
      ValueError: there are not exactly two groups.
    """
    if rate.shape[-1] != 2:
        raise ValueError(
            f"signed gap: expected the rates of 2 groups, got {rate.shape[-1]}; pass one attribute"
        )
    return rate[..., 1] - rate[..., 0]


def attribute_correlation(
    value: Array,
    groups: Array,
    weight: Array,
) -> Array:
    """Absolute Pearson correlation of decisions or predictions with an attribute that is a number.

    Args:
      value: ``[N]``; NaN gives NaN.
      groups: the attribute's block ``[N, 2]``, known and value.
      weight: ``[N]``, 0 for padding and outside the rows looked at.

    Returns:
      A scalar in [0, 1]; 0 where ``value`` is constant, as a gap between groups is; NaN where the
      attribute does not vary.
    """
    check_membership(groups, value)
    number = groups[:, 1]
    counts = weight * groups[:, 0] > 0
    low = jnp.min(jnp.where(counts, number, jnp.inf))
    high = jnp.max(jnp.where(counts, number, -jnp.inf))
    varies = low < high
    return jnp.where(varies, pearson(value, groups, weight), jnp.nan)


def _measurable(rate: Array, mass: Array) -> Array:
    """Whether two groups or more have mass, and all of these have a rate."""
    present = mass > 0
    undefined = jnp.any(jnp.isnan(rate) & present)
    return (jnp.sum(present) >= 2) & ~undefined


def parity_gap(rates: GroupRates) -> Array:
    """Largest difference of selection rates between groups.

    Source: Feldman et al., KDD 2015.
    """
    return rate_difference(rates.selection_rate, rates.count)


def true_positive_gap(rates: GroupRates) -> Array:
    """Largest difference of true positive rates between groups.

    Source: Hardt, Price, Srebro, NeurIPS 2016.
    """
    return rate_difference(rates.true_positive_rate, rates.positives)


def false_positive_gap(rates: GroupRates) -> Array:
    """Largest difference of false positive rates between groups.

    Source: this is the gap of Wang et al., KDD 2021.
    """
    return rate_difference(rates.false_positive_rate, rates.negatives)


def odds_gap(rates: GroupRates) -> Array:
    """The larger of the gaps of true and false positive rates; NaN when either is."""
    return jnp.maximum(true_positive_gap(rates), false_positive_gap(rates))
