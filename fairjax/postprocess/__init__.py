"""Repair of scores after training: pairs of pure functions, ``fit`` on a pool and ``apply``."""

from fairjax.postprocess._audit import Audit, load_audit, save_audit
from fairjax.postprocess._audit_model import audit_model
from fairjax.postprocess._barycenter import (
    barycenter,
    frequency_share,
    price,
    sequential_amounts,
    uniform_share,
)
from fairjax.postprocess._compose import compose
from fairjax.postprocess._free_support import entropic, free_support, kernel
from fairjax.postprocess._gaussian import gaussian
from fairjax.postprocess._group_thresholds import group_thresholds
from fairjax.postprocess._on_decisions import on_decisions
from fairjax.postprocess._on_scores import on_scores
from fairjax.postprocess._published_barycenter import published_barycenter
from fairjax.postprocess.estimator import Repair
from fairjax.postprocess.folds import assign_folds, cross_fitted
from fairjax.postprocess.quantile_table import QuantileTable
from fairjax.postprocess.registry import REGISTRY, model_barycenter, model_group_thresholds
from fairjax.postprocess.scales import SCALES, Scale, identity, log, logit

__all__ = [
    "REGISTRY",
    "SCALES",
    "Audit",
    "QuantileTable",
    "Repair",
    "Scale",
    "assign_folds",
    "audit_model",
    "barycenter",
    "compose",
    "cross_fitted",
    "entropic",
    "free_support",
    "frequency_share",
    "gaussian",
    "group_thresholds",
    "identity",
    "kernel",
    "load_audit",
    "log",
    "logit",
    "model_barycenter",
    "model_group_thresholds",
    "on_decisions",
    "on_scores",
    "price",
    "published_barycenter",
    "save_audit",
    "sequential_amounts",
    "uniform_share",
]
