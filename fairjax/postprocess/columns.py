"""Scores and groups as people have them: arrays, lists, Series, data frames, mappings in; float64 and codes out.

A level is text, a number or a truth value; 1 and 1.0 are the same, True and "1" are not. Every complaint names the column,
the count and the cure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing


class Read(NamedTuple):
    """Columns as they were given."""

    names: tuple[str, ...] | None  # None where they have none
    columns: list[Any]
    flat: bool  # one column, without a second axis


def read(what: str, source, side_by_side: bool = False) -> Read:
    """Columns of an array ``[N]`` or ``[N, P]``, a Series, a data frame, a mapping or a list of rows.

    ``side_by_side`` takes a list of arrays ``[N]`` for columns, else it is of rows.
    """
    if hasattr(source, "tocsr"):
        raise DataError(
            f"{what}: sparse data of shape {source.shape} cannot be read; give an array, such as toarray() makes."
        )
    if isinstance(source, Mapping) or hasattr(source, "columns"):
        return _frame(what, source)
    if hasattr(source, "to_numpy"):
        name = getattr(source, "name", None)
        return Read(None if name is None else (str(name),), [source], True)
    if (
        side_by_side
        and isinstance(source, list | tuple)
        and source
        and all(len(np.shape(c)) == 1 and hasattr(c, "dtype") for c in source)
    ):
        return Read(None, list(source), False)
    return _array(what, source)


def _frame(what: str, source) -> Read:
    given = list(source.columns if hasattr(source, "columns") else source)
    names = tuple(map(str, given))
    if len(set(names)) < len(names):
        raise complain(
            what, f"{len(names)} columns with names that repeat ({listing(names)})", "Rename those."
        )
    columns = [source[name] for name in given]
    return Read(
        names,
        [np.array(c, dtype=object) if isinstance(c, list | tuple) else c for c in columns],
        False,
    )


def _array(what: str, source) -> Read:
    try:
        array = (
            np.array(source, dtype=object)
            if isinstance(source, list | tuple)
            else np.asarray(source)
        )
    except ValueError as error:
        raise complain(
            what, f"{len(source)} entries of unequal length", "Give one value per row and column."
        ) from error
    if array.dtype.kind == "c":
        raise complain(
            what, f"{len(array):,} complex numbers", "Complex data not supported; give their parts."
        )
    if array.ndim not in (1, 2):
        raise complain(
            what,
            f"shape {array.shape}",
            "Give an array of one or two dimensions, rows first. "
            "Reshape your data with reshape(-1, 1) if it is one column.",
        )
    return Read(None, [array] if array.ndim == 1 else list(array.T), array.ndim == 1)


def numbers(name: str, column) -> np.ndarray:
    """``[N]`` float64 of a column of scores."""
    array = np.asarray(column)
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


def is_missing(level) -> bool:
    return level is None or type(level).__name__ in ("NAType", "NaTType") or level != level


def key_of(level) -> tuple[bool, Any]:
    """What tells levels apart. 1 and 1.0 are the same: a column of whole numbers with gaps comes as floats."""
    return isinstance(level, bool), level


def plain_level(name: str, level):
    level = level.item() if isinstance(level, np.generic) else level
    level = level.decode() if isinstance(level, bytes) else level
    if not isinstance(level, str | int | float):
        raise complain(
            name,
            f"level {level!r} is of type {type(level).__name__}",
            "Give text, numbers or truth values.",
        )
    return str(level) if isinstance(level, str) else level


def distinct(name: str, column) -> tuple[np.ndarray, list]:
    """Codes ``[N]`` of a column, -1 where missing, and what they stand for; some codes may stand nowhere, levels repeat."""
    if hasattr(column, "factorize") and column.dtype != object:
        codes, found = column.factorize()
        return codes, [plain_level(name, level) for level in found.tolist()]
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
        return _distinct_numbers(array)
    return _distinct_objects(name, array.tolist())


def _distinct_numbers(array: np.ndarray) -> tuple[np.ndarray, list]:
    known = array == array if array.dtype.kind == "f" else None
    some = array if known is None else array[known]
    low, high = (some.min(), some.max()) if some.size else (0, 0)
    if float(high) - float(low) < 2**16 and (known is None or np.all(np.floor(some) == some)):
        some = (
            some.astype(np.int64) if array.dtype.kind == "i" else some
        )  # the difference of two int8 may need more
        codes, found = (
            (some - low).astype(np.int32),
            [int(low) + i for i in range(int(some.size and (some - low).max()) + 1)],
        )
    else:
        found, codes = np.unique(some, return_inverse=True)
        found = found.tolist()
    if known is None or known.all():
        return codes, found
    spread = np.full(len(array), -1, codes.dtype)
    spread[known] = codes
    return spread, found


def _distinct_objects(name: str, cells: list) -> tuple[np.ndarray, list]:
    kinds = set(map(type, cells))
    keys = (
        [(k in (bool, np.bool_), c) for k, c in zip(map(type, cells), cells, strict=True)]
        if kinds & {bool, np.bool_} and len(kinds) > 1
        else cells
    )  # a dictionary takes True for 1
    try:
        found = list(dict.fromkeys(keys))
    except TypeError as error:
        raise complain(
            name,
            f"{len(cells):,} cells are not all text, numbers or truth values ({error})",
            "Give one level per row.",
        ) from error
    levels = found if keys is cells else [level for _, level in found]
    missing = [is_missing(level) for level in levels]
    place = {
        key: -1 if gone else i for i, (key, gone) in enumerate(zip(found, missing, strict=True))
    }
    codes = np.fromiter(map(place.__getitem__, keys), np.int32, len(keys))
    return codes, [
        None if gone else plain_level(name, level)
        for level, gone in zip(levels, missing, strict=True)
    ]


def present(codes: np.ndarray, levels: list) -> dict[tuple[bool, Any], int]:
    """How many rows each level has, in order of kind and value."""
    counts = np.bincount(
        codes[codes >= 0] if len(codes) and codes.min() < 0 else codes, minlength=len(levels)
    )
    found: dict[tuple[bool, Any], int] = {}
    for i in np.flatnonzero(counts):
        found[key_of(levels[i])] = found.get(key_of(levels[i]), 0) + int(counts[i])
    return dict(
        sorted(
            found.items(), key=lambda item: (item[0][0], isinstance(item[0][1], str), item[0][1])
        )
    )


def placed(codes: np.ndarray, levels: list, known: dict[tuple[bool, Any], int]) -> np.ndarray:
    """Positions ``[N]`` among known levels; -1 where a row's is missing or not among them."""
    place = [-1 if level is None else known.get(key_of(level), -1) for level in levels]
    return np.asarray([*place, -1], np.int32)[codes]


