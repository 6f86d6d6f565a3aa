"""Levels of a sensitive attribute, and the code of every row's level.

A level is text, a number or a truth value; 1 and 1.0 are the same level, True and "1" are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairjax.data.complaints import complain

LARGEST_RANGE = 2**16  # whole numbers within this range are coded without a sort
LevelKey = tuple[bool, Any]


def level_key(level) -> LevelKey:
    """What tells levels apart; 1 and 1.0 are the same, as numbers with gaps come as floats."""
    return isinstance(level, bool), level


def level_codes(name: str, column) -> tuple[np.ndarray, list]:
    """Codes ``[N]`` of a column, -1 where missing, and the level of each code.

    Some codes may occur in no row, and levels may repeat; see :func:`level_counts`.

    Raises:
      DataError: a cell is no text, number or truth value.
    """
    if hasattr(column, "factorize") and column.dtype != object:
        codes, distinct = column.factorize()
        return codes, [_plain_level(name, level) for level in distinct.tolist()]
    array = np.asarray(column)
    if array.dtype.kind not in "biufOUS":
        raise complain(
            name,
            f"{len(array):,} cells of type {array.dtype}",
            "Give text, numbers or truth values.",
        )
    if array.dtype.kind == "b":
        return array.astype(np.int8), [False, True]
    if array.dtype.kind in "iuf":
        return _number_codes(array)
    return _object_codes(name, array.tolist())


def level_counts(codes: np.ndarray, levels: list) -> dict[LevelKey, int]:
    """Number of rows of each level that occurs, by its key, in order of kind and value."""
    has_missing = len(codes) and codes.min() < 0
    present_codes = codes[codes >= 0] if has_missing else codes
    rows_of_code = np.bincount(present_codes, minlength=len(levels))
    counts: dict[LevelKey, int] = {}
    for code in np.flatnonzero(rows_of_code):
        key = level_key(levels[code])
        counts[key] = counts.get(key, 0) + int(rows_of_code[code])
    return {key: counts[key] for key in sorted(counts, key=_sort_key)}


def level_positions(
    codes: np.ndarray, levels: list, position_of: dict[LevelKey, int]
) -> np.ndarray:
    """Position ``[N]`` of every row's level among known levels; -1 where it is not one."""
    positions = [-1 if level is None else position_of.get(level_key(level), -1) for level in levels]
    # code -1 reads the last entry
    return np.asarray([*positions, -1], np.int32)[codes]


def _sort_key(key: LevelKey) -> tuple[bool, bool, Any]:
    is_truth_value, level = key
    return is_truth_value, isinstance(level, str), level


def _is_missing(level) -> bool:
    return level is None or type(level).__name__ in ("NAType", "NaTType") or level != level


def _plain_level(name: str, level):
    """A level as text, number or truth value of Python."""
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
    return str(level) if isinstance(level, str) else level


def _number_codes(array: np.ndarray) -> tuple[np.ndarray, list]:
    is_float = array.dtype.kind == "f"
    is_number = array == array if is_float else np.ones(len(array), bool)
    values = array[is_number] if is_float else array
    codes, levels = _known_number_codes(values)
    if is_number.all():
        return codes, levels
    spread = np.full(len(array), -1, codes.dtype)
    spread[is_number] = codes
    return spread, levels


def _known_number_codes(values: np.ndarray) -> tuple[np.ndarray, list]:
    low = values.min() if values.size else 0
    high = values.max() if values.size else 0
    in_range = float(high) - float(low) < LARGEST_RANGE
    if not in_range or (values.dtype.kind == "f" and not np.all(np.floor(values) == values)):
        levels, codes = np.unique(values, return_inverse=True)
        return codes, levels.tolist()
    if values.dtype.kind == "i":
        # the difference of two int8 may need more bits
        values = values.astype(np.int64)
    offset = values - low
    count = int(offset.max()) + 1 if values.size else 1
    return offset.astype(np.int32), [int(low) + i for i in range(count)]


def _object_codes(name: str, cells: list) -> tuple[np.ndarray, list]:
    kinds = set(map(type, cells))
    mixed = bool(kinds & {bool, np.bool_}) and len(kinds) > 1
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
    raw_levels = [level for _, level in distinct] if mixed else distinct
    code_of = {}
    levels = []
    for code, (key, level) in enumerate(zip(distinct, raw_levels, strict=True)):
        missing = _is_missing(level)
        code_of[key] = -1 if missing else code
        levels.append(None if missing else _plain_level(name, level))
    codes = np.fromiter(map(code_of.__getitem__, keys), np.int32, len(keys))
    return codes, levels
