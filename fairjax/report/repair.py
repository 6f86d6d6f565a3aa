"""What one repair did, as an offline page with its figures, or as a section of the page of a sweep.

In: an :class:`~fairjax.postprocess.Audit`. Out: ``report.html`` and the PNG files beside it, or HTML. The page loads nothing and
runs nothing: figures are in it as data, and names and values of other people's tables reach it only escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.metrics.distribution import CHANCE
from fairjax.postprocess import Audit
from fairjax.report._density import atoms
from fairjax.report._repair_figures import (
    between,
    cost,
    gaps_after,
    groups_of,
    moved,
    nearest,
    repair_figures,
    usable,
)
from fairjax.report.groups import _amount, _number
from fairjax.report.template import asset, filled, notes

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
SMALL = 200  # rows of a group below which chance alone keeps distributions visibly apart
NAMED = 8  # groups that a sentence names
TIED = 0.1  # share of a task's rows at atoms from which on it is said
TABLED = 5  # amounts of the path in the table
PIXEL = 0.8  # on the page, of one of a figure

FIGURES = {
    "densities.png": (
        "Distributions before and after",
        (
            "A line is the distribution of one group's scores, before the repair (above) and after (below). The further the lines"
            " of a picture lie apart, the more a score says about the group; after a full repair they should lie on one another"
            " as far as chance allows. A dot on a stem is a value that at least a twentieth of the group shares, the larger the"
            " more; groups of fewer than twenty rows are ticks, a row each. KS is the largest gap of selection rates between two"
            " groups over all thresholds."
        ),
    ),
    "arrows.png": (
        "Where scores go",
        (
            "Every group has a lane. Its dots are the nine deciles of its scores before the repair, its arrow heads where the"
            " repair takes them: to the right scores rise, to the left they fall. The repair keeps the order inside a group, so"
            " that arrows of a lane do not cross. After a full repair the heads of all groups should stand on the same grey"
            " lines; how far those of a small group miss them is mostly chance."
        ),
    ),
    "waterfall.png": (
        "Unfairness, attribute by attribute",
        (
            "The first bar is the unrepaired model, cut by attribute; every further bar is what remains after one more attribute"
            " is repaired, and hatched is what that step took away. Of several attributes the distances are added up. The dashed"
            " line is what chance alone makes of them: what lies below it cannot be told from no difference. Dotted lines, where"
            " there are any, are the same for other orders; all end at the same place, but what an attribute contributes may"
            " depend on the order."
        ),
    ),
    "path.png": (
        "The price, over the repair amount",
        (
            "From amount 0 (as the model is) to 1 (full repair): to the left is cheaper, further down groups are closer to one"
            " another. The numbers are amounts. Each dashed line is what chance alone makes of the distance whose line has its"
            " colour: a path that has come down to it need not go on."
        ),
    ),
}
UNFAIRNESS = (
    "KS: the largest gap of selection rates between two groups over all thresholds, 0 to 1; by chance alone about"
    " 0.87 sqrt(1/n + 1/m) of the two smallest groups, and more where the largest of many pairs is taken."
    " Wasserstein: how far scores of two groups lie apart, mean over pairs, in the unit of the score."
)
GROUPS = (
    "Change: root mean squared change of a score of the group. Groups do not pay alike: those whose distribution lies far"
    " from the common one pay most."
)


def write_repair(out: Path, audit: Audit, *, title: str = "", command: str = "") -> list[Path]:
    """Write the pictures of a repair and a page that explains them into a folder; every file appears complete or not at all.

    Args:
      out: folder, made when absent.
      audit: of the repair.
      title: of the page; the names of the tasks by default.
      command: what made the repair, shown at the end of the page.

    Returns:
      Paths of ``densities.png``, ``arrows.png``, ``waterfall.png``, ``path.png`` and ``report.html``.

    Raises:
      ImportError: matplotlib is missing.
    """
    figures = repair_figures(audit)
    slots = {
        "policy": POLICY,
        "title": escape(title or "Repair of " + ", ".join(audit.tasks)),
        "style": asset("page.css"),
        "lead": escape(_lead(audit)),
        "repair": _section(audit, figures, "What it did"),
        "command": f"<section><h2>How it was made</h2><pre>{escape(command)}</pre></section>"
        if command
        else "",
    }
    page = filled("repair.html", slots).encode("utf-8")
    return [
        write(out / name, content) for name, content in (*figures.items(), ("report.html", page))
    ]


def repair_section(audit: Audit, about: dict | None = None) -> str:
    """The same as a section of another page, its figures inside.

    Args:
      audit: of the repair.
      about: whose scores were repaired, ``run`` and ``method``, where they are known.

    Raises:
      ImportError: matplotlib is missing.
    """
    whose = f"Repair of run {about['run']} ({about['method']})" if about else "Repair"
    return _section(audit, repair_figures(audit), whose)


def _section(audit: Audit, figures: dict[str, bytes], heading: str) -> str:
    findings = "".join(f"<li>{escape(_finding(audit, t))}</li>" for t in range(len(audit.tasks)))
    drawn = "".join(_figure(*FIGURES[name], content) for name, content in figures.items())
    tables = "".join(
        f"<h3>{name}</h3>{hint and f'<p class=hint>{escape(hint)}</p>'}{table(audit)}"
        for name, hint, table in (
            ("Unfairness", UNFAIRNESS, _unfairness),
            ("Groups", GROUPS, _groups),
            ("Price", "", _price),
        )
    )
    return (
        f'<section class="repair"><h2>{escape(heading)}</h2><ul>{findings}</ul>{notes(list(_warnings(audit)))}{drawn}'
        f"{tables}</section>"
    )


def _figure(heading: str, caption: str, png: bytes) -> str:
    width = round(int.from_bytes(png[16:20], "big") * PIXEL)  # where PNG has it
    return (
        f'<h3>{escape(heading)}</h3><figure><img width="{width}" alt="{escape(heading)}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


# ------------------------------------------------------------------------------------------------ sentences


def _lead(audit: Audit) -> str:
    seen = usable(audit)
    groups = f"{len(groups_of(audit))} groups by {' and '.join(audit.attributes)}"
    return " \N{MIDDLE DOT} ".join(
        [
            f"{int(seen.sum()):,} rows",
            groups,
            f"{_amount(float(audit.mass.sum()))} rows in the pool",
            f"tasks: {', '.join(audit.tasks)}",
        ]
    )


def _finding(audit: Audit, task: int) -> str:
    before, after = (
        audit.gaps["kolmogorov_smirnov"][0, task],
        gaps_after(audit)["kolmogorov_smirnov"][task],
    )
    told = zip(between(audit), before, after, audit.floor[task], strict=True)
    moves = [
        f"from {_digits(was)} to {_digits(now)} between groups of {name} (chance alone: {_digits(floor)})"
        for name, was, now, floor in told
        if np.isfinite([was, now]).all()
    ]
    apart = (
        f"the largest Kolmogorov-Smirnov distance went {'; '.join(moves)}"
        if moves
        else "no two groups to compare"
    )
    changed, at = moved(audit)[task], nearest(audit)
    paid = f"The scores changed by {_digits(changed)} in the root mean square"
    on_path = np.isclose(
        changed, audit.change[at, task], rtol=0.01
    )  # else nobody measured the risk
    if on_path and audit.risk is not None and np.isfinite(audit.risk[[0, at], task]).all():
        paid += f", {audit.risk_name[task]} went from {_digits(audit.risk[0, task])} to {_digits(audit.risk[at, task])}"
    return f"{audit.tasks[task]}: {apart}. {paid}."


def _warnings(audit: Audit):
    """What a reader must know before he believes the pictures."""
    seen = usable(audit)
    rows = np.bincount(audit.cell[seen], minlength=len(audit.cells) + 1)
    yield from _small(audit, rows[:-1])
    known = list(zip(audit.cells, rows, audit.mass, strict=False))
    if unseen := [name for name, here, pool in known if here and not pool]:
        yield f"Groups that have no row in the pool, so that their scores were ranked among all rows: {_list(unseen)}."
    if absent := [name for name, here, _ in known if not here]:
        yield f"Groups that have no reported row and are not shown: {_list(absent)}."
    if rows[-1]:
        yield f"Of {rows[-1]:,} rows the group is unknown: their scores were ranked among all rows, and no picture shows them."
    if lost := int(((audit.weight > 0) & ~seen).sum()):
        yield f"{lost:,} rows with a score that is not finite are left out."
    for t, name in enumerate(audit.tasks):
        if (share := _tied(audit, t)) > TIED:
            yield (
                f"{name}: {100 * share:.0f} % of the rows have a score that at least a twentieth of their group shares. A"
                " repair without a key keeps equal scores of a group equal, so that distributions with such jumps cannot"
                " fully agree."
            )


def _small(audit: Audit, rows: np.ndarray):
    """Small groups, and how far apart two samples of one law as small as they and the largest group would be."""
    least = np.minimum(rows, audit.mass)
    most = max(least.max(initial=0.0), 1.0)
    small = sorted((i for i in range(len(least)) if 0 < least[i] < SMALL), key=lambda i: least[i])
    if small:
        said = [
            f"{audit.cells[i]} ({_amount(float(audit.mass[i]))} in the pool, {rows[i]:,} reported: about"
            f" {CHANCE * np.sqrt(1 / least[i] + 1 / most):.2f})"
            for i in small
        ]
        yield (
            f"Groups of fewer than {SMALL} rows, and the Kolmogorov-Smirnov distance to the largest group that is to be"
            f" expected of so few rows even where there is no difference, 0.87 sqrt(1/n + 1/m): {_list(said)}."
        )


def _list(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _tied(audit: Audit, task: int) -> float:
    """Share of the rows of known groups whose score is an atom of their group."""
    groups = groups_of(audit)
    weight = np.array([audit.weight[g.rows].sum() for g in groups])
    tied = np.array(
        [atoms(audit.before[g.rows, task], audit.weight[g.rows])[1].sum() for g in groups]
    )
    return float(weight @ tied / max(weight.sum(), 1e-30)) if groups else 0.0


# ------------------------------------------------------------------------------------------------ tables


def _table(head: Sequence[str], lines: Sequence[str]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="wide"><table class="groups"><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</div>"
    )


def _line(name: str, values: Sequence[str]) -> str:
    cells = "".join(f'<td class="number">{escape(value)}</td>' for value in values)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _heading(name: str, width: int) -> str:
    return f'<tr class="attribute"><th colspan="{width}" scope="rowgroup">{escape(name)}</th></tr>'


def _digits(value: float) -> str:
    return f"{value:.2g}" if 0 < value < 0.01 else _number(value)


def _unfairness(audit: Audit) -> str:
    """A row per task and attribute."""
    head = [
        "between groups of",
        "KS before",
        "KS after",
        "KS by chance alone",
        "Wasserstein before",
        "Wasserstein after",
    ]
    (ks, far), (ks_after, far_after) = (
        (gaps["kolmogorov_smirnov"], gaps["wasserstein"])
        for gaps in (audit.gaps, gaps_after(audit))
    )
    lines = []
    for t, task in enumerate(audit.tasks):
        lines.append(_heading(task, len(head)))
        for a, name in enumerate(between(audit)):
            values = (ks[0, t, a], ks_after[t, a], audit.floor[t, a], far[0, t, a], far_after[t, a])
            lines.append(_line(name, [_digits(v) for v in values]))
    return _table(head, lines)


def _groups(audit: Audit) -> str:
    """A row per group: how many rows, and per task its mean score before and after and how much its scores changed."""
    head = ["group", "rows", "rows in the pool"]
    for task in audit.tasks:
        head += [f"{task}: mean before", f"{task}: mean after", f"{task}: change"]
    lines = []
    for group in groups_of(audit):
        weight = audit.weight[group.rows] / audit.weight[group.rows].sum()
        before, after = (scores[group.rows].astype(float) for scores in (audit.before, audit.after))
        found = np.stack(
            [weight @ before, weight @ after, np.sqrt(weight @ np.square(after - before))], axis=1
        )
        rows = [f"{len(group.rows):,}", _amount(float(audit.mass[group.cell]))]
        lines.append(_line(group.name, [*rows, *map(_digits, found.ravel())]))
    return _table(head, lines)


def _price(audit: Audit) -> str:
    """A row per task and amount."""
    head = [
        "repair amount",
        "change (root mean square)",
        "risk",
        *(f"KS, {name}" for name in between(audit)),
    ]
    steps = np.unique(
        np.linspace(0, len(audit.amounts) - 1, min(TABLED, len(audit.amounts))).round().astype(int)
    )
    lines = []
    for t, task in enumerate(audit.tasks):
        known = audit.risk is not None and np.isfinite(audit.risk[:, t]).any()
        lines.append(_heading(f"{task} (risk: {cost(audit, t)[1]})" if known else task, len(head)))
        for p in steps:
            risk = audit.risk[p, t] if known else np.nan
            values = (audit.change[p, t], risk, *audit.gaps["kolmogorov_smirnov"][p, t])
            lines.append(_line(f"{audit.amounts[p]:.2g}", [_digits(v) for v in values]))
    return _table(head, lines)
