"""Weights found at the representation: one pass through the trunk for all rows (MGDA-UB)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree
from fairjax.gradients.gram_matrix import gram
from fairjax.gradients.rows import value_and_rows
from fairjax.gradients.task_space import Rule
from fairjax.models import represent


def at_representation(model: Model, losses: Callable[[Model], Objective], rule: Rule) -> Objective:
    """One row, ``sum_k w_k L_k``, with weights from gradients by ``z = represent(trunk, x)``.

    The Gram matrix is that of ``dL_k / dz`` over all rows of the batch. Therefore no gradient per
    loss goes through the trunk, and heads are weighted like the trunk. With ``mgda.rule()`` this is
    MGDA-UB.

    Args:
      model: the model.
      losses: from a model to the K losses as an objective. It is called a second time with a model
        whose trunk is z.
      rule: any rule in task space. Its weights are constants of the gradient.

    Returns:
      An objective of one row named ``"total"``.

    Reference:
      Sener, Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018.
    """
    at_z = model._replace(represent=lambda z, x, condition=None: z, dropout=False)
    losses_of_z = losses(at_z)

    def init(key: Array, data: Dataset) -> PyTree:
        loss_memory = losses_of_z.init(key, data)
        rule_memory = rule.init(len(losses_of_z.rows))
        return loss_memory, rule_memory

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array], PyTree]:
        loss_memory, rule_memory = memory
        z = represent(model, params["trunk"], batch.x, key=key)

        def values_at(z: PyTree) -> tuple:
            params_at_z = {"trunk": z, "heads": params["heads"]}
            return losses_of_z.apply(params_at_z, batch, key, loss_memory)

        rows_at_z = value_and_rows(values_at, has_aux=True)
        (values, loss_memory), rows = rows_at_z(z)
        leaves = jax.lax.stop_gradient(jax.tree.leaves(rows))
        constant_values = jax.lax.stop_gradient(values)
        matrix = gram(leaves)
        weights, rule_memory, _ = rule.weights(matrix, constant_values, rule_memory, key)
        constant_weights = jax.lax.stop_gradient(weights)
        total = jnp.sum(constant_weights * values)
        return (total,), (loss_memory, rule_memory)

    return Objective(("total",), init, apply)
