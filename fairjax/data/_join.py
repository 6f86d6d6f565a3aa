"""Join several data sets into one table, with empty cells where a data set has no such column."""

from __future__ import annotations

import numpy as np

from fairjax.core.inputs import TableLike
from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import RawTable
from fairjax.data.read import as_table


def join(
    *sources: TableLike | RawTable,
    part: str | None = None,
    delimiter: str = "",
    encoding: str = "utf-8",
) -> dict[str, np.ndarray]:
    """The rows of all sources in one table, for :func:`fairjax.from_table`.

    Columns with the same name become one column. If a source has no column for a label or a
    demographic, the cells of its rows are missing, and from then on masked. Such a numeric feature
    is imputed; a categorical one has the empty level.

    Args:
      sources: paths, data frames or dicts of arrays; see :func:`fairjax.data.read.as_table`.
      part: name of a new column with the source's number, 0, 1, ...; none by default. Do not use it
        as ``split`` or weight. As a feature it tells the data sets apart.
      delimiter: of CSV files.
      encoding: of CSV files.

    Returns:
      Columns, text or float64 with NaN.

    Raises:
      DataError: a source cannot be read, there is one source only, no two sources share a column,
        the name ``part`` is taken, or a column holds images.

    >>> joined = join({"age": [30, 40], "paid": [0, 1]}, {"age": [50], "sex": ["f"]})
    >>> joined["age"].tolist(), joined["sex"].tolist()
    ([30.0, 40.0, 50.0], ['', '', 'f'])
    """
    tables = [as_table(source, delimiter=delimiter, encoding=encoding) for source in sources]
    if len(tables) < 2:
        raise DataError(f"join: {len(tables)} source given. Give two sources or more.")
    where = " + ".join(table.where for table in tables)
    images = [name for table in tables for name in table.pixels]
    if images:
        problem = f"column {images[0]!r} holds images in {len(images)} of {len(tables)} sources"
        raise complain(where, problem, "Join the tables of their file names.")
    owners_of: dict[str, list[RawTable]] = {}
    for table in tables:
        for name in table.columns:
            owners = owners_of.setdefault(name, [])
            owners.append(table)
    owner_counts = [len(owners) for owners in owners_of.values()]
    if max(owner_counts, default=0) < 2:
        names = listing(list(owners_of), 8)
        problem = f"no column is in two of {len(tables)} sources: {names}"
        raise complain(where, problem, "Rename the columns that mean the same.")
    if part in owners_of:
        problem = f"there is a column {part!r} already"
        raise complain(where, problem, "Choose another name for part.")
    columns = {}
    for name, owners in owners_of.items():
        is_text = any(table.is_text(name) for table in owners)
        blocks = [_cells(table, name, is_text) for table in tables]
        columns[name] = np.concatenate(blocks)
    if part is not None:
        numbers = np.arange(len(tables), dtype=float)
        lengths = [len(table) for table in tables]
        columns[part] = np.repeat(numbers, lengths)
    return columns


def _cells(table: RawTable, name: str, is_text: bool) -> np.ndarray:
    """Cells of a column, as text or as numbers; all missing if the table does not have it."""
    rows = len(table)
    if name in table and is_text:
        return table.text(name)
    if name in table:
        return table.cells(name)
    if is_text:
        return np.full(rows, "", object)
    return np.full(rows, np.nan)
