"""Figures of a sweep: frontiers per task, the overall frontier, the trade-off of two tasks.

In: a :class:`~fairjax.report.layout.Layout`. Out: matplotlib figures, and PNG files of them. All
runs stand faintly behind. The manner is that of Figures 2, 5 and 6 of Wang et al., "Understanding
and improving fairness-accuracy trade-offs in multi-task learning", KDD 2021, except that frontiers
are selected on validation and drawn at their test values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fairjax.core.disk import write
from fairjax.report.drawing import (
    DASHES,
    GREY,
    Entry,
    draw_legend,
    hide_spare,
    house_style,
    make_axes,
    new_figure,
    png,
    rule,
)
from fairjax.report.layout import Layout, Tradeoff, tradeoff
from fairjax.report.marks import (
    draw_clouds,
    draw_marks,
    draw_method,
    draw_panel,
    faint_handle,
    finish,
    hollow_handle,
    method_handle,
)
from fairjax.report.panel import Limits, Panel, limits_of
from fairjax.report.text import literal, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS_APART = 6  # methods that one picture tells apart
COLUMNS = 5  # of the figure with a panel per method


def write_figures(out: Path, layout: Layout) -> list[Path]:
    """Draw the figures of a sweep into a folder.

    Args:
      out: an existing folder.
      layout: what to draw; empty panels say so.

    Returns:
      Paths of ``frontier_tasks.png``, ``frontier_relative.png``, with two tasks or more
      ``tradeoff.png``, and with more methods than one picture tells apart ``frontier_methods.png``.

    Raises:
      ImportError: matplotlib is missing.
    """
    paths = []
    with house_style():
        for name, draw in _figures(layout).items():
            content = png(draw(layout))
            paths.append(write(out / name, content))
    return paths


def _figures(layout: Layout) -> dict[str, Callable[[Layout], Figure]]:
    figures = {}
    if layout.task_panels:
        figures["frontier_tasks.png"] = draw_tasks
    figures["frontier_relative.png"] = draw_overall
    if len(layout.task_panels) > 1:
        figures["tradeoff.png"] = draw_tradeoff
    if len(layout.methods) > METHODS_APART:
        figures["frontier_methods.png"] = draw_methods
    return figures


@house_style()
def draw_tasks(layout: Layout) -> Figure:
    """The frontiers of every task, a panel each.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ValueError: there is no task.
      ImportError: matplotlib is missing.
    """
    if not layout.task_panels:
        raise ValueError("a figure of tasks needs a task; info['tasks'] is empty")
    panels = layout.task_panels
    legend_lines = len(layout.methods) // 3 + 2
    figure, axes = make_axes(len(panels), 4.2, 3.6, legend_lines)
    for ax, panel in zip(axes, panels, strict=True):
        draw_panel(ax, layout, panel)
    entries = _method_entries(layout)
    entries += _hollow_entries(panels) + _sample_entries(layout)
    legend_columns = 3 if len(axes) > 1 else 2
    draw_legend(figure, entries, legend_columns)
    return figure


@house_style()
def draw_overall(layout: Layout) -> Figure:
    """The frontiers over all tasks together: ARE and ARFG, or means where these are not known.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ImportError: matplotlib is missing.
    """
    panel = layout.overall
    legend_lines = len(layout.methods) + 2
    figure, (ax,) = make_axes(1, 6.2, 4.4, legend_lines)
    draw_panel(ax, layout, panel)
    entries = []
    for index in range(len(layout.methods)):
        handle = method_handle(index)
        entries.append((handle, _summary(layout, index)))
    if layout.relative and _draw_level(ax, panel.limits):
        entries.append((rule(GREY, DASHES), "level of single-task models"))
    entries += _hollow_entries([panel]) + _sample_entries(layout)
    draw_legend(figure, entries, 1)
    return figure


@house_style()
def draw_methods(layout: Layout) -> Figure:
    """The overall frontier once per method, over the runs of all methods in grey.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ImportError: matplotlib is missing.
    """
    panel = layout.overall
    methods = len(layout.methods)
    rows = math.ceil(methods / COLUMNS)
    size = (2.3 * COLUMNS, 2.1 * rows + 0.4)
    figure = new_figure(size)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    axes = grid.ravel()
    hide_spare(axes, methods)
    lowest = axes[:methods][-COLUMNS:]
    for ax in lowest:
        ax.tick_params(labelbottom=True)
    for index in range(methods):
        _draw_one_method(axes[index], layout, index)
    x_label, y_label = panel.labels
    for set_label, label in ((figure.supxlabel, x_label), (figure.supylabel, y_label)):
        text = set_label(wrapped(label, 90), fontsize=9)
        text.set_parse_math(False)
    return figure


def _draw_one_method(ax, layout: Layout, index: int) -> None:
    panel = layout.overall
    method = layout.methods[index]
    points = panel.test[layout.shown[panel.usable[layout.shown]]]
    ax.plot(*points.T, ls="", marker="o", ms=1.8, color="0.82", mew=0, zorder=0)
    draw_method(ax, layout, panel, index)
    finish(ax, "", ("", ""), panel.limits, panel.runs)
    title = literal(method, 24)
    ax.set_title(title, fontsize=8.5).set_parse_math(False)


@house_style()
def draw_tradeoff(layout: Layout) -> Figure:
    """Left: errors of the first two tasks. Right: their gaps. Both mark the errors' frontier.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ValueError: there are fewer than two tasks.
      ImportError: matplotlib is missing.
    """
    if len(layout.task_panels) < 2:
        raise ValueError(f"a trade-off needs two tasks; info['tasks'] is {layout.info['tasks']}")
    planes = tradeoff(layout)
    legend_lines = len(layout.methods) // 3 + 1
    figure, (left, right) = make_axes(2, 4.6, 3.9, legend_lines)
    _draw_plane(left, layout, planes, "Error against error", planes.errors, planes.error_front)
    _draw_plane(right, layout, planes, "Gap against gap", planes.gaps, planes.gap_front)
    in_error_front = len(planes.error_front)
    in_both = len(np.intersect1d(planes.error_front, planes.gap_front))
    title = (
        f"Large markers: the {in_error_front} runs on the frontier of the errors, of"
        f" which {in_both} are also on the frontier of the gaps"
    )
    if planes.left_out:
        noun = "run" if planes.left_out == 1 else "runs"
        title += f"; {planes.left_out:,} {noun} with far larger errors left out"
    figure.suptitle(wrapped(title, 110), fontsize=9)
    entries = _method_entries(layout, line=False)
    entries.append((rule(GREY, "-"), "frontier on test, all methods"))
    entries += _sample_entries(layout)
    draw_legend(figure, entries, 3)
    return figure


def _draw_plane(
    ax,
    layout: Layout,
    planes: Tradeoff,
    title: str,
    points: np.ndarray,
    front: np.ndarray,
) -> None:
    """One plane of a trade-off: all runs, its frontier, marks for the frontier of the errors."""
    draw_clouds(ax, layout, points, planes.usable)
    ax.plot(*points[front].T, drawstyle="steps-post", color=GREY, lw=1.3, zorder=3)
    marked = planes.error_front
    method_of_marked = layout.method_index[marked]
    for index in range(len(layout.methods)):
        rows = marked[method_of_marked == index]
        draw_marks(ax, points[rows], index)
    side = 0 if points is planes.errors else 1
    axis = layout.task_panels[0].labels[side].lower()
    first, second = [f"{literal(task, 20)}: {axis}" for task in planes.tasks]
    limits = limits_of(points, layout.method_index, planes.usable)
    runs = int(planes.usable.sum())
    finish(ax, title, (first, second), limits, runs)


def _draw_level(ax, limits: Limits) -> bool:
    """Lines at 1 on the axes that show 1; whether there is one."""
    drawn = False
    horizontal, vertical = limits
    for draw, (low, high) in ((ax.axvline, horizontal), (ax.axhline, vertical)):
        if low < 1 < high:
            draw(1.0, color=GREY, lw=0.9, ls=DASHES, zorder=2)
            drawn = True
    return drawn


def _method_entries(layout: Layout, line: bool = True) -> list[Entry]:
    entries = []
    for index, method in enumerate(layout.methods):
        handle = method_handle(index, line)
        entries.append((handle, literal(method)))
    return entries


def _hollow_entries(panels: Sequence[Panel]) -> list[Entry]:
    """The legend entry of hollow markers, where a panel has any."""
    fronts = [front for panel in panels for front in panel.fronts.values()]
    has_hollow = any(len(front.validation) > len(front.line) for front in fronts)
    if not has_hollow:
        return []
    return [(hollow_handle(), "hollow: selected, dominated on test")]


def _sample_entries(layout: Layout) -> list[Entry]:
    """The legend entry of faint markers, where they are a sample of the runs."""
    runs = len(layout.method_index)
    if len(layout.shown) == runs:
        return []
    return [(faint_handle(), f"faint: {len(layout.shown):,} of {runs:,} runs")]


def _summary(layout: Layout, index: int) -> str:
    """A method in the legend: name, runs."""
    method = layout.methods[index]
    mine = layout.runs_of(index)
    diverged = int((mine & layout.diverged).sum())
    runs = f"{int(mine.sum()):,} runs"
    if diverged:
        runs += f", {diverged:,} diverged"
    return f"{literal(method, 28)} \N{MIDDLE DOT} {runs}"
