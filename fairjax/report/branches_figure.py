"""The figure of a method whose networks branch: who shares what, and how gradients get on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.core.disk import write
from fairjax.report.conflict_figure import BLANK, LETTER_WIDTH, draw_heat_map
from fairjax.report.drawing import (
    COLOURS,
    DASHES,
    draw_grid,
    hide_box,
    house_style,
    new_figure,
    png,
)
from fairjax.report.names import task_label
from fairjax.report.text import literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("accuracy", "fairness")


def write_branches(out: Path, info: dict[str, Any]) -> list[Path]:
    """Write a figure per method whose networks branch, ``branches_METHOD.png``.

    Args:
      out: folder.
      info: of the study; its entry ``branching`` comes from
        :func:`fairjax.study.branching.branching_of`.
    """
    return [
        write(Path(out) / f"branches_{method}.png", _png(info, method))
        for method in info.get("branching") or ()
    ]


def branches_view(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of the page, with their captions."""
    views = []
    for method, found in (info.get("branching") or {}).items():
        views.append(
            {
                "heading": f"How the networks of {method} branch",
                "base64": base64.b64encode(_png(info, method)).decode(),
                "caption": (
                    f"Means over {found['runs']} runs. Top: number of branches of every layer"
                    " (layer 1 reads the features), and angles between the gradients of two tasks;"
                    " above 90 degrees they are in conflict. Bottom: how often two tasks share the"
                    " last layer before the heads at the end, and how often their gradients of"
                    " accuracy and of fairness were in conflict." + _caption_of(found["chance"])
                ),
            }
        )
    return views


def _png(info: dict[str, Any], method: str) -> bytes:
    with house_style():
        return png(draw_branches(info["branching"][method], _names(info)))


def _caption_of(chance: list[float | None]) -> str:
    if None in chance:
        return ""
    return (
        " In brackets: about the likeness (CKA) that the parameters above a layer would have by"
        " chance. A tau below it merges branches that have nothing in common."
    )


def _names(info: dict[str, Any]) -> list[str]:
    return [literal(task_label(info, task), 24) for task in info["tasks"]]


@house_style()
def draw_branches(found: dict[str, Any], tasks: list[str]) -> Figure:
    """Draw how the networks of a sweep branched.

    Five panels: the number of branches per layer and the angles between gradients of two tasks over
    the epochs; the share of runs in which two tasks share the uppermost layer; and the shares of
    steps in conflict by pair of tasks, of accuracy and of fairness.

    Args:
      found: of one method, see :func:`fairjax.study.branching.branching_of`.
      tasks: T names.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ImportError: matplotlib is missing.
    """
    width = min(max(2.6, 0.45 * len(tasks)), 6.0)
    names = LETTER_WIDTH * max(map(len, tasks))
    size = (3 * (width + names) + 1.0, width + names + 4.2)
    figure = new_figure(size)
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    grid = figure.add_gridspec(2, 6, height_ratios=(3.0, width + names + 1.0))
    counts = np.array(found["branches"])
    _draw_counts(figure.add_subplot(grid[0, :3]), counts, len(tasks), found["chance"])
    _draw_angles(figure.add_subplot(grid[0, 3:]), np.array(found["angles"], float))
    together = np.array(found["together"])[-1]
    accuracy, fairness = np.array(found["conflicts"])
    maps = {
        "Runs that share the top layer (%)": together,
        "Conflicts of accuracy (% of steps)": accuracy,
        "Conflicts of fairness (% of steps)": fairness,
    }
    for place, (title, shares) in enumerate(maps.items()):
        ax = figure.add_subplot(grid[1, 2 * place : 2 * place + 2])
        shares = shares.copy()
        np.fill_diagonal(shares, BLANK)
        draw_heat_map(ax, shares, tasks, tasks, title, width)
        ax.set_aspect("equal")
    return figure


def _draw_counts(ax, branches: np.ndarray, tasks: int, chance: Sequence[float | None]) -> None:
    """The number of branches ``[blocks, D]``, and the likeness by chance ``[D]`` where known."""
    epochs = np.arange(1, len(branches) + 1)
    for layer, count in enumerate(branches.T):
        colour = COLOURS[layer % len(COLOURS)]
        label = f"layer {layer + 1}"
        if chance[layer] is not None:
            label += f" ({chance[layer]:.2f})"
        ax.step(epochs, count, where="mid", color=colour, lw=1.6, label=label)
    title = "Branches of every layer"
    if None not in chance:
        title += " (likeness by chance)"
    ax.set(title=title, xlabel="epoch", ylabel="branches", ylim=(0.8, tasks + 0.2))
    _finish(ax)


def _draw_angles(ax, angles: np.ndarray) -> None:
    """Mean angles ``[blocks, 2]`` in degrees."""
    epochs = np.arange(1, len(angles) + 1)
    for kind, angle, colour in zip(KINDS, angles.T, COLOURS, strict=False):
        ax.plot(epochs, angle, color=colour, lw=1.6, label=kind)
    ax.axhline(90, color="0.5", lw=1.0, ls=DASHES)
    ax.set(title="Angles between gradients of two tasks", xlabel="epoch", ylabel="degrees")
    _finish(ax)


def _finish(ax) -> None:
    ax.legend(frameon=False, ncols=2)
    ax.xaxis.get_major_locator().set_params(integer=True)
    draw_grid(ax, axis="y")
    hide_box(ax)
