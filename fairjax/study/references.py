"""What keeps a report honest: constant predictors, and groups too small for a rate.

All of it follows from the data alone. Values are JSON-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fairjax.core.masked import keep
from fairjax.core.types import Dataset, Spec
from fairjax.data import Prepared
from fairjax.losses import against_rest
from fairjax.notions import CONDITIONS
from fairjax.study.evaluation import SPLITS

if TYPE_CHECKING:
    from fairjax.study.run import Study


def constants(data: Prepared) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Errors of predictors that do not look at a row, by split, task and predictor.

    Their gaps are 0. Of a binary or multilabel task: ``nobody``, ``everybody``, and ``at random``,
    which selects the training base rate. Of a multiclass task: ``most frequent``, the class that
    most training rows have. Of a regression: ``mean`` of the training rows.
    """
    errors: dict = {}
    for split in SPLITS:
        errors[split] = {}
        for t, task in enumerate(data.spec.tasks):
            rows = getattr(data.splits, split)
            found = _CONSTANTS[task.kind](data.spec, t, data.splits.train, rows)
            errors[split][task.name] = {name: {"error": value} for name, value in found.items()}
    return errors


def best_constant(predictors: dict[str, dict[str, float]]) -> tuple[str, float]:
    """Name and error of the constant predictor of a task with the least error."""
    name = min(predictors, key=lambda key: predictors[key]["error"])
    return name, predictors[name]["error"]


def left_out(data: Prepared, study: Study) -> dict[str, list[dict]]:
    """Groups with too few rows for the gap that is shown, by split.

    An entry has ``attribute``, ``group``, ``task``, ``rows`` of the group, and ``rows_that_count``:
    those that its rate rests on.
    """
    smallest = study.config.smallest_group
    entries: dict[str, list[dict]] = {}
    for split in SPLITS:
        rows = getattr(data.splits, split)
        entries[split] = []
        for t, task in enumerate(data.spec.tasks):
            counted_nk = _rows_of_rates(data.spec, t, study.condition, rows)
            for attribute, group, member_n in _groups(data.spec, rows):
                count = int(counted_nk[member_n].sum(axis=0).min())
                if count < smallest:
                    entry = {
                        "attribute": attribute,
                        "group": group,
                        "task": task.name,
                        "rows": int(member_n.sum()),
                        "rows_that_count": count,
                    }
                    entries[split].append(entry)
    return entries


def _groups(spec: Spec, rows: Dataset) -> Iterator[tuple[str, str, np.ndarray]]:
    """Attribute, level and members ``[N]`` of every group of rows with weight."""
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        block = np.asarray(rows.groups)[:, spec.group_slice(i)]
        for g, level in enumerate(attribute.levels):
            yield attribute.name, level, (block[:, g] > 0) & (np.asarray(rows.weight) > 0)


def _rows_of_rates(spec: Spec, t: int, condition: str, rows: Dataset) -> np.ndarray:
    """Rows that the rates of a condition rest on ``[N, K]``, a column per class and rate."""
    if spec.tasks[t].kind == "regression":
        return np.ones((len(rows.weight), 1), bool)
    labels, masks = against_rest(spec, t, rows.labels, rows.label_mask)
    columns = []
    for rows_of in CONDITIONS[condition]:
        for label, mask in zip(np.asarray(labels).T, np.asarray(masks).T, strict=True):
            counted = rows_of(keep(label, mask), mask)
            columns.append(np.asarray(counted) > 0)
    return np.stack(columns, axis=1)


def rules_of(data: Prepared) -> dict[str, str]:
    """Sensitive attributes that a rule makes, by name: the rule that gives ``yes``."""
    return {rule.name: rule.text for rule in data.encoder.attributes if rule.op}


def _of_labels(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    """Errors of a binary or multilabel task, the mean over its labels."""
    block = spec.label_slice(t)
    errors = {"nobody": [], "everybody": [], "at random": []}
    for column in range(block.start, block.stop):
        base_rate = _share(train, column)
        share = _share(rows, column)
        errors["nobody"].append(share)
        errors["everybody"].append(1.0 - share)
        errors["at random"].append(base_rate * (1.0 - share) + (1.0 - base_rate) * share)
    return {name: float(np.nanmean(values)) for name, values in errors.items()}


def _of_classes(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    column = spec.label_slice(t).start
    label, weight = _known(train, column)
    mass = np.bincount(label.astype(int), weight, len(spec.tasks[t].levels))
    frequent = np.argmax(mass)
    label, weight = _known(rows, column)
    return {"most frequent": float(np.average(label != frequent, weights=weight))}


def _of_numbers(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    task = spec.tasks[t]
    column = spec.label_slice(t).start
    label, weight = _known(train, column)
    mean = np.average(label, weights=weight)
    label, weight = _known(rows, column)
    square = np.average((label - mean) ** 2, weights=weight)
    return {"mean": float(task.deviation * np.sqrt(square))}


def _share(rows: Dataset, column: int) -> float:
    """Share of label 1 among the known labels; NaN where none is known."""
    label, weight = _known(rows, column)
    return float(np.average(label, weights=weight)) if weight.sum() else np.nan


def _known(rows: Dataset, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Known labels and their weights."""
    weight = np.asarray(rows.weight) * np.asarray(rows.label_mask)[:, column]
    is_known = weight > 0
    return np.asarray(rows.labels, float)[is_known, column], weight[is_known]


_CONSTANTS = {
    "binary": _of_labels,
    "multilabel": _of_labels,
    "multiclass": _of_classes,
    "regression": _of_numbers,
}
