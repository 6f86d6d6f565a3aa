"""Heads that turn their gradients towards the update of the trunk: ConsMTL."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree
from fairjax.gradients.gram_matrix import add_rows, combine, cut_factor, gram, squared_norms
from fairjax.gradients.representation import losses_at_representation
from fairjax.gradients.rows import value_and_rows
from fairjax.gradients.task_space import Rule
from fairjax.models import represent


def consistent_heads(
    model: Model,
    losses: Callable[[Model], Objective],
    rule: Rule,
    *,
    consistency: Array | float = 1.0,
    limit: Array | float = 0.1,
) -> Objective:
    """One row whose gradient is ConsMTL's: a rule on the trunk, and a term of their own for heads.

    With the gradients ``z_k = dL_k / dz`` at the representation and the weights w that the rule
    finds on the trunk::

        trunk:  sum_k w_k dL_k / dtrunk
        heads:  sum_k dL_k / dheads + h_k,   h_k = -c d<z_k, sum_j w_j z_j> / dheads

    where ``w_j z_j`` are constants and each ``h_k`` is cut to ``limit`` times the length of
    ``dL_k / dheads``. So each head grows the part of its gradient that agrees with all. The row's
    value is ``sum_k w_k L_k``, whose gradient this is not.

    Args:
      model: the model.
      losses: from a model to the K losses as an objective. It is called a second time with a model
        whose trunk is z.
      rule: any rule in task space. It sees the gradients by the trunk.
      consistency: c, the weight of the heads' term.
      limit: the longest that it may be, in lengths of the head's own gradient.

    Returns:
      An objective of one row named ``"total"``, for ``sum_rows`` and an optimizer.

    Reference:
      Qin, Wang, Yan: Towards consistent multi-task learning: unlocking the potential of
      task-specific parameters, CVPR 2025.
    """
    losses_of_z = losses_at_representation(model, losses)

    def init(key: Array, data: Dataset) -> PyTree:
        return losses_of_z.init(key, data), rule.init(len(losses_of_z.rows))

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array], PyTree]:
        loss_memory, rule_memory = memory
        constant = jax.lax.stop_gradient(params)

        def z_of(trunk: PyTree) -> PyTree:
            return represent(model, trunk, batch.x, key=key)

        def values_at(z: PyTree, heads: PyTree) -> tuple:
            return losses_of_z.apply({"trunk": z, "heads": heads}, batch, key, loss_memory)

        z, pull_back = jax.vjp(z_of, constant["trunk"])
        rows_at_z = value_and_rows(values_at, argnums=(0, 1), has_aux=True)
        (values, loss_memory_after), (z_rows, head_rows) = rows_at_z(z, constant["heads"])
        (trunk_rows,) = jax.vmap(pull_back)(z_rows)
        matrix = gram(jax.tree.leaves(trunk_rows))
        weights, rule_memory, _ = rule.weights(matrix, values, rule_memory, key)
        direction = jax.tree.map(lambda leaf: combine(weights, leaf), z_rows)

        def agreements(heads: PyTree) -> Array:
            """``-c <z_k, sum_j w_j z_j>``, ``[K]``."""

            def stacked(z: PyTree) -> Array:
                values, _ = values_at(z, heads)
                return jnp.stack(list(values))

            _, slopes = jax.jvp(stacked, (z,), (direction,))
            return -consistency * slopes

        _, extra_rows = value_and_rows(agreements)(constant["heads"])
        length = jnp.sqrt(squared_norms(jax.tree.leaves(extra_rows)))
        longest = limit * jnp.sqrt(squared_norms(jax.tree.leaves(head_rows)))
        factors = jax.vmap(cut_factor)(length, longest)

        def of_heads(own: Array, extra: Array) -> Array:
            return add_rows(list(own)) + combine(factors, extra)

        gradient = {
            "trunk": jax.tree.map(lambda leaf: combine(weights, leaf), trunk_rows),
            "heads": jax.tree.map(of_heads, head_rows, extra_rows),
        }
        total = jnp.sum(weights * values)
        return (_with_gradient(total, gradient, params),), (loss_memory_after, rule_memory)

    return Objective(("total",), init, apply)


def _with_gradient(value: Array, gradient: PyTree, params: PyTree) -> Array:
    """The value, which is a constant, with a gradient that is given."""

    def nothing(slope: Array, param: Array) -> Array:
        return jnp.sum(slope * (param - jax.lax.stop_gradient(param)))

    changes = jax.tree.leaves(jax.tree.map(nothing, gradient, params))
    return jax.lax.stop_gradient(value) + sum(changes)
