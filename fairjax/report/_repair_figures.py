"""PNG figures of one repair: densities before and after, transport, unfairness attribute by attribute, the path.

In: an :class:`~fairjax.postprocess.Audit`. Out: the bytes of PNG files. A group has one colour in all pictures; names are drawn
literally.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report._density import atoms, bin_edges, density
from fairjax.report.figures import COLOURS, GREY, MARKERS, STYLE, _axes, _legend, _png, _rule
from fairjax.report.view import literal, wrapped

HUES = (
    *COLOURS[:6],
    "#000000",
    "#7A5230",
)  # palest of the palette replaced: these are lines on white
REST = "0.62"
FEW = 20  # rows below which a density would be made up
LANES = 10
FILLED = 3  # most curves that are filled
WIDE = (6.6, 4.3, 3.6)  # inches of a panel, by how many stand side by side
LETTER = 0.072  # inches that a letter of a legend is wide
DECILES = np.arange(1, 10) / 10
DASHES = (0, (4, 3))
UNMEASURED = "no two groups to compare"


class Group(NamedTuple):
    """One group in the pictures."""

    cell: int
    name: str
    rows: np.ndarray  # positions of its reported rows
    colour: str


def repair_figures(audit: Audit) -> dict[str, bytes]:
    """``densities.png``, ``arrows.png``, ``waterfall.png`` and ``path.png`` of an audit, by name.

    Raises:
      ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'fairjax[plot]'") from error
    drawn = {
        "densities.png": draw_densities,
        "arrows.png": draw_arrows,
        "waterfall.png": draw_waterfall,
        "path.png": draw_path,
    }
    with matplotlib.rc_context(STYLE):
        return {name: _png(draw(audit)) for name, draw in drawn.items()}


# ------------------------------------------------------------------------------------------------ what is seen


def usable(audit: Audit) -> np.ndarray:
    """Rows ``[N]`` that count: of some weight, all scores finite."""
    return (
        (audit.weight > 0)
        & np.isfinite(audit.before).all(axis=1)
        & np.isfinite(audit.after).all(axis=1)
    )


def groups_of(audit: Audit) -> list[Group]:
    """Groups with reported rows, in the order of the cells. Of more than eight the seven largest have a colour."""
    seen = usable(audit)
    rows = [np.flatnonzero(seen & (audit.cell == i)) for i in range(len(audit.cells))]
    present = [i for i in range(len(rows)) if len(rows[i])]
    largest = sorted(present, key=lambda i: -len(rows[i]))[
        : len(HUES) if len(present) <= len(HUES) else len(HUES) - 1
    ]
    colour = dict(zip(sorted(largest), HUES, strict=False))
    return [Group(i, audit.cells[i], rows[i], colour.get(i, REST)) for i in present]


def moved(audit: Audit) -> np.ndarray:
    """Root mean squared change ``[T]`` from ``before`` to ``after``."""
    seen = usable(audit)
    weight = audit.weight[seen] / max(audit.weight[seen].sum(), 1e-30)
    return np.sqrt(weight @ np.square(audit.after[seen].astype(float) - audit.before[seen]))


def nearest(audit: Audit) -> int:
    """The step of the path that the scores ``after`` are at, or nearest to: the one that changes them as much."""
    apart = np.abs(audit.change - moved(audit)).sum(axis=1)
    return len(apart) - 1 - int(np.argmin(apart[::-1]))


def gaps_after(audit: Audit) -> dict[str, np.ndarray]:
    """Distances ``[T, A + 1]`` of the scores ``after``: as measured, or of the nearest step of the path."""
    return audit.reached or {name: path[nearest(audit)] for name, path in audit.gaps.items()}


def between(audit: Audit) -> list[str]:
    """What the last axis of ``gaps`` and ``floor`` is: the attributes, and all of them crossed."""
    return [*audit.attributes, "all attributes crossed"][: audit.floor.shape[1]]


def cost(audit: Audit, task: int) -> tuple[np.ndarray, str]:
    """What the repair costs over its amount ``[P]``, and its name: the risk, or without labels the change of the scores."""
    if audit.risk is not None and np.isfinite(audit.risk[:, task]).any():
        return audit.risk[:, task], audit.risk_name[task]
    return audit.change[
        :, task
    ], f"root mean squared change of a score ({audit.units[task] or 'its own units'})"


