"""``densities.png``: the distribution of every group's scores before and after a repair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report.drawing import GREY, Entry, columns_of, draw_legend, new_figure, write_in_middle
from fairjax.report.repair.axes import (
    NO_ROW,
    legend_columns,
    panel_width,
    plain_ticks,
    title_of_task,
)
from fairjax.report.repair.measures import (
    REST_COLOUR,
    Group,
    gaps_after,
    groups_of,
    rows_of,
    score_label,
)
from fairjax.report.repair.smoothing import atoms, bin_edges, density
from fairjax.report.text import literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_ROWS = 20  # below which a density would be made up
MOST_FILLED = 3  # curves up to which the area below them is filled
VISIBLE = 0.004  # of the highest point: what can be seen of a curve


def draw_densities(audit: Audit) -> Figure:
    """Per task the groups' densities before (above) and after (below) the repair."""
    groups = groups_of(audit)
    tasks = len(audit.tasks)
    columns = columns_of(tasks)
    blocks = math.ceil(tasks / columns)
    width = panel_width(tasks) * columns
    entries = _entries(groups)
    entry_columns = legend_columns(entries, width)
    lines = math.ceil(len(entries) / entry_columns) + 1
    height = 4.5 * blocks + 0.2 * lines
    figure = new_figure((width, height))
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.06)
    grid = figure.add_gridspec(2 * blocks, columns)
    for task in range(tasks):
        row, column = divmod(task, columns)
        above = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=above, sharey=above)
        _draw_pair(above, below, audit, groups, task)
    draw_legend(figure, entries, entry_columns)
    return figure


def _draw_pair(
    above,
    below,
    audit: Audit,
    groups: list[Group],
    task: int,
) -> None:
    """The panels of one task, on the same axes."""
    title_of_task(above, audit, task, below="\n")
    if groups:
        outside = _draw_scores(above, below, audit, groups, task)
    else:
        outside = ""
        write_in_middle(above, NO_ROW)
        write_in_middle(below, NO_ROW)
    below.set_xlabel(score_label(audit, task) + outside)
    before = audit.gaps["kolmogorov_smirnov"][0]
    after = gaps_after(audit)["kolmogorov_smirnov"]
    chance = audit.floor[task, -1]
    _finish_panel(above, "before", before[task, -1], chance)
    _finish_panel(below, "after", after[task, -1], chance)
    above.tick_params(labelbottom=False)


def _finish_panel(
    ax,
    when: str,
    distance: float,
    chance: float,
) -> None:
    """Write what a panel shows, and how far apart the groups are in it."""
    title = f"{when}: KS {distance:.3f} (chance {chance:.3f})"
    ax.set_title(title, loc="right", fontsize=8.5, color=GREY)
    ax.set_ylabel("density (per unit)")
    plain_ticks(ax)


def _draw_scores(
    above,
    below,
    audit: Audit,
    groups: list[Group],
    task: int,
) -> str:
    """Curves of both panels; a sentence about the scores outside the view."""
    rows = rows_of(groups)
    score_before = audit.before[:, task]
    score_after = audit.after[:, task]
    scores = np.concatenate([score_before[rows], score_after[rows]])
    is_probability = audit.units[task] == "probability"
    edges = bin_edges(scores, bounded=is_probability)
    curves_before = _draw_curves(above, score_before, audit.weight, groups, edges)
    curves_after = _draw_curves(below, score_after, audit.weight, groups, edges)
    _set_limits(above, np.concatenate([curves_before, curves_after]), edges)
    is_outside = (scores < edges[0]) | (scores > edges[-1])
    outside = int(is_outside.sum())
    if not outside:
        return ""
    return f"\n[{outside:,} of {len(scores):,} scores outside the view]"


def _draw_curves(
    ax,
    score: np.ndarray,
    weight: np.ndarray,
    groups: list[Group],
    edges: np.ndarray,
) -> np.ndarray:
    """A curve per group, ticks for a very small one; heights ``[C + 1, M]`` of 0 and the curves."""
    middle = (edges[1:] + edges[:-1]) / 2
    curves = [np.zeros(len(middle))]
    is_filled = sum(len(group.rows) >= FEW_ROWS for group in groups) <= MOST_FILLED
    ticked = 0
    # groups without a colour come first, behind the others
    back_to_front = sorted(groups, key=lambda group: group.named)
    for layer, group in enumerate(back_to_front):
        group_score = score[group.rows]
        group_weight = weight[group.rows]
        if len(group_score) < FEW_ROWS:
            ticked += group.named
            tick_height = 0.03 + 0.045 * ticked
            _draw_ticks(ax, group_score, group.colour, tick_height)
            continue
        curve = density(group_score, group_weight, edges)
        curves.append(curve)
        line_width = 1.7 if group.named else 1.0
        zorder = 2 + layer / 100
        ax.plot(middle, curve, color=group.colour, lw=line_width, zorder=zorder)
        if is_filled:
            ax.fill_between(middle, curve, color=group.colour, alpha=0.12, lw=0, zorder=1)
        if group.named:
            place, share = atoms(group_score, group_weight)
            height = np.interp(place, middle, curve)
            _draw_atoms(ax, place, share, height, group.colour)
    return np.stack(curves)


def _draw_ticks(
    ax,
    score: np.ndarray,
    colour: str,
    height: float,
) -> None:
    """A tick per row, at a height in parts of the axes."""
    ax.plot(
        score,
        np.full(len(score), height),
        ls="",
        marker="|",
        ms=6.5,
        mew=1.3,
        color=colour,
        zorder=5,
        transform=ax.get_xaxis_transform(),
    )


def _draw_atoms(
    ax,
    place: np.ndarray,
    share: np.ndarray,
    height: np.ndarray,
    colour: str,
) -> None:
    """Dots on stems where many rows share a value."""
    ax.vlines(place, 0, height, color=colour, lw=0.7, alpha=0.5, zorder=1)
    ax.scatter(
        place,
        height,
        s=8 + 150 * share,
        color=colour,
        lw=0.5,
        edgecolor="white",
        zorder=4,
    )


def _set_limits(ax, curves: np.ndarray, edges: np.ndarray) -> None:
    """Limits around what can be seen of the curves."""
    top = curves.max()
    is_visible = (curves > VISIBLE * top).any(axis=0)
    bins = np.flatnonzero(is_visible)
    if not len(bins):
        return
    left = edges[bins[0]]
    right = edges[bins[-1] + 1]
    ax.set(ylim=(0, 1.06 * top), xlim=(left, right))


def _entries(groups: list[Group]) -> list[Entry]:
    entries = []
    for group in groups:
        if group.named:
            rows = len(group.rows)
            label = f"{literal(group.name, 30)} ({rows:,} rows)"
            handle = _handle(group.colour, rows)
            entries.append((handle, label))
    smaller = [len(group.rows) for group in groups if not group.named]
    if smaller:
        label = f"{len(smaller)} smaller groups ({sum(smaller):,} rows)"
        handle = _handle(REST_COLOUR, max(smaller))
        entries.append((handle, label))
    return entries


def _handle(colour: str, rows: int):
    from matplotlib.lines import Line2D

    if rows >= FEW_ROWS:
        return Line2D([], [], color=colour, lw=2)
    return Line2D([], [], color=colour, ls="", marker="|", ms=8, mew=1.5)
