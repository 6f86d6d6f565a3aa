"""How much rows of gradients get in each other's way during training: shares of steps in conflict, and one PNG figure.

In: cosines between K rows at every step, for whole gradients ``[steps, K, K]`` or layer by layer ``[steps, M, K, K]``, as
``LinkState.cosines`` of a link tells them. Out: shares as an array, or a PNG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.core.types import Array
from fairjax.report.figures import COLOURS, GREY, STYLE, _png
from fairjax.report.view import literal

SHADES = (
    "#F4F7FA",
    "#7FB6DA",
    "#0072B2",
    "#012A45",
)  # one hue from light to dark: readable without colour vision
ABSENT = "0.86"
BLANK = 2.0  # in place of a share: a row and itself
STRETCHES = 40  # points of the curve when no epochs are given
LETTER = 0.064  # inches that a letter of a tick label is wide
NAMED = 48  # most names along an axis


def conflict_shares(cosines: Array) -> np.ndarray:
    """``share_ij = #{s: cos_ij(s) < 0} / #{s: cos_ij(s) known}`` over steps s: how often two rows are in conflict.

    A cosine is known unless it is NaN or exactly 0, as a link reports it for a row that was absent.

    Args:
      cosines: ``[steps, ..., K, K]``.

    Returns:
      ``[..., K, K]`` in [0, 1]; NaN for a pair that never was known.

    Raises:
      ValueError: for any other shape.
    """
    given = np.asarray(cosines, float)
    if given.ndim < 3 or given.shape[-1] != given.shape[-2]:
        raise ValueError(f"cosines have shape {given.shape}, expected [steps, ..., K, K]")
    known = _known(given)
    count = known.sum(axis=0)
    return np.where(count > 0, (known & (given < 0)).sum(axis=0) / np.maximum(count, 1), np.nan)


def write_conflicts(
    path: Path,
    cosines: Array,
    rows: Sequence[str],
    layers: Sequence[str] = (),
    epochs: int | None = None,
) -> Path:
    """Draw when, between whom and where gradients are in conflict.

    Three panels: the angles between pairs of rows over training (median, middle half, 5 to 95 %); the share of steps in
    conflict by pair of rows; with more than one layer, that share by layer and pair. Layers are pooled in the first two.

    Args:
      path: of the PNG file; its folder is made.
      cosines: ``[steps, K, K]`` or ``[steps, M, K, K]``; see :func:`conflict_shares` for what is left out.
      rows: K names.
      layers: M names; numbers when empty. Leaves of ``observe`` come in the order of ``jax.tree.leaves_with_path``.
      epochs: how many epochs the steps make up; without it angles are shown over stretches of steps.

    Returns:
      ``path``.

    Raises:
      ValueError: for cosines of another shape, without a step or of one row; for steps that are not a multiple of epochs.
      ImportError: matplotlib is missing.
    """
    given = np.asarray(cosines, float)
    k = len(rows)
    if given.ndim not in (3, 4) or 0 in given.shape or given.shape[-2:] != (k, k):
        raise ValueError(
            f"cosines have shape {given.shape}, expected [steps, {k}, {k}] or [steps, M, {k}, {k}] for {k} rows"
        )
    if k < 2:
        raise ValueError(
            f"cosines have shape {given.shape}: one row has no other to be in conflict with"
        )
    given = given[:, None] if given.ndim == 3 else given
    steps, parts = given.shape[:2]
    if layers and len(layers) != parts:
        raise ValueError(
            f"cosines have shape {np.shape(cosines)}: {parts} layers, but {len(layers)} are named"
        )
    if epochs is not None and (epochs < 1 or steps % epochs):
        raise ValueError(
            f"cosines have shape {np.shape(cosines)}: {steps} steps are not a multiple of {epochs} epochs"
        )
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'fairjax[plot]'") from error
    rows = [literal(name, 28) for name in rows]
    layers = [literal(name, 40) for name in layers or range(parts)]
    with matplotlib.rc_context(STYLE):
        return write(Path(path), _png(_draw(given, rows, layers, epochs)))


def _known(cosines: np.ndarray) -> np.ndarray:
    return np.isfinite(cosines) & (cosines != 0)


def _draw(cosines: np.ndarray, rows: list[str], layers: list[str], epochs: int | None):
    from matplotlib.figure import Figure

    one, two = np.triu_indices(len(rows), 1)
    right = min(max(2.4, 0.45 * len(rows)), 7.0) + 0.08 * max(map(len, rows))
    left = max(4.8, 0.85 * right)
    pairs = [f"{rows[i]}\n\N{MULTIPLICATION SIGN} {rows[j]}" for i, j in zip(one, two, strict=True)]
    above = max(3.6, right + _depth(rows, right - 1.2))
    below = min(max(1.0, 0.24 * len(layers)), 9.0) + 0.9 + _depth(pairs, left + right - 1.5)
    heights = (above, below) if len(layers) > 1 else (above,)
    figure = Figure(figsize=(left + right + 0.8, sum(heights)), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    grid = figure.add_gridspec(len(heights), 2, width_ratios=(left, right), height_ratios=heights)
    _angles(figure.add_subplot(grid[0, 0]), cosines[:, :, one, two], epochs)
    ax = figure.add_subplot(grid[0, 1])
    pooled = conflict_shares(cosines.reshape(-1, *cosines.shape[2:]))
    np.fill_diagonal(pooled, BLANK)
    image = _heat(ax, pooled, rows, rows, "Steps in conflict (%), by pair of rows", right - 1.2)
    ax.set_aspect("equal")
    bar = figure.colorbar(
        image, ax=ax, fraction=0.05, pad=0.03, format=lambda share, _: f"{100 * share:.0f} %"
    )
    bar.outline.set_visible(False)
    if len(layers) > 1:
        _heat(
            figure.add_subplot(grid[1, :]),
            conflict_shares(cosines)[:, one, two],
            layers,
            pairs,
            "Steps in conflict (%), by layer and pair",
            left + right - 1.5,
        )
    return figure


def _angles(ax, cosines: np.ndarray, epochs: int | None) -> None:
    """Percentiles of the angles ``[steps, M, pairs]`` per epoch, or per stretch of steps."""
    from matplotlib.transforms import ScaledTranslation

    steps = len(cosines)
    chunks = np.array_split(np.arange(steps), epochs or min(steps, STRETCHES))
    found = [
        np.degrees(np.arccos(np.clip(c[_known(c)], -1, 1)))
        for c in (cosines[chunk] for chunk in chunks)
    ]
    low, quarter, median, three, high = np.array(
        [np.percentile(a, (5, 25, 50, 75, 95)) if len(a) else np.full(5, np.nan) for a in found]
    ).T
    edges = 0.5 + np.array(
        [*range(len(chunks) + 1)] if epochs else [*(chunk[0] for chunk in chunks), steps]
    )
    for inner, outer, colour, label in (
        (low, high, "#D9E9F4", "5 to 95 %"),
        (quarter, three, "#8FC0E0", "middle half"),
    ):
        ax.stairs(outer, edges, baseline=inner, fill=True, color=colour, lw=0, label=label)
    ax.stairs(median, edges, baseline=None, color=COLOURS[0], lw=1.8, label="median")
    ax.axhline(
        90, color=COLOURS[1], lw=1.2, ls=(0, (4, 3)), label="90\N{DEGREE SIGN}: in conflict above"
    )
    ax.set(
        xlim=(edges[0], edges[-1]),
        ylim=(0, 180),
        yticks=range(0, 181, 30),
        title="Angles between gradients of two rows",
        xlabel="epoch" if epochs else "step",
        ylabel="angle (degrees)",
    )
    last = epochs or steps
    ax.set_xticks(
        range(1, last + 1)
        if last <= 8
        else [t for t in ax.get_xticks() if t == int(t) and 1 <= t <= last]
    )
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if np.isnan(median).all():
        ax.text(0.5, 0.6, "no angle is known", transform=ax.transAxes, ha="center", color=GREY)
    under = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=under,
        ncols=2,
        frameon=False,
        borderpad=0,
    )


def _upright(names: list[str], inches: float) -> bool:
    """Whether names are too long to lie below an axis of so many inches."""
    return LETTER * max(len(line) for name in names for line in name.split("\n")) > inches / len(
        names
    )


def _depth(names: list[str], inches: float) -> float:
    """Room in inches that the names below an axis take."""
    return LETTER * max(map(len, names)) if _upright(names, inches) else 0.3


def _heat(ax, shares: np.ndarray, down: list[str], across: list[str], title: str, inches: float):
    """A heat map of shares in per cent; grey where none is known, numbers where they fit."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("share", SHADES).with_extremes(
        bad=ABSENT, over="white"
    )
    image = ax.imshow(
        np.ma.masked_invalid(shares),
        cmap=colours,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    upright = _upright(across, inches)
    across = [name.replace("\n", " ") for name in across] if upright else across
    texts = [ax.set_title(title)]
    for names, ticks, labels in (
        (across, ax.set_xticks, ax.set_xticklabels),
        (down, ax.set_yticks, ax.set_yticklabels),
    ):
        at = range(0, len(names), -(-len(names) // NAMED))
        ticks(at)
        texts += labels([names[i] for i in at])
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90 if upright else 0)
    if len(across) <= 12:
        for (i, j), share in np.ndenumerate(shares):
            if share != BLANK:
                ax.text(
                    j,
                    i,
                    "\N{EN DASH}" if np.isnan(share) else f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if share > 0.5 else "0.15",
                )
    ax.spines[:].set_visible(False)
    for text in texts:
        text.set_parse_math(False)
    return image
