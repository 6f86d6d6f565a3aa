"""Tables of columns, in memory, as CSV, and, of many runs, as parquet.

This is the one place that writes them. The same numbers give the same bytes.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
from collections.abc import Callable, ItemsView, Iterable, Mapping, ValuesView
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.core.disk import read_safely, whole_file
from fairjax.core.keys import Key, Metric, parse_key
from fairjax.core.types import DataError

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow.parquet import ParquetFile

TABLE_FILES = ("table.csv", "table.parquet")  # of few runs, and of many
MOST_IN_CSV = 50_000  # runs; their CSV has about a hundred megabytes
BLOCK = 4096  # rows of CSV that are text in memory at a time
ROW_GROUP = 2**16  # rows of parquet that are written together
INTEGERS = ("run", "row", "point", "seed")
TEXTS = ("method", "task", "attribute", "group", "statistic", "verdict")
TRUTHS = ("diverged",)
MOST_ROWS = 10  # rows of a table that a notebook shows
MOST_COLUMNS = 12
# columns [N] by key, or by the text of a key
ByKey = Mapping[Key, np.ndarray] | Mapping[str, np.ndarray]
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
        first_key = next(iter(self))
        return len(dict.__getitem__(self, first_key))

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


class StoredTable(Table):
    """A table in a parquet file, of which a column is read whenever it is asked for.

    It takes the memory of the columns that are in use, not that of the file.
    """

    def __init__(self, path: Path, file: ParquetFile):
        super().__init__()
        self.path = path
        for name in file.schema_arrow.names:
            column: Any = _StoredColumn(path, file, name)  # an array once it is asked for
            self[parse_key(name)] = column

    def __getitem__(self, key: Key) -> np.ndarray:
        return np.asarray(super().__getitem__(key))

    def values(self) -> ValuesView[np.ndarray]:
        """The columns, read one by one."""
        return ValuesView(self)

    def items(self) -> ItemsView[Key, np.ndarray]:
        """The keys and their columns, read one by one."""
        return ItemsView(self)


class _StoredColumn:
    """A column ``[N]`` of a parquet file, as numpy reads it."""

    def __init__(self, path: Path, file: ParquetFile, name: str):
        self._path = path
        self._file = file
        self._name = name

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        read = self._file.read
        column = read_safely(self._path, lambda: read([self._name])[self._name].to_numpy())
        if self._name in TEXTS:
            column = column.astype(str)
        return column if dtype is None else column.astype(dtype)


def table_file(runs: int) -> str:
    """Name of the file with the table of so many runs."""
    in_csv, in_parquet = TABLE_FILES
    return in_csv if runs <= MOST_IN_CSV else in_parquet


def has_table(folder: Path) -> bool:
    """Whether :func:`read_table` finds a table of runs in a folder."""
    return any((folder / name).exists() for name in TABLE_FILES)


def write_table(folder: Path, table: Table) -> Path:
    """Write a table of runs into a folder: as CSV, or, of many runs, as parquet.

    Returns:
      The file. A table that was read from it is there already.
    """
    path = folder / table_file(table.rows)
    if isinstance(table, StoredTable) and path.exists() and path.samefile(table.path):
        return path
    for name in TABLE_FILES:
        if name != path.name:
            (folder / name).unlink(missing_ok=True)
    in_csv, _ = TABLE_FILES
    return write_csv(path, table) if path.name == in_csv else write_parquet(path, table)


def read_table(folder: Path) -> Table:
    """Read what :func:`write_table` wrote; of many runs only what is asked for.

    Raises:
      DataError: the file is absent or damaged.
    """
    in_csv, in_parquet = TABLE_FILES
    if (folder / in_parquet).exists():
        return read_parquet(folder / in_parquet)
    return read_csv(folder / in_csv)


def write_parquet(path: Path, columns: ByKey) -> Path:
    """Write columns ``[N]`` as parquet in the order of the mapping, floats in their own precision.

    Raises:
      ValueError: the columns differ in length.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = _common_length(columns)
    arrays = {str(key): _typed(key, values) for key, values in columns.items()}
    texts: Any = [name for name, values in arrays.items() if values.dtype.kind in "UOS"]
    kinds = {name: pa.from_numpy_dtype(values.dtype) for name, values in arrays.items()}
    schema = pa.schema(kinds | dict.fromkeys(texts, pa.string()))
    with (
        whole_file(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts) as writer,
    ):
        for first in range(0, rows, ROW_GROUP):
            group = {name: values[first : first + ROW_GROUP] for name, values in arrays.items()}
            writer.write_table(pa.table(group, schema))
    return path


def read_parquet(path: Path) -> StoredTable:
    """Read what :func:`write_parquet` wrote, column by column as they are asked for.

    Raises:
      DataError: the file is absent or damaged.
    """
    from pyarrow import parquet

    return StoredTable(path, read_safely(path, lambda: parquet.ParquetFile(path)))


def write_csv(
    path: Path,
    columns: ByKey,
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
    rows = _common_length(columns)
    arrays = {key: _typed(key, values) for key, values in columns.items()}
    safe = str if formulas else defused
    with whole_file(path) as file:
        file.write(_lines([[safe(str(key)) for key in arrays]]))
        for first in range(0, rows, BLOCK):
            cells = [_cells(values[first : first + BLOCK], safe) for values in arrays.values()]
            file.write(_lines(zip(*cells, strict=True)))
    return path


def _common_length(columns: ByKey) -> int:
    """The one length of all columns.

    Raises:
      ValueError: the columns differ in length.
    """
    lengths = {str(key): len(values) for key, values in columns.items()}
    different_lengths = set(lengths.values())
    if len(different_lengths) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    return max(different_lengths, default=0)


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
        lines = csv.reader(file)
        header = [restored(name) for name in next(lines, [])]
        width = len(header)
        if not header or len(set(header)) != width:
            raise DataError(f"{path}: the first line must name every column once; got {header!r}")
        parts = [[_parse(path, name, ()) for name in header]]
        first = 1
        while rows := list(itertools.islice(lines, BLOCK)):
            for number, row in enumerate(rows, first):
                if len(row) != width:
                    raise DataError(
                        f"{path}: row {number} has {len(row)} cells, the header has {width}"
                    )
            columns = zip(*rows, strict=True)
            parts.append([_parse(path, *pair) for pair in zip(header, columns, strict=True)])
            first += len(rows)
    columns = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return Table(zip(map(parse_key, header), columns, strict=True))


def _html_row(tag: str, texts: Iterable[str]) -> str:
    cells = [f"<{tag}>{html.escape(text)}</{tag}>" for text in texts]
    return f"<tr>{''.join(cells)}</tr>"


def _shown(value) -> str:
    """A cell for a reader: four significant digits of a float."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Rows of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _typed(key: Key, values: np.ndarray) -> np.ndarray:
    """A column as text, integers, truths or floats."""
    values = np.asarray(values)
    if values.dtype.kind in "UOS":
        return values
    if key in INTEGERS:
        return values.astype(np.int64)
    if key in TRUTHS:
        return values.astype(bool)
    # a hyper-parameter given as 1 and one given as 1.0 are the same bytes
    return values.astype(np.float64) if values.dtype.kind in "biu" else values


def _cells(values: np.ndarray, safe: Callable[[str], str]) -> list[str]:
    if values.dtype.kind in "UOS":
        return [safe(str(value)) for value in values]
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
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
