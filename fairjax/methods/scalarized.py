"""The methods that are one weighted sum of losses: single task, vanilla multi-task, per-task fairness (Baseline)."""

from __future__ import annotations

import optax

from fairjax.core.types import Components, PyTree, Recipe
from fairjax.gradients import sum_rows
from fairjax.methods.context import Context, lam_range, weight_range
from fairjax.objectives import per_task, weighted


def vanilla(context: Context) -> Recipe:
    """Multi-task learning without fairness: ``sum_t w_t L_t``."""

    def build(hparams: PyTree) -> Components:
        rows = per_task(context.model, context.spec, reduction=context.reduction)
        return Components(
            context.model,
            weighted(rows, hparams["weight"]),
            optax.chain(sum_rows(), context.optimizer(hparams)),
        )

    return Recipe("vanilla", build, {"weight": weight_range(context.spec), **context.hparams})


def single_task(context: Context) -> Recipe:
    """Each task alone: vanilla at the corners of the simplex, where the other heads touch nothing.

    A sweep over this recipe has one point per task, and shares its program with vanilla.
    """
    return vanilla(context)._replace(name="single_task")


def baseline(context: Context) -> Recipe:
    """Per-task fairness: ``sum_t w_t (L_t + lam_t F_t)``, all gradients to all parameters.

    Reference:
      Wang et al., KDD 2021, Eq. 9 (called Baseline there).
    """

    def build(hparams: PyTree) -> Components:
        rows = per_task(
            context.model,
            context.spec,
            notion=context.notion(hparams),
            lam=hparams["lam"],
            reduction=context.reduction,
        )
        return Components(
            context.model,
            weighted(rows, hparams["weight"]),
            optax.chain(sum_rows(), context.optimizer(hparams)),
        )

    return Recipe(
        "baseline",
        build,
        {"weight": weight_range(context.spec), "lam": lam_range(context.spec), **context.hparams},
    )
