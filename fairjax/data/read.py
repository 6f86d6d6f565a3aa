"""Read a file, a data frame or a dict of arrays into a :class:`RawTable`.

Every error message names the file, the column or line, the count and the cure.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal as decimals
import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairjax.core.inputs import TableLike
from fairjax.core.types import DataError
from fairjax.data.arrow_text import Texts, texts_of, trimmed
from fairjax.data.complaints import complain
from fairjax.data.containers import arrow_table, decoded, excel_columns, is_excel, read_bytes
from fairjax.data.csv_text import parse_csv, refuse_bad_names
from fairjax.data.numbers import days
from fairjax.data.pixels import as_pixels, image_cells
from fairjax.data.raw_table import LARGEST_WHOLE, NA, RawTable

_INDEX = re.compile(r"__index_level_\d+__")
Cells = np.ndarray | Texts


def as_table(
    source: TableLike | RawTable,
    *,
    delimiter: str = "",
    encoding: str = "utf-8",
    na: tuple[str, ...] = NA,
    decimal: str = "",
    header: Sequence[str] | None = None,
    unpacked: float = 0,
) -> RawTable:
    """A table from a file, a data frame, or a dict of arrays.

    Args:
        source: path of a CSV, parquet, feather or Excel file, packed too; a data frame of pandas,
            polars or pyarrow, or another with ``__arrow_c_stream__``; a mapping of names to
            ``[N]``, or to images ``[N, H, W, 3]``; or a RawTable.
        delimiter: cell separator of a CSV file; ``\\t`` may be spelled out. Empty: found.
        encoding: of a CSV file; a byte order mark wins over UTF-8.
        na: texts that mean missing, in any case.
        decimal: the sign before decimals, ``.`` or ``,``. Empty: found.
        header: column names of a CSV file whose first line is a row.
        unpacked: gigabytes to which a packed file may unpack; 0: one, or 50 times its packed size.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated columns; arrays of
            unequal length; cells that are no text, numbers, truth values or dates.
    """
    if isinstance(source, RawTable):
        return source
    if isinstance(source, (str, Path)):
        return read_csv(
            source,
            delimiter=delimiter,
            encoding=encoding,
            na=na,
            header=header,
            decimal=decimal,
            unpacked=unpacked,
        )
    if isinstance(source, Mapping):
        names = [str(name) for name in source]
        refuse_bad_names("arrays", names, len(next(iter(source.values()), ())))
        columns = dict(zip(names, source.values(), strict=True))
        return _from_arrays("arrays", columns, na, decimal)
    where = type(source).__name__
    is_pandas = hasattr(source, "iloc")
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if hasattr(source, "__arrow_c_stream__") and not is_pandas:
        return _from_arrow(where, pa.table(source), na, decimal)
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        names = [str(name) for name in source.columns]
        refuse_bad_names(where, names, len(source))
        arrays = [_without_zone(source[name]).to_numpy() for name in source.columns]
        return _from_arrays(where, dict(zip(names, arrays, strict=True)), na, decimal)
    raise DataError(
        f"cannot read a table from {where}. Give the path of a file, a data frame in memory or a "
        "dict of arrays."
    )


def read_csv(
    path: str | Path,
    *,
    delimiter: str = "",
    encoding: str = "utf-8",
    na: tuple[str, ...] = NA,
    header: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    comment: str | None = None,
    decimal: str = "",
    unpacked: float = 0,
) -> RawTable:
    """Columns of a file: those of a CSV file as text, those of others with their types.

    Args:
        path: the file. Its content shows what it is: CSV, gzip, bzip2, xz, a zip of one file,
            parquet, feather, Excel.
        delimiter: cell separator of a CSV file; empty: found.
        encoding: of a CSV file.
        na: texts that mean missing.
        header: column names of a CSV file that has no header, or has this one.
        keep: the only columns to keep, the first of each name.
        comment: lines of a CSV file that begin with it are skipped.
        decimal: the sign before decimals; empty: found.
        unpacked: as of :func:`as_table`.

    Raises:
        DataError: missing, empty, ragged or wrongly encoded file; repeated, unnamed or unknown
            columns.
    """
    where = str(path)
    packed, content = read_bytes(where, unpacked)
    with ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(lambda: hashlib.sha256(packed).hexdigest())
        if is_excel(content):
            table = _from_arrays(where, excel_columns(where, content), na, decimal)
        elif (frame := arrow_table(where, content)) is not None:
            table = _from_arrow(where, frame, na, decimal)
        else:
            table = parse_csv(
                where,
                decoded(where, content, encoding),
                delimiter=delimiter,
                na=na,
                header=header,
                keep=keep,
                comment=comment,
                decimal=decimal,
            )
    if keep is not None:
        table = dataclasses.replace(table, columns={name: table.column(name) for name in keep})
    return dataclasses.replace(table, sha256=sha256.result())


def _from_arrays(
    where: str, arrays: Mapping[str, Any], na: tuple[str, ...], decimal: str
) -> RawTable:
    columns = {}
    dates = set()
    pixels = {}
    for name, array in arrays.items():
        array = _as_array(array)
        if array.ndim > 2:
            pixels[name] = as_pixels(where, name, array)
            columns[name] = image_cells(len(array))
            continue
        if array.dtype.kind == "M":
            dates.add(name)
        columns[name] = _cells(where, name, array)
    refuse_bad_names(where, list(columns), len(next(iter(columns.values()), ())))
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        problem = f"columns of unequal length, rows per column {lengths}"
        raise complain(where, problem, "Give arrays of one length.")
    table = RawTable(where, columns, na=na, decimal=decimal, dates=frozenset(dates), pixels=pixels)
    if not len(table):
        problem = f"{len(lengths)} columns and 0 rows"
        raise complain(where, problem, "Give at least one column with rows.")
    return table


def _without_zone(column):
    """A column of pandas; moments of a time zone in UTC."""
    return column if getattr(column.dtype, "tz", None) is None else column.dt.tz_convert(None)


def _as_array(column) -> np.ndarray:
    if isinstance(column, pa.Array | pa.ChunkedArray):
        column = column.to_pylist()
    if isinstance(column, np.ma.MaskedArray):
        return column.astype(object).filled(None)
    array = np.asarray(column)
    if array.dtype.kind == "U" and not isinstance(column, np.ndarray):
        # numpy cuts members of an enumeration of texts
        return np.array(column, dtype=object)
    return array


def _cells(where: str, name: str, array: np.ndarray) -> Cells:
    """One column as float64 or as text. Booleans become text, as in a CSV file."""
    if array.ndim != 1:
        raise complain(where, f"column {name!r} has shape {array.shape}", "Give one value per row.")
    kind = array.dtype.kind
    if kind in "mM":
        return days(array)
    if kind == "f":
        return array.astype(np.float64)
    if kind in "iu" and (not len(array) or np.abs(array.astype(np.float64)).max() < LARGEST_WHOLE):
        return array.astype(np.float64)
    if kind not in "biuOUS":
        _refuse_type(where, name, str(array.dtype), len(array), len(array))
    texts = []
    others = []
    for value in array.tolist():
        text = _cell_text(value)
        if text is None:
            others.append(type(value).__name__)
        texts.append(text)
    if others:
        _refuse_type(where, name, others[0], len(others), len(array))
    return texts_of(texts)


def _refuse_type(where: str, name: str, kind: str, count: int, rows: int) -> None:
    problem = f"column {name!r}: {count:,} of {rows:,} cells are of type {kind}"
    cure = "Give text, numbers, truth values or dates; spread lists over columns of their own."
    raise complain(where, problem, cure)


def _cell_text(value) -> str | None:
    """Text of one cell, empty where it is missing; None of a type that is no cell."""
    is_nan = isinstance(value, float) and value != value
    if value is None or is_nan or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bytes):
        text = value.decode(errors="replace")
    elif isinstance(value, str):
        # str() of a member of an enumeration is its name
        text = str.__str__(value)
    elif isinstance(
        value,
        bool | int | float | decimals.Decimal | datetime.date | datetime.time | np.generic,
    ) and not isinstance(value, np.complexfloating | np.void):
        text = str(value)
    else:
        return None
    return text.strip()


def _from_arrow(where: str, frame, na: tuple[str, ...], decimal: str) -> RawTable:
    """The columns of an Arrow table but for an index that pandas wrote.

    Whole numbers beyond 2^53 stay text, so that no digit goes.
    """
    frame = frame.select([name for name in frame.column_names if not _INDEX.fullmatch(name)])
    names = list(frame.column_names)
    refuse_bad_names(where, names, frame.num_rows)
    if not frame.num_rows:
        problem = f"{len(names)} columns and 0 rows"
        raise complain(where, problem, "Give at least one column with rows.")
    columns = {}
    dates = set()
    for name, column in zip(names, frame.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = _without_dictionary(column)
            kind = column.type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            dates.add(name)
        columns[name] = _arrow_cells(where, name, column, kind)
    return RawTable(where, columns, na=na, decimal=decimal, dates=frozenset(dates))


def _without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = []
    for chunk in column.chunks:
        words = chunk.dictionary
        if pa.types.is_string_view(words.type):
            words = words.cast(pa.string())  # Arrow takes no cells of a view
        chunks.append(words.take(chunk.indices))
    return pa.chunked_array(chunks)


def _arrow_cells(where: str, name: str, column, kind: pa.DataType) -> Cells:
    types = pa.types
    if types.is_floating(kind) or types.is_decimal(kind):
        return _floats(column)
    if types.is_integer(kind):
        limits = pc.min_max(column).as_py()
        largest = max(abs(limits["min"] or 0), abs(limits["max"] or 0))
        return _floats(column) if largest < LARGEST_WHOLE else _text(column)
    if types.is_date(kind) or types.is_timestamp(kind):
        moments = column.cast(pa.timestamp("us")) if types.is_date(kind) else column
        return days(np.asarray(moments.to_numpy(), "datetime64[us]"))
    if types.is_duration(kind):
        return days(np.asarray(column.to_numpy(), "timedelta64[us]"))
    if types.is_boolean(kind):
        texts = pc.if_else(column, "True", "False")
        return _text(texts)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if is_text or types.is_null(kind) or types.is_time(kind):
        return trimmed(_text(column))
    _refuse_type(where, name, str(kind), len(column), len(column))


def _floats(column) -> np.ndarray:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _text(column) -> Texts:
    return texts_of(column.cast(pa.string()))
