"""Columns of a table of runs, by key: errors, gaps, ARE, ARFG and gains, as float64.

In: a :class:`~fairjax.core.tables.Table` and ``info``. Out: arrays ``[N]``, or points ``[N, 2]`` of
error and gap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairjax.core.keys import HParam, Key, Metric
from fairjax.core.tables import Table

GAINS = ("knowledge_gain", "discrimination_gain_ep", "discrimination_gain_eo")


def column(table: Table, key: Key) -> np.ndarray:
    """A column ``[N]`` as float64; NaN where the table has no such column."""
    values = table.get(key)
    if values is None:
        return _unknown(table)
    return np.asarray(values, np.float64)


def _unknown(table: Table) -> np.ndarray:
    rows = len(table["run"])
    return np.full(rows, np.nan)


def hparam_keys(table: Table) -> list[HParam]:
    """Keys of the columns that are hyper-parameters, in the order of the table."""
    return [key for key in table if isinstance(key, HParam)]


def hparam_label(key: HParam) -> str:
    """The name of a hyper-parameter on the page: ``lam[income]``."""
    if not key.task:
        return key.name
    return f"{key.name}[{key.task}]"


def error_key(task: str, split: str) -> Metric:
    """Key of a task's error."""
    return Metric("error", task, split=split)


def gap_keys(info: dict[str, Any], task: str, split: str) -> list[Metric]:
    """Keys of a task's gaps, one per attribute."""
    gap = info["gap"]
    attributes = info["attributes"]
    return [Metric(gap, task, attribute=name, split=split) for name in attributes]


def relative_keys(split: str) -> tuple[Metric, Metric]:
    """Keys of ARE and ARFG."""
    error = Metric("are", split=split)
    gap = Metric("arfg", split=split)
    return error, gap


def gain_keys(split: str) -> tuple[Metric, ...]:
    """Keys of the knowledge gain and of the discrimination gains."""
    return tuple(Metric(name, split=split) for name in GAINS)


def worst_gap(
    table: Table,
    info: dict[str, Any],
    task: str,
    split: str,
) -> np.ndarray:
    """``max_a |gap_a|`` of a task ``[N]``, over the attributes whose gap could be measured."""
    worst = _unknown(table)
    for key in gap_keys(info, task, split):
        gap = np.abs(column(table, key))
        # fmax takes the other one where one is NaN
        worst = np.fmax(worst, gap)
    return worst


def task_points(
    table: Table,
    info: dict[str, Any],
    task: str,
    split: str,
) -> np.ndarray:
    """Error and worst gap of a task, ``[N, 2]``."""
    error = column(table, error_key(task, split))
    gap = worst_gap(table, info, task, split)
    return np.stack([error, gap], axis=1)


def relative_points(table: Table, split: str) -> np.ndarray:
    """ARE and ARFG, ``[N, 2]``."""
    are, arfg = relative_keys(split)
    error = column(table, are)
    gap = column(table, arfg)
    return np.stack([error, gap], axis=1)


def mean_points(table: Table, info: dict[str, Any], split: str) -> np.ndarray:
    """Error and worst gap, each averaged over tasks, ``[N, 2]``; NaN without a task."""
    points = [task_points(table, info, task, split) for task in info["tasks"]]
    if points:
        return np.mean(points, axis=0)
    unknown = _unknown(table)
    return np.stack([unknown, unknown], axis=1)
