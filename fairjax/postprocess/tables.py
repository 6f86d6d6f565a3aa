"""Repair of the scores in a table: columns by name in, repaired columns and an audit out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.tables import write_csv
from fairjax.core.types import DataError
from fairjax.data.complaints import complain
from fairjax.data.raw_table import RawTable, canonical
from fairjax.postprocess._audit import Audit
from fairjax.postprocess.estimator import Repair


class RepairedTable(NamedTuple):
    """What :func:`repair_table` returns."""

    columns: dict[str, np.ndarray]  # repaired scores [N] by the names of their columns
    audit: Audit


class RepairColumns(NamedTuple):
    """Scores and groups of a table, by the names that a repair has for them."""

    scores: dict[str, np.ndarray]
    groups: dict[str, list[Any]]


def repair_table(
    table: RawTable,
    repair: Repair,
    scores: Sequence[str] = (),
    sensitive: Sequence[str] = (),
    *,
    pool: RawTable | None = None,
    weight: str | None = None,
    labels: Sequence[str] = (),
    folds: int = 5,
    seed: int | None = None,
) -> RepairedTable:
    """Repair columns of a table, and audit the repair on the table's rows.

    A repair that is not fitted is fitted: on the pool, or on the table itself, whose rows are then
    repaired fold by fold.

    Args:
      table: the rows.
      repair: fitted or not; it is fitted afterwards.
      scores: columns of scores, one per task; of a fitted repair its own names by default.
      sensitive: columns of groups, one per attribute; of a fitted repair its own names by default.
        An empty cell is an unknown group.
      pool: other rows with these columns, which the model was not trained on.
      weight: column of row weights, of the pool and of the audit.
      labels: columns of labels, one per column of scores, for the risk in the audit.
      folds: number of folds where there is no pool.
      seed: separates equal scores at random, and of the folds; None keeps equal scores together.

    Raises:
      DataError: a column is missing, named twice or holds something else; anything that the repair
        refuses.
    """
    is_fitted = hasattr(repair, "table_")
    if is_fitted:
        scores = list(scores) or list(repair.tasks_)
        sensitive = list(sensitive) or list(repair.attributes_)
        _check_counts(repair, scores, sensitive)
    if labels and len(labels) != len(scores):
        raise DataError(f"labels: {len(labels)} columns for {len(scores)} scores. Give one each.")
    cross = not is_fitted and pool is None
    rows = repair_columns(table, repair, scores, sensitive)
    row_weight = column_of_weights(table, weight, required=cross)
    if not is_fitted and pool is not None:
        pool_rows = repair_columns(pool, repair, scores, sensitive)
        pool_weight = column_of_weights(pool, weight)
        repair.fit(pool_rows.scores, sensitive_features=pool_rows.groups, sample_weight=pool_weight)
    fold_options = {}
    if cross:
        fold_options = {"folds": folds, "seed": seed or 0}
        repaired = repair.cross_fit_transform(
            *rows, sample_weight=row_weight, ties=seed, **fold_options
        )
    else:
        repaired = repair.transform(rows.scores, sensitive_features=rows.groups, seed=seed)
    label = column_of_labels(table, labels)
    audit = repair.audit(*rows, label, row_weight, ties=seed, **fold_options)
    return RepairedTable(dict(zip(scores, repaired.T, strict=True)), audit)


def _check_counts(repair: Repair, scores: Sequence[str], sensitive: Sequence[str]) -> None:
    fitted = (len(repair.tasks_), len(repair.attributes_))
    if (len(scores), len(sensitive)) != fitted:
        raise DataError(
            f"the fitted repair has scores {', '.join(repair.tasks_)} and groups "
            f"{', '.join(repair.attributes_)}; "
            f"{len(scores)} columns of scores and {len(sensitive)} of groups are named. Name none."
        )


def repair_columns(
    table: RawTable, repair: Repair, scores: Sequence[str], sensitive: Sequence[str]
) -> RepairColumns:
    """Scores and groups of a table, by the names that a repair has for them.

    Raises:
      DataError: a column is missing or named twice, or scores are missing or no numbers.
    """
    for content, names in (("scores", scores), ("groups", sensitive)):
        if len(set(names)) < len(names):
            raise DataError(f"columns of {content}: {', '.join(names)}; name every column once.")
    tasks = getattr(repair, "tasks_", scores)
    attributes = getattr(repair, "attributes_", sensitive)
    levels = getattr(repair, "levels_", [[]] * len(sensitive))
    columns = RepairColumns({}, {})
    for task, name in zip(tasks, scores, strict=True):
        columns.scores[task] = _column_of_scores(table, name)
    for attribute, level_list, name in zip(attributes, levels, sensitive, strict=True):
        columns.groups[attribute] = _column_of_groups(table, name, level_list)
    return columns


def _column_of_scores(table: RawTable, name: str) -> np.ndarray:
    score = table.require_numbers(name, "Scores are numbers.")
    missing = table.missing(name)
    if missing.any():
        raise complain(
            table.where,
            f"column {name!r}: {missing.sum():,} of {len(table):,} scores are missing, "
            f"{table.spots(missing)}",
            "Fill them, or leave out those rows.",
        )
    return score


def _column_of_groups(table: RawTable, name: str, known: Sequence[Any]) -> list[Any]:
    """Levels of a column, None where missing; numbers that a fitted repair knows are numbers."""
    level_of = {canonical(str(level)): level for level in known}
    return [level_of.get(cell, cell) if cell else None for cell in table.text(name).tolist()]


def column_of_weights(
    table: RawTable, name: str | None, required: bool = True
) -> np.ndarray | None:
    """Weights ``[N]`` of a table's rows; None without a name or an optional column."""
    if name is None or (name not in table and not required):
        return None
    weight = table.require_numbers(name, "Weights are numbers of at least 0.")
    # a missing weight is refused as a negative one
    return np.nan_to_num(weight, nan=-1.0)


