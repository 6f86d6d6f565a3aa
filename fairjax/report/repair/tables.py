"""Tables of one repair: unfairness, what every group pays, the price over the amount."""

from __future__ import annotations

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report.repair.measures import (
    Group,
    comparisons,
    gaps_after,
    groups_of,
    has_risk,
)
from fairjax.report.tables import Cell, GroupedRow, GroupedTable, number_cells
from fairjax.report.text import count

MOST_AMOUNTS = 5  # of the path in the table
UNFAIRNESS_HINT = (
    "KS: the largest gap of selection rates between two groups over all thresholds, 0 to 1; by"
    " chance alone about 0.87 sqrt(1/n + 1/m) of the two smallest groups, and more where the"
    " largest of many pairs is taken. Wasserstein: how far scores of two groups lie apart, mean"
    " over pairs, in the unit of the score."
)
GROUPS_HINT = (
    "Change: root mean squared change of a score of the group. Groups do not pay alike: those"
    " whose distribution lies far from the common one pay most."
)


def tables_of(audit: Audit) -> list[GroupedTable]:
    """All tables of a repair."""
    return [_unfairness(audit), _groups(audit), _price(audit)]


def _unfairness(audit: Audit) -> GroupedTable:
    """A row per task and attribute."""
    head = [
        "between groups of",
        "KS before",
        "KS after",
        "KS by chance alone",
        "Wasserstein before",
        "Wasserstein after",
    ]
    gaps_before = {name: path[0] for name, path in audit.gaps.items()}
    gaps_reached = gaps_after(audit)
    rows = []
    for task, name in enumerate(audit.tasks):
        rows.append(GroupedRow(name, kind="attribute"))
        for position, comparison in enumerate(comparisons(audit)):
            values = [
                gaps_before["kolmogorov_smirnov"][task, position],
                gaps_reached["kolmogorov_smirnov"][task, position],
                audit.floor[task, position],
                gaps_before["wasserstein"][task, position],
                gaps_reached["wasserstein"][task, position],
            ]
            rows.append(GroupedRow(comparison, number_cells(values)))
    return GroupedTable(head, rows, "Unfairness", UNFAIRNESS_HINT)


def _groups(audit: Audit) -> GroupedTable:
    """A row per group: its size, and per task its mean score before and after, and the change."""
    head = ["group", "rows", "rows in the pool"]
    for task in audit.tasks:
        head += [f"{task}: mean before", f"{task}: mean after", f"{task}: change"]
    rows = [_group_row(audit, group) for group in groups_of(audit)]
    return GroupedTable(head, rows, "Groups", GROUPS_HINT)


def _group_row(audit: Audit, group: Group) -> GroupedRow:
    weight = audit.weight[group.rows]
    share = weight / weight.sum()
    score_before = audit.before[group.rows].astype(float)
    score_after = audit.after[group.rows].astype(float)
    mean_before = share @ score_before
    mean_after = share @ score_after
    change = np.sqrt(share @ np.square(score_after - score_before))
    values = np.stack([mean_before, mean_after, change], axis=1)  # [T, 3]
    sizes = (
        Cell(count(len(group.rows))),
        Cell(count(float(audit.mass[group.cell]))),
    )
    return GroupedRow(group.name, sizes + number_cells(values.ravel()))


def _price(audit: Audit) -> GroupedTable:
    """A row per task and amount."""
    head = ["repair amount", "change (root mean square)", "risk"]
    head += [f"KS, {name}" for name in comparisons(audit)]
    last = len(audit.amounts) - 1
    steps = np.linspace(0, last, min(MOST_AMOUNTS, last + 1))
    rows = []
    for task, name in enumerate(audit.tasks):
        risk_known = has_risk(audit, task)
        heading = f"{name} (risk: {audit.risk_name[task]})" if risk_known else name
        rows.append(GroupedRow(heading, kind="attribute"))
        for step in np.unique(steps.round().astype(int)):
            change = audit.change[step, task]
            risk = audit.risk[step, task] if risk_known else None
            gaps = audit.gaps["kolmogorov_smirnov"][step, task]
            rows.append(
                GroupedRow(f"{audit.amounts[step]:.2g}", number_cells([change, risk, *gaps]))
            )
    return GroupedTable(head, rows, "Price")
