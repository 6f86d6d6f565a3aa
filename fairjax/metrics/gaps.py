"""The metric that measures a fairness condition, for every kind of task and sort of attribute."""

from __future__ import annotations

from typing import NamedTuple

from fairjax.notions import CLASSES, CONDITIONS, Notion


class Gap(NamedTuple):
    """Names of a condition's metrics: between groups, and with an attribute that is a number."""

    difference: str
    correlation: str


GAPS = {
    "fpr": Gap("false_positive_rate_difference", "correlation_given_negative"),
    "tpr": Gap("true_positive_rate_difference", "correlation_given_positive"),
    "odds": Gap("equalized_odds_difference", "correlation_given_label"),
    "parity": Gap("demographic_parity_difference", "correlation"),
}


def gap_metric(condition: str, kind: str, continuous: bool) -> str:
    """Name of the metric that measures a condition on the decisions or predictions of a task.

    Of a task with several classes or labels a difference, and a correlation, is that of the worst
    class or label against the rest; it is no mean.

    A regression has no rates: its metric is the difference of mean predictions. With an attribute
    that is a number, only binary tasks have correlations given the label: every other kind has the
    correlation over all rows.

    Args:
      condition: ``"fpr"``, ``"tpr"``, ``"odds"`` or ``"parity"``.
      kind: kind of the task, as in :class:`fairjax.core.types.Task`.
      continuous: whether the attribute is a number.

    Raises:
      ValueError: the condition is another one.

    >>> gap_metric("fpr", "binary", continuous=False)
    'false_positive_rate_difference'
    >>> gap_metric("fpr", "regression", continuous=True)
    'correlation'
    """
    if condition not in GAPS:
        raise ValueError(f"condition {condition!r} is not one of {', '.join(GAPS)}")
    gap = GAPS[condition]
    if continuous:
        return gap.correlation if kind == "binary" else "correlation"
    return gap.difference if kind in CLASSES else "mean_prediction_difference"


def condition_of(notion: Notion) -> str | None:
    """The condition that has the rows of a notion, by name; None if no condition has them.

    >>> import fairjax.notions
    >>> condition_of(fairjax.notions.get("equal_opportunity"))
    'tpr'
    """
    for name, conditions in CONDITIONS.items():
        if notion.conditions == conditions:
            return name
    return None
