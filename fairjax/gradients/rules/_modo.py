"""MoDo: slow weights of least norm, from the products of two batches."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.rules._simplex import has_products, project_on_simplex
from fairjax.gradients.rules._two_batches import on_two_batches
from fairjax.gradients.task_space import Rule, with_rule


def modo_rule(
    *, gamma: Array | float = 0.1, rho: Array | float = 0.1, two_batches: bool = False
) -> Rule:
    """The rule of :func:`modo`; its memory is the weights."""

    def init(rows: int) -> Array:
        return jnp.full(rows, 1.0 / rows)

    def weights(products, values, memory, key):
        w = memory.astype(products.dtype)
        moved = w - gamma * (products @ w + rho * w)
        w = project_on_simplex(moved, has_products(products))
        return w, w, jnp.zeros(())

    rule = Rule(init, weights)
    return on_two_batches(rule) if two_batches else rule


@with_rule(modo_rule)
def modo(
    rows: int,
    *,
    gamma: Array | float = 0.1,
    rho: Array | float = 0.1,
    two_batches: bool = False,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """MoDo, multi-objective descent with double sampling.

    ``w`` moves by ``-gamma (J_1 J_2' w + rho w)`` and is projected on the simplex. As the two
    batches are independent, that slope has no bias, unlike ``J_1 J_1' w``. The update is the sum
    of the mean rows of both batches with these weights.

    Args:
      rows: K, or 2K for two batches.
      gamma: step size of the weights, in units of one over a squared length of a row.
      rho: penalty of unequal weights.
      two_batches: whether the rows are those of two batches, as
        :func:`fairjax.objectives.on_two_batches` makes them. Otherwise both are the one batch that
        is given, and the slope has a bias.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``memory`` is the weights of the losses.

    Raises:
      ValueError: when initialised, for two batches with an odd number of rows.

    Reference:
      Chen, Fernando, Ying, Chen: Three-way trade-off in multi-objective learning: optimization,
      generalization and conflict-avoidance, NeurIPS 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.modo(2, gamma=0.01)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.5 1.  1. ] [0.55 0.45]
    """
    rule = modo_rule(gamma=gamma, rho=rho, two_batches=two_batches)
    return link(rule, rows, per=per, measure=measure)
