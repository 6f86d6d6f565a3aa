"""Rates of every group in every run, for the page.

In: a :class:`~fairjax.report.layout.Layout`, whose table has metrics of groups on test rows. Out: a
row per task and group, with a column of runs per rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairjax.core.keys import Metric
from fairjax.report.columns import column
from fairjax.report.layout import Layout
from fairjax.report.names import attribute_label, group_label, task_label
from fairjax.report.text import rounded

RATES = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "accuracy",
    "mean_prediction",
    "mean_residual",
    "mean_absolute_error",
)
MOST_CELLS = 250_000  # numbers beyond which the page holds the frontier's runs alone
DIGITS = 4


def group_columns(layout: Layout, rows: np.ndarray) -> dict[str, Any]:
    """``rates`` (names), ``positions`` of the runs, and ``rows``: a group of a task each.

    Args:
      layout: of the sweep.
      rows: ``[M]`` rows of the table that the page holds.
    """
    keys = _keys(layout)
    rates = [name for name in RATES if any(name in measured for measured in keys.values())]
    positions = _positions(layout, rows, len(keys) * len(rates))
    runs = rows[positions]
    return {
        "rates": [name.replace("_", " ") for name in rates],
        "positions": positions,
        "rows": [
            _row(layout, subject, measured, rates, runs) for subject, measured in keys.items()
        ],
    }


def _keys(layout: Layout) -> dict[Metric, dict[str, Metric]]:
    """By subject, which is a key without a metric: keys by the name of their metric."""
    keys: dict[Metric, dict[str, Metric]] = {}
    for key in layout.table.metrics:
        if key.split == "test" and key.group and not key.threshold and key.task:
            subject = key._replace(metric="")
            keys.setdefault(subject, {})[key.metric] = key
    return {
        subject: measured
        for subject, measured in keys.items()
        if any(name in measured for name in RATES)
    }


def _positions(layout: Layout, rows: np.ndarray, columns: int) -> np.ndarray:
    """Runs whose groups the page shows: those that may be taken, or the frontier's."""
    info = layout.info
    methods = np.asarray(layout.table["method"], str)
    is_reference = np.isin(methods, info.get("reference_methods", []))
    may_be_taken = ~is_reference & ~layout.diverged
    if may_be_taken[rows].sum() * columns > MOST_CELLS:
        candidates = [candidate["run"] for candidate in info.get("candidates") or ()]
        is_shown = np.isin(layout.table["run"], candidates)
        for front in layout.overall.fronts.values():
            is_shown[front.validation] = True
        may_be_taken &= is_shown
    return np.flatnonzero(may_be_taken[rows])


def _row(
    layout: Layout, subject: Metric, measured: dict[str, Any], rates: list[str], runs: np.ndarray
) -> dict[str, Any]:
    info = layout.info
    task = task_label(info, subject.task)
    if subject.outcome:
        task += f" = {subject.outcome}"
    values = []
    for name in rates:
        rate = measured.get(name)
        values.append(None if rate is None else rounded(column(layout.table, rate)[runs], DIGITS))
    return {
        "task": task,
        "attribute": attribute_label(info, subject.attribute),
        "group": group_label(info, subject.attribute, subject.group),
        "count": _count(layout, subject, measured, runs),
        "values": values,
    }


def _count(
    layout: Layout, subject: Metric, measured: dict[str, Any], runs: np.ndarray
) -> float | None:
    """Weight of the group's rows, which is the same in every run."""
    key = measured.get("count", subject._replace(metric="count", outcome=""))
    counts = column(layout.table, key)[runs]
    known = counts[np.isfinite(counts)]
    if not len(known):
        return None
    return float(known[0])
