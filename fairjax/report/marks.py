"""Marks of runs and methods on axes: clouds of all runs, frontiers, labels and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fairjax.report.drawing import (
    COLOURS,
    GREY,
    MARKERS,
    SIZES,
    draw_grid,
    hide_box,
    look,
    write_in_middle,
)
from fairjax.report.layout import Layout
from fairjax.report.panel import Limits, Panel, within
from fairjax.report.text import literal, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

MANY_RUNS = 5000  # from which on points are smaller


def draw_panel(ax: Axes, layout: Layout, panel: Panel) -> None:
    """All runs, and the frontiers: filled where they hold on test, hollow where they do not."""
    draw_clouds(ax, layout, panel.test, panel.usable)
    for index in range(len(layout.methods)):
        draw_method(ax, layout, panel, index)
    draw_references(ax, panel)
    finish(ax, panel.title, panel.labels, panel.limits, panel.runs, panel.outside)


def draw_method(ax: Axes, layout: Layout, panel: Panel, index: int) -> None:
    """The frontier of one method: a line, and a mark for every selected run."""
    front = panel.fronts[layout.methods[index]]
    colour, _ = look(index)
    ax.plot(
        *panel.test[front.line].T,
        drawstyle="steps-post",
        color=COLOURS[colour],
        lw=1.5,
        zorder=3,
    )
    draw_marks(ax, panel.test[front.beaten], index, filled=False)
    draw_marks(ax, panel.test[front.line], index)


def draw_references(ax: Axes, panel: Panel) -> None:
    """Single-task models and constant predictors, each with its name, where they are in view."""
    for reference in panel.references:
        place = np.array([[reference.error, reference.gap]])
        if not within(place, panel.limits).all():
            continue
        ax.plot(*place.T, ls="", marker="x", ms=6, mew=1.6, color="black", zorder=5)
        text = ax.annotate(
            literal(reference.name, 24),
            place[0],
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=7.5,
            zorder=5,
        )
        text.set_parse_math(False)


def draw_clouds(ax: Axes, layout: Layout, points: np.ndarray, usable: np.ndarray) -> None:
    """The usable runs that are shown, faintly, in the colour and marker of their method."""
    rows = layout.shown[usable[layout.shown]]
    runs = len(rows)
    alpha = float(np.clip(7.0 / max(runs, 1) ** 0.5, 0.08, 0.4))  # denser clouds are fainter
    size = 3.4 if runs < MANY_RUNS else 2.2
    for index in range(len(layout.methods)):
        colour, marker = look(index)
        ax.plot(
            *points[rows[layout.method_index[rows] == index]].T,
            ls="",
            marker=MARKERS[marker],
            ms=size * SIZES[marker],
            color=COLOURS[colour],
            alpha=alpha,
            mew=0,
            zorder=1,
        )


def draw_marks(ax: Axes, points: np.ndarray, index: int, filled: bool = True) -> None:
    """Marks of a method at points ``[K, 2]``, filled or hollow."""
    colour, marker = look(index)
    ax.plot(
        *points.T,
        ls="",
        marker=MARKERS[marker],
        ms=(6.2 if filled else 5.0) * SIZES[marker],
        mfc=COLOURS[colour] if filled else "white",
        mec="white" if filled else COLOURS[colour],
        mew=0.6 if filled else 1.0,
        zorder=4,
    )


def finish(
    ax: Axes, title: str, labels: tuple[str, str], limits: Limits, runs: int, outside: int = 0
) -> None:
    """Labels, drawn literally, limits and grid; says how many runs the limits leave out."""
    hidden = f"\n[{outside:,} of {runs:,} runs outside the view]" if outside else ""
    texts = [
        ax.set_title(literal(title, 44)),
        ax.set_xlabel(wrapped(labels[0], 52) + hidden),
        ax.set_ylabel(wrapped(labels[1], 44)),
    ]
    if not runs:
        texts.append(write_in_middle(ax, "no run to show, or no gap to measure"))
    for text in texts:
        text.set_parse_math(False)
    horizontal, vertical = limits
    ax.set_xlim(*horizontal)
    ax.set_ylim(*vertical)
    draw_grid(ax)
    hide_box(ax)
    ax.locator_params(nbins=6)


def method_handle(index: int, line: bool = True) -> Line2D:
    """Legend handle of a method."""
    from matplotlib.lines import Line2D

    colour, marker = look(index)
    return Line2D(
        [],
        [],
        color=COLOURS[colour],
        marker=MARKERS[marker],
        ms=6,
        mec="white",
        mew=0.5,
        lw=1.5,
        ls="-" if line else "",
    )


def hollow_handle() -> Line2D:
    """Legend handle of hollow markers."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GREY, marker="o", ms=5, mfc="white", ls="")


def faint_handle() -> Line2D:
    """Legend handle of the markers of a cloud."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GREY, marker="o", ms=3, mew=0, ls="", alpha=0.4)
