"""Weights found at the representation: one trunk pass whatever the number of rows (MGDA-UB)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree
from fairjax.gradients.gram_matrix import gram
from fairjax.gradients.rows import value_and_rows
from fairjax.gradients.task_space import Rule


def at_representation(model: Model, losses: Callable[[Model], Objective], rule: Rule) -> Objective:
    """One row, ``sum_k w_k L_k``, with weights from the gradients with respect to ``z = represent(trunk, x)``.

    The Gram matrix is that of ``dL_k / dz`` over all rows of the batch, so no gradient per row goes through the trunk,
    and heads are weighted like the trunk. With ``mgda.rule()`` this is MGDA-UB.

    Args:
      model: the model.
      losses: the K losses as an objective of a model; it is also asked for one whose trunk is z itself.
      rule: any rule in task space; the weights are constants of the gradient.

    Reference:
      Sener, Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018.
    """
    inner = losses(model._replace(represent=lambda z, x, condition=None: z))

    def init(key: Array, data: Dataset) -> PyTree:
        return inner.init(key, data), rule.init(len(inner.rows))

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array], PyTree]:
        own, remembered = memory
        z = model.represent(params["trunk"], batch.x)

        def of_z(z: PyTree) -> tuple:
            return inner.apply({"trunk": z, "heads": params["heads"]}, batch, key, own)

        (values, own), rows = value_and_rows(of_z, has_aux=True)(z)
        found = gram([jax.lax.stop_gradient(leaf) for leaf in jax.tree.leaves(rows)])
        weights, remembered, _ = rule.weights(found, jax.lax.stop_gradient(values), remembered, key)
        return (jnp.sum(jax.lax.stop_gradient(weights) * values),), (own, remembered)

    return Objective(("total",), init, apply)
