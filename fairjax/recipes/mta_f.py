"""MTA-F: fairness on exclusive rows to the heads, the rest to the trunk."""

from __future__ import annotations

import numpy as np
import optax

from fairjax import objectives
from fairjax.gradients import route
from fairjax.recipes.setup import Setup, lam_range, weight_range
from fairjax.types import Parts, PyTree, Range, Recipe


def mta_f(setup: Setup, *, scale_trunk: bool = True) -> Recipe:
    """Multi-task-aware fairness treatment: two rows, the trunk's and the heads', each to its own parameters.

    Knobs: ``weight``, ``lam`` and the head-to-shared ratio ``r``, each per task.

    Args:
      setup: model, notion, optimizer.
      scale_trunk: whether r also scales what the trunk leaves to the heads (the paper's code) or not (its Eq. 10).

    Reference:
      Wang et al., KDD 2021, Algorithm 1.
    """
    def build(knobs: PyTree) -> Parts:
        objective = objectives.mta_f(setup.model, setup.spec, notion=setup.notion(knobs), weight=knobs["weight"],
                                     lam=knobs["lam"], r=knobs["r"], scale_trunk=scale_trunk, reduction=setup.reduction)
        return Parts(setup.model, objective, optax.chain(route({"trunk": 0, "heads": 1}), setup.optimizer(knobs)))
    space = {"weight": weight_range(setup.spec), "lam": lam_range(setup.spec),
             "r": Range(np.ones(len(setup.spec.tasks)), 0.1, 10.0, log=True), **setup.knobs}
    return Recipe("mta_f", build, space)
