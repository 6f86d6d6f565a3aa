"""PNG figures of a sweep: frontiers per task, the overall frontier, the trade-off of two tasks.

In: a :class:`~fairjax.report.layout.Layout`. Out: PNG files. All runs stand faintly behind. The
manner is that of Figures 2, 5 and 6 of Wang et al., "Understanding and improving fairness-accuracy
trade-offs in multi-task learning", KDD 2021, except that frontiers are selected on validation and
drawn at their test values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

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
    png,
    rule,
)
from fairjax.report.layout import Layout, Tradeoff, tradeoff
from fairjax.report.marks import (
    draw_clouds,
    draw_marks,
    draw_method,
    draw_panel,
    finish,
    hollow_handle,
    method_handle,
)
from fairjax.report.panel import Limits, Panel, limits_of, within
from fairjax.report.text import literal, number, wrapped

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
    with house_style():
        return [write(out / name, png(draw(layout))) for name, draw in _figures(layout).items()]


def _figures(layout: Layout) -> dict[str, Callable]:
    figures = {}
    if layout.task_panels:
        figures["frontier_tasks.png"] = _draw_tasks
    figures["frontier_relative.png"] = _draw_overall
    if len(layout.task_panels) > 1:
        figures["tradeoff.png"] = _draw_tradeoff
    if len(layout.methods) > METHODS_APART:
        figures["frontier_methods.png"] = _draw_methods
    return figures


def _draw_tasks(layout: Layout):
    panels = layout.task_panels
    figure, axes = make_axes(len(panels), 4.2, 3.6, len(layout.methods) // 3 + 2)
    single_task = None
    for ax, panel, task in zip(axes, panels, layout.info["tasks"], strict=True):
        draw_panel(ax, layout, panel)
        star = _draw_single_task(ax, layout.info, task, panel.limits)
        single_task = star or single_task
    entries = _method_entries(layout)
    if single_task:
        entries.append((single_task, "single-task model"))
    entries += _hollow_entries(panels)
    draw_legend(figure, entries, 3 if len(axes) > 1 else 2)
    return figure


def _draw_overall(layout: Layout):
    panel = layout.overall
    figure, (ax,) = make_axes(1, 6.2, 4.4, len(layout.methods) + 2)
    draw_panel(ax, layout, panel)
    entries = [(method_handle(index), _summary(layout, index)) for index in _best_first(layout)]
    if layout.relative and _draw_level(ax, panel.limits):
        entries.append((rule(GREY, DASHES), "level of single-task models"))
    entries += _hollow_entries([panel])
    draw_legend(figure, entries, 1)
    return figure


def _draw_methods(layout: Layout):
    """The overall frontier once per method, best first, over the runs of all methods in grey."""
    from matplotlib.figure import Figure

    panel = layout.overall
    order = _best_first(layout)
    rows = math.ceil(len(order) / COLUMNS)
    size = (2.3 * COLUMNS, 2.1 * rows + 0.4)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    hide_spare(axes, len(order))
    for ax in axes[max(len(order) - COLUMNS, 0) : len(order)]:
        ax.tick_params(labelbottom=True)
    for ax, index in zip(axes, order, strict=False):
        _draw_one_method(ax, layout, index)
    for set_label, label in zip((figure.supxlabel, figure.supylabel), panel.labels, strict=True):
        set_label(wrapped(label, 90), fontsize=9).set_parse_math(False)
    return figure


def _draw_one_method(ax, layout: Layout, index: int) -> None:
    panel = layout.overall
    method = layout.methods[index]
    points = panel.test[panel.usable]
    ax.plot(*points.T, ls="", marker="o", ms=1.8, color="0.82", mew=0, zorder=0)
    draw_method(ax, layout, panel, index)
    finish(ax, "", ("", ""), panel.limits, panel.runs)
    title = literal(method, 24)
    volume = layout.volume(panel.fronts[method].validation)
    if volume is not None:
        title += f"\nhypervolume {number(volume, digits=4)}"
    ax.set_title(title, fontsize=8.5).set_parse_math(False)


def _draw_tradeoff(layout: Layout):
    """Left: errors of two tasks. Right: their gaps. Both mark the frontier of the errors."""
    planes = tradeoff(layout)
    figure, (left, right) = make_axes(2, 4.6, 3.9, len(layout.methods) // 3 + 1)
    _draw_plane(left, layout, planes, "Error against error", planes.errors, planes.error_front)
    _draw_plane(right, layout, planes, "Gap against gap", planes.gaps, planes.gap_front)
    shared = len(np.intersect1d(planes.error_front, planes.gap_front))
    title = (
        f"Large markers: the {len(planes.error_front)} runs on the frontier of the errors, of"
        f" which {shared} are also on the frontier of the gaps"
    )
    if planes.left_out:
        title += f"; {planes.left_out} runs with far larger errors left out"
    figure.suptitle(title, fontsize=9)
    entries = _method_entries(layout, line=False)
    entries.append((rule(GREY, "-"), "frontier on test, all methods"))
    draw_legend(figure, entries, 3)
    return figure


def _draw_plane(
    ax, layout: Layout, planes: Tradeoff, title: str, points: np.ndarray, front: np.ndarray
) -> None:
    """One plane of a trade-off: all runs, its frontier, marks for the frontier of the errors."""
    draw_clouds(ax, layout, points, planes.usable)
    ax.plot(*points[front].T, drawstyle="steps-post", color=GREY, lw=1.3, zorder=3)
    marked = planes.error_front
    for index in range(len(layout.methods)):
        rows = marked[layout.method_index[marked] == index]
        draw_marks(ax, points[rows], index)
    side = 0 if points is planes.errors else 1
    axis = layout.task_panels[0].labels[side].lower()
    first, second = [f"{literal(task, 20)}: {axis}" for task in planes.tasks]
    limits = limits_of(points, layout.method_index, planes.usable)
    finish(ax, title, (first, second), limits, int(planes.usable.sum()))


def _draw_single_task(ax, info: dict, task: str, limits: Limits):
    """Mark a task's single-task model, where it is known and within the limits; its handle."""
    means = info.get("single_task", {}).get("test", {}).get(task, {})
    point = (means.get("error"), means.get("gap"))
    if None in point or not within(np.array([point]), limits)[0]:
        return None
    error, gap = point
    lines = ax.plot(
        [error],
        [gap],
        ls="",
        marker="*",
        ms=10,
        color="black",
        mec="white",
        mew=0.6,
        zorder=5,
    )
    return lines[0]


