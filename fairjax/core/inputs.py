"""What people hand in: columns and tables, in the forms in which they have them. Types alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import ArrayLike


class Frame(Protocol):
    """A data frame: pandas and polars have both methods, and so have others."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""
        ...

    def __getitem__(self, name: Any, /) -> Any:
        """One column."""
        ...


class ArrowTable(Protocol):
    """A table of Arrow, or what can become one without a copy."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The table as a stream of Arrow."""
        ...


# an array of numpy or JAX, a Series, or a list; None in it is a missing cell
ColumnLike = ArrayLike | Sequence[Any]
# one column, or several: a matrix, a data frame, a mapping from names to columns
ColumnsLike = ColumnLike | Frame | Mapping[str, ColumnLike]
# the path of a file, a data frame, or a mapping from names to columns
TableLike = str | Path | Frame | ArrowTable | Mapping[str, ColumnLike]
