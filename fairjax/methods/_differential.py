"""Differential fairness learned where demographics are known, and carried to other tasks by the trunk."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from fairjax.core.types import Components, DataError, PyTree, Recipe
from fairjax.gradients import sum_rows
from fairjax.methods.context import Context, lam_range, weight_range
from fairjax.objectives import Differential, differentially_fair, weighted


def differential(context: Context, penalties: Sequence[Differential] | None = None) -> Recipe:
    """``sum_t w_t (L_t + lam_t max(0, epsilon_t))``, epsilon of equalized odds from soft counts that run over minibatches.

    Knobs: ``weight`` and ``lam`` per task; a task without a penalty has no use for its lam. With the weight on one task this
    is the single-task method; with a penalty on one of two tasks, multi-task fairness transfer; with penalties over one
    attribute each, its intersectional form.

    Args:
      setup: model, optimizer; the notion is not used.
      penalties: default one on every task of classes, over all attributes with levels crossed.

    Raises:
      DataError: no attribute has levels.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic information, 2023.
    """
    spec = context.spec
    if penalties is None:
        every = tuple(i for i, a in enumerate(spec.attributes) if not a.continuous)
        if not every:
            raise DataError(
                f"differential fairness compares groups, but {', '.join(a.name for a in spec.attributes)} has no "
                f"levels. Cut it by a rule such as 'age > 25', or choose another method."
            )
        penalties = [
            Differential(t, every) for t, task in enumerate(spec.tasks) if task.kind != "regression"
        ]

    def build(hparams: PyTree) -> Components:
        lam = [hparams["lam"][p.task] for p in penalties]
        rows = differentially_fair(
            context.model,
            spec,
            penalties,
            lam=lam,
            batch_size=context.batch_size,
            reduction=context.reduction,
        )
        return Components(
            context.model,
            weighted(rows, hparams["weight"]),
            optax.chain(sum_rows(), context.optimizer(hparams)),
        )

    return Recipe(
        "differential",
        build,
        {"weight": weight_range(spec), "lam": lam_range(spec), **context.hparams},
    )
