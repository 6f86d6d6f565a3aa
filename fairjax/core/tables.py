"""Tables of columns, in memory and as CSV.

This is the one place that writes CSV. The same numbers give the same bytes.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.core.disk import write
from fairjax.core.keys import Key, Metric, parse_key
from fairjax.core.types import DataError

if TYPE_CHECKING:
    import pandas as pd

INTEGERS = ("run", "row", "point", "seed")
TEXTS = ("method", "task", "attribute", "group", "statistic", "verdict")
TRUTHS = ("diverged",)
MOST_ROWS = 10  # rows of a table that a notebook shows
MOST_COLUMNS = 12
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+|inf)(e[+-]?\d+)?", re.IGNORECASE)


class Table(dict[Key, np.ndarray]):
    """Columns ``[N]`` by key.

    The text of a key finds its column too: ``table["test.arfg"]``.
    """

    def __missing__(self, key: Key) -> np.ndarray:
        parsed = parse_key(key) if isinstance(key, str) else key
        if parsed == key or not dict.__contains__(self, parsed):
            raise KeyError(str(key))
        return self[parsed]

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key):
            return True
        return isinstance(key, str) and dict.__contains__(self, parse_key(key))

    def get(self, key: Key, default: Any = None) -> Any:
        """The column, or the default where the table has no such column."""
        if key in self:
            return self[key]
        return default

    @property
    def rows(self) -> int:
        """Number of rows N."""
        if not self:
            return 0
        first_column = next(iter(self.values()))
        return len(first_column)

    @property
    def metrics(self) -> list[Metric]:
        """Keys of the columns that are metrics."""
        return [key for key in self if isinstance(key, Metric)]

    def to_pandas(self) -> pd.DataFrame:
        """The table as a data frame, with the texts of the keys as names of its columns.

        Raises:
          ImportError: pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("a data frame needs pandas: pip install pandas") from error
        return pd.DataFrame({str(key): np.asarray(values) for key, values in self.items()})

    def _repr_html_(self) -> str:
        """The first rows and columns for a notebook; texts are escaped."""
        keys = list(self)[:MOST_COLUMNS]
        head = _html_row("th", [str(key) for key in keys])
        columns = [np.asarray(self[key])[:MOST_ROWS] for key in keys]
        rows = [_html_row("td", map(_shown, row)) for row in zip(*columns, strict=True)]
        size = f"{self.rows} rows, {len(self)} columns"
        body = "".join(rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table><p>{size}</p>"


def write_csv(
    path: Path,
    columns: Mapping[Key, np.ndarray],
    *,
    formulas: bool = False,
) -> Path:
    """Write columns ``[N]`` as CSV in the order of the mapping, with ``\\n`` at line ends.

    A float is the shortest text that reads back to the same number.

    Args:
      path: of the file.
      columns: by key.
      formulas: texts that a spreadsheet would compute stay as they are; otherwise they are
        :func:`defused`.

    Raises:
      ValueError: the columns differ in length.
    """
    lengths = {str(key): len(values) for key, values in columns.items()}
    different_lengths = set(lengths.values())
    if len(different_lengths) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    safe = str if formulas else defused
    writer.writerow([safe(str(key)) for key in columns])
    cells = [_cells(key, values, safe) for key, values in columns.items()]
    writer.writerows(zip(*cells, strict=True))
    return write(path, text.getvalue().encode())


def defused(text: str) -> str:
    """A text with an apostrophe before it where a spreadsheet would take it for a formula.

    Numbers stay as they are, also negative ones. :func:`restored` takes the apostrophe away.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restored(text: str) -> str:
    """The text that :func:`defused` was given."""
    return text[1:] if _DEFUSED.match(text) else text


def read_csv(path: Path) -> Table:
    """Read what :func:`write_csv` wrote.

    Columns ``[N]`` are int64, text, bool or float64, in the order of the file.

    Raises:
      DataError: no header, a repeated column, a row of another length, or a cell that its column
        cannot hold.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    header, *rows = lines or [[]]
    header = [restored(name) for name in header]
    width = len(header)
    if not header or len(set(header)) != width:
        raise DataError(f"{path}: the first line must name every column once; got {header!r}")
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {width}")
    if rows:
        columns = zip(*rows, strict=True)
    else:
        columns = [()] * width
    table = Table()
    for name, cells in zip(header, columns, strict=True):
        table[parse_key(name)] = _parse(path, name, cells)
    return table


def _html_row(tag: str, texts: Iterable[str]) -> str:
    cells = [f"<{tag}>{html.escape(text)}</{tag}>" for text in texts]
    return f"<tr>{''.join(cells)}</tr>"


def _shown(value) -> str:
    """A cell for a reader: four significant digits of a float."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _cells(key: Key, values: np.ndarray, safe: Callable[[str], str]) -> list[str]:
    values = np.asarray(values)
    if values.dtype.kind in "UOS":
        return [safe(str(value)) for value in values]
    if key in TRUTHS or key in INTEGERS:
        return [str(int(value)) for value in values]
    if values.dtype.kind in "biu":
        # a hyper-parameter given as 1 and one given as 1.0 are the same bytes
        values = values.astype(np.float64)
    # numpy prints the shortest text that reads back, in the column's own precision
    return [str(value) for value in values]


def _parse(path: Path, name: str, cells: tuple[str, ...]) -> np.ndarray:
    if name in TEXTS:
        return np.array([restored(cell) for cell in cells], dtype=object).astype(str)
    try:
        if name in INTEGERS:
            return np.array([int(cell) for cell in cells], np.int64)
        if name in TRUTHS:
            return np.array([bool(int(cell)) for cell in cells], bool)
        return np.array([float(cell) for cell in cells], np.float64)
    except ValueError as error:
        raise DataError(
            f"{path}: column {name!r} holds something that is not a number: {error}"
        ) from error
