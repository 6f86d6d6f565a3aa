"""What a plot shows, in words, for those who do not see it."""

from __future__ import annotations

import numpy as np

from fairjax.report.layout import Layout
from fairjax.report.panel import Panel
from fairjax.report.text import number


def words_of(layout: Layout, panel: Panel) -> str:
    """Ranges of both axes, and the ends of every method's frontier."""
    x, y = panel.labels
    if not panel.runs:
        return f"No run to show. Horizontal: {x}. Vertical: {y}."
    points = panel.test[panel.usable]
    low = points.min(axis=0)
    high = points.max(axis=0)
    sentences = [
        f"{panel.runs:,} runs of {len(layout.methods)} methods.",
        f"Horizontal: {x}, from {number(low[0])} to {number(high[0])}.",
        f"Vertical: {y}, from {number(low[1])} to {number(high[1])}.",
    ]
    for method in layout.methods:
        line = panel.fronts[method].line
        if len(line):
            sentences.append(_frontier(layout, panel, method, line))
    return " ".join(sentences)


def _frontier(layout: Layout, panel: Panel, method: str, line: np.ndarray) -> str:
    runs = layout.table["run"]
    first = _place(panel, runs, line[0])
    if len(line) == 1:
        return f"Frontier of {method}: {first}."
    last = _place(panel, runs, line[-1])
    return f"Frontier of {method}: {len(line)} runs, from {first} to {last}."


def _place(panel: Panel, runs: np.ndarray, row: int) -> str:
    x, y = panel.test[row]
    return f"run {runs[row]} at ({number(x)}, {number(y)})"
