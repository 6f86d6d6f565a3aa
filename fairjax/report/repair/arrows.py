"""``arrows.png``: where a repair takes the deciles of every group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report.drawing import GREY, draw_legend, rule, write_in_middle
from fairjax.report.repair.axes import NO_ROW, make_task_axes, plain_ticks, title_of_task
from fairjax.report.repair.measures import REST_COLOUR, Group, groups_of, rows_of, score_label
from fairjax.report.text import literal, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LANES = 10
DECILES = np.arange(1, 10) / 10


def draw_arrows(audit: Audit) -> Figure:
    """Per task a lane per group: arrows from its deciles to where the repair takes them."""
    groups = groups_of(audit)
    by_size = sorted(groups, key=lambda group: -len(group.rows))
    lanes = sorted(by_size[:MOST_LANES], key=lambda group: group.cell)
    names = [_lane_name(group) for group in lanes]
    height = 1.0 + 0.46 * max(len(lanes), 2)
    figure, axes = make_task_axes(audit, height, entries=3)
    for task, ax in enumerate(axes):
        _draw_lanes(ax, audit, lanes, task)
        ax.set_yticks(range(len(lanes)), names, parse_math=False)
        is_leftmost = ax.get_subplotspec().is_first_col()
        ax.tick_params(axis="y", length=0, labelleft=is_leftmost)
    legend_columns = min(len(axes), 2)
    draw_legend(figure, _entries(), legend_columns)
    if len(groups) > len(lanes):
        figure.suptitle(f"The {len(lanes)} largest of {len(groups)} groups", fontsize=9)
    return figure


def deciles(before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows at the deciles of a group, ``[J, 2]`` (before, after); of at most nine rows all."""
    order = np.lexsort((after, before))
    ordered = np.stack([before[order], after[order]], axis=1)
    if len(order) <= len(DECILES):
        return ordered
    ordered_weight = weight[order]
    middle_rank = np.cumsum(ordered_weight) - ordered_weight / 2
    decile_rank = DECILES * weight.sum()
    position = np.searchsorted(middle_rank, decile_rank)
    position = position.clip(0, len(order) - 1)
    return ordered[np.unique(position)]


def _lane_name(group: Group) -> str:
    name = literal(group.name, 28)
    return wrapped(f"{name} ({len(group.rows):,})", width=20)


def _draw_lanes(
    ax,
    audit: Audit,
    lanes: list[Group],
    task: int,
) -> None:
    score_before = audit.before[:, task]
    score_after = audit.after[:, task]
    if lanes:
        rows = rows_of(lanes)
        targets = deciles(score_after[rows], score_after[rows], audit.weight[rows])
        for target in targets[:, 1]:
            ax.axvline(target, color="0.8", lw=0.8, zorder=0)
    else:
        write_in_middle(ax, NO_ROW)
    for lane, group in enumerate(lanes):
        rows = group.rows
        ends = deciles(score_before[rows], score_after[rows], audit.weight[rows])
        _draw_lane(ax, ends, lane, group.colour)
    title_of_task(ax, audit, task)
    bottom = max(len(lanes), 1) - 0.4
    ax.set(ylim=(bottom, -0.6), xlabel=score_label(audit, task))
    plain_ticks(ax)
    ax.spines["left"].set_visible(False)


def _draw_lane(
    ax,
    ends: np.ndarray,
    lane: int,
    colour: str,
) -> None:
    """Arrows ``[J, 2]`` (from, to) of one group."""
    start, stop = ends.T
    above = np.full(len(start), lane - 0.3)
    below = np.full(len(start), lane + 0.3)
    ax.plot(start, above, color=colour, marker="o", ms=3.2, lw=0.6, zorder=3)
    ax.quiver(
        start,
        above,
        stop - start,
        below - above,
        angles="xy",
        scale_units="xy",
        scale=1,
        color=colour,
        width=1.3,
        units="dots",
        headwidth=6,
        headlength=7,
        headaxislength=6,
        zorder=3,
    )
    # an invisible line brings the arrows' ends within the limits
    ax.plot(stop, below, ls="")


def _entries() -> list[Any]:
    from matplotlib.lines import Line2D

    dot = Line2D([], [], color=GREY, ls="", marker="o", ms=4)
    arrow = Line2D([], [], color=GREY, ls="", marker="$\u2198$", ms=8)
    line = rule(REST_COLOUR, "-")
    return [
        (dot, "deciles of a group before (below ten rows: each row)"),
        (arrow, "where the repair takes it"),
        (line, "deciles of all rows after, where the arrows of a full repair end"),
    ]
