"""Read a CSV file, a data frame or a dict of arrays into a :class:`RawTable`.

Every error message names the file, the column or line, the count and the cure.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import NA, RawTable


def as_table(
    source, *, delimiter: str = ",", encoding: str = "utf-8", na: tuple[str, ...] = NA
) -> RawTable:
    """A table from a CSV path (``.gz`` too), a data frame, or a dict of arrays.

    Args:
        source: path, data frame (with ``columns``, and columns with ``to_numpy``), mapping of names
            to ``[N]``, or RawTable.
        delimiter: cell separator of a file; ``\\t`` may be spelled out.
        encoding: of a file.
        na: texts that mean missing.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated columns; arrays of
            unequal length.
    """
    if isinstance(source, RawTable):
        return source
    if isinstance(source, (str, Path)):
        return read_csv(source, delimiter=delimiter, encoding=encoding, na=na)
    if isinstance(source, Mapping):
        return _from_arrays("arrays", list(source), list(source.values()), na)
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        names = [str(name) for name in source.columns]
        _refuse_bad_names("DataFrame", names, len(source))
        arrays = [source[name].to_numpy() for name in source.columns]
        return _from_arrays("DataFrame", names, arrays, na)
    raise DataError(
        f"cannot read a table from {type(source).__name__}. "
        "Give a CSV path, a DataFrame or a dict of arrays."
    )


def _from_arrays(where: str, names: list[str], arrays: list, na: tuple[str, ...]) -> RawTable:
    columns = {}
    for name, array in zip(names, arrays, strict=True):
        columns[name] = _cells(where, name, _as_array(array))
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        problem = f"columns of unequal length, rows per column {lengths}"
        raise complain(where, problem, "Give arrays of one length.")
    table = RawTable(where, columns, na=na)
    if not len(table):
        problem = f"{len(lengths)} columns and 0 rows"
        raise complain(where, problem, "Give at least one column with rows.")
    return table


def _as_array(column) -> np.ndarray:
    array = np.asarray(column)
    if array.dtype.kind == "U":
        # numpy cuts members of an enumeration of texts
        return np.array(column, dtype=object)
    return array


def _cells(where: str, name: str, array: np.ndarray) -> np.ndarray:
    """One column as float64 or as text. Booleans become text, as in a CSV file."""
    if array.ndim != 1:
        raise complain(where, f"column {name!r} has shape {array.shape}", "Give one value per row.")
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    return np.array([_cell_text(value) for value in array.tolist()], dtype=object)


def _cell_text(value) -> str:
    """Text of one cell; the empty string for None, NaN, and NA and NaT of pandas."""
    is_nan = isinstance(value, float) and value != value
    if value is None or is_nan or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bytes):
        text = value.decode()
    elif isinstance(value, str):
        # str() of a member of an enumeration is its name
        text = str.__str__(value)
    else:
        text = str(value)
    return text.strip()


def read_csv(
    path: str | Path,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    na: tuple[str, ...] = NA,
    header: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    comment: str | None = None,
) -> RawTable:
    """Columns of a CSV file as text.

    Args:
        path: the file. Its content shows whether it is gzip.
        delimiter: cell separator.
        encoding: of the file.
        na: texts that mean missing.
        header: column names of a file that has no header.
        keep: the only columns to keep, the first of each name. The others are dropped at once.
        comment: lines that begin with it are skipped.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated, unnamed or unknown
            columns.
    """
    where = str(path)
    text = _decode(where, _read_bytes(where), encoding)
    delimiter = delimiter.replace("\\t", "\t")
    lines, records = _parse_records(where, text, delimiter, comment)
    if header:
        names = list(header)
    else:
        names = [name.strip() for name in records.pop(0)]
        lines = lines[1:]
    if not records:
        problem = f"0 rows under the header of {len(names)} columns"
        raise complain(where, problem, "Give a file with rows.")
    _refuse_ragged(where, lines, records, names)
    _refuse_delimiter(where, len(records), names, delimiter)
    if keep is None:
        _refuse_bad_names(where, names, len(records))
        chosen = range(len(names))
    else:
        chosen = [_column_index(where, names, name, len(records)) for name in keep]
    columns = {}
    for index in chosen:
        cells = [record[index].strip() for record in records]
        columns[names[index]] = np.array(cells, dtype=object)
    return RawTable(where, columns, np.array(lines), na)


def _column_index(where: str, names: list[str], name: str, rows: int) -> int:
    if name not in names:
        problem = f"no column {name!r} among {len(names)} columns, {rows:,} rows"
        raise complain(where, problem, "Give the original file.")
    return names.index(name)


def _read_bytes(where: str) -> bytes:
    path = Path(where)
    if not path.is_file():
        problem = "is a directory" if path.is_dir() else "no such file"
        cure = "Check the path; a CSV file, plain or .gz, is expected."
        raise complain(where, f"{problem} (0 rows read)", cure)
    try:
        raw = path.read_bytes()
        is_gzip = raw[:2] == b"\x1f\x8b"
        return gzip.decompress(raw) if is_gzip else raw
    except (OSError, EOFError, zlib.error) as error:
        cure = "Check its permissions, or copy it again."
        raise complain(where, f"cannot be read: {error}", cure) from error


def _decode(where: str, raw: bytes, encoding: str) -> str:
    if not raw.strip():
        problem = f"the file is empty ({len(raw)} bytes, 0 rows)"
        raise complain(where, problem, "Give a file with a header and rows.")
    is_utf8 = encoding.lower() in ("utf-8", "utf8")
    try:
        # utf-8-sig also removes a byte-order mark
        return raw.decode("utf-8-sig" if is_utf8 else encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = f"line {line} is not {encoding} (byte {raw[error.start]:#04x})"
        cure = "Save it as UTF-8, or name its encoding (latin-1, utf-16, ...)."
        raise complain(where, problem, cure) from error
    except LookupError as error:
        cure = "Name one that Python knows, such as latin-1."
        raise complain(where, f"unknown encoding {encoding!r}", cure) from error


def _parse_records(
    where: str, text: str, delimiter: str, comment: str | None
) -> tuple[list[int], list[list[str]]]:
    """Line number and cells of every record that is neither blank nor a comment."""
    if len(delimiter) != 1:
        problem = f"delimiter {delimiter!r} is not one character"
        raise complain(where, problem, "Give one, such as ';'.")
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
    lines = []
    records = []
    try:
        for record in reader:
            is_comment = comment and record and record[0].startswith(comment)
            if any(record) and not is_comment:
                lines.append(reader.line_num)
                records.append(record)
    except csv.Error as error:
        problem = f"line {reader.line_num}: {error}"
        raise complain(where, problem, "Check the quotes around that line.") from error
    if not records:
        problem = "the file has no rows (0 records)"
        raise complain(where, problem, "Give a file with a header and rows.")
    return lines, records


def _refuse_ragged(
    where: str, lines: list[int], records: list[list[str]], names: list[str]
) -> None:
    ragged = []
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(names):
            ragged.append(f"line {line} has {len(record)}")
    if ragged:
        count = f"{len(ragged):,} of {len(records):,} rows"
        examples = ", ".join(ragged[:3])
        problem = f"{count} do not have the {len(names)} cells of the header ({examples})"
        cure = "Quote cells that hold the delimiter, or give the delimiter of the file."
        raise complain(where, problem, cure)


def _refuse_delimiter(where: str, rows: int, names: list[str], delimiter: str) -> None:
    """Refuse a file of one column whose header holds another usual delimiter."""
    if len(names) != 1:
        return
    for other in (";", "\t", "|", ","):
        if other != delimiter and other in names[0]:
            problem = f"1 column in {rows:,} rows with delimiter {delimiter!r}"
            problem = f"{problem}, but the header holds {other!r}"
            raise complain(where, problem, f"Give delimiter {other!r}.")


def _refuse_bad_names(where: str, names: list[str], rows: int) -> None:
    """Refuse column names that are repeated or empty."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        name = repeated[0]
        places = [i + 1 for i, other in enumerate(names) if other == name]
        count = f"occurs {len(places)} times (columns {listing(places)}; {rows:,} rows)"
        raise complain(where, f"column {name!r} {count}", "Rename or remove all but one.")
    if "" in names:
        problem = f"column {names.index('') + 1} of {len(names)} has no name ({rows:,} rows)"
        cure = "Name it; if it is a row index, write the file without the index."
        raise complain(where, problem, cure)
