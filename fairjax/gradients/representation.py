"""Weights found at the representation: one pass through the trunk for all rows (MGDA-UB)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, KeyPath, Model, Objective, PyTree
from fairjax.gradients._link import scales_of_leaves
from fairjax.gradients.gram_matrix import gram
from fairjax.gradients.rows import value_and_rows
from fairjax.gradients.task_space import Rule
from fairjax.models import represent


def at_representation(
    model: Model,
    losses: Callable[[Model], Objective],
    rule: Rule,
    *,
    metric: Callable[[KeyPath], Array | float] | None = None,
    anisotropy: Array | float | None = None,
) -> Objective:
    """One row, ``sum_k w_k L_k``, with weights from gradients by ``z = represent(trunk, x)``.

    The Gram matrix is that of ``dL_k / dz`` over all rows of the batch. Therefore no gradient per
    loss goes through the trunk, and heads are weighted like the trunk. With ``mgda.rule()`` this is
    MGDA-UB. A constraint is a loss that is multiplied by its multiplier already, see
    :func:`head_aware`.

    With ``metric`` the exact gradients by the heads join the Gram matrix. The gradient of the row
    that is trained knows no metric: ``head_aware(1, metric=metric)`` in place of ``sum_rows`` makes
    the step in it.

    Args:
      model: the model.
      losses: from a model to the K losses as an objective. It is called a second time with a model
        whose trunk is z, and with ``anisotropy`` a third time, with one whose heads do nothing.
      rule: any rule in task space. Its weights are constants of the gradient.
      metric: from the key path of a leaf in ``{"trunk": z, "heads": heads}`` to its weight in the
        Gram matrix, which may be traced. Default: 1 for z and 0 for the heads, which then cost
        nothing.
      anisotropy: mu of the metric ``(mu I + sum_t J_t' J_t)^-1`` on z, above 0, with
        ``J_t = d scores_t / dz``. Conflicts then count by what they change in the scores: for small
        mu the Gram matrix is that of ``dL_k / d scores``. Experimental: it settles the weights and
        leaves the step. The scores of an example must depend on its own representation alone, and
        the losses on z by the scores alone. Default: the identity.

    Returns:
      An objective of one row named ``"total"``.

    Raises:
      ValueError: at trace time, for a ``metric`` that gives a negative weight.

    Reference:
      Sener, Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018.
    """
    losses_of_z = losses_at_representation(model, losses)

    def init(key: Array, data: Dataset) -> PyTree:
        loss_memory = losses_of_z.init(key, data)
        rule_memory = rule.init(len(losses_of_z.rows))
        return loss_memory, rule_memory

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array], PyTree]:
        loss_memory, rule_memory = memory
        z = represent(model, params["trunk"], batch.x, key=key)
        params_at_z = {"trunk": z, "heads": params["heads"]}
        measured = {"trunk": z} if metric is None else params_at_z

        def values_at(measured: PyTree) -> tuple[Any, ...]:
            return losses_of_z.apply({**params_at_z, **measured}, batch, key, loss_memory)

        rows_at_z = value_and_rows(values_at, has_aux=True)
        (values, new_loss_memory), rows = rows_at_z(measured)
        if anisotropy is not None:
            z_rows = _anisotropic_rows(
                model, losses, jax.lax.stop_gradient(params_at_z), batch, key, memory, anisotropy
            )
            rows = {**rows, "trunk": z_rows}
        leaves = jax.lax.stop_gradient(jax.tree.leaves(rows))
        constant_values = jax.lax.stop_gradient(values)
        matrix = gram(leaves, scales_of_leaves(rows, metric))
        weights, rule_memory, _ = rule.weights(matrix, constant_values, rule_memory, key)
        constant_weights = jax.lax.stop_gradient(weights)
        total = jnp.sum(constant_weights * values)
        return (total,), (new_loss_memory, rule_memory)

    return Objective(("total",), init, apply)


def losses_at_representation(model: Model, losses: Callable[[Model], Objective]) -> Objective:
    """The losses of a model whose trunk is the representation already."""
    return losses(model._replace(represent=_as_it_is, dropout=False))


def _as_it_is(parameters: PyTree, x: PyTree, condition: PyTree | None = None) -> PyTree:
    """``represent`` of a model whose trunk is the representation already."""
    del x, condition
    return parameters


def _anisotropic_rows(
    model: Model,
    losses: Callable[[Model], Objective],
    params_at_z: PyTree,
    batch: Dataset,
    key: Array,
    memory: PyTree,
    mu: Array | float,
) -> Array:
    """Rows y, ``[K, B, C]``, whose Gram matrix is that of ``dL_k / dz`` in the metric of the heads.

    With ``q_k = dL_k / d scores`` the gradient by z is ``J' q_k``, and::

        <J' q_s, (mu I + J' J)^-1 J' q_t> = q_s' S (mu I + S)^-1 q_t = <y_s, y_t>,   S = J J'

    S is ``[C, C]`` for every example. With its eigenvectors V and eigenvalues l,
    ``y = sqrt(l / (mu + l)) V' q``.
    """
    loss_memory, _ = memory
    z, heads = params_at_z["trunk"], params_at_z["heads"]
    at_scores = model._replace(
        represent=_as_it_is, predict=lambda heads, scores: scores, dropout=False
    )
    losses_of_scores = losses(at_scores)

    def scores_at(z: PyTree) -> Array:
        return model.predict(heads, z)

    def values_at(scores: Array) -> tuple[Any, ...]:
        params_at_scores = {"trunk": scores, "heads": heads}
        return losses_of_scores.apply(params_at_scores, batch, key, loss_memory)

    scores, pull_back = jax.vjp(scores_at, z)
    _, score_rows = value_and_rows(values_at, has_aux=True)(scores)

    def squares_of(cotangent: Array) -> Array:
        """One column of S for every example, ``[B, C]``."""
        (direction,) = pull_back(cotangent)
        _, change = jax.jvp(scores_at, (z,), (direction,))
        return change

    columns = jnp.eye(scores.shape[1], dtype=scores.dtype)
    every_example = jnp.broadcast_to(columns[:, None, :], (scores.shape[1], *scores.shape))
    squares = jax.vmap(squares_of, out_axes=2)(every_example)
    eigenvalues, eigenvectors = jnp.linalg.eigh(squares)
    eigenvalues = jnp.maximum(eigenvalues, 0.0)
    factors = jnp.sqrt(eigenvalues / (mu + eigenvalues))
    return factors * jnp.einsum("bij,kbi->kbj", eigenvectors, score_rows)
