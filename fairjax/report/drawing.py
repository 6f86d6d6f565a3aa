"""What all PNG figures share: colours, markers, style, axes, legend, and the bytes of a figure.

A method is one colour of Okabe and Ito's palette, which colour-blind readers can tell apart, and
one marker. Names are drawn literally: a dollar sign in a name is a dollar sign.
"""

from __future__ import annotations

import functools
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

# Okabe and Ito's palette, its faintest last and grey for black, which a dark page would swallow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#F0E442")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
SIZES = (1.0, 0.9, 0.85, 1.12, 1.12, 1.05, 1.0, 1.1)  # so that markers look equally large
GREY = "0.35"
DASHES = (0, (4, 3))
STYLE: dict[str, Any] = {
    "text.usetex": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.edgecolor": "0.3",
    "text.color": "0.1",
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

Entry = tuple[object, str]  # handle and label of a legend


def look(index: int) -> tuple[int, int]:
    """Index of a method's colour and of its marker: every pair is used before one comes back."""
    colour = index % len(COLOURS)
    marker = (index + index // len(COLOURS)) % len(MARKERS)
    return colour, marker


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib with the style of the report, so that a user's own style breaks no label.

    The user's style is restored on leaving.

    Raises:
      ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'fairjax[plot]'") from error
    with matplotlib.rc_context(STYLE):
        yield


def png(figure: Figure) -> bytes:
    """The bytes of a figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    with warnings.catch_warnings():
        # the font shows boxes for a name in a script that it lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        FigureCanvasAgg(figure).print_png(content, metadata={"Software": "fairjax"})
    return content.getvalue()


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, which notebooks show, whatever their plotting backend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure._repr_png_ = functools.partial(png, figure)  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def columns_of(panels: int) -> int:
    """How many of the panels stand side by side: at most three."""
    return 2 if panels == 4 else min(panels, 3)


def make_axes(panels: int, width: float, height: float, entries: int) -> tuple[Figure, np.ndarray]:
    """A figure and its axes.

    Args:
      panels: how many axes.
      width: inches of one.
      height: inches of one.
      entries: lines of the legend below, for which there is room.
    """
    columns = columns_of(panels)
    rows = math.ceil(panels / columns)
    size = (width * columns, height * rows + 0.2 * entries)
    figure = new_figure(size)
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    hide_spare(axes, panels)
    return figure, axes[:panels]


def hide_spare(axes: np.ndarray, panels: int) -> None:
    """Hide the axes beyond the panels."""
    for ax in axes[panels:]:
        ax.set_axis_off()


def draw_legend(figure: Figure, entries: Sequence[Entry], columns: int) -> None:
    """A legend below all axes, so that it hides no run."""
    if not entries:
        return
    handles = [handle for handle, _ in entries]
    placeholders = [str(position) for position in range(len(entries))]
    legend = figure.legend(
        handles,
        placeholders,
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        frameon=False,
        handlelength=2.2,
        columnspacing=1.6,
    )
    for text, (_, label) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        # matplotlib drops labels that begin with an underscore, unless they are set afterwards
        text.set_text(label)


def rule(colour: str, style: Any) -> Line2D:
    """Legend handle of a plain line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=style, lw=1.2)


def hide_box(ax: Axes) -> None:
    """Leave only the left and the lower edge of the axes."""
    ax.spines[["top", "right"]].set_visible(False)


def draw_grid(ax: Axes, axis: str = "both") -> None:
    """A faint grid behind everything."""
    ax.grid(axis=axis, color="0.9", lw=0.6)
    ax.set_axisbelow(True)


def write_in_middle(ax: Axes, text: str, height: float = 0.5) -> Text:
    """A sentence in the middle of axes that have nothing to show."""
    return ax.text(0.5, height, text, transform=ax.transAxes, ha="center", color=GREY)
