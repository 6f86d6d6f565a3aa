"""Which runs page and figures show where they cannot show all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fairjax.core.keys import Metric
from fairjax.report.columns import column, error_key, relative_keys
from fairjax.report.panel import distinct, front_of

if TYPE_CHECKING:
    from fairjax.report.layout import Layout

MOST_POINTS = 20_000  # runs beyond which a page is too heavy, and a figure a blot


def shown_rows(layout: Layout) -> np.ndarray:
    """Rows ``[M]`` of the table, rising: all of few runs.

    Of many runs a sample, every frontier, the candidates, and every answer to a question for the
    cheapest run with a gap at most so large.
    """
    runs = len(layout.method_index)
    if runs <= MOST_POINTS:
        return np.arange(runs)
    sample = np.random.default_rng(0).choice(runs, MOST_POINTS, replace=False)
    candidates = [candidate["run"] for candidate in layout.info.get("candidates") or ()]
    is_candidate = np.isin(layout.table["run"], candidates)
    rows = [sample, np.flatnonzero(is_candidate), *_answers(layout)]
    for panel in (layout.overall, *layout.task_panels):
        for front in panel.fronts.values():
            rows += [front.validation, front.test]
    return np.unique(np.concatenate(rows))


def _answers(layout: Layout) -> Iterator[np.ndarray]:
    """Frontiers on validation rows of all that may be taken, for any tasks and attributes."""
    info = layout.info
    references = [layout.methods.index(name) for name in info.get("reference_methods") or ()]
    may_be_taken = ~layout.diverged & ~np.isin(layout.method_index, references)
    for tasks, attributes in itertools.product(
        _choices(info["tasks"]), _choices(info["attributes"])
    ):
        points = np.stack([_error(layout, tasks), _gap(layout, tasks, attributes)], axis=1)
        rows = np.flatnonzero(may_be_taken & np.isfinite(points).all(axis=1))
        yield distinct(points, front_of(points, rows))


def _choices(names: list[str]) -> list[list[str]]:
    """All names together, and each alone."""
    alone = [[name] for name in names]
    return alone if len(names) == 1 else [names, *alone]


def _error(layout: Layout, tasks: list[str]) -> np.ndarray:
    """ARE, or the mean error of the tasks, where ARE is not known or there is one task."""
    are, _ = relative_keys("validation")
    if len(tasks) > 1 and are in layout.table:
        return column(layout.table, are)
    errors = [column(layout.table, error_key(task, "validation")) for task in tasks]
    return np.mean(errors, axis=0)


def _gap(layout: Layout, tasks: list[str], attributes: list[str]) -> np.ndarray:
    """``max_ta |gap_ta|`` over the tasks of which any run has a gap."""
    subject = Metric(layout.info["gap"], split="validation")
    worst = np.full(len(layout.method_index), -np.inf)
    for task in tasks:
        gap = np.full(len(worst), np.nan)
        for attribute in attributes:
            key = subject._replace(task=task, attribute=attribute)
            gap = np.fmax(gap, np.abs(column(layout.table, key)))
        if np.isfinite(gap).any():
            worst = np.maximum(worst, gap)
    return worst
