"""The family of rules, each a link by its name: ``pcgrad(rows=2)``; ``pcgrad.rule()`` is the rule in task space."""

from fairjax.gradients.rules._famo import famo
from fairjax.gradients.rules._graddrop import graddrop
from fairjax.gradients.rules._mgda import cagrad, mgda
from fairjax.gradients.rules.balance import dwa, gradnorm, imtl_l, uncertainty
from fairjax.gradients.rules.cone import dualproj, upgrad
from fairjax.gradients.rules.constant import mean_rows, random_weighting, weighted_rows
from fairjax.gradients.rules.linear import aligned_mtl, conflict_free, imtl_g, nash_mtl
from fairjax.gradients.rules.surgery import accuracy_first, gradvac, pcgrad

__all__ = [
    "aligned_mtl",
    "cagrad",
    "conflict_free",
    "dualproj",
    "dwa",
    "accuracy_first",
    "famo",
    "graddrop",
    "gradnorm",
    "gradvac",
    "imtl_g",
    "imtl_l",
    "mean_rows",
    "mgda",
    "nash_mtl",
    "pcgrad",
    "random_weighting",
    "uncertainty",
    "upgrad",
    "weighted_rows",
]
