"""Tidy tables on disk, of runs and of one run's groups: the same bytes for the same numbers.

In: ``dict`` of columns ``[N]``. Out: CSV text whose floats are the shortest that read back to the same number.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.core.types import DataError

WHOLE = ("run", "point", "seed")  # integer columns
TEXT = ("method", "task", "attribute", "group", "statistic")
TRUTH = ("diverged",)


def write_table(path: Path, table: dict[str, np.ndarray]) -> Path:
    """Write columns ``[N]`` as CSV (UTF-8, ``\\n`` line ends), in the order of the dictionary.

    Raises:
      ValueError: the columns differ in length.
    """
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*(_cells(name, values) for name, values in table.items()), strict=True))
    return write(path, text.getvalue().encode("utf-8"))


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`write_table` wrote: int64, str, bool and float64 columns ``[N]``, in the order of the file.

    Raises:
      DataError: no header, a repeated column, a row of another length, or a cell that is not what its column holds.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if not header or len(set(header)) != len(header):
        raise DataError(f"{path}: the first line must name every column once; got {header!r}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(
                f"{path}: run row {number} has {len(row)} cells, the header has {len(header)}"
            )
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {name: _parse(path, name, cells) for name, cells in zip(header, columns, strict=True)}


def _cells(name: str, values: np.ndarray) -> list[str]:
    values = np.asarray(values)
    if name in TEXT:
        return [str(v) for v in values]
    if name in TRUTH or name in WHOLE:
        return [str(int(v)) for v in values]
    if values.dtype.kind in "biu":
        values = values.astype(
            np.float64
        )  # so that a hparam given as 1 and as 1.0 are the same bytes
    return [
        str(v) for v in values
    ]  # numpy prints the shortest text that reads back, in the column's own precision


def _parse(path: Path, name: str, cells: tuple[str, ...]) -> np.ndarray:
    if name in TEXT:
        return np.array(cells, dtype=object).astype(str)
    try:
        if name in WHOLE:
            return np.array([int(c) for c in cells], np.int64)
        if name in TRUTH:
            return np.array([bool(int(c)) for c in cells], bool)
        return np.array([float(c) for c in cells], np.float64)
    except ValueError as error:
        raise DataError(
            f"{path}: column {name!r} holds something that is not a number: {error}"
        ) from error