def column_of_labels(table: RawTable, names: Sequence[str]) -> np.ndarray | None:
    """Labels ``[N, T]``, NaN where missing; None without names."""
    if not names:
        return None
    columns = [table.require_numbers(name, "Labels are numbers, or empty.") for name in names]
    return np.stack(columns, axis=1)


def warn_of_training_rows(
    pool: RawTable, training: RawTable, scores: Sequence[str], sensitive: Sequence[str]
) -> None:
    """Warn where rows of the pool are rows that the model was trained on, by the columns that both
    have except scores.

    Args:
      pool: rows that a repair is fitted on.
      training: rows that the model was trained on.
      scores: columns of scores.
      sensitive: columns of groups.

    Raises:
      DataError: fewer than two columns are left to compare, beside scores and groups.
    """
    shared = [name for name in pool.columns if name in training and name not in scores]
    features = len(set(shared) - set(sensitive))
    if features < 2:
        raise DataError(
            f"{training.where}: has {features} columns in common with the calibration rows "
            "beside scores and "
            "groups, too few to tell rows by. Give a file with their features, or do without "
            "the training rows."
        )
    trained = set(_row_tuples(training, shared))
    count = sum(row in trained for row in _row_tuples(pool, shared))
    if count:
        warnings.warn(
            f"{count:,} of {len(pool):,} rows that the repair is fitted on are rows of "
            f"{training.where}. To rows it was "
            "trained on a model gives other scores than to new rows; fit on others",
            stacklevel=2,
        )


def _row_tuples(table: RawTable, names: Sequence[str]):
    return zip(*(table.cells(name).tolist() for name in names), strict=True)


def write_repaired(
    path: Path,
    table: RawTable,
    columns: dict[str, np.ndarray],
    formulas: bool = False,
) -> Path:
    """Write a table as CSV in UTF-8 with its repaired columns, ``NAME repaired``, behind.

    With ``formulas`` texts stay as they are, see :func:`fairjax.core.tables.write_csv`.

    Raises:
      DataError: the table has columns of these names already.
    """
    repaired = {f"{name} repaired": values for name, values in columns.items()}
    duplicate = [name for name in repaired if name in table]
    if duplicate:
        raise DataError(
            f"{table.where}: {', '.join(duplicate)} would be twice in {path.name} ({len(table):,} "
            "rows). Rename it."
        )
    cells = {name: table.cells(name) for name in table.columns}
    return write_csv(path, cells | repaired, formulas=formulas)
