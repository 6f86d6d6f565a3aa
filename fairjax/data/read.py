"""Reading: a CSV file, a data frame or a dict of arrays in, a :class:`Table` of named columns out.

A column is float64 (NaN is missing) or an object array of stripped text. What counts as missing in text is decided by
``na``. Every complaint names the file, the column or line, the count and the cure.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fairjax.core.types import DataError

NA = ("", "NA", "NaN", "nan")


def complain(where: str, what: str, cure: str) -> DataError:
    """The one form of a complaint: where it is, what is wrong, what to do."""
    return DataError(f"{where}: {what}. {cure}")


def listing(items: Sequence, most: int = 4) -> str:
    """The first few items for a message, ``'a', 'b', ... (7 in all)``."""
    shown = ", ".join(repr(item) if isinstance(item, str) else str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown}, ... ({len(items):,} in all)"


def number(cell: str) -> float | None:
    """The number a cell spells, or None. ``1_000`` is text: no spreadsheet writes it."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def canonical(cell: str | float) -> str:
    """One spelling per value, so that ``1``, ``1.0`` and ``01`` are the same level whoever wrote the file."""
    value = number(cell) if isinstance(cell, str) else float(cell)
    if value is None or not math.isfinite(value) or abs(value) >= 1e15:
        return str(cell)
    return str(int(value)) if value == int(value) else repr(value)


def _each(cells: np.ndarray, function, dtype) -> np.ndarray:
    """``function`` of every cell, computed once per distinct cell."""
    memo = {cell: function(cell) for cell in set(cells.tolist())}
    return np.array([memo[cell] for cell in cells.tolist()], dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of equal length, with the words to complain about them."""

    where: str  # file name or kind of source, for messages
    columns: dict[str, np.ndarray]  # float64, or object arrays of text
    lines: np.ndarray | None = None  # line of the file per row
    na: tuple[str, ...] = NA

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def column(self, name: str) -> np.ndarray:
        """The raw cells of a column; raises DataError with the nearest names when there is none."""
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
            cure = (
                f"Did you mean {listing(near)}?"
                if near
                else f"The columns are {listing(list(self.columns), 12)}."
            )
            raise complain(
                self.where,
                f"no column {name!r} among {len(self.columns)} columns, {len(self):,} rows",
                cure,
            )
        return self.columns[name]

    def missing(self, name: str) -> np.ndarray:
        """``[N]`` bool: NaN, or text that is one of ``na``."""
        cells = self.column(name)
        return (
            np.isnan(cells) if cells.dtype != object else _each(cells, lambda c: c in self.na, bool)
        )

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """``(value [N], bad [N])``: NaN where the cell is missing or bad; bad where it is known but no number."""
        cells = self.column(name)
        if cells.dtype != object:
            return cells, np.zeros(len(cells), bool)
        value = _each(cells, lambda c: math.nan if number(c) is None else number(c), np.float64)
        value[self.missing(name)] = math.nan
        bad = _each(cells, lambda c: number(c) is None, bool) & ~self.missing(name)
        return value, bad

    def text(self, name: str) -> np.ndarray:
        """``[N]`` text of a column in canonical spelling, the empty string where missing."""
        cells, missing = self.column(name), self.missing(name)
        # NaN is not equal to itself, so that it must not be looked up.
        words = _each(
            cells if cells.dtype == object else np.where(missing, 0.0, cells), canonical, object
        )
        words[missing] = ""
        return words

    def spots(self, rows: np.ndarray, name: str | None = None) -> str:
        """Where the marked rows are: ``line 3 ('abc'), line 9 ('-')``."""
        at = np.flatnonzero(rows)[:3]
        word, of = ("line", self.lines) if self.lines is not None else ("row", np.arange(len(self)))
        cell = (lambda i: f" ({str(self.columns[name][i])[:40]!r})") if name else (lambda i: "")
        return ", ".join(f"{word} {of[i]}{cell(i)}" for i in at)

    def require_numbers(self, name: str, cure: str) -> np.ndarray:
        """``[N]`` float64 of a column that must be numeric; raises DataError where a known cell is not a number."""
        value, bad = self.numbers(name)
        if bad.any():
            what = f"column {name!r}: {bad.sum():,} of {len(self):,} cells are not numbers, {self.spots(bad, name)}"
            raise complain(self.where, what, cure)
        return value


def as_table(
    source, *, delimiter: str = ",", encoding: str = "utf-8", na: tuple[str, ...] = NA
) -> Table:
    """A table from a CSV path (``.gz`` too), anything shaped like a DataFrame, or a dict of arrays.

    Args:
        source: path, data frame (``columns``, and columns with ``to_numpy``), mapping of name to ``[N]``, or Table.
        delimiter: cell separator of a file; ``\\t`` may be spelled out.
        encoding: of a file.
        na: texts that mean missing.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated columns; arrays of unequal length.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, Path)):
        return read_csv(source, delimiter=delimiter, encoding=encoding, na=na)
    if isinstance(source, Mapping):
        return _arrays("arrays", list(source), list(source.values()), na)
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        names = [str(name) for name in source.columns]
        _refuse_repeats("DataFrame", names, len(source))
        return _arrays("DataFrame", names, [source[name].to_numpy() for name in source.columns], na)
    raise DataError(
        f"cannot read a table from {type(source).__name__}. Give a CSV path, a DataFrame or a dict of arrays."
    )


