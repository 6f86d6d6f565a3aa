"""Read the cells of one column as a feature, a label or a sensitive attribute."""

from __future__ import annotations

import numpy as np

from fairjax.data.complaints import complain, listing
from fairjax.data.numbers import NumberForm
from fairjax.data.raw_table import RawTable
from fairjax.data.rules import ColumnRule, holds

LARGEST = 1e37  # of a number that is read: single precision ends there


def level_index(table: RawTable, name: str, levels: tuple[str, ...]) -> np.ndarray:
    """``[N]`` int32 index of every cell among the levels, -1 for other cells."""
    index_of = {level: i for i, level in enumerate(levels)}
    if not table.is_text(name):
        texts = table.text(name).tolist()
        return np.array([index_of.get(text, -1) for text in texts], np.int32)
    index = [index_of.get(level, -1) for level in table.distinct_levels(name)]
    return np.array(index, np.int32)[table.distinct(name).codes]


def read_feature(table: RawTable, name: str, missing: str, form: NumberForm) -> np.ndarray:
    """``[N]`` float64 of a numeric feature, NaN where it is missing.

    Raises:
        DataError: a cell is a text, infinite, or a number beyond 1e37; or it is missing and
            ``missing`` is "error".
    """
    cure = (
        f"Correct the cells, name them as missing (--na), or declare {name!r} categorical "
        "(--categorical)."
    )
    value = table.require_numbers(name, cure, form)
    if missing != "error" and _largest(value) <= LARGEST:
        return value
    bad = np.isinf(value)
    problem = "infinite"
    cure = "Correct them, or name them as missing (--na)."
    if missing == "error":
        bad = ~np.isfinite(value)
        problem = "empty, NaN or infinite"
        cure = "Fill them, leave out the column (--drop), or train with --missing impute."
    if bad.any():
        count = f"{bad.sum():,} of {len(table):,} cells are {problem}"
        raise complain(table.where, f"column {name!r}: {count}, {table.spots(bad)}", cure)
    _refuse_large(table, name, value)
    return value


def _largest(value: np.ndarray) -> float:
    """The largest size of known numbers ``[N]``; 0 without any."""
    return float(max(np.fmax.reduce(value, initial=0.0), -np.fmin.reduce(value, initial=0.0)))


def _refuse_large(table: RawTable, name: str, value: np.ndarray) -> None:
    """Refuse finite numbers of a column that single precision does not hold."""
    if _largest(value) <= LARGEST:
        return
    large = np.isfinite(value) & (np.abs(value) > LARGEST)
    if large.any():
        count = f"{large.sum():,} of {len(table):,} numbers are beyond {LARGEST:g}"
        problem = f"column {name!r}: {count}, {table.spots(large, name)}"
        raise complain(table.where, problem, "Correct them, or take a larger unit.")


def standardise(
    table: RawTable, name: str, value: np.ndarray, mean: float, deviation: float
) -> np.ndarray:
    """``(value - mean) / deviation`` of a column ``[N]``.

    Raises:
        DataError: a result is beyond 1e37.
    """
    standardised = value - mean
    standardised /= deviation
    _refuse_large(table, name, standardised)
    return standardised


def read_label(rule: ColumnRule, table: RawTable) -> tuple[np.ndarray, np.ndarray]:
    """``(label [N], is_known [N] bool)`` of a fitted task rule; the label is a bool or float64."""
    if rule.op:
        return holds(rule, table)
    is_known = ~table.missing(rule.column)
    if rule.kind == "regression":
        cure = f"Task {rule.name!r} is a regression: correct the cells."
        value = table.require_numbers(rule.column, cure, rule.form)
        _refuse_labels(rule, table, is_known & ~np.isfinite(value))
        _refuse_large(table, rule.column, value)
        return standardise(table, rule.column, value, rule.mean, rule.deviation), is_known
    index = level_index(table, rule.column, rule.levels)
    _refuse_labels(rule, table, is_known & (index < 0))
    return index.astype(np.float64), is_known


def _refuse_labels(rule: ColumnRule, table: RawTable, bad: np.ndarray) -> None:
    if bad.any():
        allowed = listing(rule.levels) if rule.levels else "finite numbers"
        count = f"{bad.sum():,} of {len(table):,} labels are not {allowed}"
        problem = f"column {rule.column!r}: {count}, {table.spots(bad, rule.column)}"
        raise complain(table.where, problem, "Correct them, or name them as missing (--na).")


def read_groups(rule: ColumnRule, table: RawTable) -> np.ndarray:
    """The block of a fitted sensitive rule in ``groups``, float32.

    ``[N, levels]`` membership, or ``[N, 2]`` with ``(known, value * known)`` for a number. An
    unknown cell is a row of zeros.
    """
    if rule.kind == "number":
        value, is_known = read_sensitive_number(rule, table)
        standardised = standardise(table, rule.column, value, rule.mean, rule.deviation)
        block = [is_known, np.where(is_known, standardised, 0.0)]
        return np.stack(block, 1).astype(np.float32)
    if rule.op:
        truth, is_known = holds(rule, table)
        member = np.stack([~truth, truth], 1) & is_known[:, None]
    else:
        index = level_index(table, rule.column, rule.levels)
        member = index[:, None] == np.arange(len(rule.levels))
    return member.astype(np.float32)


def read_sensitive_number(rule: ColumnRule, table: RawTable) -> tuple[np.ndarray, np.ndarray]:
    """``(value [N] float64, is_known [N] bool)`` of a sensitive number.

    Raises:
        DataError: a cell is a text, infinite, or a number beyond 1e37.
    """
    cure = "Correct them, name them as missing (--na), or leave out ':number' if they are groups."
    value = table.require_numbers(rule.column, cure, rule.form)
    is_known = ~table.missing(rule.column)
    bad = is_known & ~np.isfinite(value)
    if bad.any():
        count = f"{bad.sum():,} of {len(table):,} cells are not finite"
        problem = f"column {rule.column!r}: {count}, {table.spots(bad, rule.column)}"
        raise complain(table.where, problem, cure)
    _refuse_large(table, rule.column, value)
    return value, is_known
