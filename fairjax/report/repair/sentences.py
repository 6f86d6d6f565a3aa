"""Sentences about one repair: what it covers, what it did, and which pictures to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fairjax.metrics.distribution import CHANCE
from fairjax.postprocess import Audit
from fairjax.report.repair.measures import (
    change_after,
    comparisons,
    gaps_after,
    groups_of,
    nearest_step,
    usable,
)
from fairjax.report.repair.smoothing import atoms
from fairjax.report.text import count, number

SMALL_GROUP = 200  # rows below which chance alone keeps distributions visibly apart
MOST_NAMED = 8  # groups that a sentence names
TIED_SHARE = 0.1  # share of a task's rows at atoms from which on a sentence says so


def lead(audit: Audit) -> str:
    """Rows, groups and tasks of a repair."""
    parts = [
        f"{int(usable(audit).sum()):,} rows",
        f"{len(groups_of(audit))} groups by {' and '.join(audit.attributes)}",
        f"{count(float(audit.mass.sum()))} rows in the pool",
        f"tasks: {', '.join(audit.tasks)}",
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def finding(audit: Audit, task: int) -> str:
    """What the repair did to the scores of a task, and what it cost."""
    distances = _distances(audit, task)
    if distances:
        gap = f"the largest Kolmogorov-Smirnov distance went {'; '.join(distances)}"
    else:
        gap = "no two groups to compare"
    change = change_after(audit)[task]
    price = f"The scores changed by {number(change)} in the root mean square"
    risk = _risk(audit, task, change)
    return f"{audit.tasks[task]}: {gap}. {price}{risk}."


def warnings_of(audit: Audit) -> Iterator[str]:
    """Sentences about small, unseen, absent and unknown groups, lost rows and equal scores."""
    counted = usable(audit)
    rows = np.bincount(audit.cell[counted], minlength=len(audit.cells) + 1)
    known_rows = rows[:-1]
    unknown_rows = rows[-1]
    yield from _small_groups(audit, known_rows)
    cells = list(zip(audit.cells, known_rows, audit.mass, strict=True))
    unseen = [name for name, reported, pool in cells if reported and not pool]
    if unseen:
        yield (
            "Groups that have no row in the pool, so that their scores were ranked among all rows:"
            f" {_list(unseen)}."
        )
    absent = [name for name, reported, _ in cells if not reported]
    if absent:
        yield f"Groups that have no reported row and are not shown: {_list(absent)}."
    if unknown_rows:
        yield (
            f"Of {unknown_rows:,} rows the group is unknown: their scores were ranked among all"
            " rows, and no picture shows them."
        )
    lost = int(((audit.weight > 0) & ~counted).sum())
    if lost:
        yield f"{lost:,} rows with a score that is not finite are left out."
    for task, name in enumerate(audit.tasks):
        share = _tied_share(audit, task)
        if share > TIED_SHARE:
            yield (
                f"{name}: {100 * share:.0f} % of the rows have a score that at least a twentieth"
                " of their group shares. A repair without a key keeps equal scores of a group"
                " equal, so that distributions with such jumps cannot fully agree."
            )


def _distances(audit: Audit, task: int) -> list[str]:
    """How the Kolmogorov-Smirnov distance moved, per comparison that could be made."""
    sentences = []
    for position, name in enumerate(comparisons(audit)):
        gap_before = audit.gaps["kolmogorov_smirnov"][0, task, position]
        gap_after = gaps_after(audit)["kolmogorov_smirnov"][task, position]
        chance = audit.floor[task, position]
        if np.isfinite([gap_before, gap_after]).all():
            sentences.append(
                f"from {number(gap_before)} to {number(gap_after)} between groups of {name}"
                f" (chance alone: {number(chance)})"
            )
    return sentences


def _risk(audit: Audit, task: int, change: float) -> str:
    """How the risk moved; empty where nobody measured it."""
    step = nearest_step(audit)
    on_path = np.isclose(change, audit.change[step, task], rtol=0.01)
    if not on_path or audit.risk is None:
        return ""
    risk_before = audit.risk[0, task]
    risk_after = audit.risk[step, task]
    if not np.isfinite([risk_before, risk_after]).all():
        return ""
    return f", {audit.risk_name[task]} went from {number(risk_before)} to {number(risk_after)}"


def _small_groups(audit: Audit, rows: np.ndarray) -> Iterator[str]:
    """Small groups, and the distance to be expected between two samples of one law.

    The samples are as small as the group and as the largest one.
    """
    size = np.minimum(rows, audit.mass)
    largest = max(size.max(initial=0.0), 1.0)
    small = [cell for cell in range(len(size)) if 0 < size[cell] < SMALL_GROUP]
    small.sort(key=lambda cell: size[cell])
    if not small:
        return
    descriptions = []
    for cell in small:
        chance = CHANCE * np.sqrt(1 / size[cell] + 1 / largest)
        pool = count(float(audit.mass[cell]))
        descriptions.append(
            f"{audit.cells[cell]} ({pool} in the pool, {rows[cell]:,} reported: about {chance:.2f})"
        )
    yield (
        f"Groups of fewer than {SMALL_GROUP} rows, and the Kolmogorov-Smirnov distance to the"
        " largest group that is to be expected of so few rows even where there is no difference,"
        f" 0.87 sqrt(1/n + 1/m): {_list(descriptions)}."
    )


def _list(names: Sequence[str]) -> str:
    unnamed = len(names) - MOST_NAMED
    text = ", ".join(names[:MOST_NAMED])
    if unnamed > 0:
        text += f" and {unnamed} more"
    return text


def _tied_share(audit: Audit, task: int) -> float:
    """Share of the rows of known groups whose score is an atom of their group."""
    total = 0.0
    tied = 0.0
    for group in groups_of(audit):
        weight = audit.weight[group.rows]
        _, share = atoms(audit.before[group.rows, task], weight)
        total += weight.sum()
        tied += weight.sum() * share.sum()
    return float(tied / max(total, 1e-30))
