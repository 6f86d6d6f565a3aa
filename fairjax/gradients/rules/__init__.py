"""The family of rules, each a link by its name: ``pcgrad(rows=2)``; ``pcgrad.rule()`` is the rule in task space."""

from fairjax.gradients.rules.balance import dwa, gradnorm, imtl_l, uncertainty
from fairjax.gradients.rules.cone import dualproj, upgrad
from fairjax.gradients.rules.constant import mean_rows, random_weighting, weighted_rows
from fairjax.gradients.rules.famo import famo
from fairjax.gradients.rules.graddrop import graddrop
from fairjax.gradients.rules.linear import aligned_mtl, config, imtl_g, nash_mtl
from fairjax.gradients.rules.mgda import cagrad, mgda
from fairjax.gradients.rules.surgery import fairness_gives_way, gradvac, pcgrad

__all__ = ["aligned_mtl", "cagrad", "config", "dualproj", "dwa", "fairness_gives_way", "famo", "graddrop", "gradnorm",
           "gradvac", "imtl_g", "imtl_l", "mean_rows", "mgda", "nash_mtl", "pcgrad", "random_weighting", "uncertainty",
           "upgrad", "weighted_rows"]
