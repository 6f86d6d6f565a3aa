"""Statistics of groups: what a notion compares, soft on probabilities and hard on decisions, one
definition for both.

Most are fractions of sums, ``v_g = sum_i w_i m_ig a(p_i, y_i) / sum_i w_i m_ig b(p_i, y_i)``. A
statistic looks at one
column: of several classes or labels, one against the rest. The weight chooses its rows: the
selection rate among positives is the true positive rate. What stands where the weight is 0 is not
looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array

CLASSES = ("binary", "multiclass", "multilabel")
REGRESSIONS = ("regression",)


class Statistic(NamedTuple):
    """``of(prob[N], label[N], groups[N, G], weight[N]) -> (value[G], mass[G])``, mass 0 where a
    group has no value.

    ``kinds``: of tasks it fits. ``labelled``: whether it reads labels; the weight must then be 0
    where they are missing. ``above(prob, label)`` and ``below(prob, label)``: row by row, of one
    that is a fraction of sums.
    """

    name: str
    of: Callable[[Array, Array, Array, Array], tuple[Array, Array]]
    kinds: tuple[str, ...] = CLASSES
    labelled: bool = True
    above: Callable[[Array, Array], Array] | None = None
    below: Callable[[Array, Array], Array] | None = None


def fraction(
    name: str,
    above: Callable[[Array, Array], Array],
    below: Callable[[Array, Array], Array],
    kinds: tuple[str, ...] = CLASSES,
    labelled: bool = True,
) -> Statistic:
    """A statistic from ``above(prob, label)`` and ``below(prob, label)``, added up row by row."""

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p = keep(prob, weight)
        y = keep(label, weight) if labelled else jnp.zeros_like(p)
        mass_g = (weight * below(p, y)) @ groups
        return divide((weight * above(p, y)) @ groups, mass_g), mass_g

    return Statistic(name, of, kinds, labelled, above, below)


def one(p: Array, y: Array) -> Array:
    """What is below where every row counts alike."""
    del y
    return jnp.ones_like(p)


selection_rate = fraction("selection_rate", lambda p, y: p, one, labelled=False)
rejection_rate = fraction("rejection_rate", lambda p, y: 1 - p, one, labelled=False)
precision = fraction("precision", lambda p, y: p * y, lambda p, y: p)
false_omission_rate = fraction("false_omission_rate", lambda p, y: (1 - p) * y, lambda p, y: 1 - p)
accuracy = fraction("accuracy", lambda p, y: p * y + (1 - p) * (1 - y), one)
zero_one_loss = fraction("zero_one_loss", lambda p, y: p * (1 - y) + (1 - p) * y, one)
f_score = fraction("f_score", lambda p, y: 2 * p * y, lambda p, y: p + y)
# false negatives per false positive
treatment = fraction("treatment", lambda p, y: (1 - p) * y, lambda p, y: p * (1 - y))
# above 0 where more is promised than happens
calibration_in_the_large = fraction("calibration_in_the_large", lambda p, y: p - y, one)
mean_prediction = fraction("mean_prediction", lambda p, y: p, one, REGRESSIONS, labelled=False)
mean_residual = fraction("mean_residual", lambda p, y: p - y, one, REGRESSIONS)
squared_loss = fraction(
    "squared_loss", lambda p, y: jnp.square(p - y), one, (*CLASSES, *REGRESSIONS)
)
absolute_loss = fraction(
    "absolute_loss", lambda p, y: jnp.abs(p - y), one, (*CLASSES, *REGRESSIONS)
)


def _nats(p: Array, y: Array) -> Array:
    p = jnp.clip(
        p, jnp.finfo(p.dtype).eps, 1 - jnp.finfo(p.dtype).eps
    )  # a certainty that fails costs 16 nats in float32
    return -xlogy(y, p) - xlogy(1 - y, 1 - p)


log_loss = fraction("log_loss", _nats, one)


def in_bins(prob: Array, bins: int) -> Array:
    """Which of ``bins`` bins of equal width probabilities ``[N]`` fall into, one-hot ``[N, bins]``;
    1 is in the last.
    """
    return jax.nn.one_hot(jnp.clip((prob * bins).astype(jnp.int32), 0, bins - 1), bins)


def calibration_error(bins: int = 10) -> Statistic:
    """Binned calibration: ``sum_b |sum_{i in b} w_i (p_i - y_i)| / sum_i w_i`` per group, over bins
    of equal width.

    Reference:
      Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning,
        AAAI 2015.
    """

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p, y = keep(prob, weight), keep(label, weight)
        member = groups * weight[:, None]
        off_bg = jnp.einsum(
            "nb,ng->bg", in_bins(p, bins).astype(member.dtype) * (p - y)[:, None], member
        )
        mass_g = jnp.sum(member, axis=0)
        return divide(jnp.sum(jnp.abs(off_bg), axis=0), mass_g), mass_g

    return Statistic("calibration_error", of)


def pairwise_auc(temperature: Array | float = 0.05) -> Statistic:
    """Soft area under the curve of each group: the mean of ``sigmoid((p_i - p_j) / tau)`` over its
    positives i and negatives j.

    All pairs of rows at once, for minibatches; of whole data sets, :func:`fairjax.metrics.auc`
    sorts.
    """

    def of(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
        p, y = keep(prob, weight), keep(label, weight)
        member = groups * weight[:, None]
        up, down = member * y[:, None], member * (1 - y)[:, None]
        mass_g = jnp.sum(up, axis=0) * jnp.sum(down, axis=0)
        above = jax.nn.sigmoid((p[:, None] - p[None]) / temperature)
        return divide(jnp.sum(up * (above @ down), axis=0), mass_g), mass_g

    return Statistic("auc", of)


def _moments(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, ...]:
    """Mass, means, variances and covariance of predictions and labels in each group."""
    p, y = keep(prob, weight), keep(label, weight)
    member = groups * weight[:, None]
    mass_g = jnp.sum(member, axis=0)
    share = divide(member, mass_g[None])
    mean_p, mean_y = p @ share, y @ share
    off_p, off_y = p[:, None] - mean_p[None], y[:, None] - mean_y[None]
    var_p, var_y = jnp.sum(share * off_p**2, axis=0), jnp.sum(share * off_y**2, axis=0)
    return mass_g, mean_p, mean_y, var_p, var_y, jnp.sum(share * off_p * off_y, axis=0)


def _correlation(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    mass_g, _, _, var_p, var_y, both = _moments(prob, label, groups, weight)
    some = ~((var_p <= 1e-12) | (var_y <= 1e-12))  # a NaN stays one
    return jnp.where(some, both, 0.0) / jnp.sqrt(jnp.where(some, var_p * var_y, 1.0)), mass_g * some


def _concordance(prob: Array, label: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    mass_g, mean_p, mean_y, var_p, var_y, both = _moments(prob, label, groups, weight)
    apart = var_p + var_y + jnp.square(mean_p - mean_y)
    return divide(2 * both, apart), mass_g * (apart > 0)


correlation = Statistic(
    "correlation", _correlation, REGRESSIONS
)  # Pearson's, of predictions with labels
concordance = Statistic(
    "concordance", _concordance, REGRESSIONS
)  # Lin's coefficient, 2 cov / (var + var + (mean - mean)^2)


def parity(
    statistic: Statistic, gap: Callable[[Array, Array, Array], Array]
) -> Callable[..., Array]:
    """A gap of a statistic: ``distance(prob, groups, weight, label)``."""

    def distance(prob: Array, groups: Array, weight: Array, label: Array | None = None) -> Array:
        everybody = jnp.sum(groups, axis=1, keepdims=True)
        label = jnp.zeros_like(prob) if label is None else label
        value, mass = statistic.of(
            prob, label, jnp.concatenate([groups, everybody], axis=1), weight
        )
        return gap(value[:-1], mass[:-1], value[-1])

    return distance
