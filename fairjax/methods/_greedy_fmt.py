"""Greedy-FMT: in every step each task learns from the larger of its two losses."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, Components, Dataset, Objective, PyTree, Recipe
from fairjax.gradients import sum_rows
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    notion_at,
    weight_range,
)
from fairjax.objectives import per_task


def greedy_fmt(notion: SweptNotions) -> Method:
    """The larger of two losses: ``sum_t max(w_t L_t, w_t lam_t F_t)`` in place of their sum.

    Of equal losses it is the accuracy loss. The published form has ``lam = 1``; its code also
    balances the tasks by gradient norms, which here is left to ``weight``.

    Hyper-parameters: ``weight`` and ``lam``, each per task.

    Args:
      notion: of the fairness losses.

    Reference:
      Roy, Ntoutsi: Learning to teach fairness-aware deep multi-task learning, ECML-PKDD 2022, where
      it is the baseline of L2T-FMT.
    """

    def method(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            pairs = per_task(
                context.model,
                context.spec,
                notion=notion_at(notion, hparams),
                lam=hparams["lam"],
                weight=hparams["weight"],
                split=True,
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
            )
            return Components(
                context.model,
                larger_of_pairs(pairs),
                optax.chain(sum_rows(), context.optimizer(hparams)),
            )

        space = {
            "weight": weight_range(context.spec),
            "lam": lam_range(context.spec),
            **context.hparams,
        }
        return Recipe("greedy_fmt", build, space, notion=notion)

    return method


def larger_of_pairs(inner: Objective) -> Objective:
    """One row, ``sum_t max(v_t, v_(T+t))`` of 2T values; a tie takes ``v_t``, and its gradient."""

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: PyTree,
    ) -> tuple[tuple[Array, ...], PyTree]:
        values, memory = inner.apply(params, batch, key, memory)
        tasks = len(values) // 2
        total = jnp.zeros(())
        for loss, fairness in zip(values[:tasks], values[tasks:], strict=True):
            # a maximum would give half of both gradients at a tie
            total = total + jnp.where(fairness > loss, fairness, loss)
        return (total,), memory

    return Objective(("total",), inner.init, apply)