def _panels(audit: Audit, height: float, entries: int):
    """A figure with a panel per task and room for lines of a legend."""
    return _axes(len(audit.tasks), WIDE[min(len(audit.tasks), 3) - 1], height, entries)


def _score(audit: Audit, task: int) -> str:
    return f"score ({audit.units[task] or 'its own units'})"


def _empty(ax, why: str = "no row of a known group") -> None:
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", color=GREY)


# ------------------------------------------------------------------------------------------------ densities


def draw_densities(audit: Audit):
    """Per task the groups' densities before (above) and after (below) the repair, on the same axes."""
    from matplotlib.figure import Figure

    groups, tasks = groups_of(audit), len(audit.tasks)
    columns = 2 if tasks == 4 else min(tasks, 3)
    blocks, wide, shown = -(-tasks // columns), WIDE[columns - 1] * columns, _entries(groups)
    beside = _beside(shown, wide)
    figure = Figure(
        figsize=(wide, 4.5 * blocks + 0.2 * (-(-len(shown) // beside) + 1)),
        dpi=150,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.06)
    grid = figure.add_gridspec(2 * blocks, columns)
    for t in range(tasks):
        row, column = divmod(t, columns)
        above = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=above, sharey=above)
        _draw_pair(above, below, audit, groups, t)
    _legend(figure, shown, beside)
    return figure


def _draw_pair(above, below, audit: Audit, groups: list[Group], task: int) -> None:
    ks = (
        audit.gaps["kolmogorov_smirnov"][0, task, -1],
        gaps_after(audit)["kolmogorov_smirnov"][task, -1],
    )
    both = [audit.before[:, task], audit.after[:, task]]
    above.set_title(literal(audit.tasks[task], 40) + "\n", loc="left").set_parse_math(False)
    below.set_xlabel(_score(audit, task))
    if groups:
        rows = np.concatenate([group.rows for group in groups])
        edges = bin_edges(
            np.concatenate([values[rows] for values in both]), audit.units[task] == "probability"
        )
        drawn = zip((above, below), both, strict=True)
        _frame(
            above,
            np.concatenate([_draw_curves(ax, v, audit.weight, groups, edges) for ax, v in drawn]),
            edges,
        )
        outside = sum(int(((v[rows] < edges[0]) | (v[rows] > edges[-1])).sum()) for v in both)
        below.set_xlabel(
            _score(audit, task)
            + f"\n[{outside:,} of {2 * len(rows):,} scores outside the view]" * (outside > 0)
        )
    else:
        _empty(above)
        _empty(below)
    for ax, when, value in zip((above, below), ("before", "after"), ks, strict=True):
        ax.set_title(
            f"{when}: KS {value:.3f} (chance {audit.floor[task, -1]:.3f})",
            loc="right",
            fontsize=8.5,
            color=GREY,
        )
        ax.set_ylabel("density (per unit)")
        _numbers(ax)
    above.tick_params(labelbottom=False)


def _draw_curves(
    ax, values: np.ndarray, weight: np.ndarray, groups: list[Group], edges: np.ndarray
) -> np.ndarray:
    """A curve per group, dots on stems where many rows share a value, ticks for the rows of a very small group."""
    middle, curves, ticked = (edges[1:] + edges[:-1]) / 2, [np.zeros(len(edges) - 1)], 0
    large = sum(len(group.rows) >= FEW for group in groups)
    for layer, group in enumerate(sorted(groups, key=lambda g: g.colour != REST)):
        mine, weights = values[group.rows], weight[group.rows]
        if len(mine) < FEW:
            ticked += group.colour != REST
            height = 0.03 + 0.045 * ticked
            ax.plot(
                mine,
                np.full(len(mine), height),
                ls="",
                marker="|",
                ms=6.5,
                mew=1.3,
                color=group.colour,
                zorder=5,
                transform=ax.get_xaxis_transform(),
            )
            continue
        curves.append(density(mine, weights, edges))
        ax.plot(
            middle,
            curves[-1],
            color=group.colour,
            lw=1.0 if group.colour == REST else 1.7,
            zorder=2 + layer / 100,
        )
        if large <= FILLED:
            ax.fill_between(middle, curves[-1], color=group.colour, alpha=0.12, lw=0, zorder=1)
        if group.colour != REST:
            place, share = atoms(mine, weights)
            height = np.interp(place, middle, curves[-1])
            ax.vlines(place, 0, height, color=group.colour, lw=0.7, alpha=0.5, zorder=1)
            ax.scatter(
                place,
                height,
                s=8 + 150 * share,
                color=group.colour,
                lw=0.5,
                edgecolor="white",
                zorder=4,
            )
    return np.stack(curves)


def _frame(ax, curves: np.ndarray, edges: np.ndarray) -> None:
    """Limits around what can be seen of the curves."""
    top = curves.max()
    tall = np.flatnonzero((curves > 0.004 * top).any(axis=0))
    if len(tall):
        ax.set(ylim=(0, 1.06 * top), xlim=(edges[tall[0]], edges[tall[-1] + 1]))


def _entries(groups: list[Group]) -> list:
    named = [
        (_key(g.colour, len(g.rows)), f"{literal(g.name, 30)} ({len(g.rows):,} rows)")
        for g in groups
        if g.colour != REST
    ]
    rest = [len(g.rows) for g in groups if g.colour == REST]
    if rest:
        named.append((_key(REST, max(rest)), f"{len(rest)} smaller groups ({sum(rest):,} rows)"))
    return named


def _key(colour: str, rows: int):
    from matplotlib.lines import Line2D

    return (
        Line2D([], [], color=colour, lw=2)
        if rows >= FEW
        else Line2D([], [], color=colour, ls="", marker="|", ms=8, mew=1.5)
    )


def _beside(entries: list, inches: float) -> int:
    """How many entries of a legend fit side by side."""
    longest = max((len(label) for _, label in entries), default=0)
    return max(1, min(int(inches / (LETTER * longest + 0.7)), len(entries)))


def _numbers(ax) -> None:
    """Few ticks, numbers in full, no box."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: _short(value))
    ax.locator_params(nbins=5)
    ax.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    value = round(value, 12)
    text = f"{value:,.6g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}") if value < 0 else text


# ------------------------------------------------------------------------------------------------ transport


def deciles(before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows at the deciles of a group, ``[J, 2]`` (before, after), in ascending order; of fewer than nine all rows."""
    order = np.lexsort((after, before))
    reach = np.cumsum(weight[order]) - weight[order] / 2
    at = (
        np.unique(np.searchsorted(reach, DECILES * weight.sum()).clip(0, len(order) - 1))
        if len(order) > len(DECILES)
        else ...
    )
    return np.stack([before[order], after[order]], axis=1)[at]


def draw_arrows(audit: Audit):
    """Per task a lane per group: arrows from a group's deciles, above, to where the repair takes them, below."""
    from matplotlib.lines import Line2D

    groups = groups_of(audit)
    lanes = sorted(sorted(groups, key=lambda g: -len(g.rows))[:LANES], key=lambda g: g.cell)
    figure, axes = _panels(audit, 1.0 + 0.46 * max(len(lanes), 2), 3)
    for t, ax in enumerate(axes):
        _draw_lanes(ax, audit, lanes, t)
        names = [wrapped(f"{literal(g.name, 28)} ({len(g.rows):,})", 20) for g in lanes]
        ax.set_yticks(range(len(lanes)), names, parse_math=False)
        ax.tick_params(axis="y", length=0, labelleft=ax.get_subplotspec().is_first_col())
    entries = [
        (
            Line2D([], [], color=GREY, ls="", marker="o", ms=4),
            "deciles of a group before (below ten rows: each row)",
        ),
        (Line2D([], [], color=GREY, ls="", marker="$\u2198$", ms=8), "where the repair takes it"),
        (_rule(REST, "-"), "deciles of all rows after, where the arrows of a full repair end"),
    ]
    _legend(figure, entries, 1 if len(axes) == 1 else 2)
    if len(groups) > len(lanes):
        figure.suptitle(f"The {len(lanes)} largest of {len(groups)} groups", fontsize=9)
    return figure


def _draw_lanes(ax, audit: Audit, lanes: list[Group], task: int) -> None:
    before, after = audit.before[:, task], audit.after[:, task]
    if lanes:
        rows = np.concatenate([g.rows for g in lanes])
        for target in deciles(after[rows], after[rows], audit.weight[rows])[:, 1]:
            ax.axvline(target, color="0.8", lw=0.8, zorder=0)
    else:
        _empty(ax)
    for lane, group in enumerate(lanes):
        start, end = deciles(before[group.rows], after[group.rows], audit.weight[group.rows]).T
        high, low = np.full(len(start), lane - 0.3), np.full(len(start), lane + 0.3)
        ax.plot(start, high, color=group.colour, marker="o", ms=3.2, lw=0.6, zorder=3)
        ax.quiver(
            start,
            high,
            end - start,
            low - high,
            angles="xy",
            scale_units="xy",
            scale=1,
            color=group.colour,
            width=1.3,
            units="dots",
            headwidth=6,
            headlength=7,
            headaxislength=6,
            zorder=3,
        )
        ax.plot(end, low, ls="")  # so that the arrows' ends are within the limits
    ax.set_title(literal(audit.tasks[task], 40), loc="left").set_parse_math(False)
    ax.set(ylim=(max(len(lanes), 1) - 0.4, -0.6), xlabel=_score(audit, task))
    _numbers(ax)
    ax.spines["left"].set_visible(False)


# ------------------------------------------------------------------------------------------------ waterfall


def draw_waterfall(audit: Audit):
    """Per task the unfairness by attribute after each step of the first order; the other orders as thin lines."""
    from matplotlib.patches import Patch

    figure, axes = _panels(audit, 3.7, 1 + len(audit.attributes) + len(audit.orders))
    for t, ax in enumerate(axes):
        _draw_steps(ax, audit, t)
    entries = [
        (Patch(color=COLOURS[a % len(COLOURS)]), literal(name, 30))
        for a, name in enumerate(audit.attributes)
    ]
    entries.append(
        (Patch(facecolor="white", edgecolor=GREY, hatch="////", lw=0.6), "gone in this step")
    )
    entries.append((_rule("black", DASHES), "chance alone (two-sample floor)"))
    entries += [
        (_other(i), "other order: " + ", ".join(literal(audit.attributes[a], 16) for a in order))
        for i, order in enumerate(audit.orders)
        if i
    ]
    _legend(figure, entries, _beside(entries, figure.get_figwidth()))
    return figure


def _other(index: int):
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=GREY,
        lw=0.9,
        ls=":",
        marker=MARKERS[index % len(MARKERS)],
        ms=4.5,
        mfc="white",
    )


def _draw_steps(ax, audit: Audit, task: int) -> None:
    steps = np.nan_to_num(audit.steps[:, :, task])  # [O, A + 1, A]
    order, total = audit.orders[0], steps.sum(axis=2)
    floor = np.nansum(audit.floor[task, : len(order)])
    top = max(total.max(), floor) or 1.0
    for k, parts in enumerate(steps[0]):
        bottom = 0.0
        for a in order:
            ax.bar(
                k,
                parts[a],
                0.56,
                bottom,
                color=COLOURS[a % len(COLOURS)],
                edgecolor="white",
                lw=0.8,
                zorder=2,
            )
            if parts[a] > 0.055 * top:
                _write(
                    ax,
                    k,
                    bottom + parts[a] / 2,
                    f"{parts[a]:.2f}",
                    "white",
                    COLOURS[a % len(COLOURS)],
                )
            bottom += parts[a]
        if k:
            _draw_fall(ax, k, total[0, k - 1], total[0, k], top)
    for i, line in enumerate(total[1:], 1):
        ax.plot(
            np.arange(len(line)) + 0.38,
            line,
            color=GREY,
            lw=0.9,
            ls=":",
            marker=MARKERS[i % len(MARKERS)],
            ms=4.5,
            mfc="white",
            zorder=4,
        )
    if np.isnan(audit.steps[:, :, task]).all():
        _empty(ax, UNMEASURED)
    ax.axhline(floor, color="black", lw=1.1, ls=DASHES, zorder=6)
    names = [literal(audit.attributes[a], 16) for a in order]
    words = [
        "unrepaired",
        *(f"{'then ' * bool(k)}{name}\nrepaired" for k, name in enumerate(names)),
    ]
    ax.set_xticks(range(len(words)), words, parse_math=False)
    ax.tick_params(axis="x", length=0)
    ax.set(ylim=(0, 1.12 * top), xlim=(-0.5, len(order) + (0.5 if len(total) == 1 else 0.6)))
    ax.set_ylabel("KS, summed over attributes" if len(order) > 1 else "KS between groups (0 to 1)")
    ax.set_title(literal(audit.tasks[task], 40), loc="left").set_parse_math(False)
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_fall(ax, step: int, was: float, now: float, top: float) -> None:
    """What a step took away, hatched, or added, with its size above."""
    gone, size = was - now, f"{abs(was - now):.2f}"
    ax.plot(
        [step - 0.72, step + (0.28 if gone > 0 else -0.28)],
        [was, was],
        color=GREY,
        lw=0.8,
        zorder=3,
    )
    if gone > 0:
        ax.bar(
            step, gone, 0.56, now, facecolor="white", edgecolor=GREY, hatch="////", lw=0.6, zorder=1
        )
    sign = "" if float(size) == 0 else "\N{MINUS SIGN}" if gone > 0 else "+"
    _write(
        ax,
        step,
        now + gone / 2 if gone > 0.1 * top else max(was, now) + 0.05 * top,
        sign + size,
        "0.1",
        "white",
    )


def _write(ax, x: float, y: float, text: str, colour: str, ground: str) -> None:
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        color=colour,
        fontsize=8,
        zorder=7,
        bbox={"facecolor": ground, "edgecolor": "none", "pad": 1.0},
    )


# ------------------------------------------------------------------------------------------------ path


def draw_path(audit: Audit):
    """Per task unfairness against risk over the repair amount; a line per attribute, floors as dashes."""
    from matplotlib.lines import Line2D

    names = between(audit)
    figure, axes = _panels(audit, 3.6, 1 + len(names))
    for t, ax in enumerate(axes):
        _draw_path(ax, audit, t)
    entries = [
        (
            Line2D(
                [],
                [],
                color=COLOURS[a % len(COLOURS)],
                marker=MARKERS[a % len(MARKERS)],
                ms=5,
                mec="white",
                mew=0.5,
            ),
            literal(name, 30),
        )
        for a, name in enumerate(names)
    ]
    entries.append((_rule(GREY, DASHES), "chance alone (two-sample floor)"))
    _legend(figure, entries, _beside(entries, figure.get_figwidth()))
    return figure


def _draw_path(ax, audit: Audit, task: int) -> None:
    x, name = cost(audit, task)
    gaps = audit.gaps["kolmogorov_smirnov"][:, task]
    for a in range(gaps.shape[1]):
        colour, marker = COLOURS[a % len(COLOURS)], MARKERS[a % len(MARKERS)]
        ax.plot(x, gaps[:, a], color=colour, marker=marker, ms=5, mec="white", mew=0.5, lw=1.5)
        ax.axhline(audit.floor[task, a], color=colour, lw=1.0, ls=DASHES, zorder=1)
    highest = gaps[:, int(np.argmax(np.nan_to_num(gaps[0])))]
    said = {
        (x[p], highest[p]): f"{audit.amounts[p]:.2g}" for p in (len(x) - 1, len(x) // 2)
    }  # one word per place
    for place, word in (said | {(x[0], highest[0]): f"amount {audit.amounts[0]:.2g}"}).items():
        if np.isfinite(place).all():
            ax.annotate(word, place, (5, 4), textcoords="offset points", fontsize=8.5, color=GREY)
    if np.isnan(gaps).all():
        _empty(ax, UNMEASURED)
    most = np.nanmax(np.append(gaps, 0.0))
    ax.set(
        xlabel=wrapped(name, 54), ylabel="KS between groups (0 to 1)", ylim=(0, 1.1 * most or 1.0)
    )
    ax.margins(x=0.1)
    ax.set_title(literal(audit.tasks[task], 40), loc="left").set_parse_math(False)
    ax.grid(color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    _numbers(ax)
