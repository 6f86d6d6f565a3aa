"""The methods that are one weighted sum of losses.

They are vanilla multi-task learning and per-task fairness (Baseline).
"""

from __future__ import annotations

import optax

from fairjax.core.types import Components, PyTree, Recipe
from fairjax.gradients import sum_rows
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    notion_at,
    weight_range,
)
from fairjax.notions import differential_fairness
from fairjax.objectives import per_task, weighted


def vanilla() -> Method:
    """Multi-task learning without fairness: ``sum_t w_t L_t``.

    At the corners of the simplex of weights it learns each task alone: the other heads touch
      nothing.
    """
    return _vanilla


def _vanilla(context: Context) -> Recipe:
    def build(hparams: PyTree) -> Components:
        rows = per_task(
            context.model,
            context.spec,
            reduction=context.reduction,
            supervision=context.supervision,
        )
        objective = weighted(rows, hparams["weight"])
        return Components(
            context.model, objective, optax.chain(sum_rows(), context.optimizer(hparams))
        )

    return Recipe("vanilla", build, {"weight": weight_range(context.spec), **context.hparams})


def baseline(notion: SweptNotions) -> Method:
    """Per-task fairness: ``sum_t w_t (L_t + lam_t F_t)``, all gradients to all parameters.

    Reference:
      Wang et al., KDD 2021, Eq. 9 (called Baseline there).
    """

    def method(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            rows = per_task(
                context.model,
                context.spec,
                notion=notion_at(notion, hparams),
                lam=hparams["lam"],
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
            )
            objective = weighted(rows, hparams["weight"])
            return Components(
                context.model, objective, optax.chain(sum_rows(), context.optimizer(hparams))
            )

        space = {
            "weight": weight_range(context.spec),
            "lam": lam_range(context.spec),
            **context.hparams,
        }
        return Recipe("baseline", build, space, notion=notion)

    return method


def differential() -> Method:
    """Baseline with differential fairness, ``sum_t w_t (L_t + lam_t max(0, epsilon_t))``.

    The fairness losses are on every task of classes. With demographics for one of two tasks it is
    multi-task fairness transfer.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic
        information, 2023.
    """
    notion = differential_fairness()

    def method(context: Context) -> Recipe:
        tasks = context.spec.tasks
        notions = [None if task.kind == "regression" else notion for task in tasks]
        return baseline(notions)(context)._replace(name="differential")

    return method
