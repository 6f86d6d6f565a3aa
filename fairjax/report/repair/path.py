"""``path.png``: unfairness against its price, over the repair amount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report.drawing import (
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    Entry,
    draw_grid,
    draw_legend,
    rule,
    write_in_middle,
)
from fairjax.report.repair.axes import (
    NO_COMPARISON,
    legend_columns,
    make_task_axes,
    plain_ticks,
    title_of_task,
)
from fairjax.report.repair.measures import comparisons, cost
from fairjax.report.text import literal, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_path(audit: Audit) -> Figure:
    """Per task unfairness against cost over the repair amount; floors as dashes."""
    entries = _entries(audit)
    figure, axes = make_task_axes(audit, height=3.6, entries=len(entries))
    for task, ax in enumerate(axes):
        _draw_task(ax, audit, task)
    columns = legend_columns(entries, figure.get_figwidth())
    draw_legend(figure, entries, columns)
    return figure


def _draw_task(ax, audit: Audit, task: int) -> None:
    price, name = cost(audit, task)
    gaps = audit.gaps["kolmogorov_smirnov"][:, task]  # [P, A + 1]
    for position in range(gaps.shape[1]):
        colour, marker = _look(position)
        gap = gaps[:, position]
        floor = audit.floor[task, position]
        ax.plot(price, gap, color=colour, marker=marker, ms=5, mec="white", mew=0.5, lw=1.5)
        ax.axhline(floor, color=colour, lw=1.0, ls=DASHES, zorder=1)
    _name_amounts(ax, audit.amounts, price, gaps)
    if np.isnan(gaps).all():
        write_in_middle(ax, NO_COMPARISON)
    largest = np.nanmax(np.append(gaps, 0.0))
    top = 1.1 * largest or 1.0
    ax.set(xlabel=wrapped(name, 54), ylabel="KS between groups (0 to 1)", ylim=(0, top))
    ax.margins(x=0.1)
    title_of_task(ax, audit, task)
    draw_grid(ax)
    plain_ticks(ax)


def _name_amounts(ax, amounts: np.ndarray, price: np.ndarray, gaps: np.ndarray) -> None:
    """Write the last, the middle and the first amount at the line that is highest at the start."""
    start = np.nan_to_num(gaps[0])
    highest = gaps[:, int(np.argmax(start))]
    last = len(price) - 1
    middle = len(price) // 2
    labels = {}  # one label per place: the first amount wins
    for step in (last, middle, 0):
        place = (price[step], highest[step])
        amount = f"{amounts[step]:.2g}"
        labels[place] = amount if step else f"amount {amount}"
    for place, label in labels.items():
        if np.isfinite(place).all():
            ax.annotate(label, place, (5, 4), textcoords="offset points", fontsize=8.5, color=GREY)


def _look(position: int) -> tuple[str, str]:
    """Colour and marker of a line."""
    colour = COLOURS[position % len(COLOURS)]
    marker = MARKERS[position % len(MARKERS)]
    return colour, marker


def _entries(audit: Audit) -> list[Entry]:
    from matplotlib.lines import Line2D

    entries = []
    for position, name in enumerate(comparisons(audit)):
        colour, marker = _look(position)
        line = Line2D([], [], color=colour, marker=marker, ms=5, mec="white", mew=0.5)
        entries.append((line, literal(name, 30)))
    entries.append((rule(GREY, DASHES), "chance alone (two-sample floor)"))
    return entries
