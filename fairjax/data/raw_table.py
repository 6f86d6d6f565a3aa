"""The raw table: named columns as they were read, before any encoding.

A column is float64 (NaN is missing), or text of Arrow in chunks without blanks around it. The
table's ``na`` says which texts are missing values.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fairjax.core.threads import in_threads
from fairjax.data import arrow_text
from fairjax.data.arrow_text import Texts
from fairjax.data.complaints import complain, listing
from fairjax.data.numbers import DATE, PLAIN, NumberForm, find_forms, number

# spellings of a missing cell, in any case
NA = (
    "",
    "NA",
    "N/A",
    "#N/A",
    "<NA>",
    "NaN",
    "-NaN",
    "NaT",
    "NULL",
    "None",
    "nil",
    "?",
    "-",
    "--",
    ".",
)
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,14})\.0*", re.ASCII)
LARGEST_WHOLE = 2**53  # whole numbers up to here are exact in double precision


def canonical(cell: str | float) -> str:
    """One spelling per whole number: a level ``1.0`` is ``1``, as tables with gaps write it."""
    if isinstance(cell, str):
        return cell[: cell.index(".")] if "." in cell and _WHOLE.fullmatch(cell) else cell
    is_whole = math.isfinite(cell) and cell == int(cell) and abs(cell) < LARGEST_WHOLE
    return str(int(cell)) if is_whole else repr(float(cell))


def missing_texts(na: tuple[str, ...]) -> frozenset[str]:
    """Spellings of a missing cell in lower case: ``-999`` stands for ``-999.0`` too."""
    texts = {text.strip().lower() for text in na}
    return frozenset(texts | {f"{text}.0" for text in texts if _WHOLE.fullmatch(f"{text}.0")})


def name_key(name: str) -> str:
    """What tells names apart when they are looked up: accents in one form, no blanks around."""
    return unicodedata.normalize("NFC", name).strip()


@dataclasses.dataclass(frozen=True)
class Distinct:
    """The distinct texts of a column, and the place of every cell's text among them."""

    codes: np.ndarray  # [N]
    texts: list[str]

    def per_cell(self, function: Callable[[str], Any], dtype: DTypeLike) -> np.ndarray:
        """``function`` of every cell ``[N]``, computed once for each distinct text."""
        results = np.empty(len(self.texts), dtype)
        for i, text in enumerate(self.texts):
            results[i] = function(text)
        return results[self.codes]


