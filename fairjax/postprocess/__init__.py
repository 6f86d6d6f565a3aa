"""Repair of scores after training: named pairs of pure functions, ``fit`` on a pool of rows and ``apply`` to any row."""

from fairjax.postprocess._audit import Audit, load_audit, save_audit
from fairjax.postprocess._barycenter import (
    Table,
    barycenter,
    price,
    proportional,
    sequential_amounts,
    uniform,
)
from fairjax.postprocess.estimator import Repair
from fairjax.postprocess.joint import compose, entropic, free_support, gaussian, kernel
from fairjax.postprocess.model_audit import audit_model
from fairjax.postprocess.published import published_barycenter
from fairjax.postprocess.scales import Scale, identity, log, logit
from fairjax.postprocess.tasks import cross_fitted, model_barycenter, on_scores

__all__ = [
    "Audit",
    "Repair",
    "audit_model",
    "load_audit",
    "save_audit",
    "Scale",
    "Table",
    "barycenter",
    "cross_fitted",
    "entropic",
    "free_support",
    "gaussian",
    "identity",
    "kernel",
    "log",
    "logit",
    "model_barycenter",
    "on_scores",
    "sequential_amounts",
    "price",
    "proportional",
    "published_barycenter",
    "compose",
    "uniform",
]
