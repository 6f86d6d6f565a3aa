"""Rows for a fitted repair: X split into scores and groups, groups looked up in the pool."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.input_columns import (
    InputColumns,
    check_length,
    choose_columns,
    column_position,
    match_columns,
    read_columns,
    score_matrix,
)
from fairjax.data.level_codes import level_codes, level_counts, level_key, level_positions
from fairjax.postprocess._pool import list_counts
from fairjax.postprocess.cells import cells_of_codes


class Rows(NamedTuple):
    """Rows that were read, with their groups looked up among those of the pool."""

    score: np.ndarray  # [N, T] float64, as given
    codes: list[np.ndarray]  # per attribute [N], -1 where unknown
    cell: np.ndarray  # [N] in 0 .. G; G where a level is unknown
    shape: tuple[int, ...]  # of the answer
    dtype: np.dtype  # of the answer


def split_columns(
    X, sensitive_features, sensitive, expected: int | None = None
) -> tuple[InputColumns, InputColumns, InputColumns]:
    """All columns of X, the columns of scores, and the columns of groups.

    Args:
      X: scores, and groups where ``sensitive`` names them.
      sensitive_features: groups, where ``sensitive`` is None.
      sensitive: columns of X that hold the groups, by position or name.
      expected: number of columns that X had in ``fit``.

    Raises:
      DataError: the groups are missing or given twice, or X has another number of columns.
    """
    columns = read_columns("X", X)
    count = len(columns.values)
    if not count:
        raise DataError(f"X: 0 feature(s) (shape={np.shape(X)}) while a minimum of 1 is required.")
    if columns.flat and sensitive is not None:
        raise DataError(
            "X: one dimension, with the groups among its columns two are needed. Reshape your data."
        )
    if expected not in (None, count):
        raise DataError(
            f"X has {count} features, but Repair is expecting {expected} features as input."
        )
    if sensitive is None:
        if sensitive_features is None:
            raise DataError(
                "sensitive_features are missing: give the groups of the rows, or name columns "
                "of X that hold "
                "them with Repair(sensitive=[...])."
            )
        groups = read_columns("sensitive_features", sensitive_features, side_by_side=True)
        return columns, columns, groups
    if sensitive_features is not None:
        raise DataError(
            f"sensitive_features are given, and columns {sensitive!r} of X are named as sensitive; "
            "leave out one of them."
        )
    return columns, *_split_named(columns, sensitive)


def _split_named(columns: InputColumns, sensitive) -> tuple[InputColumns, InputColumns]:
    """Columns of scores, and the named columns of groups."""
    single = isinstance(sensitive, str | int | np.integer)
    names = [sensitive] if single else list(sensitive)
    positions = [column_position(columns, name) for name in names]
    others = [i for i in range(len(columns.values)) if i not in positions]
    if not others:
        raise DataError(
            f"X: all {len(positions)} feature(s) are sensitive, a minimum of 1 score is required."
        )
    return choose_columns(columns, others), choose_columns(columns, positions)


def read_rows(repair, X, sensitive_features) -> Rows:
    """Rows of X, with their groups looked up among those of the pool.

    Args:
      repair: a :class:`fairjax.Repair`.
      X: scores of any rows.
      sensitive_features: their groups.

    Raises:
      DataError: the repair is not fitted, the columns do not fit, or a group is refused that the
        pool does not have.
    """
    if not hasattr(repair, "table_"):
        raise DataError(
            "this Repair is not fitted yet; call fit with the scores and groups of a pool first."
        )
    _, scores, groups = split_columns(
        X, sensitive_features, repair.sensitive, repair.n_features_in_
    )
    score_names, group_names = repair._names_
    scores = match_columns("X", scores, score_names, repair.tasks_)
    groups = match_columns("sensitive_features", groups, group_names, repair.attributes_)
    score, dtype = score_matrix(scores)
    codes = []
    for name, levels, column in zip(repair.attributes_, repair.levels_, groups.values, strict=True):
        check_length(name, column, len(score))
        positions, unseen = _look_up(name, levels, column)
        _judge_unseen(repair, unseen, f"level of {name!r}")
        codes.append(positions)
    cell = cells_of_codes(codes, [len(levels) for levels in repair.levels_])
    count = np.bincount(cell, minlength=len(repair.cells_) + 1)[:-1]
    absent = np.flatnonzero((count > 0) & (repair.rows_ == 0))
    _judge_unseen(repair, {repair.cells_[c]: int(count[c]) for c in absent}, "combination")
    shape = score.shape[:1] if scores.flat else score.shape
    return Rows(score, codes, cell, shape, dtype)


def _look_up(name: str, known: list[Any], column) -> tuple[np.ndarray, dict[tuple[Any, ...], int]]:
    """Positions ``[N]`` among known levels, -1 elsewhere; and the rows of each unknown level."""
    codes, levels = level_codes(name, column)
    position_of = {level_key(level): i for i, level in enumerate(known)}
    counts = level_counts(codes, levels)
    unseen = {(key[1],): count for key, count in counts.items() if key not in position_of}
    return level_positions(codes, levels, position_of), unseen


def _judge_unseen(repair, counts: dict[tuple[Any, ...], int], what: str) -> None:
    """Refuse groups that the pool does not have, or warn of them."""
    if not counts:
        return
    problem = (
        f"sensitive_features: {sum(counts.values()):,} rows have a {what} that the pool has not "
        f"({list_counts(counts)})"
    )
    if repair._small_ != "raise":
        warnings.warn(f"{problem}; they are ranked among all rows", stacklevel=4)
        return
    of_pool = zip(repair.cells_, repair.rows_, strict=True)
    present = list_counts({cell: int(count) for cell, count in of_pool if count}, 12)
    raise DataError(
        f"{problem}; it has {present}. Leave them out, give their groups as missing, or fit "
        "with small='pool'."
    )
