"""The groups of one run on the page: a table per task, a row per group, a column per statistic.

In: a :class:`~fairjax.metrics.GroupTable` and what ``info["groups"]`` says of it. Out: what the
template shows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fairjax.metrics import GroupTable
from fairjax.report.names import attribute_label, group_label, task_label
from fairjax.report.tables import Cell, GroupedRow, GroupedTable
from fairjax.report.terms import decision_text
from fairjax.report.text import DASH, count, number

# these statistics stand first; the others follow in the order of the table
FIRST = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "accuracy",
    "auc",
    "calibration_error",
    "precision",
    "mean_prediction",
    "mean_residual",
    "mean_absolute_error",
)
LABELS = {"auc": "AUC"}
UNFOLDED = 4  # tables that are open


@dataclasses.dataclass
class Block:
    """Rows of the tidy table that make one row of the page per task."""

    attribute: str
    group: str
    rows: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)  # (task, statistic)
    is_difference: bool = False


def groups_view(groups: GroupTable, info: dict[str, Any]) -> dict[str, Any]:
    """What the template ``groups_section.html`` shows.

    Args:
      groups: of one run.
      info: of the sweep. Its entry ``groups`` has ``run``, ``method``, ``minimum`` (weight below
        which a group is left out), where they are known.

    Returns:
      ``heading``, ``hint`` and ``tasks``: per task its name, whether it is open, and its table.
    """
    about = info.get("groups") or {}
    blocks = _blocks(groups.columns)
    heading = "Groups"
    if "run" in about:
        heading += f": run {about['run']} ({about['method']})"
    tasks = []
    names = dict.fromkeys(groups.columns["task"].tolist())
    for position, name in enumerate(names):
        task = {
            "name": task_label(info, name),
            "open": position < UNFOLDED,
            "table": _table(groups, blocks, name, info),
        }
        tasks.append(task)
    return {
        "heading": heading,
        "hint": _hint(groups, info),
        "tasks": tasks,
    }


def _hint(groups: GroupTable, info: dict[str, Any]) -> str:
    about = info.get("groups") or {}
    if "run" in about:
        sentences = [
            "The run at the knee of the frontier of all methods, which was selected on validation"
            " data, on test rows."
        ]
    else:
        sentences = ["Test rows."]
    if decision_text(info):
        sentences.append(decision_text(info))
    if np.isfinite(groups.columns["low"]).any():
        sentences.append(
            "A difference is the largest less the smallest value. Small type: 95 % intervals from"
            " resampling rows; that of a difference lies above 0 even where there is none."
        )
    if groups.left_out:
        few = ""
        if "minimum" in about:
            few = f" of fewer than {about['minimum']:g} rows"
        names = [f"{name} ({rows:g})" for name, rows in groups.left_out.items()]
        listed = ", ".join(names)
        sentences.append(f"Groups{few} are left out: {listed}.")
    return " ".join(sentences)


def _blocks(columns: dict[str, np.ndarray]) -> list[Block]:
    """Blocks in the order of the table. The last block of an attribute holds its differences.

    A group may itself be called ``difference``: then a repeated (task, statistic) begins the next
    block.
    """
    names = ("attribute", "group", "task", "statistic")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    blocks: list[Block] = []
    for position, (attribute, group, task, statistic) in enumerate(rows):
        last = blocks[-1] if blocks else None
        same_group = last and (last.attribute, last.group) == (attribute, group)
        if not same_group or (task, statistic) in last.rows:
            blocks.append(Block(attribute, group))
        blocks[-1].rows[task, statistic] = position
    next_blocks = [*blocks[1:], None]
    for block, next_block in zip(blocks, next_blocks, strict=True):
        is_last = next_block is None or next_block.attribute != block.attribute
        block.is_difference = bool(block.attribute) and is_last
    return blocks


def _table(
    groups: GroupTable, blocks: list[Block], task: str, info: dict[str, Any]
) -> GroupedTable:
    statistics = [statistic for owner, statistic in blocks[0].rows if owner == task]
    rank = {name: position for position, name in enumerate(FIRST)}
    statistics.sort(key=lambda name: rank.get(name, len(FIRST)))
    head = ["group", "rows"]
    head += [LABELS.get(name, name.replace("_", " ")) for name in statistics]
    rows = []
    attribute = ""
    for block in blocks:
        if block.attribute and block.attribute != attribute:
            heading = attribute_label(info, block.attribute)
            rows.append(GroupedRow(heading, kind="attribute"))
        attribute = block.attribute
        name = _name(block, info)
        rows.append(_row(groups.columns, block, name, task, statistics))
    return GroupedTable(head, rows)


def _name(block: Block, info: dict[str, Any]) -> str:
    if not block.attribute:
        return "everyone"
    if block.is_difference:
        return "difference"
    return group_label(info, block.attribute, block.group)


def _row(
    columns: dict[str, np.ndarray], block: Block, name: str, task: str, statistics: list[str]
) -> GroupedRow:
    positions = [block.rows[task, statistic] for statistic in statistics]
    rows = columns["count"][positions[0]]
    size = Cell(count(rows))
    cells = [_cell(columns, position) for position in positions]
    kind = "difference" if block.is_difference else ""
    return GroupedRow(name, (size, *cells), kind)


def _cell(columns: dict[str, np.ndarray], position: int) -> Cell:
    value = columns["value"][position]
    rows = columns["count"][position]
    low = columns["low"][position]
    high = columns["high"][position]
    interval = ""
    if np.isfinite([low, high]).all():
        interval = f"{number(low)} {DASH} {number(high)}"
    hint = f"of {count(rows)}"
    return Cell(number(value), hint, interval)
