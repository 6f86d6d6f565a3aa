"""The data of a study, as the page shows them: columns, warnings and notes."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairjax.report.tables import SortableRow, SortableTable

_HEAD = {
    "name": "Column",
    "role": "Role",
    "type": "Type",
    "values": "Values",
    "missing": "Missing",
    "alone": "Alone",
    "noted": "Noted",
}


class DataView(NamedTuple):
    """What was found in the data before training."""

    summary: str
    warnings: list[str]
    notes: list[str]
    columns: SortableTable
    left: str  # how many columns are not shown


def data_view(info: dict[str, Any]) -> DataView | None:
    """The data that ``info`` describes; None if it does not."""
    data = info.get("data")
    if not data:
        return None
    warnings = data["warnings"]
    notes = data["notes"]
    rows = data["rows"]
    sizes = ", ".join(f"{size:,} {split}" for split, size in rows.items())
    parts = [
        f"{sum(rows.values()):,} rows ({sizes})",
        _counted(data["features"], "feature"),
        _counted(len(warnings), "warning"),
        _counted(len(notes), "note"),
    ]
    cells = [[column[key] for key in _HEAD] for column in data["columns"]]
    table = SortableTable(list(_HEAD.values()), [SortableRow(row) for row in cells])
    return DataView(" \N{MIDDLE DOT} ".join(parts), warnings, notes, table, data["left"])


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
