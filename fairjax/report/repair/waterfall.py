"""``waterfall.png``: unfairness by attribute, as one after the other is repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    hide_box,
    rule,
    write_in_middle,
)
from fairjax.report.repair.axes import (
    NO_COMPARISON,
    legend_columns,
    make_task_axes,
    title_of_task,
)
from fairjax.report.text import MINUS, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_WIDTH = 0.56
HATCH: dict[str, Any] = {"facecolor": "white", "edgecolor": GREY, "hatch": "////", "lw": 0.6}
LEAST_LABELLED = 0.055  # of the height: parts of a bar with a number inside
LEAST_FALL = 0.1  # of the height: falls with a number inside


def draw_waterfall(audit: Audit) -> Figure:
    """Per task the unfairness after each step of the first order; other orders as thin lines."""
    entries = _entries(audit)
    figure, axes = make_task_axes(audit, height=3.7, entries=len(entries))
    for task, ax in enumerate(axes):
        _draw_steps(ax, audit, task)
    columns = legend_columns(entries, figure.get_figwidth())
    draw_legend(figure, entries, columns)
    return figure


def _draw_steps(ax, audit: Audit, task: int) -> None:
    measured = audit.steps[:, :, task]
    steps = np.nan_to_num(measured)  # [O, A + 1, A]
    total = steps.sum(axis=2)
    order = audit.orders[0]
    floor = np.nansum(audit.floor[task, : len(order)])
    top = max(total.max(), floor) or 1.0
    for step, parts in enumerate(steps[0]):
        _draw_bar(ax, step, parts, order, top)
        if step:
            _draw_fall(ax, step, total[0, step - 1], total[0, step], top)
    for index in range(1, len(total)):
        _draw_other_order(ax, index, total[index])
    if np.isnan(measured).all():
        write_in_middle(ax, NO_COMPARISON)
    ax.axhline(floor, color="black", lw=1.1, ls=DASHES, zorder=6)
    labels = _step_labels(audit, order)
    ax.set_xticks(range(len(labels)), labels, parse_math=False)
    ax.tick_params(axis="x", length=0)
    margin = 0.5 if len(total) == 1 else 0.6
    ax.set(ylim=(0, 1.12 * top), xlim=(-0.5, len(order) + margin))
    if len(order) > 1:
        ax.set_ylabel("KS, summed over attributes")
    else:
        ax.set_ylabel("KS between groups (0 to 1)")
    title_of_task(ax, audit, task)
    draw_grid(ax, axis="y")
    hide_box(ax)


def _draw_bar(ax, step: int, parts: np.ndarray, order: tuple[int, ...], top: float) -> None:
    """The unfairness after a step, a part per attribute."""
    bottom = 0.0
    for attribute in order:
        part = parts[attribute]
        colour = COLOURS[attribute % len(COLOURS)]
        ax.bar(step, part, BAR_WIDTH, bottom, color=colour, edgecolor="white", lw=0.8, zorder=2)
        if part > LEAST_LABELLED * top:
            _write(ax, step, bottom + part / 2, f"{part:.2f}", "white", colour)
        bottom += part


def _draw_fall(ax, step: int, before: float, after: float, top: float) -> None:
    """What a step took away, hatched, or added, with its size above."""
    fall = before - after
    end = step + (0.28 if fall > 0 else -0.28)
    ax.plot([step - 0.72, end], [before, before], color=GREY, lw=0.8, zorder=3)
    if fall > 0:
        ax.bar(step, fall, BAR_WIDTH, after, zorder=1, **HATCH)
    size = f"{abs(fall):.2f}"
    if float(size) == 0:
        sign = ""
    else:
        sign = MINUS if fall > 0 else "+"
    if fall > LEAST_FALL * top:
        height = after + fall / 2
    else:
        height = max(before, after) + 0.05 * top
    _write(ax, step, height, sign + size, "0.1", "white")


def _draw_other_order(ax, index: int, total: np.ndarray) -> None:
    ax.plot(
        np.arange(len(total)) + 0.38,
        total,
        color=GREY,
        lw=0.9,
        ls=":",
        marker=MARKERS[index % len(MARKERS)],
        ms=4.5,
        mfc="white",
        zorder=4,
    )


def _step_labels(audit: Audit, order: tuple[int, ...]) -> list[str]:
    labels = ["unrepaired"]
    for position, attribute in enumerate(order):
        then = "then " if position else ""
        name = literal(audit.attributes[attribute], 16)
        labels.append(f"{then}{name}\nrepaired")
    return labels


def _write(ax, x: float, y: float, text: str, colour: str, ground: str) -> None:
    """A number on a ground of one colour."""
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        color=colour,
        fontsize=8,
        zorder=7,
        bbox={"facecolor": ground, "edgecolor": "none", "pad": 1.0},
    )


def _entries(audit: Audit) -> list[Entry]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for position, name in enumerate(audit.attributes):
        patch = Patch(color=COLOURS[position % len(COLOURS)])
        entries.append((patch, literal(name, 30)))
    entries.append((Patch(**HATCH), "gone in this step"))
    entries.append((rule("black", DASHES), "chance alone (two-sample floor)"))
    for index, order in enumerate(audit.orders[1:], 1):
        marker = MARKERS[index % len(MARKERS)]
        line = Line2D([], [], color=GREY, lw=0.9, ls=":", marker=marker, ms=4.5, mfc="white")
        names = ", ".join(literal(audit.attributes[attribute], 16) for attribute in order)
        entries.append((line, f"other order: {names}"))
    return entries
