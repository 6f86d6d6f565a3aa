"""Named rows: losses of a batch built from supervised losses and fairness notions, one file per family."""

from __future__ import annotations

from fairjax.objectives._conditioned import (
    conditioned,
    conditioned_per_task,
    log_uniform,
    normalised,
    uniform,
)
from fairjax.objectives._mta_f import mta_f, mta_f_rows
from fairjax.objectives.differential import Counted, Differential, differentially_fair
from fairjax.objectives.joint import jointly_fair
from fairjax.objectives.rows import Terms, objective, per_task, weighted

__all__ = [
    "Counted",
    "Differential",
    "Terms",
    "conditioned",
    "conditioned_per_task",
    "differentially_fair",
    "jointly_fair",
    "log_uniform",
    "mta_f",
    "mta_f_rows",
    "normalised",
    "objective",
    "per_task",
    "uniform",
    "weighted",
]
