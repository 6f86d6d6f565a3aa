"""What runs are measured against: single-task models, and predictors that are constant.

In: ``info["single_task"]`` and ``info["constants"]``, by split and task, and
``info["constant_are"]``, by split. Out: points and a table.
The gap of a constant predictor is 0: it decides alike for everybody.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fairjax.report.names import task_label
from fairjax.report.tables import SortableRow, SortableTable

SINGLE_TASK = "single-task models"
BEST = "best constants"


class Reference(NamedTuple):
    """A point beside the runs."""

    name: str
    error: float
    gap: float


def task_references(info: dict[str, Any], task: str) -> list[Reference]:
    """References of a task on test rows."""
    references = []
    means = _single_task(info, task)
    if None not in (means.get("error"), means.get("gap")):
        references.append(Reference(SINGLE_TASK, means["error"], means["gap"]))
    for name, constant in _constants(info, task).items():
        if constant.get("error") is not None:
            references.append(Reference(name, constant["error"], 0.0))
    return references


def relative_references(info: dict[str, Any]) -> list[Reference]:
    """Constant predictors by ARE and ARFG: those that every task has.

    The best of each task together stand beside them where no single one is as good.
    """
    tasks = info["tasks"]
    names = list(_constants(info, tasks[0])) if tasks else []
    references = []
    for name in names:
        ratios = [_ratio(info, task, name) for task in tasks]
        if None not in ratios:
            references.append(Reference(name, float(np.mean(ratios)), 0.0))
    best = (info.get("constant_are") or {}).get("test")
    if best is not None and all(best < reference.error for reference in references):
        references.append(Reference(BEST, best, 0.0))
    return references


def references_table(info: dict[str, Any]) -> SortableTable | None:
    """A row per reference, its error and gap per task on test rows; None without references."""
    by_task = {}
    for task in info["tasks"]:
        references = task_references(info, task)
        by_task[task] = {reference.name: reference for reference in references}
    names = dict.fromkeys(name for references in by_task.values() for name in references)
    if not names:
        return None
    head = ["Reference"]
    for task in by_task:
        label = task_label(info, task)
        head += [f"error, {label}", f"gap, {label}"]
    rows = []
    for name in names:
        cells = [name]
        for references in by_task.values():
            _, error, gap = references.get(name, (name, None, None))
            cells += [error, gap]
        rows.append(SortableRow(cells))
    return SortableTable(head, rows)


def _ratio(info: dict[str, Any], task: str, name: str) -> float | None:
    """Error of a constant predictor over that of the single-task model."""
    error = _constants(info, task).get(name, {}).get("error")
    single_task = _single_task(info, task).get("error")
    if error is None or not single_task:
        return None
    return error / single_task


def _single_task(info: dict[str, Any], task: str) -> dict[str, Any]:
    return (info.get("single_task") or {}).get("test", {}).get(task, {})


def _constants(info: dict[str, Any], task: str) -> dict[str, Any]:
    return (info.get("constants") or {}).get("test", {}).get(task, {})