def _arrays(where: str, names: list[str], arrays: list, na: tuple[str, ...]) -> Table:
    columns = {
        name: _cells(where, name, np.asarray(array))
        for name, array in zip(names, arrays, strict=True)
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise complain(
            where,
            f"columns of unequal length, rows per column {lengths}",
            "Give arrays of one length.",
        )
    if not lengths or not next(iter(lengths.values())):
        raise complain(
            where, f"{len(lengths)} columns and 0 rows", "Give at least one column with rows."
        )
    return Table(where, columns, na=na)


def _cells(where: str, name: str, array: np.ndarray) -> np.ndarray:
    """One column as float64 or as text; booleans become text, as a CSV file would have them."""
    if array.ndim != 1:
        raise complain(where, f"column {name!r} has shape {array.shape}", "Give one value per row.")
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    return np.array([_word(value) for value in array.tolist()], dtype=object)


def _word(value) -> str:
    """Text of one cell; every spelling of nothing (None, NaN, pandas' NA and NaT) is the empty string."""
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and value != value)
    ):
        return ""
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def read_csv(
    path: str | Path,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    na: tuple[str, ...] = NA,
    header: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    comment: str | None = None,
) -> Table:
    """Columns of a CSV file as text.

    Args:
        path: the file; gzip is recognised by its content.
        delimiter: cell separator.
        encoding: of the file.
        na: texts that mean missing.
        header: column names of a file that has none.
        keep: the only columns to keep, first occurrence each; the others are dropped as the file is read.
        comment: lines that begin so are skipped.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated, unnamed or unknown columns.
    """
    where = str(path)
    text = _decode(where, _bytes(where), encoding)
    delimiter = delimiter.replace("\\t", "\t")
    lines, records = _records(where, text, delimiter, comment)
    names = list(header) if header else [name.strip() for name in records.pop(0)]
    lines = lines if header else lines[1:]
    if not records:
        raise complain(
            where, f"0 rows under the header of {len(names)} columns", "Give a file with rows."
        )
    _refuse_ragged(where, lines, records, names, delimiter)
    if keep is None:
        _refuse_repeats(where, names, len(records))
    chosen = (
        range(len(names))
        if keep is None
        else [_index(where, names, name, len(records)) for name in keep]
    )
    columns = {
        names[i]: np.array([record[i].strip() for record in records], dtype=object) for i in chosen
    }
    return Table(where, columns, np.array(lines), na)


def _index(where: str, names: list[str], name: str, rows: int) -> int:
    if name not in names:
        raise complain(
            where,
            f"no column {name!r} among {len(names)} columns, {rows:,} rows",
            "Give the original file.",
        )
    return names.index(name)


def _bytes(where: str) -> bytes:
    path = Path(where)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise complain(
            where, f"{what} (0 rows read)", "Check the path; a CSV file, plain or .gz, is expected."
        )
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise complain(
            where, f"cannot be read: {error}", "Check its permissions, or copy it again."
        ) from error


def _decode(where: str, raw: bytes, encoding: str) -> str:
    if not raw.strip():
        raise complain(
            where,
            f"the file is empty ({len(raw)} bytes, 0 rows)",
            "Give a file with a header and rows.",
        )
    try:
        return raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        cure = "Save it as UTF-8, or name its encoding (latin-1, utf-16, ...)."
        raise complain(
            where, f"line {line} is not {encoding} (byte {raw[error.start]:#04x})", cure
        ) from error
    except LookupError as error:
        raise complain(
            where, f"unknown encoding {encoding!r}", "Name one that Python knows, such as latin-1."
        ) from error


def _records(
    where: str, text: str, delimiter: str, comment: str | None
) -> tuple[list[int], list[list[str]]]:
    """Line number and cells of every record that is not blank."""
    if len(delimiter) != 1:
        raise complain(
            where, f"delimiter {delimiter!r} is not one character", "Give one, such as ';'."
        )
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    lines, records = [], []
    try:
        for record in reader:
            if any(record) and not (comment and record[0].startswith(comment)):
                lines.append(reader.line_num)
                records.append(record)
    except csv.Error as error:
        raise complain(
            where, f"line {reader.line_num}: {error}", "Check the quotes around that line."
        ) from error
    if not records:
        raise complain(
            where, "the file has no rows (0 records)", "Give a file with a header and rows."
        )
    return lines, records


def _refuse_ragged(
    where: str, lines: list[int], records: list[list[str]], names: list[str], delimiter: str
) -> None:
    ragged = [
        (line, len(r)) for line, r in zip(lines, records, strict=True) if len(r) != len(names)
    ]
    if ragged:
        shown = ", ".join(f"line {line} has {cells}" for line, cells in ragged[:3])
        what = f"{len(ragged):,} of {len(records):,} rows do not have the {len(names)} cells of the header ({shown})"
        raise complain(
            where, what, "Quote cells that hold the delimiter, or give the delimiter of the file."
        )
    others = [c for c in (";", "\t", "|", ",") if c != delimiter and c in names[0]]
    if len(names) == 1 and others:
        what = f"1 column in {len(records):,} rows with delimiter {delimiter!r}, but the header holds {others[0]!r}"
        raise complain(where, what, f"Give delimiter {others[0]!r}.")


def _refuse_repeats(where: str, names: list[str], rows: int) -> None:
    repeats = sorted({name for name in names if names.count(name) > 1})
    if repeats:
        at = [i + 1 for i, name in enumerate(names) if name == repeats[0]]
        what = (
            f"column {repeats[0]!r} stands {len(at)} times (columns {listing(at)}; {rows:,} rows)"
        )
        raise complain(where, what, "Rename or remove all but one.")
    if "" in names:
        what = f"column {names.index('') + 1} of {len(names)} has no name ({rows:,} rows)"
        raise complain(
            where, what, "Name it; if it is a row index, write the file without the index."
        )
