"""Several methods on one data set.

A study is made from objects or from names. It gives one tidy table and saved models.
"""

from fairjax.study.config import PAPER, NamedStudy, StudyConfig, named_study, point_hparams
from fairjax.study.evaluation import evaluator, repair_scores
from fairjax.study.explain import (
    Explanation,
    Point,
    conflicts_of,
    explain_run,
    groups_of,
    kept_scores,
    load_point,
    member_of,
    point_of,
    train_run,
)
from fairjax.study.run import REFERENCE, Results, Study, from_names, make_study, run_study
from fairjax.study.saved import (
    SavedModel,
    load_model,
    prediction_columns,
    repaired,
    thresholds_of,
    train_one,
    write_predictions,
)
from fairjax.study.table import assemble

__all__ = [
    "PAPER",
    "REFERENCE",
    "Explanation",
    "NamedStudy",
    "Point",
    "Results",
    "SavedModel",
    "Study",
    "StudyConfig",
    "assemble",
    "conflicts_of",
    "evaluator",
    "explain_run",
    "from_names",
    "groups_of",
    "kept_scores",
    "load_model",
    "load_point",
    "make_study",
    "member_of",
    "named_study",
    "point_hparams",
    "point_of",
    "prediction_columns",
    "repair_scores",
    "repaired",
    "run_study",
    "thresholds_of",
    "train_one",
    "train_run",
    "write_predictions",
]
