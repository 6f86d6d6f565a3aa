"""Notions by name, one line for each.

:func:`get` builds one, :func:`suited` those that fit the tasks of a data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fairjax.core.types import KINDS, Array, Spec
from fairjax.notions import statistics
from fairjax.notions._ahfda import ahfda
from fairjax.notions._mmd import gaussian_kernel, gaussian_mmd, laplacian_kernel, mmd
from fairjax.notions._robust_log import robust_log
from fairjax.notions.averages import macro
from fairjax.notions.conditions import (
    CONDITIONS,
    Condition,
    everyone,
    known,
    negatives,
    positives,
)
from fairjax.notions.continuous import hsic, pearson
from fairjax.notions.correlation import correlation_ratio
from fairjax.notions.differential import differential_fairness
from fairjax.notions.distribution import kolmogorov_smirnov, wasserstein
from fairjax.notions.notion import Distance, Notion, from_distance
from fairjax.notions.rates import rate_gap
from fairjax.notions.statistics import CLASSES, Statistic, parity
from fairjax.notions.transport import barycenter_distance


class Entry(NamedTuple):
    """A notion of the registry."""

    build: Callable[..., Notion]  # conditions, kind of task, and its own options
    conditions: tuple[Condition, ...] | None = None  # its own rows; None: those that are asked for
    kinds: tuple[str, ...] = KINDS
    dependence: Distance | None = None  # its form for attributes that are numbers
    is_gap: bool = True  # zero where groups agree or fewer than two are present


def _distance(distance: Distance, dependence: Distance = pearson) -> Entry:
    """A distance that takes any rows."""

    def build(conditions, kind, **options: Any) -> Notion:
        del kind
        return from_distance(distance, conditions, **options)

    return Entry(build, dependence=dependence)


def _statistic(statistic: Statistic, conditions: tuple[Condition, ...]) -> Entry:
    """A gap between the groups' values of a statistic, on rows of its own."""

    def build(conditions, kind, average=macro, **options: Any) -> Notion:
        del kind
        return from_distance(
            parity,
            conditions,
            name=statistic.name,
            kinds=statistic.kinds,
            labelled=statistic.labelled,
            average=average,
            statistic=statistic,
            **options,
        )

    return Entry(build, conditions, statistic.kinds)


def _mmd(conditions, kind, bandwidth: Array | float = 0.1, **options: Any) -> Notion:
    # the fast form is for probabilities alone
    if kind != "regression":
        return from_distance(gaussian_mmd, conditions, bandwidth=bandwidth, **options)
    return from_distance(mmd, conditions, kernel=gaussian_kernel(bandwidth), **options)


def _laplacian_mmd(conditions, kind, bandwidth: Array | float = 0.1, **options: Any) -> Notion:
    del kind
    return from_distance(mmd, conditions, kernel=laplacian_kernel(bandwidth), **options)


def _rate_gap(conditions, kind, **options: Any) -> Notion:
    if kind != "regression":
        return from_distance(rate_gap, conditions, **options)
    # the same number, of predictions that are no probabilities
    return from_distance(parity, conditions, statistic=statistics.mean_prediction, **options)


def _robust_log(conditions, kind, average=macro, **options: Any) -> Notion:
    del kind
    return from_distance(
        robust_log, conditions, kinds=CLASSES, labelled=True, average=average, **options
    )


def _differential(conditions, kind, **options: Any) -> Notion:
    del conditions, kind
    return differential_fairness(**options)


def _ahfda(conditions, kind, **options: Any) -> Notion:
    del conditions
    notion = ahfda(**options)
    if kind == "regression" or notion.conditions == (everyone,):
        return notion
    # the same rows, of which some can be exclusive to a task
    return notion._replace(conditions=(negatives, positives))


