"""Tables of the pages, as the templates read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fairjax.report.text import number


class SortableRow(NamedTuple):
    """A row of a table that the page's script sorts."""

    cells: list[Any]  # texts, or numbers; the first names the row


class SortableTable(NamedTuple):
    """A table that the page's script sorts."""

    head: list[str]
    rows: list[SortableRow]


class Cell(NamedTuple):
    """A cell that holds a number."""

    text: str
    hint: str = ""  # shown when the pointer rests on the cell
    interval: str = ""  # in small type below


class GroupedRow(NamedTuple):
    """A row with a name in front."""

    name: str
    cells: tuple[Cell, ...] = ()
    kind: str = ""  # attribute (a heading), difference, or empty


class GroupedTable(NamedTuple):
    """A table whose rows stand under headings."""

    head: list[str]
    rows: list[GroupedRow]
    heading: str = ""
    hint: str = ""


def number_cells(values: Iterable[float]) -> tuple[Cell, ...]:
    """A cell per number."""
    return tuple(Cell(number(value)) for value in values)
