"""The figure of a method with constraints: violations and multipliers over training."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.core.disk import write
from fairjax.report.drawing import (
    COLOURS,
    DASHES,
    draw_grid,
    hide_box,
    house_style,
    new_figure,
    png,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_constraints(out: Path, info: dict[str, Any]) -> list[Path]:
    """Write a figure per method with constraints, ``constraints_METHOD.png``.

    Args:
      out: folder.
      info: of the study; its entry ``constraints`` comes from
        :func:`fairjax.study.constraints.constraints_of`.
    """
    return [
        write(Path(out) / f"constraints_{method}.png", _png(found))
        for method, found in (info.get("constraints") or {}).items()
    ]


def constraints_view(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of the page, with their captions."""
    views = []
    for method, found in (info.get("constraints") or {}).items():
        views.append(
            {
                "heading": f"What became of the constraints of {method}",
                "base64": base64.b64encode(_png(found)).decode(),
                "caption": (
                    f"{found['text']} Left: the gap that the multiplier follows, and the tolerance"
                    " of the run as a dashed line of its colour; the dot is the epoch whose model"
                    " the run delivers. Right: the multiplier, as a share of its cap. The runs"
                    " shown are spread over the tolerances."
                ),
            }
        )
    return views


def _png(found: dict[str, Any]) -> bytes:
    with house_style():
        return png(draw_constraints(found))


@house_style()
def draw_constraints(found: dict[str, Any]) -> Figure:
    """Draw violations with their tolerances, and multipliers as shares of their caps.

    Args:
      found: of one method, see :func:`fairjax.study.constraints.constraints_of`.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ImportError: matplotlib is missing.
    """
    figure = new_figure((9.0, 3.6))
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    left, right = figure.subplots(1, 2, sharex=True)
    for trace, colour in zip(found["traces"], COLOURS, strict=False):
        violation = np.array(trace["violation"], float)
        multiplier = np.array(trace["multiplier"], float)
        epochs = np.arange(1, len(violation) + 1)
        label = f"at most {trace['tolerance']:.3g}: {trace['verdict']}"
        left.plot(epochs, violation, color=colour, lw=1.6, label=label)
        end = trace["epoch"] - 1
        left.plot(epochs[end], violation[end], color=colour, marker="o", ms=6)
        left.axhline(trace["tolerance"], color=colour, lw=1.0, ls=DASHES)
        right.plot(epochs, multiplier / trace["cap"], color=colour, lw=1.6)
    left.set(title="Gap and tolerance", xlabel="epoch", ylabel="gap")
    right.set(title="Multiplier, share of its cap", xlabel="epoch", ylim=(-0.02, 1.05))
    right.axhline(1.0, color="0.5", lw=1.0, ls=DASHES)
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
        draw_grid(ax, axis="y")
        hide_box(ax)
    left.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", frameon=False, ncols=3)
    return figure