def _draw_level(ax, limits: Limits) -> bool:
    """Lines at 1 on the axes that show 1; whether there is one."""
    drawn = False
    for draw, (low, high) in zip((ax.axvline, ax.axhline), limits, strict=True):
        if low < 1 < high:
            draw(1.0, color=GREY, lw=0.9, ls=DASHES, zorder=2)
            drawn = True
    return drawn


def _best_first(layout: Layout) -> list[int]:
    """Positions of the methods, by falling hypervolume."""
    fronts = layout.overall.fronts
    volume = [layout.volume(fronts[method].validation) or 0.0 for method in layout.methods]
    return sorted(range(len(layout.methods)), key=lambda index: -volume[index])


def _method_entries(layout: Layout, line: bool = True) -> list[Entry]:
    return [
        (method_handle(index, line), literal(method)) for index, method in enumerate(layout.methods)
    ]


def _hollow_entries(panels: Sequence[Panel]) -> list[Entry]:
    """The legend entry of hollow markers, where a panel has any."""
    fronts = [front for panel in panels for front in panel.fronts.values()]
    if not any(len(front.validation) > len(front.line) for front in fronts):
        return []
    return [(hollow_handle(), "hollow: selected, dominated on test")]


def _summary(layout: Layout, index: int) -> str:
    """A method in the legend: name, hypervolume, runs."""
    method = layout.methods[index]
    mine = layout.runs_of(index)
    diverged = int((mine & layout.diverged).sum())
    volume = layout.volume(layout.overall.fronts[method].validation)
    runs = f"{int(mine.sum())} runs"
    if diverged:
        runs += f", {diverged} diverged"
    quality = "no hypervolume" if volume is None else f"hypervolume {number(volume, digits=4)}"
    return " \N{MIDDLE DOT} ".join([literal(method, 28), quality, runs])
