"""Columns of scores and groups as people have them: arrays, lists, Series, data frames, mappings.

Every complaint names the column, the count and the cure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from fairjax.core.inputs import ColumnLike, ColumnsLike
from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing

Column = TypeVar("Column", bound=Sized)


class InputColumns(NamedTuple):
    """Columns as they were given."""

    names: tuple[str, ...] | None  # None where they have no names
    values: list[Any]
    flat: bool  # one column, without a second axis


# ------------------------------------------------------------------------------------------ reading


def read_columns(what: str, source: ColumnsLike, side_by_side: bool = False) -> InputColumns:
    """Columns of an array ``[N]`` or ``[N, P]``, a Series, a data frame, a mapping or a list of
    rows.

    Args:
      what: the argument's name, for messages.
      source: the data.
      side_by_side: take a list of arrays ``[N]`` for columns; otherwise a list holds rows.

    Raises:
      DataError: no columns can be read from the source.
    """
    if hasattr(source, "tocsr"):
        raise DataError(
            f"{what}: sparse data of shape {source.shape} cannot be read; give an array, such "
            "as toarray() makes."
        )
    if isinstance(source, Mapping) or hasattr(source, "columns"):
        return _read_frame(what, source)
    if hasattr(source, "to_numpy"):
        name = getattr(source, "name", None)
        names = None if name is None else (str(name),)
        return InputColumns(names, [source], True)
    if side_by_side and _is_list_of_arrays(source):
        return InputColumns(None, list(source), False)
    return _read_array(what, source)


def _is_list_of_arrays(source) -> bool:
    if not isinstance(source, list | tuple) or not source:
        return False
    return all(len(np.shape(column)) == 1 and hasattr(column, "dtype") for column in source)


def _read_frame(what: str, source) -> InputColumns:
    keys = list(source.columns if hasattr(source, "columns") else source)
    names = tuple(map(str, keys))
    if len(set(names)) < len(names):
        raise complain(
            what,
            f"{len(names)} columns with names that repeat ({listing(names)})",
            "Rename those columns.",
        )
    values = []
    for key in keys:
        column = source[key]
        # numpy would turn a list of mixed levels into text
        is_list = isinstance(column, list | tuple)
        values.append(np.array(column, dtype=object) if is_list else column)
    return InputColumns(names, values, False)


def _read_array(what: str, source) -> InputColumns:
    dtype = object if isinstance(source, list | tuple) else None
    try:
        array = np.array(source, dtype=dtype) if dtype else np.asarray(source)
    except ValueError as error:
        raise complain(
            what, f"{len(source)} entries of unequal length", "Give one value per row and column."
        ) from error
    if array.dtype.kind == "c":
        raise complain(
            what,
            f"{len(array):,} complex numbers",
            "Complex data not supported; give real and imaginary parts as columns.",
        )
    if array.ndim not in (1, 2):
        raise complain(
            what,
            f"shape {array.shape}",
            "Give an array of one or two dimensions, rows first. "
            "Reshape your data with reshape(-1, 1) if it is one column.",
        )
    if array.ndim == 1:
        return InputColumns(None, [array], True)
    return InputColumns(None, list(array.T), False)


# ----------------------------------------------------------------------------------------- choosing


def column_names(columns: InputColumns, word: str) -> tuple[str, ...]:
    """Names of the columns; without names ``word``, numbered where there are several."""
    if columns.names is not None:
        return columns.names
    count = len(columns.values)
    return (word,) if count == 1 else tuple(f"{word} {i}" for i in range(count))


def match_columns(
    what: str, columns: InputColumns, fitted: tuple[str, ...] | None, names: tuple[str, ...]
) -> InputColumns:
    """Columns in the order of ``fit``: by name where both have names, else by position.

    Args:
      what: the argument's name, for messages.
      columns: of other rows.
      fitted: names that the columns of ``fit`` had; None if they had none.
      names: names by which messages call the columns of ``fit``.

    Raises:
      DataError: the columns are others.
    """
    if fitted is not None and columns.names is not None and not columns.flat:
        if set(columns.names) != set(fitted):
            raise complain(
                what,
                f"{len(columns.names)} columns {listing(columns.names)}, fitted were "
                f"{listing(fitted)}",
                "The feature names should match those that were passed during fit.",
            )
        return choose_columns(columns, [columns.names.index(name) for name in fitted])
    if len(columns.values) != len(names):
        raise complain(
            what,
            f"{len(columns.values)} columns, fitted were {len(names)} ({listing(names)})",
            "Give the columns of the fit.",
        )
    return columns


def choose_columns(columns: InputColumns, positions: Sequence[int]) -> InputColumns:
    """The columns at some positions."""
    names = None if columns.names is None else tuple(columns.names[i] for i in positions)
    return InputColumns(names, [columns.values[i] for i in positions], False)


def column_position(columns: InputColumns, which: str | int) -> int:
    """Position of a column of X that is given by name or by position.

    Raises:
      DataError: X has no such column.
    """
    count = len(columns.values)
    if isinstance(which, str):
        if columns.names is None or which not in columns.names:
            raise complain(
                "X",
                f"no column {which!r} among {count} columns",
                "Name one of the columns, or give its position.",
            )
        return columns.names.index(which)
    if not -count <= which < count:
        raise DataError(
            f"X: no column {which} among {count} columns; X has {count} feature(s), the groups "
            "need one more column."
        )
    return which % count


# ------------------------------------------------------------------------------------------ numbers


def check_length(name: str, column: Column, rows: int, of: str = "scores") -> Column:
    """The column itself; raises DataError if its length is not the number of rows."""
    if len(column) != rows:
        raise complain(
            name, f"{len(column):,} rows beside {rows:,} {of}", "Give one entry per row."
        )
    return column


def plain_numbers(column: ColumnLike) -> np.ndarray:
    """The column as an array; numbers that numpy does not know (bfloat16, int4) as float64."""
    array = np.asarray(column)
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.number):
        return array.astype(np.float64)
    return array


def read_numbers(name: str, column: ColumnLike) -> np.ndarray:
    """Scores ``[N]`` as float64; raises DataError for scores that are not finite numbers."""
    array = plain_numbers(column)
    if array.dtype.kind not in "biufO":
        raise complain(
            name, f"{len(array):,} cells of type {array.dtype}, not real numbers", "Give numbers."
        )
    try:
        value = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise complain(
            name, f"{len(array):,} cells are not all numbers ({error})", "Give numbers."
        ) from error
    bad = ~np.isfinite(value)
    if bad.any():
        raise complain(
            name,
            f"{bad.sum():,} of {len(value):,} scores are NaN or infinite",
            "Fill or drop those rows.",
        )
    return value


def score_matrix(scores: InputColumns) -> tuple[np.ndarray, np.dtype]:
    """Scores ``[N, T]`` in double precision, and the type in which repaired scores are returned."""
    names = column_names(scores, "score")
    columns = []
    types = []
    for name, values in zip(names, scores.values, strict=True):
        column = read_numbers(name, values)
        columns.append(column)
        dtype = np.asarray(values).dtype
        is_float = jnp.issubdtype(dtype, jnp.floating)
        types.append(dtype if is_float else np.dtype(np.float64))
    for name, column in zip(names, columns, strict=True):
        check_length(name, column, len(columns[0]))
    dtype = types[0] if len(set(types)) == 1 else np.dtype(np.float64)
    return np.stack(columns, axis=1), dtype


def read_weights(weight: ArrayLike | None, rows: int) -> np.ndarray | None:
    """Weights ``[N]`` as float64; raises DataError if negative, not finite, or all zero."""
    if weight is None:
        return None
    weight = np.asarray(weight, np.float64)
    if weight.size and not weight.any():
        raise complain(
            "sample_weight",
            f"all {len(weight):,} weights are zero",
            "Give the rows that count a weight above 0.",
        )
    bad = int((~np.isfinite(weight) | (weight < 0)).sum())
    if weight.shape != (rows,) or bad:
        raise DataError(
            f"sample_weight: shape {weight.shape} with {bad:,} cells that are negative, NaN or "
            "infinite; give "
            f"{rows:,} weights of at least 0."
        )
    return weight


def read_labels(y: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Labels ``[N, T]``, NaN where missing; raises DataError if infinite, or not of the scores."""
    if y is None:
        return None
    try:
        label = np.asarray(y, np.float64)
        label = label.reshape(shape) if label.ndim < 2 else np.broadcast_to(label, shape)
    except (TypeError, ValueError) as error:
        problem = f"labels of shape {np.shape(y)} for scores of shape {shape} ({error})"
        raise complain("y", problem, "Give one number per score.") from error
    infinite = np.isinf(label)
    if infinite.any():
        problem = f"{infinite.sum():,} of {label.size:,} labels are infinite"
        raise complain("y", problem, "Correct them, or give them as missing (NaN).")
    return label
