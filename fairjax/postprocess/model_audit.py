"""The repair of a trained model, as the page of a sweep shows it."""

from __future__ import annotations

import numpy as np

from fairjax.core.types import Dataset, Spec
from fairjax.data import Prepared
from fairjax.losses import probabilities
from fairjax.postprocess._audit import Audit
from fairjax.postprocess.estimator import Repair


def audit_model(prepared: Prepared, scores: dict[str, np.ndarray], amount: float) -> Audit:
    """What a repair does to a model's probabilities and predictions: fitted on validation rows, measured on test rows.

    Args:
      prepared: the data.
      scores: ``[N, C]`` of the ``validation`` and ``test`` rows, before any repair.
      amount: of the repair; the path goes over all amounts.
    """
    spec, pool, rows = prepared.spec, prepared.splits.validation, prepared.splits.test
    fitted = Repair(amount, small="pool", minimum=1).fit(
        _values(spec, scores["validation"]),
        sensitive_features=_levels(spec, pool),
        sample_weight=pool.weight,
    )
    return fitted.audit(
        _values(spec, scores["test"]),
        _levels(spec, rows),
        _labels(spec, rows),
        np.asarray(rows.weight),
    )


def _values(spec: Spec, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities, and predictions in units, by name."""
    out = {}
    for task, prob in zip(spec.tasks, probabilities(spec, scores), strict=True):
        names = [f"{task.name}={level}" for level in task.levels] or [task.name]
        out |= {name: np.asarray(task.in_units(prob[:, c])) for c, name in enumerate(names)}
    return out


def _labels(spec: Spec, data: Dataset) -> np.ndarray:
    """Labels of the same columns, NaN where unknown: of several classes, each against the rest."""
    columns = []
    for i, task in enumerate(spec.tasks):
        block = spec.label_slice(i)
        label = np.where(
            data.label_mask[:, block] > 0, task.in_units(np.asarray(data.labels[:, block])), np.nan
        )
        if task.kind == "multiclass":
            label = np.where(np.isnan(label), np.nan, label == np.arange(len(task.levels)))
        columns.append(label)
    return np.concatenate(columns, axis=1)


def _levels(spec: Spec, data: Dataset) -> dict[str, list]:
    """Every row's level by attribute, None where unknown."""
    out = {}
    for i, attribute in enumerate(spec.attributes):
        if not attribute.continuous:
            block = np.asarray(data.groups[:, spec.group_slice(i)])
            level = np.where(block.any(axis=1), block.argmax(axis=1), len(attribute.levels))
            out[attribute.name] = [(*attribute.levels, None)[k] for k in level]
    return out
