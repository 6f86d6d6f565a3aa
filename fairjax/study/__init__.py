"""Several methods on one data set.

A study is made from objects or from names. It gives one tidy table and saved models.
"""

from fairjax.study._candidates import candidate_sentence, candidates
from fairjax.study._constrain import (
    ConstrainedModel,
    Constraint,
    check_constraint,
    constrain,
    constrained_study,
    parse_constraint,
    train_constrained,
)
from fairjax.study.config import (
    LEARNING_RATES,
    PAPER,
    NamedStudy,
    StudyConfig,
    named_study,
    point_hparams,
    table_settings,
)
from fairjax.study.estimators import ESTIMATORS, Estimator
from fairjax.study.evaluation import DECISIONS, evaluator, repair_scores, thresholds_of
from fairjax.study.explain import FORMAT as STUDY_FORMAT
from fairjax.study.explain import (
    Explanation,
    conflicts_of,
    different_metrics,
    explain_run,
    groups_of,
    load_results,
    member_of,
    model_of_run,
    params_of,
    point_of,
    read_study,
    scores_of_run,
)
from fairjax.study.predictions import all_predictions, prediction_columns, write_predictions
from fairjax.study.ray_parts import run_on_ray
from fairjax.study.references import constants, left_out_sentences
from fairjax.study.run import (
    REFERENCE,
    Results,
    Study,
    from_names,
    make_study,
    run_part,
    run_study,
)
from fairjax.study.saved import (
    Decisions,
    Point,
    SavedModel,
    decisions_of,
    finished_model,
    load_model,
    repaired,
    scores_of,
    train_one,
)
from fairjax.study.table import assemble

__all__ = [
    "DECISIONS",
    "ESTIMATORS",
    "LEARNING_RATES",
    "PAPER",
    "REFERENCE",
    "STUDY_FORMAT",
    "ConstrainedModel",
    "Constraint",
    "Decisions",
    "Estimator",
    "Explanation",
    "NamedStudy",
    "Point",
    "Results",
    "SavedModel",
    "Study",
    "StudyConfig",
    "all_predictions",
    "assemble",
    "candidate_sentence",
    "candidates",
    "check_constraint",
    "conflicts_of",
    "constants",
    "constrain",
    "constrained_study",
    "decisions_of",
    "different_metrics",
    "evaluator",
    "explain_run",
    "finished_model",
    "from_names",
    "groups_of",
    "left_out_sentences",
    "load_model",
    "load_results",
    "make_study",
    "member_of",
    "model_of_run",
    "named_study",
    "params_of",
    "parse_constraint",
    "point_hparams",
    "point_of",
    "prediction_columns",
    "read_study",
    "repair_scores",
    "repaired",
    "run_on_ray",
    "run_part",
    "run_study",
    "scores_of",
    "scores_of_run",
    "table_settings",
    "thresholds_of",
    "train_constrained",
    "train_one",
    "write_predictions",
]