def crossed(codes: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Cells ``[N]`` in ``0 .. G`` of positions per attribute, the last fastest; G where one is unknown."""
    cell, known = codes[0], codes[0] >= 0
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        cell, known = cell * np.int32(size) + code, known & (code >= 0)
    return np.where(known, cell, np.int32(math.prod(sizes)))


def digest(score: np.ndarray, cell: np.ndarray) -> str:
    """A fingerprint of scores with their groups."""
    held = hashlib.blake2b(np.ascontiguousarray(score), digest_size=16)
    held.update(np.ascontiguousarray(cell, np.int32))
    return held.hexdigest()


def matrix(scores: Read) -> tuple[np.ndarray, np.dtype]:
    """Scores ``[N, T]`` in double precision, and the type of the answer."""
    names = named(scores, "score")
    columns = [numbers(name, column) for name, column in zip(names, scores.columns, strict=True)]
    for name, column in zip(names, columns, strict=True):
        of_length(name, column, len(columns[0]))
    kinds = [np.asarray(column).dtype for column in scores.columns]
    return np.stack(columns, axis=1), np.result_type(
        *(k if k.kind == "f" else np.float64 for k in kinds)
    )


def named(given: Read, word: str) -> tuple[str, ...]:
    if given.names is not None:
        return given.names
    return (
        (word,)
        if len(given.columns) == 1
        else tuple(f"{word} {i}" for i in range(len(given.columns)))
    )


def matched(what: str, given: Read, named: tuple[str, ...] | None, names: tuple[str, ...]) -> Read:
    """Columns in the order of ``fit``: by name where both have names, else by position."""
    if named is not None and given.names is not None and not given.flat:
        if set(given.names) != set(named):
            raise complain(
                what,
                f"{len(given.names)} columns {listing(given.names)}, fitted were {listing(named)}",
                "The feature names should match those that were passed during fit.",
            )
        return some_of(given, [given.names.index(name) for name in named])
    if len(given.columns) != len(names):
        raise complain(
            what,
            f"{len(given.columns)} columns, fitted were {len(names)} ({listing(names)})",
            "Give those.",
        )
    return given


def some_of(given: Read, places: Sequence[int]) -> Read:
    names = None if given.names is None else tuple(given.names[i] for i in places)
    return Read(names, [given.columns[i] for i in places], False)


def place_of(whole: Read, which) -> int:
    if isinstance(which, str):
        if whole.names is None or which not in whole.names:
            raise complain(
                "X",
                f"no column {which!r} among {len(whole.columns)} columns",
                "Name one, or give its position.",
            )
        return whole.names.index(which)
    if not -len(whole.columns) <= which < len(whole.columns):
        raise DataError(
            f"X: no column {which} among {len(whole.columns)} columns; X has {len(whole.columns)} feature(s), the "
            "groups need one more than that."
        )
    return which % len(whole.columns)


def listed(given) -> list:
    return [given] if isinstance(given, str | int | np.integer) else list(given)


def of_length(name: str, column, rows: int):
    if len(column) != rows:
        raise complain(
            name, f"{len(column):,} rows beside {rows:,} scores", "Give one entry per row."
        )
    return column


def weights(weight, rows: int) -> np.ndarray | None:
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
            f"sample_weight: shape {weight.shape} with {bad:,} cells that are negative, NaN or infinite; give "
            f"{rows:,} weights of at least 0."
        )
    return weight


def labels_of(y, shape: tuple[int, ...]) -> np.ndarray | None:
    """Labels ``[N, T]``, NaN where missing."""
    if y is None:
        return None
    try:
        label = np.asarray(y, np.float64)
        return label.reshape(shape) if label.ndim < 2 else np.broadcast_to(label, shape)
    except (TypeError, ValueError) as error:
        what = f"labels of shape {np.shape(y)} for scores of shape {shape} ({error})"
        raise complain("y", what, "Give one number per score.") from error
