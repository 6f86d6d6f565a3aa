"""The repair of a trained model, as the page of a sweep shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairjax.core.types import Attribute, Dataset, Spec
from fairjax.data import Prepared
from fairjax.losses import probabilities
from fairjax.postprocess._audit import Audit
from fairjax.postprocess.estimator import Repair


def audit_model(prepared: Prepared, scores: dict[str, np.ndarray], amount: float) -> Audit:
    """A repair of a model, fitted on its validation rows and measured on its test rows.

    Args:
      prepared: the data.
      scores: ``[N, C]`` of the ``validation`` and ``test`` rows, before any repair.
      amount: of the repair; the path goes over all amounts.
    """
    spec = prepared.spec
    pool = prepared.splits.validation
    rows = prepared.splits.test
    repair = Repair(amount, small="pool", minimum=1)
    repair.fit(
        _values(spec, scores["validation"]),
        sensitive_features=_levels(spec, pool),
        sample_weight=pool.weight,
    )
    return repair.audit(
        _values(spec, scores["test"]),
        _levels(spec, rows),
        _labels(spec, rows),
        np.asarray(rows.weight),
    )


def _values(spec: Spec, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities, and predictions in units, by name."""
    values = {}
    prob_of_task = probabilities(spec, scores)
    for task, prob in zip(spec.tasks, prob_of_task, strict=True):
        names = [task.name]
        if task.score_width > 1 or task.is_vector:
            names = [f"{task.name}={level}" for level in task.levels]
        value = np.asarray(task.in_units(prob))
        for column, name in enumerate(names):
            values[name] = value[:, column]
    return values


def _labels(spec: Spec, data: Dataset) -> np.ndarray:
    """Labels of the same columns, NaN where unknown; each class against all others."""
    columns = []
    for i, task in enumerate(spec.tasks):
        block = spec.label_slice(i)
        is_known = data.label_mask[:, block] > 0
        label = np.asarray(data.labels[:, block])
        label = task.in_units(label)
        label = np.where(is_known, label, np.nan)
        if task.kind == "multiclass":
            classes = np.arange(len(task.levels))
            is_of_class = label == classes
            label = np.where(np.isnan(label), np.nan, is_of_class)
        columns.append(label)
    return np.concatenate(columns, axis=1)


def _levels(spec: Spec, data: Dataset) -> dict[str, list[Any]]:
    """Every row's level by attribute, None where unknown."""
    levels = {}
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        block = spec.group_slice(i)
        membership = np.asarray(data.groups[:, block])
        levels[attribute.name] = _level_names(attribute, membership)
    return levels


def _level_names(attribute: Attribute, membership: np.ndarray) -> list[Any]:
    names = (*attribute.levels, None)
    unknown = len(attribute.levels)
    is_known = membership.any(axis=1)
    code = np.where(is_known, membership.argmax(axis=1), unknown)
    return [names[k] for k in code]
