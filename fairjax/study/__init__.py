"""Several methods on one data set, from configuration to one tidy table and saved models."""

from fairjax.study._study import (
    CONDITIONS,
    DISTANCES,
    FOLDS,
    PAPER,
    StudyConfig,
    _notions,
    assemble,
    evaluator,
    gap_metric,
    origin,
    points,
    recipe,
    repaired,
    study,
)

__all__ = [
    "CONDITIONS",
    "DISTANCES",
    "FOLDS",
    "PAPER",
    "StudyConfig",
    "_notions",
    "assemble",
    "evaluator",
    "gap_metric",
    "origin",
    "points",
    "recipe",
    "repaired",
    "study",
]
