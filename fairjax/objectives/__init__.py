"""Objectives: named rows of losses of a batch, of supervised losses and fairness notions."""

from __future__ import annotations

from fairjax.objectives._constrained import (
    Constrained,
    constrained,
    constrained_tasks,
    constraint_count,
    measures_itself,
    new_violation,
    own_violations,
    with_measurement,
    worst_violation,
)
from fairjax.objectives._mta_f import mta_f, mta_f_rows
from fairjax.objectives._recent import over_recent_batches
from fairjax.objectives._two_batches import on_two_batches
from fairjax.objectives.drawn_weights import (
    log_uniform,
    normalised,
    per_task_with_drawn_weights,
    uniform,
    with_drawn_weights,
)
from fairjax.objectives.rows import objective, per_task, weighted
from fairjax.objectives.terms import (
    FairnessTerms,
    Notions,
    Penalty,
    Predictions,
    accuracy_terms,
    attributes_of,
    fairness_terms,
    predict,
)

__all__ = [
    "Constrained",
    "FairnessTerms",
    "Notions",
    "Penalty",
    "Predictions",
    "accuracy_terms",
    "attributes_of",
    "constrained",
    "constrained_tasks",
    "constraint_count",
    "fairness_terms",
    "log_uniform",
    "measures_itself",
    "mta_f",
    "mta_f_rows",
    "new_violation",
    "normalised",
    "objective",
    "on_two_batches",
    "over_recent_batches",
    "own_violations",
    "per_task",
    "per_task_with_drawn_weights",
    "predict",
    "uniform",
    "weighted",
    "with_drawn_weights",
    "with_measurement",
    "worst_violation",
]
