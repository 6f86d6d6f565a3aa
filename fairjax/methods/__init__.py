"""Methods: functions from a :class:`Context` to a :class:`fairjax.core.types.Recipe`.

Each family has its own file.
"""

from fairjax.methods._aggregated import (
    aggregated,
    consmtl,
    fairness_surgery,
    linked,
    mgda_ub,
    pcd_accuracy_first,
    pcd_fairness_first,
)
from fairjax.methods._blind import blind
from fairjax.methods._branching import BranchRecord
from fairjax.methods._constrained import (
    SCORED,
    SMALLEST_GROUP,
    ConstraintRecord,
    constrained,
    measure_violation,
    reported_gaps,
    verdict,
)
from fairjax.methods._fafs import fafs
from fairjax.methods._fairbranch import fairbranch
from fairjax.methods._fairmt import fairmt
from fairjax.methods._greedy_fmt import greedy_fmt
from fairjax.methods._l2t_fmt import l2t_fmt
from fairjax.methods._likeness import chance_level, cka, cosine, debiased_cka
from fairjax.methods._mta_f import mta_f
from fairjax.methods._recon import recon
from fairjax.methods._tag import tag
from fairjax.methods._transfer import (
    VARIANTS,
    differential_penalty,
    sequential,
    settings,
    transfer,
)
from fairjax.methods._yoto import loss_weights, runs_for, scores_for, yoto
from fairjax.methods.context import (
    Context,
    Method,
    at_hparams,
    lam_range,
    weight_range,
    with_space,
)
from fairjax.methods.registry import REGISTRY, get
from fairjax.methods.scalarized import baseline, differential, vanilla
from fairjax.methods.selection import select
from fairjax.methods.stopping import STOPS, delivering

__all__ = [
    "REGISTRY",
    "SCORED",
    "SMALLEST_GROUP",
    "STOPS",
    "VARIANTS",
    "BranchRecord",
    "ConstraintRecord",
    "Context",
    "Method",
    "aggregated",
    "at_hparams",
    "baseline",
    "blind",
    "chance_level",
    "cka",
    "consmtl",
    "constrained",
    "cosine",
    "debiased_cka",
    "delivering",
    "differential",
    "differential_penalty",
    "fafs",
    "fairbranch",
    "fairmt",
    "fairness_surgery",
    "get",
    "greedy_fmt",
    "l2t_fmt",
    "lam_range",
    "linked",
    "loss_weights",
    "measure_violation",
    "mgda_ub",
    "mta_f",
    "pcd_accuracy_first",
    "pcd_fairness_first",
    "recon",
    "reported_gaps",
    "runs_for",
    "scores_for",
    "select",
    "sequential",
    "settings",
    "tag",
    "transfer",
    "vanilla",
    "verdict",
    "weight_range",
    "with_space",
    "yoto",
]
