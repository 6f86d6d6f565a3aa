"""MTA-F: fairness on exclusive rows to the heads, the rest to the trunk."""

from __future__ import annotations

import numpy as np
import optax

from fairjax import objectives
from fairjax.core.types import Components, PyTree, Range, Recipe
from fairjax.gradients import route
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    notion_at,
    weight_range,
)


def mta_f(notion: SweptNotions, *, scale_trunk: bool = True) -> Method:
    """Multi-task-aware fairness treatment: one row for the trunk and one for the heads.

    The trunk descends ``sum_t w_t (L_t + lam_t (F_t - r_t E_t))`` and the heads ``sum_t w_t (L_t +
    lam_t r_t E_t)``, where ``E_t`` is the notion on the rows exclusive to task t. Each row reaches
    its own parameters only.

    Hyper-parameters: ``weight``, ``lam`` and the head-to-shared ratio ``r``, each per task.

    Args:
      notion: on all rows of a task, and on the rows exclusive to it.
      scale_trunk: whether r also scales what the trunk leaves to the heads (the paper's code) or
        not (its Eq. 10).

    Reference:
      Wang et al., KDD 2021, Algorithm 1.
    """

    def method(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            objective = objectives.mta_f(
                context.model,
                context.spec,
                notion=notion_at(notion, hparams),
                weight=hparams["weight"],
                lam=hparams["lam"],
                r=hparams["r"],
                scale_trunk=scale_trunk,
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
            )
            routes = route({"trunk": 0, "heads": 1})
            return Components(
                context.model, objective, optax.chain(routes, context.optimizer(hparams))
            )

        space = {
            "weight": weight_range(context.spec),
            "lam": lam_range(context.spec),
            "r": Range(np.ones(len(context.spec.tasks)), 0.1, 10.0, log=True),
            **context.hparams,
        }
        return Recipe("mta_f", build, space, notion=notion)

    return method
