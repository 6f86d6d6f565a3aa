"""Statistics of groups: what a notion compares.

A statistic is soft on probabilities and hard on decisions, by one definition. Most are fractions of
sums, ``v_g = sum_i w_i m_ig a(p_i, y_i) / sum_i w_i m_ig b(p_i, y_i)``. A statistic looks at one
column: of several classes or labels, one against the rest. A statistic of classes refuses values
that are no probabilities, where they can be looked at. The weight chooses its rows: the
selection rate among positives is the true positive rate. Rows of weight 0 may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from fairjax.core.masked import check_membership, check_probabilities, divide, keep, members
from fairjax.core.types import Array
from fairjax.notions.gaps import Gap, difference

CLASSES = ("binary", "multiclass", "multilabel")
REGRESSIONS = ("regression",)

RowTerm = Callable[[Array, Array], Array]  # prob[N], label[N] -> [N]


class Statistic(NamedTuple):
    """A value for each group, and the mass that it rests on: 0 where a group has no value."""

    name: str
    # prob[N], label[N], groups[N, G], weight[N] -> value[G], mass[G]
    of: Callable[[Array, Array, Array, Array], tuple[Array, Array]]
    kinds: tuple[str, ...] = CLASSES  # of tasks that it fits
    labelled: bool = True  # whether it reads labels; the weight is then 0 where they are missing
    above: RowTerm | None = None  # numerator row by row, of a fraction of sums
    below: RowTerm | None = None  # denominator row by row, of a fraction of sums


def fraction(
    name: str,
    above: RowTerm,
    below: RowTerm,
    kinds: tuple[str, ...] = CLASSES,
    labelled: bool = True,
) -> Statistic:
    """A statistic from ``above(prob, label)`` and ``below(prob, label)``, added up row by row."""

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p = keep(prob, weight)
        y = keep(label, weight) if labelled else jnp.zeros_like(p)
        check_membership(groups, weight)
        if "regression" not in kinds:
            check_probabilities(prob, weight)
        mass_g = (weight * below(p, y)) @ groups
        total_g = (weight * above(p, y)) @ groups
        return divide(total_g, mass_g), mass_g

    return Statistic(name, of, kinds, labelled, above, below)


def unit(p: Array, y: Array) -> Array:
    """The denominator in which every row counts alike."""
    del y
    return jnp.ones_like(p)


def _true_positive(p: Array, y: Array) -> Array:
    return p * y


def _true_negative(p: Array, y: Array) -> Array:
    return (1 - p) * (1 - y)


def _false_positive(p: Array, y: Array) -> Array:
    return p * (1 - y)


def _false_negative(p: Array, y: Array) -> Array:
    return (1 - p) * y


def _prediction(p: Array, y: Array) -> Array:
    del y
    return p


def _rejection(p: Array, y: Array) -> Array:
    del y
    return 1 - p


def _residual(p: Array, y: Array) -> Array:
    return p - y


def _right(p: Array, y: Array) -> Array:
    return _true_positive(p, y) + _true_negative(p, y)


def _wrong(p: Array, y: Array) -> Array:
    return _false_positive(p, y) + _false_negative(p, y)


def _nats(p: Array, y: Array) -> Array:
    # A certain prediction that is wrong costs 16 nats in float32.
    eps = jnp.finfo(p.dtype).eps
    p = jnp.clip(p, eps, 1 - eps)
    return -xlogy(y, p) - xlogy(1 - y, 1 - p)


ALL_KINDS = (*CLASSES, *REGRESSIONS)

selection_rate: Statistic = fraction("selection_rate", _prediction, unit, labelled=False)
rejection_rate: Statistic = fraction("rejection_rate", _rejection, unit, labelled=False)
precision: Statistic = fraction("precision", _true_positive, _prediction)
false_omission_rate: Statistic = fraction("false_omission_rate", _false_negative, _rejection)
accuracy: Statistic = fraction("accuracy", _right, unit)
zero_one_loss: Statistic = fraction("zero_one_loss", _wrong, unit)
f_score: Statistic = fraction("f_score", lambda p, y: 2 * p * y, lambda p, y: p + y)
# false negatives per false positive
treatment: Statistic = fraction("treatment", _false_negative, _false_positive)
# positive where predictions are higher than labels
calibration_in_the_large: Statistic = fraction("calibration_in_the_large", _residual, unit)
mean_prediction: Statistic = fraction(
    "mean_prediction", _prediction, unit, REGRESSIONS, labelled=False
)
mean_residual: Statistic = fraction("mean_residual", _residual, unit, REGRESSIONS)
squared_loss: Statistic = fraction("squared_loss", lambda p, y: jnp.square(p - y), unit, ALL_KINDS)
absolute_loss: Statistic = fraction("absolute_loss", lambda p, y: jnp.abs(p - y), unit, ALL_KINDS)
log_loss: Statistic = fraction("log_loss", _nats, unit)


def in_bins(prob: Array, bins: int) -> Array:
    """Which of ``bins`` bins of equal width hold probabilities ``[N]``: one-hot ``[N, bins]``.

    1 is in the last bin.
    """
    index = (prob * bins).astype(jnp.int32)
    return jax.nn.one_hot(jnp.clip(index, 0, bins - 1), bins)


def calibration_error(bins: int = 10) -> Statistic:
    """Binned calibration: ``sum_b |sum_{i in b} w_i (p_i - y_i)| / sum_i w_i`` in each group.

    Bins have equal width.

    Reference:
      Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning,
      AAAI 2015.
    """

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p = keep(prob, weight)
        y = keep(label, weight)
        member = members(groups, weight)
        check_probabilities(prob, weight)
        residual_nb = in_bins(p, bins).astype(member.dtype) * (p - y)[:, None]
        residual_bg = jnp.einsum("nb,ng->bg", residual_nb, member)
        mass_g = jnp.sum(member, axis=0)
        error_g = jnp.sum(jnp.abs(residual_bg), axis=0)
        return divide(error_g, mass_g), mass_g

    return Statistic("calibration_error", of)


def pairwise_auc(temperature: Array | float = 0.05) -> Statistic:
    """Soft area under the curve of each group.

    It is the mean of ``sigmoid((p_i - p_j) / tau)`` over the group's positives i and negatives j.
    It takes all pairs of rows at once, for minibatches. For whole data sets
    :func:`fairjax.metrics.auc` sorts.
    """

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p = keep(prob, weight)
        y = keep(label, weight)
        member = members(groups, weight)
        check_probabilities(prob, weight)
        positive = member * y[:, None]
        negative = member * (1 - y)[:, None]
        mass_g = jnp.sum(positive, axis=0) * jnp.sum(negative, axis=0)
        wins = jax.nn.sigmoid((p[:, None] - p[None]) / temperature)
        wins_g = jnp.sum(positive * (wins @ negative), axis=0)
        return divide(wins_g, mass_g), mass_g

    return Statistic("auc", of)


class _Moments(NamedTuple):
    """Moments of predictions p and labels y in each group, ``[G]``."""

    mass: Array
    mean_p: Array
    mean_y: Array
    var_p: Array
    var_y: Array
    covariance: Array


def _moments(prob: Array, label: Array, groups: Array, weight: Array) -> _Moments:
    p = keep(prob, weight)
    y = keep(label, weight)
    member = members(groups, weight)
    mass_g = jnp.sum(member, axis=0)
    share = divide(member, mass_g[None])
    mean_p = p @ share
    mean_y = y @ share
    centred_p = p[:, None] - mean_p[None]
    centred_y = y[:, None] - mean_y[None]
    var_p = jnp.sum(share * centred_p**2, axis=0)
    var_y = jnp.sum(share * centred_y**2, axis=0)
    covariance = jnp.sum(share * centred_p * centred_y, axis=0)
    return _Moments(mass_g, mean_p, mean_y, var_p, var_y, covariance)


def _correlation(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    moments = _moments(prob, label, groups, weight)
    constant = (moments.var_p <= 1e-12) | (moments.var_y <= 1e-12)
    varies = ~constant  # true for NaN, which must stay NaN
    covariance = jnp.where(varies, moments.covariance, 0.0)
    square = jnp.where(varies, moments.var_p * moments.var_y, 1.0)
    return covariance / jnp.sqrt(square), moments.mass * varies


def _concordance(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    moments = _moments(prob, label, groups, weight)
    bias = jnp.square(moments.mean_p - moments.mean_y)
    total = moments.var_p + moments.var_y + bias
    return divide(2 * moments.covariance, total), moments.mass * (total > 0)


# Pearson's correlation of predictions with labels
correlation: Statistic = Statistic("correlation", _correlation, REGRESSIONS)
# Lin's coefficient, 2 cov / (var_p + var_y + (mean_p - mean_y)^2)
concordance: Statistic = Statistic("concordance", _concordance, REGRESSIONS)


def parity(
    prob: Array,
    groups: Array,
    weight: Array,
    label: Array | None = None,
    *,
    statistic: Statistic,
    gap: Gap = difference,
) -> Array:
    """A gap of a statistic.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      label: ``[N]``, where the statistic reads labels.
      statistic: what is compared.
      gap: makes one number of the groups' values; see :mod:`fairjax.notions.gaps`.

    Raises:
      ValueError: the statistic reads labels and there are none.
    """
    check_membership(groups, weight)
    if label is None:
        if statistic.labelled:
            raise ValueError(f"{statistic.name} reads labels: give them, or labelled=True")
        label = jnp.zeros_like(prob)
    everyone = jnp.sum(groups, axis=1, keepdims=True)
    members = jnp.concatenate([groups, everyone], axis=1)
    value, mass = statistic.of(prob, label, members, weight)
    return gap(value[:-1], mass[:-1], value[-1])
