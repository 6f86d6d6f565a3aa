"""The repair of a trained model, as the page of a sweep shows it."""

from __future__ import annotations

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
    repair = Repair(amount, small="pool", minimum=1).fit(
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
    for task, prob in zip(spec.tasks, probabilities(spec, scores), strict=True):
        names = [f"{task.name}={level}" for level in task.levels] or [task.name]
        for column, name in enumerate(names):
            values[name] = np.asarray(task.in_units(prob[:, column]))
    return values


def _labels(spec: Spec, data: Dataset) -> np.ndarray:
    """Labels of the same columns, NaN where unknown; each class against all others."""
    columns = []
    for i, task in enumerate(spec.tasks):
        block = spec.label_slice(i)
        is_known = data.label_mask[:, block] > 0
        label = np.where(is_known, task.in_units(np.asarray(data.labels[:, block])), np.nan)
        if task.kind == "multiclass":
            of_class = label == np.arange(len(task.levels))
            label = np.where(np.isnan(label), np.nan, of_class)
        columns.append(label)
    return np.concatenate(columns, axis=1)


def _levels(spec: Spec, data: Dataset) -> dict[str, list]:
    """Every row's level by attribute, None where unknown."""
    return {
        attribute.name: _level_names(attribute, np.asarray(data.groups[:, spec.group_slice(i)]))
        for i, attribute in enumerate(spec.attributes)
        if not attribute.continuous
    }


def _level_names(attribute: Attribute, block: np.ndarray) -> list:
    names = (*attribute.levels, None)
    level = np.where(block.any(axis=1), block.argmax(axis=1), len(attribute.levels))
    return [names[k] for k in level]
