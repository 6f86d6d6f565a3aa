"""Fairness notions: a distance between groups, on chosen rows, for chosen tasks and attributes.

A *distance* is ``(prob[N], groups[N, G], weight[N]) -> scalar`` for one attribute: zero when the groups agree, zero with
zero gradient when fewer than two groups are present. A *condition* chooses the rows. A :class:`Notion` is both. A
distance is a gap between the values of a statistic (:func:`get`), or compares distributions (``mmd``, ``barycenter``). Of
an attribute that is a number it is dependence (``pearson``, ``hsic``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fairjax.core.types import KINDS, Array
from fairjax.notions import differential, gaps, statistics
from fairjax.notions._mmd import (
    adjusted_mmd,
    gaussian_kernel,
    gaussian_mmd,
    laplacian_kernel,
    mmd,
    published_mmd,
)
from fairjax.notions.conditions import everyone, exclusive, known, negatives, nobody, positives
from fairjax.notions.continuous import hsic, pearson
from fairjax.notions.correlation import correlation_ratio, published_correlation
from fairjax.notions.distribution import kolmogorov_smirnov, soft_kolmogorov_smirnov, wasserstein
from fairjax.notions.gaps import difference, ratio
from fairjax.notions.rates import published_rate_gap, rate_gap, sharpened_rate_gap
from fairjax.notions.statistics import CLASSES, REGRESSIONS, Statistic, parity
from fairjax.notions.transport import (
    average,
    barycenter_distance,
    largest,
    projected,
    sinkhorn,
    sliced,
)

Distance = Callable[..., Array]


def macro(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The mean over columns (classes, labels) of their distances; ``prob``, ``weight`` and ``label`` are ``[N, U]``."""
    return jnp.mean(_each(distance, prob, groups, weight, label))


def worst(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The largest of the columns' distances."""
    return jnp.max(_each(distance, prob, groups, weight, label))


def added(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The sum of the columns' distances."""
    return jnp.sum(_each(distance, prob, groups, weight, label))


def micro(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """One distance of all columns together: every row counts once per column."""
    one = [jnp.ravel(a) for a in (prob, weight, label)]
    return distance(one[0], jnp.repeat(groups, prob.shape[1], axis=0), *one[1:])


def jointly(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """One distance of rows as points of U columns (``sliced``, ``sinkhorn``); a row counts as in the column where least."""
    return distance(prob, groups, jnp.min(weight, axis=1), label)


def _each(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    return jnp.stack(
        [distance(prob[:, u], groups, weight[:, u], label[:, u]) for u in range(prob.shape[1])]
    )


class Notion(NamedTuple):
    """A distance between groups, added up over conditioning sets and attributes.

    ``Notion(rate_gap, (negatives,))`` is equal opportunity by false positive rates (MTA-F's notion),
    ``(positives,)`` by true positive rates, ``(negatives, positives)`` equalized odds, ``(everyone,)`` demographic parity.
    """

    distance: Distance  # (prob, groups, weight), and label where ``labelled``
    conditions: tuple[Callable[[Array, Array], Array], ...]
    kinds: tuple[str, ...] = KINDS  # of tasks it is for
    labelled: bool = False  # whether the distance reads labels
    average: Callable[..., Array] = added  # of a task with several classes or labels
    attributes: tuple[int, ...] | None = None  # which of the spec's; None for all of its sort
    continuous: bool = False  # its sort: attributes that are numbers, or those with levels


# name -> statistic and the rows it is taken on
REGISTRY = {
    "demographic_parity": (statistics.selection_rate, (everyone,)),
    "equal_opportunity": (statistics.selection_rate, (positives,)),
    "predictive_equality": (statistics.selection_rate, (negatives,)),
    "equalized_odds": (statistics.selection_rate, (negatives, positives)),
    "predictive_parity": (statistics.precision, (known,)),
    "accuracy_parity": (statistics.accuracy, (known,)),
    "treatment_equality": (statistics.treatment, (known,)),
    "f_score_parity": (statistics.f_score, (known,)),
    "auc_parity": (statistics.pairwise_auc(), (known,)),
    "calibration_in_the_large": (statistics.calibration_in_the_large, (known,)),
    "calibration": (statistics.calibration_error(), (known,)),
    "log_loss_parity": (statistics.log_loss, (known,)),
    "mean_prediction_parity": (statistics.mean_prediction, (everyone,)),
    "mean_residual_parity": (statistics.mean_residual, (known,)),
    "squared_loss_parity": (statistics.squared_loss, (known,)),
    "absolute_loss_parity": (statistics.absolute_loss, (known,)),
    "correlation_parity": (statistics.correlation, (known,)),
    "concordance_parity": (statistics.concordance, (known,)),
}


def get(
    name: str,
    gap: Callable[..., Array] = difference,
    average: Callable[..., Array] = macro,
    attributes: tuple[int, ...] | None = None,
) -> Notion:
    """A notion of the table by name.

    Args:
      name: a key of ``REGISTRY``.
      gap: of :mod:`fairjax.notions.gaps`.
      average: how classes or labels count, :func:`macro`, :func:`micro`, :func:`worst` or :func:`added`.
      attributes: which ones; all by default.

    Raises:
      ValueError: for a name that is not there.
    """
    if name not in REGISTRY:
        raise ValueError(f"{name!r} is not a notion of the table: {', '.join(REGISTRY)}")
    statistic, conditions = REGISTRY[name]
    return Notion(
        parity(statistic, gap), conditions, statistic.kinds, statistic.labelled, average, attributes
    )


def for_kind(kind: str) -> tuple[str, ...]:
    """Names of the table's notions for a kind of task."""
    return tuple(name for name, (statistic, _) in REGISTRY.items() if kind in statistic.kinds)


__all__ = [
    "CLASSES",
    "REGRESSIONS",
    "Notion",
    "Statistic",
    "REGISTRY",
    "added",
    "adjusted_mmd",
    "average",
    "barycenter_distance",
    "correlation_ratio",
    "difference",
    "differential",
    "everyone",
    "exclusive",
    "for_kind",
    "gaps",
    "gaussian_kernel",
    "gaussian_mmd",
    "hsic",
    "jointly",
    "known",
    "kolmogorov_smirnov",
    "laplacian_kernel",
    "largest",
    "macro",
    "micro",
    "mmd",
    "get",
    "negatives",
    "nobody",
    "parity",
    "pearson",
    "positives",
    "projected",
    "published_correlation",
    "published_mmd",
    "published_rate_gap",
    "rate_gap",
    "ratio",
    "sharpened_rate_gap",
    "sinkhorn",
    "sliced",
    "soft_kolmogorov_smirnov",
    "statistics",
    "wasserstein",
    "worst",
]
