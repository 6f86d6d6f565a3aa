"""The disaggregated table of one run as a section of the page: a table per task, a row per group, a column per statistic.

In: a :class:`~fairjax.metrics.GroupTable` and what ``info["groups"]`` says of it. Out: HTML, escaped.
"""

from __future__ import annotations

from html import escape

import numpy as np

from fairjax.metrics import GroupTable

# what one looks at first stands first; what is not named here follows in the table's order
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
SHOWN = {"auc": "AUC"}
OPEN = 4  # tables that are not folded

Block = tuple[
    tuple[str, str], dict[tuple[str, str], int]
]  # (attribute, group), (task, statistic) -> row


def groups_section(groups: GroupTable | None, about: dict) -> str:
    """The section, or nothing without a table.

    Args:
      groups: of one run.
      about: ``run``, ``method``, ``minimum`` (weight below which a group is left out), where they are known.
    """
    if groups is None:
        return ""
    blocks = _blocks(groups.columns)
    tasks = list(dict.fromkeys(groups.columns["task"].tolist()))
    run = f": run {about['run']} ({about['method']})" if "run" in about else ""
    tables = "".join(
        f"<details{' open' * (i < OPEN)}><summary><h3>{escape(task)}</h3></summary>"
        f"{_table(groups.columns, blocks, task)}</details>"
        for i, task in enumerate(tasks)
    )
    return f'<section><h2>{escape("Groups" + run)}</h2><p class="hint">{escape(_hint(groups, about))}</p>{tables}</section>'


def _hint(groups: GroupTable, about: dict) -> str:
    parts = ["Test rows."]
    if "run" in about:
        parts = [
            "The run at the knee of the frontier of all methods, which was selected on validation data, on test rows."
        ]
    parts.append("Decisions of a binary task are made at its base rate.")
    if np.isfinite(groups.columns["low"]).any():
        parts.append(
            "A difference is the largest less the smallest value. Small type: 95 % intervals from resampling rows;"
            " that of a difference lies above 0 even where there is none."
        )
    if groups.left_out:
        few = f" with a weight of less than {about['minimum']:g}" if "minimum" in about else ""
        parts.append(
            f"Groups{few} are left out: "
            + ", ".join(f"{name} ({count:g})" for name, count in groups.left_out.items())
            + "."
        )
    return " ".join(parts)


def _blocks(columns: dict[str, np.ndarray]) -> list[Block]:
    """Rows of the tidy table that stand side by side on the page. A level may have the name of the row of differences."""
    blocks: list[Block] = []
    rows = zip(
        *(columns[name].tolist() for name in ("attribute", "group", "task", "statistic")),
        strict=True,
    )
    for i, (attribute, group, *cell) in enumerate(rows):
        if not blocks or blocks[-1][0] != (attribute, group) or tuple(cell) in blocks[-1][1]:
            blocks.append(((attribute, group), {}))
        blocks[-1][1][tuple(cell)] = i
    return blocks


def _table(columns: dict[str, np.ndarray], blocks: list[Block], task: str) -> str:
    names = [name for one, name in blocks[0][1] if one == task]
    names = sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    head = "".join(
        f'<th scope="col">{escape(SHOWN.get(name, name.replace("_", " ")))}</th>'
        for name in ("group", "rows", *names)
    )
    lines = []
    for i, ((attribute, group), at) in enumerate(blocks):
        if attribute and blocks[i - 1][0][0] != attribute:
            lines.append(
                f'<tr class="attribute"><th colspan="{len(names) + 2}" scope="rowgroup">{escape(attribute)}</th></tr>'
            )
        last = i + 1 == len(blocks) or blocks[i + 1][0][0] != attribute
        shown = "everyone" if not attribute else "difference" if last else group
        cells = "".join(
            _cell(*(columns[c][at[task, name]] for c in ("count", "value", "low", "high")))
            for name in names
        )
        lines.append(
            f"<tr{' class=difference' * bool(attribute and last)}><td>{escape(shown)}</td>"
            f'<td class="number">{_amount(columns["count"][at[task, names[0]]])}</td>{cells}</tr>'
        )
    return (
        f'<div class="wide"><table class="groups"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</div>"
    )


def _cell(count: float, value: float, low: float, high: float) -> str:
    ends = (
        f"<small>{_number(low)} \N{EN DASH} {_number(high)}</small>"
        if np.isfinite([low, high]).all()
        else ""
    )
    return f'<td class="number" title="of {_amount(count)}">{_number(value)}{ends}</td>'


def _amount(weight: float) -> str:
    return f"{weight:,.0f}" if weight >= 100 or float(weight).is_integer() else f"{weight:.3g}"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "\N{EN DASH}"
    places = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{places}f}".replace("-", "\N{MINUS SIGN}")
