"""PNG figures of a sweep: frontiers per task, the overall frontier, and the trade-off between tasks.

In: a :class:`~fairjax.report.view.Study`. Out: PNG files. All runs stand faintly behind; a method is one colour of
Okabe and Ito's palette, which colour-blind readers can tell apart, and one marker. The manner is that of Figures 2, 5
and 6 of Wang et al., "Understanding and improving fairness-accuracy trade-offs in multi-task learning", KDD 2021,
except that frontiers are selected on validation and drawn at their test values.
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.report.view import (
    Panel,
    Study,
    error_name,
    gap_names,
    limits_of,
    literal,
    tradeoff,
    within,
    wrapped,
)

# Okabe and Ito's palette, its faintest last and grey for black, which a dark page would swallow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#F0E442")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
SIZES = (1.0, 0.9, 0.85, 1.12, 1.12, 1.05, 1.0, 1.1)  # so that markers look equally large
STYLE = {
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
GREY = "0.35"
TOLD_APART = 6  # methods in one picture


def look(index: int) -> tuple[int, int]:
    """Index of a method's colour and of its marker: every pair is used before one comes back."""
    return index % len(COLOURS), (index + index // len(COLOURS)) % len(MARKERS)


def write_figures(out: Path, study: Study) -> list[Path]:
    """Draw the figures of a study into a folder.

    Args:
      out: an existing folder.
      study: what to draw; empty panels say so.
    Returns:
      Paths of ``frontier_tasks.png``, ``frontier_relative.png``, with two tasks or more ``tradeoff.png``, and with more
      methods than one picture tells apart ``frontier_methods.png``.
    Raises:
      ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'fairjax[plot]'") from error
    drawn = {"frontier_tasks.png": _draw_tasks} if study.tasks else {}
    drawn |= {"frontier_relative.png": _draw_overall}
    drawn |= {"tradeoff.png": _draw_tradeoff} if len(study.tasks) > 1 else {}
    drawn |= {"frontier_methods.png": _draw_methods} if len(study.methods) > TOLD_APART else {}
    with matplotlib.rc_context(
        STYLE
    ):  # a user's own style must not break labels; restored on leaving
        return [write(out / name, _png(draw(study))) for name, draw in drawn.items()]


def _png(figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # a name in a script the font lacks: boxes
        FigureCanvasAgg(figure).print_png(content, metadata={"Software": "fairjax"})
    return content.getvalue()


def _axes(panels: int, width: float, height: float, entries: int):
    """A figure with ``panels`` axes, at most three side by side, and room below for a legend."""
    from matplotlib.figure import Figure

    columns = 2 if panels == 4 else min(panels, 3)
    rows = math.ceil(panels / columns)
    figure = Figure(
        figsize=(width * columns, height * rows + 0.2 * entries), dpi=150, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.set_axis_off()
    return figure, axes[:panels]


def _draw_tasks(study: Study):
    figure, axes = _axes(len(study.tasks), 4.2, 3.6, len(study.methods) // 3 + 2)
    entries = [(_entry(i), literal(name)) for i, name in enumerate(study.methods)]
    alone = None
    for ax, panel, task in zip(axes, study.tasks, study.info["tasks"], strict=True):
        _draw_panel(ax, study, panel)
        alone = _draw_single_task(ax, study.info, task, panel.limits) or alone
    entries += [(alone, "single-task model")] if alone else []
    _legend(figure, entries + _hollow(study.tasks), 3 if len(axes) > 1 else 2)
    return figure


def _draw_overall(study: Study):
    figure, (ax,) = _axes(1, 6.2, 4.4, len(study.methods) + 2)
    _draw_panel(ax, study, study.overall)
    entries = [(_entry(i), _summary(study, i)) for i in _best_first(study)]
    level = _draw_level(ax, study.overall.limits) if study.relative else None
    entries += [(level, "level of single-task models")] if level else []
    _legend(figure, entries + _hollow([study.overall]), 1)
    return figure


def _best_first(study: Study) -> list[int]:
    volume = [study.volume(study.overall.fronts[name].validation) or 0.0 for name in study.methods]
    return sorted(range(len(study.methods)), key=lambda i: -volume[i])


def _draw_methods(study: Study):
    """The overall frontier once per method, best first, over the runs of all methods in grey."""
    from matplotlib.figure import Figure

    panel, methods, columns = study.overall, _best_first(study), 5
    rows = math.ceil(len(methods) / columns)
    figure = Figure(figsize=(2.3 * columns, 2.1 * rows + 0.4), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in axes[len(methods) :]:
        spare.set_axis_off()
    for ax in axes[max(len(methods) - columns, 0) : len(methods)]:
        ax.tick_params(labelbottom=True)
    for ax, i in zip(axes, methods, strict=False):
        ax.plot(
            *panel.show[panel.usable].T, ls="", marker="o", ms=1.8, color="0.82", mew=0, zorder=0
        )
        _draw_method(ax, study, panel, i)
        _finish(ax, "", ("", ""), panel.limits, int(panel.usable.sum()))
        volume = study.volume(panel.fronts[study.methods[i]].validation)
        ax.set_title(
            literal(study.methods[i], 24)
            + ("" if volume is None else f"\nhypervolume {volume:.4g}"),
            fontsize=8.5,
        ).set_parse_math(False)
    for write_label, label in zip((figure.supxlabel, figure.supylabel), panel.labels, strict=True):
        write_label(wrapped(label, 90), fontsize=9).set_parse_math(False)
    return figure


def _draw_tradeoff(study: Study):
    """Left: errors of two tasks. Right: their gaps. The runs on the left's frontier are marked in both."""
    seen = tradeoff(study)
    figure, axes = _axes(2, 4.6, 3.9, len(study.methods) // 3 + 1)
    planes = [
        (seen.errors, seen.accurate, "Error against error", 0),
        (seen.gaps, seen.even, "Gap against gap", 1),
    ]
    for ax, (points, line, title, side) in zip(axes, planes, strict=True):
        _clouds(ax, study, points, seen.usable)
        ax.plot(*points[line].T, drawstyle="steps-post", color=GREY, lw=1.3, zorder=3)
        for i in range(len(study.methods)):
            _marks(ax, points[seen.accurate[study.method[seen.accurate] == i]], i)
        labels = tuple(
            f"{literal(name, 20)}: {study.tasks[0].labels[side].lower()}" for name in seen.names
        )
        _finish(
            ax, title, labels, limits_of(points, study.method, seen.usable), int(seen.usable.sum())
        )
    both = len(np.intersect1d(seen.accurate, seen.even))
    left_out = f"; {seen.left_out} runs with far larger errors left out" if seen.left_out else ""
    figure.suptitle(
        f"Large markers: the {len(seen.accurate)} runs on the frontier of the errors, of which {both} are"
        f" also on the frontier of the gaps{left_out}",
        fontsize=9,
    )
    entries = [(_entry(i, line=False), literal(name)) for i, name in enumerate(study.methods)]
    _legend(figure, entries + [(_rule(GREY, "-"), "frontier on test, all methods")], 3)
    return figure


def _draw_panel(ax, study: Study, panel: Panel) -> None:
    """Runs, and per method the frontier: filled where it holds on test, hollow where only validation chose it."""
    _clouds(ax, study, panel.show, panel.usable)
    for i in range(len(study.methods)):
        _draw_method(ax, study, panel, i)
    _finish(ax, panel.title, panel.labels, panel.limits, int(panel.usable.sum()), panel.outside)


def _draw_method(ax, study: Study, panel: Panel, index: int) -> None:
    front = panel.fronts[study.methods[index]]
    ax.plot(
        *panel.show[front.line].T,
        drawstyle="steps-post",
        color=COLOURS[look(index)[0]],
        lw=1.5,
        zorder=3,
    )
    _marks(ax, panel.show[np.setdiff1d(front.validation, front.line)], index, filled=False)
    _marks(ax, panel.show[front.line], index)


def _clouds(ax, study: Study, points: np.ndarray, usable: np.ndarray) -> None:
    runs = int(usable.sum())
    alpha = float(np.clip(7.0 / max(runs, 1) ** 0.5, 0.08, 0.4))  # denser clouds are fainter
    size = 3.4 if runs < 5000 else 2.2
    for i in range(len(study.methods)):
        colour, marker = look(i)
        ax.plot(
            *points[usable & (study.method == i)].T,
            ls="",
            marker=MARKERS[marker],
            ms=size * SIZES[marker],
            color=COLOURS[colour],
            alpha=alpha,
            mew=0,
            zorder=1,
        )


def _marks(ax, points: np.ndarray, index: int, filled: bool = True) -> None:
    colour, marker = look(index)
    face, edge = (COLOURS[colour], "white") if filled else ("white", COLOURS[colour])
    ax.plot(
        *points.T,
        ls="",
        marker=MARKERS[marker],
        ms=(6.2 if filled else 5.0) * SIZES[marker],
        mfc=face,
        mec=edge,
        mew=0.6 if filled else 1.0,
        zorder=4,
    )


def _finish(ax, title: str, labels: tuple[str, str], limits, runs: int, outside: int = 0) -> None:
    """Labels, drawn literally, limits and grid; says how many runs the limits leave out."""
    count = f"\n[{outside} of {runs} runs outside the view]" if outside else ""
    texts = [
        ax.set_title(literal(title, 44)),
        ax.set_xlabel(wrapped(labels[0], 52) + count),
        ax.set_ylabel(wrapped(labels[1], 44)),
    ]
    if not runs:
        texts.append(
            ax.text(
                0.5,
                0.5,
                "no run to show, or no gap to measure",
                transform=ax.transAxes,
                ha="center",
                color=GREY,
            )
        )
    for text in texts:
        text.set_parse_math(False)  # a dollar sign in a name is a dollar sign
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    ax.grid(color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.locator_params(nbins=6)


def _draw_single_task(ax, info: dict, task: str, limits):
    """Mark the single-task model of a task, where ``info`` knows it by the table's column names; its legend entry."""
    known = info.get("single_task") or {}
    gaps = [
        abs(known[n])
        for n in gap_names(info, "test", task)
        if isinstance(known.get(n), int | float)
    ]
    error = known.get(error_name("test", task))
    if (
        not gaps
        or not isinstance(error, int | float)
        or not within(np.array([[error, max(gaps)]]), limits)[0]
    ):
        return None
    return ax.plot(
        [error],
        [max(gaps)],
        ls="",
        marker="*",
        ms=10,
        color="black",
        mec="white",
        mew=0.6,
        zorder=5,
    )[0]


def _draw_level(ax, limits):
    """Lines at 1 on the axes that show 1; their legend entry."""
    drawn = None
    for draw, (low, high) in zip((ax.axvline, ax.axhline), limits, strict=True):
        if low < 1 < high:
            draw(1.0, color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=2)
            drawn = _rule(GREY, (0, (4, 3)))
    return drawn


def _entry(index: int, line: bool = True):
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


def _rule(colour: str, style):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=style, lw=1.2)


def _hollow(panels) -> list:
    """The legend entry of hollow markers, where a panel has any."""
    from matplotlib.lines import Line2D

    if not any(len(f.validation) > len(f.line) for panel in panels for f in panel.fronts.values()):
        return []
    return [
        (
            Line2D([], [], color=GREY, marker="o", ms=5, mfc="white", ls=""),
            "hollow: selected, dominated on test",
        )
    ]


def _summary(study: Study, index: int) -> str:
    mine = study.method == index
    name, lost = study.methods[index], int((mine & study.diverged).sum())
    volume = study.volume(study.overall.fronts[name].validation)
    parts = [
        literal(name, 28),
        "no hypervolume" if volume is None else f"hypervolume {volume:.4g}",
        f"{int(mine.sum())} runs" + (f", {lost} diverged" if lost else ""),
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def _legend(figure, entries: list, columns: int) -> None:
    """A legend below all axes, so that it hides no run."""
    if not entries:
        return
    handles = [handle for handle, _ in entries]
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(entries))],
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        frameon=False,
        handlelength=2.2,
        columnspacing=1.6,
    )
    for text, (_, label) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(
            label
        )  # set afterwards, since matplotlib drops labels that begin with an underscore
