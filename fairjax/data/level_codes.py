"""Levels of a sensitive attribute, and the code of every row's level.

A level is text, a number or a truth value; 1 and 1.0 are the same level, True and "1" are not.
Text is read as in tables: blanks around it do not count, and a text that means a missing value is
one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fairjax.core.inputs import ColumnLike
from fairjax.data.complaints import complain
from fairjax.data.input_columns import plain_numbers
from fairjax.data.raw_table import NA, missing_texts

_MISSING = missing_texts(NA)
LARGEST_RANGE = 2**16  # whole numbers within this range are coded without a sort
LevelKey = tuple[bool, Any]


def level_key(level: Any) -> LevelKey:
    """What tells levels apart; 1 and 1.0 are the same, as numbers with gaps come as floats."""
    is_truth_value = isinstance(level, bool)
    return is_truth_value, level


def level_codes(name: str, column: ColumnLike) -> tuple[np.ndarray, list[Any]]:
    """Codes ``[N]`` of a column, -1 where missing, and the level of each code.

    Some codes may occur in no row, and levels may repeat; see :func:`level_counts`.

    Raises:
      DataError: a cell is no text, number or truth value, or is infinite.
    """
    codes, cells = _distinct_cells(name, column)
    levels = [_plain_level(name, cell) for cell in cells]
    _refuse_infinite(name, codes, levels)
    missing_codes = [code for code, level in enumerate(levels) if level is None]
    if missing_codes:
        codes = np.where(np.isin(codes, missing_codes), -1, codes)
    return codes, levels


def _distinct_cells(name: str, column) -> tuple[np.ndarray, list[Any]]:
    """Codes ``[N]`` of a column, -1 where pandas or numpy know it as missing, and their cells."""
    is_pandas = hasattr(column, "factorize")
    if is_pandas and column.dtype != object:
        codes, distinct = column.factorize()
        return codes, distinct.tolist()
    array = plain_numbers(column)
    kind = array.dtype.kind
    if kind not in "biufOUS":
        raise complain(
            name,
            f"{len(array):,} cells of type {array.dtype}",
            "Give text, numbers or truth values.",
        )
    if kind == "b":
        codes = array.astype(np.int8)
        return codes, [False, True]
    if kind in "iuf":
        return _number_codes(array)
    return _object_codes(name, array.tolist())


def level_counts(codes: np.ndarray, levels: list[Any]) -> dict[LevelKey, int]:
    """Number of rows of each level that occurs, by its key, in order of kind and value."""
    has_missing = len(codes) and codes.min() < 0
    known_codes = codes[codes >= 0] if has_missing else codes
    rows_of_code = np.bincount(known_codes, minlength=len(levels))
    counts: dict[LevelKey, int] = {}
    for code in np.flatnonzero(rows_of_code):
        key = level_key(levels[code])
        rows = int(rows_of_code[code])
        counts[key] = counts.get(key, 0) + rows
    ordered_keys = sorted(counts, key=_sort_key)
    return {key: counts[key] for key in ordered_keys}


def level_positions(
    codes: np.ndarray, levels: list[Any], position_of: dict[LevelKey, int]
) -> np.ndarray:
    """Position ``[N]`` of every row's level among known levels; -1 where it is not one."""
    positions = []
    for level in levels:
        if level is None:
            position = -1
        else:
            position = position_of.get(level_key(level), -1)
        positions.append(position)
    # code -1 reads the last entry
    positions.append(-1)
    position_of_code = np.asarray(positions, np.int32)
    return position_of_code[codes]


def column_levels(name: str, column: ColumnLike) -> tuple[np.ndarray, list[Any]]:
    """Position ``[N]`` of every row's level, -1 where missing, and the levels in order.

    Raises:
      DataError: as :func:`level_codes`.
    """
    codes, levels = level_codes(name, column)
    counts = level_counts(codes, levels)
    position_of = {key: i for i, key in enumerate(counts)}
    positions = level_positions(codes, levels, position_of)
    return positions, [level for _, level in counts]


def _sort_key(key: LevelKey) -> tuple[bool, bool, Any]:
    is_truth_value, level = key
    return is_truth_value, isinstance(level, str), level


def _is_missing(level) -> bool:
    type_name = type(level).__name__
    if level is None or type_name in ("NAType", "NaTType"):
        return True
    return level != level


def _plain_level(name: str, level):
    """A level as text, number or truth value of Python; None where it is missing.

    A member of an enumeration of texts is its text.
    """
    if _is_missing(level):
        return None
    if isinstance(level, np.generic):
        level = level.item()
    if isinstance(level, bytes):
        level = level.decode()
    if not isinstance(level, str | int | float):
        raise complain(
            name,
            f"level {level!r} is of type {type(level).__name__}",
            "Give text, numbers or truth values.",
        )
    if isinstance(level, str):
        # str() of a member of an enumeration is its name
        text = str.__str__(level).strip()
        return None if text.casefold() in _MISSING else text
    return level


def _refuse_infinite(name: str, codes: np.ndarray, levels: list[Any]) -> None:
    infinite = [code for code, level in enumerate(levels) if level in (math.inf, -math.inf)]
    if infinite:
        rows = np.isin(codes, infinite).sum()
        raise complain(
            name,
            f"{rows:,} of {len(codes):,} levels are infinite",
            "Correct them, or give them as missing (None, NaN).",
        )


def _number_codes(array: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Codes and levels of numbers; NaN is missing."""
    if array.dtype.kind != "f":
        return _known_number_codes(array)
    is_number = ~np.isnan(array)
    if is_number.all():
        return _known_number_codes(array)
    number_codes, levels = _known_number_codes(array[is_number])
    codes = np.full(len(array), -1, number_codes.dtype)
    codes[is_number] = number_codes
    return codes, levels


def _known_number_codes(values: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Codes and levels of numbers without NaN.

    Whole numbers in a small range are coded by their distance from the least.
    """
    if not values.size:
        return np.zeros(0, np.int32), [0]
    least = values.min()
    greatest = values.max()
    in_range = float(greatest) - float(least) < LARGEST_RANGE
    if not in_range or not _are_whole(values):
        levels, codes = np.unique(values, return_inverse=True)
        return codes, levels.tolist()
    if values.dtype.kind == "i":
        # the difference of two int8 may need more bits
        values = values.astype(np.int64)
    offset = values - least
    start = int(least)
    stop = start + int(offset.max()) + 1
    codes = offset.astype(np.int32)
    return codes, list(range(start, stop))


def _are_whole(numbers: np.ndarray) -> bool:
    if numbers.dtype.kind != "f":
        return True
    return bool(np.all(np.floor(numbers) == numbers))


def _object_codes(name: str, cells: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Codes and distinct cells."""
    types = set(map(type, cells))
    has_truth_values = bool(types & {bool, np.bool_})
    mixed = has_truth_values and len(types) > 1
    if mixed:
        # a dictionary takes True for 1
        keys = [(isinstance(cell, bool | np.bool_), cell) for cell in cells]
    else:
        keys = cells
    try:
        distinct = list(dict.fromkeys(keys))
    except TypeError as error:
        raise complain(
            name,
            f"{len(cells):,} cells are not all text, numbers or truth values ({error})",
            "Give one level per row.",
        ) from error
    cells = [cell for _, cell in distinct] if mixed else distinct
    code_of = {key: code for code, key in enumerate(distinct)}
    code_of_cell = map(code_of.__getitem__, keys)
    codes = np.fromiter(code_of_cell, np.int32, len(keys))
    return codes, cells
