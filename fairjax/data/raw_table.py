"""The raw table: named columns as they were read, before any encoding.

A column is float64 (NaN is missing) or an object array of stripped text. The table's ``na`` says
which texts are missing values.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable

import numpy as np

from fairjax.data.complaints import complain, listing

NA = ("", "NA", "NaN", "nan")


def number(cell: str) -> float | None:
    """The number that a text spells, or None. ``1_000`` is text: no spreadsheet writes it."""
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def canonical(cell: str | float) -> str:
    """One spelling per value: ``1``, ``1.0`` and ``01`` become the same level in every file."""
    value = number(cell) if isinstance(cell, str) else float(cell)
    if value is None or not math.isfinite(value) or abs(value) >= 1e15:
        return str(cell)
    if value == int(value):
        return str(int(value))
    return repr(value)


@dataclasses.dataclass(frozen=True)
class RawTable:
    """Named columns of equal length, with what error messages need."""

    where: str  # file name or kind of source, for messages
    columns: dict[str, np.ndarray]  # float64, or object arrays of text
    lines: np.ndarray | None = None  # line number in the file per row
    na: tuple[str, ...] = NA

    def __len__(self) -> int:
        first = next(iter(self.columns.values()), ())
        return len(first)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def column(self, name: str) -> np.ndarray:
        """The raw cells of a column.

        Raises:
            DataError: there is no such column; the message gives the nearest names.
        """
        if name in self.columns:
            return self.columns[name]
        similar = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
        if similar:
            cure = f"Did you mean {listing(similar)}?"
        else:
            cure = f"The columns are {listing(list(self.columns), 12)}."
        problem = f"no column {name!r} among {len(self.columns)} columns, {len(self):,} rows"
        raise complain(self.where, problem, cure)

    def missing(self, name: str) -> np.ndarray:
        """``[N]`` bool: the cell is NaN, or a text in ``na``."""
        cells = self.column(name)
        if cells.dtype != object:
            return np.isnan(cells)
        return _per_cell(cells, lambda cell: cell in self.na, bool)

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of a column, and the cells that should be numbers but are not.

        Returns:
            ``value [N]`` float64, NaN where the cell is missing or bad; ``bad [N]`` bool, True
            where the cell is known but is not a number.
        """
        cells = self.column(name)
        if cells.dtype != object:
            return cells, np.zeros(len(cells), bool)
        missing = self.missing(name)
        value = _per_cell(cells, _number_or_nan, np.float64)
        value[missing] = math.nan
        is_text = _per_cell(cells, lambda cell: number(cell) is None, bool)
        return value, is_text & ~missing

    def text(self, name: str) -> np.ndarray:
        """``[N]`` text of a column in canonical spelling, the empty string where it is missing."""
        cells = self.column(name)
        missing = self.missing(name)
        if cells.dtype != object:
            # NaN does not equal itself, so a lookup of NaN fails.
            cells = np.where(missing, 0.0, cells)
        texts = _per_cell(cells, canonical, object)
        texts[missing] = ""
        return texts

    def spots(self, rows: np.ndarray, name: str | None = None) -> str:
        """The first marked rows, with their cells if a column is named: ``line 3 ('abc')``."""
        places = []
        for row in np.flatnonzero(rows)[:3]:
            place = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
            if name:
                cell = str(self.columns[name][row])
                place = f"{place} ({cell[:40]!r})"
            places.append(place)
        return ", ".join(places)

    def require_numbers(self, name: str, cure: str) -> np.ndarray:
        """``[N]`` float64 of a column that must be numeric.

        Raises:
            DataError: a known cell is not a number.
        """
        value, bad = self.numbers(name)
        if bad.any():
            count = f"{bad.sum():,} of {len(self):,}"
            problem = f"column {name!r}: {count} cells are not numbers, {self.spots(bad, name)}"
            raise complain(self.where, problem, cure)
        return value


def _number_or_nan(cell: str) -> float:
    value = number(cell)
    return math.nan if value is None else value


def _per_cell(cells: np.ndarray, function: Callable, dtype) -> np.ndarray:
    """``function`` of every cell. Each distinct cell is computed once."""
    values = cells.tolist()
    results = {cell: function(cell) for cell in set(values)}
    return np.array([results[cell] for cell in values], dtype=dtype)
