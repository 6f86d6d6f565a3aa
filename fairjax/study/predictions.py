"""Scores as columns of predictions, and ``predictions.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fairjax.core.keys import escape
from fairjax.core.tables import write_csv
from fairjax.core.types import Array, Dataset, Spec, Splits, Task
from fairjax.data import Prepared
from fairjax.losses import probabilities

Columns = dict[str, np.ndarray]


def prediction_columns(
    spec: Spec,
    scores: np.ndarray,
    thresholds: Sequence[float | None],
) -> Columns:
    """Scores ``[N, C]`` as columns by name; see :meth:`fairjax.study.SavedModel.predict`."""
    columns: Columns = {}
    for t, prob in enumerate(probabilities(spec, scores)):
        task = spec.tasks[t]
        name = _name(spec, task)
        prob = np.asarray(prob)
        score = scores[:, spec.score_slice(t)]
        if task.kind == "multiclass":
            choice = np.argmax(score, axis=1)
            columns[f"{name} decision"] = np.asarray(task.levels, object)[choice]
        if task.score_width == 1 and not task.is_vector:
            columns[name] = np.asarray(task.in_units(prob[:, 0]))
        else:
            values = np.asarray(task.in_units(prob))
            for c, level in enumerate(task.levels):
                columns[_name(spec, task, level)] = values[:, c]
        if task.kind == "binary":
            columns[f"{name} decision"] = (score[:, 0] >= thresholds[t]).astype(int)
        if task.kind == "multilabel":
            for c, level in enumerate(task.levels):
                columns[f"{_name(spec, task, level)} decision"] = (score[:, c] >= 0).astype(int)
    return columns


def all_predictions(
    data: Prepared,
    scores: Mapping[str, Array | np.ndarray],
    thresholds: Sequence[float | None],
) -> Columns:
    """Every row of a data set: its place in the source, its labels, groups and predictions.

    Args:
      data: the data.
      scores: ``[N, C]`` by split.
      thresholds: per task, see :class:`fairjax.study.SavedModel`.

    Returns:
      Columns ``[N]`` by name: ``row`` (from 0) and ``line`` of the source, ``split``, ``weight``
      where the data has weights, the level or number of every attribute, ``name label`` of every
      task, and the columns of :func:`prediction_columns`. What is unknown is NaN or empty. Where a
      task has one of the first names, ``source`` stands before it.
    """
    splits = list(Splits._fields)
    if data.splits.validation is data.splits.test:
        splits.remove("validation")
    parts = [_rows_of_split(data, split, scores[split], thresholds) for split in splits]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows_of_split(
    data: Prepared,
    split: str,
    scores: np.ndarray,
    thresholds: Sequence[float | None],
) -> Columns:
    spec = data.spec
    rows = getattr(data.splits, split)
    predicted = _label_columns(spec, rows) | prediction_columns(spec, scores, thresholds)
    known = {}
    origin = data.origin.get(split)
    if origin is not None:
        known["row"] = origin.row
        if origin.line is not None:
            known["line"] = origin.line
    known["split"] = np.full(len(rows.weight), split)
    if _is_weighted(data):
        known["weight"] = np.asarray(rows.weight)
    known |= _group_columns(spec, rows)
    named = {}
    for name, values in known.items():
        named[f"source {name}" if name in predicted else name] = values
    return named | predicted


def _is_weighted(data: Prepared) -> bool:
    return any((np.asarray(rows.weight) != 1).any() for rows in data.splits)


def _label_columns(spec: Spec, rows: Dataset) -> Columns:
    columns = {}
    for t, task in enumerate(spec.tasks):
        block = spec.label_slice(t)
        is_known = rows.label_mask[:, block] > 0
        label = np.where(is_known, rows.labels[:, block], np.nan)
        if task.kind == "multilabel" or task.is_vector:
            values = np.asarray(task.in_units(label))
            for c, level in enumerate(task.levels):
                columns[f"{_name(spec, task, level)} label"] = values[:, c]
            continue
        values = task.in_units(label[:, 0])
        if task.kind == "multiclass":
            levels = np.asarray([*task.levels, ""], object)
            place = np.where(is_known[:, 0], rows.labels[:, 0], len(task.levels))
            values = levels[place.astype(int)]
        columns[f"{_name(spec, task)} label"] = values
    return columns


def _group_columns(spec: Spec, rows: Dataset) -> Columns:
    columns = {}
    for i, attribute in enumerate(spec.attributes):
        block = np.asarray(rows.groups[:, spec.group_slice(i)])
        if attribute.continuous:
            is_known, number = block.T
            value = attribute.mean + attribute.deviation * number
            columns[attribute.name] = np.where(is_known > 0, value, np.nan)
            continue
        levels = np.asarray([*attribute.levels, ""], object)
        is_known = block.any(axis=1)
        place = np.where(is_known, block.argmax(axis=1), len(attribute.levels))
        columns[attribute.name] = levels[place]
    return columns


def write_predictions(path: Path, columns: Columns, spec: Spec, formulas: bool = False) -> Path:
    """Write predictions as CSV.

    The head of a binary task's labels and decisions says what 1 means. Rows without a number are
    counted from 0. With ``formulas`` texts stay as they are, see
    :func:`fairjax.core.tables.write_csv`.
    """
    meaning = {}
    for task in spec.tasks:
        if task.positive:
            for role in ("label", "decision"):
                name = f"{_name(spec, task)} {role}"
                meaning[name] = f"{name} (1: {task.positive})"
    first_column = next(iter(columns.values()))
    cells = {}
    if "row" not in columns and "source row" not in columns:
        cells["row"] = np.arange(len(first_column)).astype(str)
    for name, values in columns.items():
        cells[meaning.get(name, name)] = _cells(values)
    return write_csv(path, cells, formulas=formulas)


def _cells(values: np.ndarray) -> np.ndarray:
    """Integers without a point, and nothing where a number is unknown."""
    if values.dtype.kind in "iu":
        return values.astype(str)
    if values.dtype.kind == "f" and np.isnan(values).any():
        return np.where(np.isnan(values), "", values.astype(str))
    return values


def _name(spec: Spec, task: Task, level: str = "") -> str:
    """The name of a task's column, or of a class; escaped where two columns would share a name."""
    names = [other.name for other in spec.tasks]
    for other in spec.tasks:
        if other.score_width > 1 or other.is_vector:
            names += [f"{other.name}={level}" for level in other.levels]
    is_ambiguous = len(set(names)) < len(names)
    parts = [task.name, level] if level else [task.name]
    return "=".join(escape(part) if is_ambiguous else part for part in parts)