REGISTRY: dict[str, Entry] = {
    "rate_gap": Entry(_rate_gap, dependence=pearson),
    "correlation": _distance(correlation_ratio),
    "mmd": Entry(_mmd, dependence=hsic),
    "laplacian_mmd": Entry(_laplacian_mmd, dependence=hsic),
    "wasserstein": _distance(wasserstein),
    "kolmogorov_smirnov": _distance(kolmogorov_smirnov),
    "barycenter": _distance(barycenter_distance),
    "differential_fairness": Entry(_differential, (negatives, positives), CLASSES),
    "ahfda": Entry(_ahfda, (known,)),
    "demographic_parity": _statistic(statistics.selection_rate, (everyone,)),
    "equal_opportunity": _statistic(statistics.selection_rate, (positives,)),
    "predictive_equality": _statistic(statistics.selection_rate, (negatives,)),
    "equalized_odds": _statistic(statistics.selection_rate, (negatives, positives)),
    "predictive_parity": _statistic(statistics.precision, (known,)),
    "accuracy_parity": _statistic(statistics.accuracy, (known,)),
    "treatment_equality": _statistic(statistics.treatment, (known,)),
    "f_score_parity": _statistic(statistics.f_score, (known,)),
    "auc_parity": _statistic(statistics.pairwise_auc(), (known,)),
    "calibration_in_the_large": _statistic(statistics.calibration_in_the_large, (known,)),
    "calibration": _statistic(statistics.calibration_error(), (known,)),
    "log_loss_parity": _statistic(statistics.log_loss, (known,)),
    "robust_log": Entry(_robust_log, (negatives, positives), CLASSES, is_gap=False),
    "mean_prediction_parity": _statistic(statistics.mean_prediction, (everyone,)),
    "mean_residual_parity": _statistic(statistics.mean_residual, (known,)),
    "squared_loss_parity": _statistic(statistics.squared_loss, (known,)),
    "absolute_loss_parity": _statistic(statistics.absolute_loss, (known,)),
    "correlation_parity": _statistic(statistics.correlation, (known,)),
    "concordance_parity": _statistic(statistics.concordance, (known,)),
}


def get(
    name: str,
    conditions: tuple[Condition, ...] | None = None,
    *,
    kind: str = "binary",
    continuous: bool = False,
    **options: Any,
) -> Notion:
    """A notion of the registry by name.

    Of a task with several classes or labels a statistic's parity is the mean over them, each
    against the rest; a distance (``rate_gap``, ``mmd`` ...) is their sum; differential fairness is
    that of the worst one. The metrics of :mod:`fairjax.metrics` show the worst. One notion is no
    gap: ``robust_log`` is the loss of the worst group, and not 0 where groups agree. ``ahfda`` is a
    smooth maximum over classes or labels and groups.

    Args:
      name: a key of ``REGISTRY``.
      conditions: which rows; needed where the notion has no rows of its own.
      kind: of the task, where the notion has several forms.
      continuous: its form for attributes that are numbers.
      options: of the notion: ``gap`` and ``average`` of a statistic's parity, ``bandwidth`` of an
        MMD, and so on.

    Raises:
      ValueError: the name is not in the registry, rows are missing, or the notion has no such form.

    Example:
      >>> get("accuracy_parity").conditions[0].__name__
      'known'
      >>> get("rate_gap", CONDITIONS["fpr"]).name
      'rate_gap'
    """
    if name not in REGISTRY:
        raise ValueError(f"{name!r} is not a notion of the registry: {', '.join(REGISTRY)}")
    entry = REGISTRY[name]
    rows = entry.conditions if conditions is None else conditions
    if rows is None:
        raise ValueError(
            f"notion {name!r} takes any rows. Say which, for example "
            f"get({name!r}, CONDITIONS['fpr']); there are {', '.join(CONDITIONS)}"
        )
    if not continuous:
        notion = entry.build(rows, kind, **options)
        return notion._replace(name=name)
    if entry.dependence is None:
        raise ValueError(
            f"notion {name!r} compares groups; an attribute that is a number has none. Take "
            "rate_gap, correlation or mmd, or cut the number by a rule such as 'age > 25'"
        )
    return from_distance(entry.dependence, rows, name=name, continuous=True, **options)


def for_kind(kind: str) -> tuple[str, ...]:
    """Names of the notions with rows of their own that fit a kind of task."""
    return tuple(
        name
        for name, entry in REGISTRY.items()
        if entry.conditions is not None and kind in entry.kinds
    )


def suited(spec: Spec, name: str, condition: str, **options: Any) -> tuple[tuple[Notion, ...], ...]:
    """The notions of a data set, per task: one for attributes with levels, one for numbers.

    A notion that takes any rows looks at those of the condition. A regression has no positives, and
    neither has a task of several classes where the attribute is a number: these look at everyone.

    Args:
      spec: names tasks and attributes.
      name: a key of ``REGISTRY``.
      condition: a key of ``CONDITIONS``.
      options: of the notion.
    """
    sorts = sorted({attribute.continuous for attribute in spec.attributes})
    per_task = []
    for task in spec.tasks:
        notions = []
        for continuous in sorts:
            if name in REGISTRY and REGISTRY[name].conditions is not None:
                rows = None
            elif task.kind == "binary" or (task.kind in CLASSES and not continuous):
                rows = CONDITIONS[condition]
            else:
                rows = (everyone,)
            notions.append(get(name, rows, kind=task.kind, continuous=continuous, **options))
        per_task.append(tuple(notions))
    return tuple(per_task)
