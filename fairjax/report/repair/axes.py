"""What the figures of a repair share: a panel per task, its title, ticks, a legend's width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairjax.postprocess import Audit
from fairjax.report.drawing import Entry, columns_of, hide_box, make_axes
from fairjax.report.text import literal, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_WIDTH = (6.6, 4.3, 3.6)  # inches of a panel, by how many stand side by side
LETTER_WIDTH = 0.072  # inches that a letter of a legend is wide
NO_ROW = "no row of a known group"
NO_COMPARISON = "no two groups to compare"


def panel_width(tasks: int) -> float:
    """Inches of a panel."""
    columns = columns_of(tasks)
    return PANEL_WIDTH[columns - 1]


def make_task_axes(audit: Audit, height: float, entries: int) -> tuple[Figure, list[Axes]]:
    """A figure with a panel per task and room for lines of a legend."""
    tasks = len(audit.tasks)
    most_columns = len(PANEL_WIDTH)
    width = PANEL_WIDTH[min(tasks, most_columns) - 1]
    return make_axes(tasks, width, height, entries)


def title_of_task(ax: Axes, audit: Audit, task: int, below: str = "") -> None:
    """Write a task's name above its panel, on the left."""
    name = literal(audit.tasks[task], 40)
    title = ax.set_title(name + below, loc="left")
    title.set_parse_math(False)


def legend_columns(entries: Sequence[Entry], inches: float) -> int:
    """How many entries of a legend fit side by side."""
    longest = max((len(label) for _, label in entries), default=0)
    entry_width = LETTER_WIDTH * longest + 0.7
    fitting = int(inches / entry_width)
    columns = min(fitting, len(entries))
    return max(1, columns)


def plain_ticks(ax: Axes) -> None:
    """Few ticks, numbers in full, no box."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: _tick(value))
    ax.locator_params(nbins=5)
    hide_box(ax)


def _tick(value: float) -> str:
    # a tick at 0 may be off by rounding, or be a negative zero
    tick = round(value, 12) + 0.0
    return number(tick, digits=6)
