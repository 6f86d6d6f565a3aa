"""The figure of conflicts between rows of gradients: angles over training, and heat maps.

A heat map shows the share of steps in conflict. In: cosines between K rows at every step, as
:mod:`fairjax.report.conflicts` counts them. Out: a matplotlib figure, and a PNG file of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fairjax.core.disk import write
from fairjax.core.types import Array
from fairjax.report.conflicts import conflict_shares, known_cosines
from fairjax.report.drawing import (
    COLOURS,
    DASHES,
    draw_grid,
    hide_box,
    house_style,
    new_figure,
    png,
    write_in_middle,
)
from fairjax.report.text import DASH, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# one hue from light to dark: readable without colour vision
SHADES = ("#F4F7FA", "#7FB6DA", "#0072B2", "#012A45")
WIDE_BAND = "#D9E9F4"
NARROW_BAND = "#8FC0E0"
ABSENT = "0.86"
BLANK = 2.0  # in place of a share: a row and itself
STRETCHES = 40  # points of the curve when no epochs are given
PERCENTILES = (5, 25, 50, 75, 95)
LETTER_WIDTH = 0.064  # inches that a letter of a tick label is wide
MOST_NAMED = 48  # names along an axis
MOST_NUMBERED = 12  # columns of a heat map up to which its cells hold numbers


def write_conflicts(
    path: Path,
    cosines: Array | np.ndarray,
    rows: Sequence[str],
    layers: Sequence[str] = (),
    epochs: int | None = None,
) -> Path:
    """Write :func:`draw_conflicts` as PNG.

    Args:
      path: of the PNG file; its folder is made.
      cosines: as :func:`draw_conflicts` takes them, like ``rows``, ``layers`` and ``epochs``.
      rows: K names.
      layers: M names.
      epochs: how many epochs the steps make up.

    Returns:
      ``path``.

    Raises:
      ValueError: as :func:`draw_conflicts`.
      ImportError: matplotlib is missing.
    """
    with house_style():
        figure = draw_conflicts(cosines, rows, layers, epochs)
        return write(Path(path), png(figure))


@house_style()
def draw_conflicts(
    cosines: Array | np.ndarray,
    rows: Sequence[str],
    layers: Sequence[str] = (),
    epochs: int | None = None,
) -> Figure:
    """Draw when, between whom and where gradients are in conflict.

    Three panels: the angles between pairs of rows over training (median, middle half, 5 to 95 %);
    the share of steps in conflict by pair of rows; with more than one layer, that share by layer
    and pair. Layers are pooled in the first two.

    Args:
      cosines: ``[steps, K, K]`` or ``[steps, M, K, K]``; see
        :func:`~fairjax.report.conflict_shares` for what is left out.
      rows: K names.
      layers: M names; numbers when empty. Leaves of ``observe`` come in the order of
        ``jax.tree.leaves_with_path``.
      epochs: how many epochs the steps make up; without it angles are shown over stretches of
        steps.

    Returns:
      A matplotlib figure, which no window manager knows.

    Raises:
      ValueError: for cosines of another shape, without a step or of one row; for steps that are not
        a multiple of epochs.
      ImportError: matplotlib is missing.
    """
    cosine = np.asarray(cosines, float)
    _check_rows(cosine.shape, len(rows))
    if cosine.ndim == 3:
        cosine = cosine[:, None]
    steps, depth = cosine.shape[:2]
    _check_layers(np.shape(cosines), depth, len(layers))
    _check_epochs(np.shape(cosines), steps, epochs)
    row_names = [literal(name, 28) for name in rows]
    layer_names = [literal(name, 40) for name in layers or range(depth)]
    return _draw(cosine, row_names, layer_names, epochs)


def _check_rows(shape: tuple[int, ...], rows: int) -> None:
    if len(shape) not in (3, 4) or 0 in shape or shape[-2:] != (rows, rows):
        raise ValueError(
            f"cosines have shape {shape}, expected [steps, {rows}, {rows}] or [steps, M, {rows},"
            f" {rows}] for {rows} rows"
        )
    if rows < 2:
        raise ValueError(f"cosines have shape {shape}: one row has no other to be in conflict with")


def _check_layers(shape: tuple[int, ...], depth: int, names: int) -> None:
    if names and names != depth:
        raise ValueError(f"cosines have shape {shape}: {depth} layers, but {names} are named")


def _check_epochs(shape: tuple[int, ...], steps: int, epochs: int | None) -> None:
    if epochs is not None and (epochs < 1 or steps % epochs):
        raise ValueError(
            f"cosines have shape {shape}: {steps} steps are not a multiple of {epochs} epochs"
        )


def _draw(
    cosines: np.ndarray,
    rows: list[str],
    layers: list[str],
    epochs: int | None,
):
    """The figure of cosines ``[steps, M, K, K]`` between K rows in M layers."""
    first, second = np.triu_indices(len(rows), 1)
    pairs = [_pair_name(rows[i], rows[j]) for i, j in zip(first, second, strict=True)]
    map_width = min(max(2.4, 0.45 * len(rows)), 7.0)
    longest_name = max(map(len, rows))
    right = map_width + 0.08 * longest_name
    left = max(4.8, 0.85 * right)
    pair_width = right - 1.2
    layer_width = left + right - 1.5
    heights = [max(3.6, right + _depth(rows, pair_width))]
    if len(layers) > 1:
        map_height = min(max(1.0, 0.24 * len(layers)), 9.0)
        heights.append(map_height + 0.9 + _depth(pairs, layer_width))
    size = (left + right + 0.8, sum(heights))
    figure = new_figure(size)
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    grid = figure.add_gridspec(len(heights), 2, width_ratios=(left, right), height_ratios=heights)
    _draw_angles(figure.add_subplot(grid[0, 0]), cosines[:, :, first, second], epochs)
    _draw_pairs(figure.add_subplot(grid[0, 1]), cosines, rows, pair_width)
    if len(layers) > 1:
        shares = conflict_shares(cosines)[:, first, second]
        title = "Steps in conflict (%), by layer and pair"
        ax = figure.add_subplot(grid[1, :])
        draw_heat_map(ax, shares, layers, pairs, title, layer_width)
    return figure


def _pair_name(first: str, second: str) -> str:
    return f"{first}\n\N{MULTIPLICATION SIGN} {second}"


def _draw_angles(ax: Axes, cosines: np.ndarray, epochs: int | None) -> None:
    """Percentiles of the angles ``[steps, M, pairs]`` per epoch, or per stretch of steps."""
    steps = len(cosines)
    stretches = epochs or min(steps, STRETCHES)
    chunks = np.array_split(np.arange(steps), stretches)
    percentiles = np.array([_percentiles(cosines[chunk]) for chunk in chunks])  # [chunks, 5]
    low, quarter, median, three_quarters, high = percentiles.T
    if epochs:
        bounds = range(epochs + 1)
    else:
        bounds = [*(chunk[0] for chunk in chunks), steps]
    edges = 0.5 + np.array(bounds)
    band = {"fill": True, "lw": 0}
    ax.stairs(high, edges, baseline=low, color=WIDE_BAND, label="5 to 95 %", **band)
    ax.stairs(
        three_quarters, edges, baseline=quarter, color=NARROW_BAND, label="middle half", **band
    )
    ax.stairs(median, edges, baseline=None, color=COLOURS[0], lw=1.8, label="median")
    right_angle = "90\N{DEGREE SIGN}: in conflict above"
    ax.axhline(90, color=COLOURS[1], lw=1.2, ls=DASHES, label=right_angle)
    ax.set(
        xlim=(edges[0], edges[-1]),
        ylim=(0, 180),
        yticks=range(0, 181, 30),
        title="Angles between gradients of two rows",
        xlabel="epoch" if epochs else "step",
        ylabel="angle (degrees)",
    )
    ax.set_xticks(_integer_ticks(ax, last=epochs or steps))
    draw_grid(ax, axis="y")
    hide_box(ax)
    if np.isnan(median).all():
        write_in_middle(ax, "no angle is known", height=0.6)
    _draw_legend(ax)


def _percentiles(cosines: np.ndarray) -> np.ndarray:
    """Percentiles of the known angles, in degrees; NaN where none is known."""
    cosine = cosines[known_cosines(cosines)]
    if not len(cosine):
        return np.full(len(PERCENTILES), np.nan)
    radians = np.arccos(np.clip(cosine, -1, 1))
    degrees = np.degrees(radians)
    return np.percentile(degrees, PERCENTILES)


def _integer_ticks(ax: Axes, last: int):
    """Ticks at whole numbers from 1 to the last."""
    if last <= 8:
        return range(1, last + 1)
    return [tick for tick in ax.get_xticks() if tick == int(tick) and 1 <= tick <= last]


def _draw_legend(ax: Axes) -> None:
    """The legend below the axis and its label."""
    from matplotlib.transforms import ScaledTranslation

    below = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=2,
        frameon=False,
        borderpad=0,
    )


def _draw_pairs(
    ax: Axes,
    cosines: np.ndarray,
    rows: list[str],
    width: float,
) -> None:
    """The heat map by pair of rows, over all layers, with its colour bar."""
    row_shape = cosines.shape[2:]
    pooled = cosines.reshape(-1, *row_shape)
    shares = conflict_shares(pooled)
    np.fill_diagonal(shares, BLANK)
    title = "Steps in conflict (%), by pair of rows"
    image = draw_heat_map(ax, shares, rows, rows, title, width)
    ax.set_aspect("equal")
    bar = ax.figure.colorbar(
        image, ax=ax, fraction=0.05, pad=0.03, format=lambda share, _: f"{100 * share:.0f} %"
    )
    bar.outline.set_visible(False)


def draw_heat_map(
    ax: Axes,
    shares: np.ndarray,
    row_names: list[str],
    column_names: list[str],
    title: str,
    width: float,
) -> AxesImage:
    """A heat map of shares in per cent; grey where none is known, numbers where they fit."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("share", SHADES)
    image = ax.imshow(
        np.ma.masked_invalid(shares),
        cmap=colours.with_extremes(bad=ABSENT, over="white"),
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    upright = _is_upright(column_names, width)
    if upright:
        column_names = [name.replace("\n", " ") for name in column_names]
    columns = _named_positions(column_names)
    rows = _named_positions(row_names)
    ax.set_xticks(columns, [column_names[i] for i in columns], parse_math=False)
    ax.set_yticks(rows, [row_names[i] for i in rows], parse_math=False)
    ax.set_title(title).set_parse_math(False)
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90 if upright else 0)
    if len(column_names) <= MOST_NUMBERED:
        _write_shares(ax, shares)
    ax.spines[:].set_visible(False)
    return image


def _write_shares(ax: Axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share == BLANK:
            continue
        text = DASH if np.isnan(share) else f"{100 * share:.0f}"
        colour = "white" if share > 0.5 else "0.15"
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            color=colour,
        )


def _named_positions(names: list[str]) -> range:
    """Positions of the names that stand along an axis: all, or a regular choice."""
    step = math.ceil(len(names) / MOST_NAMED)
    return range(0, len(names), step)


def _is_upright(names: list[str], width: float) -> bool:
    """Whether names are too long to lie below an axis of so many inches."""
    letters = max(len(line) for name in names for line in name.split("\n"))
    room = width / len(names)
    return LETTER_WIDTH * letters > room


def _depth(names: list[str], width: float) -> float:
    """Room in inches that the names below an axis take."""
    if not _is_upright(names, width):
        return 0.3
    letters = max(map(len, names))
    return LETTER_WIDTH * letters
