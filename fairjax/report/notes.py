"""Sentences about what is missing from a table of runs, or from its figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fairjax.report.columns import column, gap_keys
from fairjax.report.panel import Panel

if TYPE_CHECKING:
    from fairjax.report.layout import Layout


def notes_of(layout: Layout) -> Iterator[str]:
    """All sentences about a layout."""
    info = layout.info
    runs = len(layout.method_index)
    if not runs:
        yield "The table holds no runs."
    elif layout.diverged.all():
        yield f"All {runs} runs diverged, so there is no frontier to draw."
    if not layout.relative:
        yield (
            "There is no finite ARE or ARFG, for which single-task baselines are needed: the"
            " overall panel shows the plain means over tasks instead."
        )
    if len(info["tasks"]) < 2:
        yield (
            "There are fewer than two tasks, so the trade-off between tasks (tradeoff.png) is not"
            " drawn."
        )
    if not info["attributes"]:
        yield "There is no sensitive attribute, so no gap could be measured."
    yield from _method_notes(layout)
    for panel in (layout.overall, *layout.task_panels):
        yield from _panel_notes(panel, layout.diverged)
    yield from _gap_notes(layout)


def _method_notes(layout: Layout) -> Iterator[str]:
    for index, method in enumerate(layout.methods):
        diverged = layout.diverged[layout.runs_of(index)]
        runs = len(diverged)
        if runs == 1:
            yield f"Method {method} has a single run: a point, not a frontier."
        if runs and diverged.all() and not layout.diverged.all():
            yield f"All {runs} runs of method {method} diverged."


def _panel_notes(panel: Panel, diverged: np.ndarray) -> Iterator[str]:
    ended = int((~diverged).sum())
    if not ended:
        return
    where = f"in the panel '{panel.title}'" if panel.key == "overall" else f"for task {panel.title}"
    lost = ended - panel.runs
    if lost == ended:
        yield f"No run has a finite error and gap {where}: the panel is empty."
        return
    if lost:
        yield (
            f"{lost} of {ended} runs that ended have no finite error or gap {where} and are not"
            " shown there."
        )
    if panel.selected_on_test:
        yield (
            f"There are no validation metrics {where}: its frontier is selected on the test set,"
            " which flatters it."
        )


def _gap_notes(layout: Layout) -> Iterator[str]:
    if len(layout.info["attributes"]) < 2:
        return
    for task in layout.info["tasks"]:
        for key in gap_keys(layout.info, task, "test"):
            gaps = column(layout.table, key)[~layout.diverged]
            lost = int(np.isnan(gaps).sum())
            if lost:
                yield (
                    f"The gap of task {task} over {key.attribute} could not be measured in {lost}"
                    " runs; the worst gap there is over the other attributes."
                )
