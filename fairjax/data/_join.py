"""Several data sets as one table: rows below one another, cells empty where a data set lacks a column."""

from __future__ import annotations

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.read import as_table, complain, listing


def join(
    *sources, part: str | None = None, delimiter: str = ",", encoding: str = "utf-8"
) -> dict[str, np.ndarray]:
    """The rows of all sources, for :func:`fairjax.from_table`.

    Columns of one name are one column. A label or a demographic that a source lacks is missing in its rows, and masked from
    then on; a numeric feature needs ``Roles(missing="impute")``, a categorical one has the empty level.

    Args:
      sources: CSV paths, data frames or dicts of arrays.
      part: name of a column that says from which source a row is, 0, 1, ...; none by default. As a ``split`` or a weight
        it would be wrong, as a feature it tells the data sets apart.
      delimiter: of CSV files.
      encoding: of CSV files.

    Returns:
      Columns, text or float64 with NaN.

    Raises:
      DataError: a source that cannot be read, one source alone, no column that two of them share, ``part`` taken.

    >>> joined = join({"age": [30, 40], "paid": [0, 1]}, {"age": [50], "sex": ["f"]})
    >>> joined["age"].tolist(), joined["sex"].tolist()
    ([30.0, 40.0, 50.0], ['', '', 'f'])
    """
    tables = [as_table(source, delimiter=delimiter, encoding=encoding) for source in sources]
    where = " + ".join(table.where for table in tables)
    if len(tables) < 2:
        raise DataError("join: give two sources or more")
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    if all(sum(name in table for table in tables) < 2 for name in names):
        raise complain(
            where,
            f"no column is in two of {len(tables)} sources: {listing(names, 8)}",
            "Rename the columns that mean the same.",
        )
    if part in names:
        raise complain(
            where, f"there is a column {part!r} already", "Choose another name for part."
        )
    columns = {}
    for name in names:
        text = any(table.columns[name].dtype == object for table in tables if name in table)
        columns[name] = np.concatenate([_cells(table, name, text) for table in tables])
    if part is not None:
        columns[part] = np.repeat(np.arange(len(tables)), [len(table) for table in tables]).astype(
            float
        )
    return columns


def _cells(table, name: str, text: bool) -> np.ndarray:
    if name not in table:
        return np.full(len(table), "" if text else np.nan, object if text else float)
    return table.text(name) if text else table.columns[name]