def _kept(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a table and a column that works once per column; its arrays stay unchanged."""

    @functools.wraps(method)
    def kept(table: RawTable, name: str, *args):
        key = (method.__name__, name, *args)
        if key not in table._results:
            table._results[key] = method(table, name, *args)
        return table._results[key]

    return kept


@dataclasses.dataclass(frozen=True)
class RawTable:
    """Named columns of equal length, with what error messages need."""

    where: str  # file name or kind of source, for messages
    columns: Mapping[str, np.ndarray | Texts]  # float64 or text
    lines: np.ndarray | None = None  # line number in the file per row
    na: tuple[str, ...] = NA
    notes: tuple[str, ...] = ()  # what was understood when it was read
    decimal: str = ""  # the sign before decimals, where it is known
    dates: frozenset[str] = frozenset()  # columns whose numbers are days since 1970-01-01
    sha256: str = ""  # of the file
    # [N, H, W, 3] uint8 by name of a column of images
    pixels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    images_sha256: str = ""  # of the image files
    # [N, D] float32 of a pretrained network, and its fingerprint
    features: np.ndarray | None = None
    fingerprint: str = ""

    def __len__(self) -> int:
        first = next(iter(self.columns.values()), ())
        return len(first)

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    @functools.cached_property
    def _results(self) -> dict[str, Any]:
        """What was found out about columns."""
        return {}

    @functools.cached_property
    def _missing_texts(self) -> frozenset[str]:
        return missing_texts(self.na)

    def find(self, name: str) -> str | None:
        """The column of a name: exactly, or but for blanks around it and the form of accents."""
        if name in self.columns:
            return name
        key = name_key(name)
        similar = [column for column in self.columns if name_key(column) == key]
        return similar[0] if len(similar) == 1 else None

    def column(self, name: str) -> np.ndarray | Texts:
        """The raw cells of a column.

        Raises:
            DataError: there is no such column; the message gives the nearest names.
        """
        found = self.find(name)
        if found is not None:
            return self.columns[found]
        raise complain(self.where, self._absence(name), self._similar(name))

    def _absence(self, name: str) -> str:
        return f"no column {name!r} among {len(self.columns)} columns, {len(self):,} rows"

    def _similar(self, name: str) -> str:
        in_other_case = [other for other in self.columns if other.casefold() == name.casefold()]
        similar = in_other_case or difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
        if similar:
            return f"Did you mean {listing(similar)}?"
        return f"The columns are {listing(list(self.columns), 12)}."

    def is_text(self, name: str) -> bool:
        """Whether a column holds text; otherwise it holds numbers."""
        return not isinstance(self.column(name), np.ndarray)

    @_kept
    def distinct(self, name: str) -> Distinct:
        """The distinct texts of a column, in order of appearance."""
        chunks = self.column(name).dictionary_encode().unify_dictionaries().chunks
        if not chunks:
            return Distinct(np.zeros(0, np.int32), [])
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
        return Distinct(codes, chunks[0].dictionary.to_pylist())

    @_kept
    def distinct_levels(self, name: str) -> list[str]:
        """The distinct texts of a column in canonical spelling, empty where they are missing."""
        texts = self.distinct(name).texts
        return ["" if self.is_missing_text(text) else canonical(text) for text in texts]

    def cells(self, name: str) -> np.ndarray:
        """``[N]`` float64, or objects of text as it is written."""
        cells = self.column(name)
        if isinstance(cells, np.ndarray):
            return cells
        return self.distinct(name).per_cell(lambda text: text, object)

    def written(self, name: str) -> np.ndarray:
        """``[N]`` texts as they are written, ``NA`` and ``007`` too; numbers in canonical form."""
        return self.cells(name) if self.is_text(name) else self.text(name)

    def is_missing_text(self, text: str) -> bool:
        """Whether a text means a missing value."""
        return text.lower() in self._missing_texts

    def look_at(self, names: Iterable[str]) -> None:
        """Find out in threads about columns of text; see :meth:`missing` and :meth:`form`."""
        texts = [name for name in names if self.is_text(name)]

        def look(name: str) -> None:
            is_plain = self._plain_numbers(name) is not None
            self.has_leading_zeros(name) if is_plain else self.distinct(name)

        in_threads(look, texts)

    @_kept
    def missing(self, name: str) -> np.ndarray:
        """``[N]`` bool: the cell is NaN, or a text in ``na``."""
        cells = self.column(name)
        if isinstance(cells, np.ndarray):
            missing = np.isnan(cells)
            for text in self._missing_texts:
                # a number may be declared missing too, such as -999
                value = number(text)
                if value is not None:
                    missing |= cells == value
            return missing
        return arrow_text.missing_cells(cells, self._missing_texts)

    @_kept
    def has_leading_zeros(self, name: str) -> bool:
        """Whether cells of a column are digits behind a zero, such as ``007``."""
        if not self.is_text(name):
            return False
        return arrow_text.has_leading_zeros(self.column(name))

    @_kept
    def known_texts(self, name: str) -> dict[str, int]:
        """The distinct known texts of a column of text in order of appearance, and their rows."""
        distinct = self.distinct(name)
        counts = np.bincount(distinct.codes, minlength=len(distinct.texts)).tolist()
        rows_of = dict(zip(distinct.texts, counts, strict=True))
        return {text: rows for text, rows in rows_of.items() if not self.is_missing_text(text)}

    @_kept
    def form(self, name: str) -> NumberForm | None:
        """How the known cells of a column spell numbers; None if they are not all numbers.

        Raises:
            DataError: there are two ways to read them.
        """
        if self.find(name) in self.dates:
            return DATE
        if not self.is_text(name):
            return PLAIN
        if self.decimal != "," and self._plain_numbers(name) is not None:
            return PLAIN
        texts = list(self.known_texts(name))
        if not texts:
            return PLAIN
        forms = find_forms(texts, self.decimal)
        if len(forms) < 2:
            return forms[0] if forms else None
        first, second, *_ = forms
        example = next(text for text in texts if number(text, first) != number(text, second))
        readings = [f"{number(example, form):g}" for form in (first, second)]
        readings = " or ".join(readings)
        problem = f"column {name!r} in {len(self):,} rows: {example!r} may be {readings}"
        cure = "Say which sign stands before decimals: decimal '.' or ',' (--decimal)."
        raise complain(self.where, problem, cure)

    @_kept
    def _plain_numbers(self, name: str) -> np.ndarray | None:
        """The numbers of a column of plain numbers, NaN where missing; None of another column."""
        return arrow_text.numbers(self.column(name), self.missing(name))

    def numbers(self, name: str, form: NumberForm | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of a column, and the cells that should be numbers but are not.

        Args:
            name: of the column.
            form: how the cells spell numbers; None: as they do, or as plain numbers.

        Returns:
            ``value [N]`` float64, NaN where the cell is missing or bad; ``bad [N]`` bool, True
            where the cell is known but is not a number.
        """
        cells = self.column(name)
        missing = self.missing(name)
        if isinstance(cells, np.ndarray):
            return np.where(missing, np.nan, cells), np.zeros(len(cells), bool)
        form = form or self.form(name) or PLAIN
        if form == PLAIN:
            value = self._plain_numbers(name)
            if value is not None:
                return value, np.isnan(value) & ~missing
        value = self._numbers_in_form(name, form)
        return value, np.isnan(value) & ~missing

    @_kept
    def _numbers_in_form(self, name: str, form: NumberForm) -> np.ndarray:
        """The numbers of a column of text, NaN where a cell is missing or no number."""
        value = self.distinct(name).per_cell(lambda text: _number_or_nan(text, form), np.float64)
        value[self.missing(name)] = np.nan
        return value

    def text(self, name: str) -> np.ndarray:
        """``[N]`` text of a column in canonical spelling, the empty string where it is missing."""
        cells = self.column(name)
        if isinstance(cells, np.ndarray):
            values, codes = np.unique(cells, return_inverse=True)
            texts = np.array([canonical(value) for value in values.tolist()], object)[codes]
        else:
            levels = np.array([*self.distinct_levels(name), ""], object)[:-1]
            return levels[self.distinct(name).codes]
        texts[self.missing(name)] = ""
        return texts

    def spots(self, rows: np.ndarray, name: str | None = None) -> str:
        """The first marked rows, with their cells if a column is named: ``line 3 ('abc')``."""
        places = []
        for row in np.flatnonzero(rows)[:3]:
            place = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
            if name:
                cell = str(self.column(name)[row])
                place = f"{place} ({cell[:40]!r})"
            places.append(place)
        return ", ".join(places)

    def require_numbers(self, name: str, cure: str, form: NumberForm | None = None) -> np.ndarray:
        """``[N]`` float64 of a column that must be numeric.

        Raises:
            DataError: a known cell is not a number.
        """
        value, bad = self.numbers(name, form)
        if bad.any():
            count = f"{bad.sum():,} of {len(self):,}"
            problem = f"column {name!r}: {count} cells are not numbers, {self.spots(bad, name)}"
            raise complain(self.where, problem, cure)
        return value

    def with_columns(self, columns: Mapping[str, np.ndarray | Texts]) -> RawTable:
        """The table with other cells in some columns, or with more columns.

        Raises:
            DataError: a column has another length.
        """
        for name, column in columns.items():
            if len(column) != len(self):
                problem = f"columns of unequal length, {name!r} has {len(column):,} rows"
                problem = f"{problem} beside {len(self):,}"
                raise complain(self.where, problem, "Give one cell per row.")
        dates = self.dates - set(columns)
        return dataclasses.replace(self, columns={**self.columns, **columns}, dates=dates)


def _number_or_nan(text: str, form: NumberForm) -> float:
    value = number(text, form)
    return math.nan if value is None else value
