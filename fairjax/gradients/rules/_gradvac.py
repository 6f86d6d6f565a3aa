"""Gradient vaccine."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import normalised
from fairjax.gradients.rules._projections import (
    pairs_to_project,
    project_to_goals,
    projection_order,
)
from fairjax.gradients.task_space import Rule, with_rule


def gradvac_rule(
    *, beta: Array | float = 0.01, ascending: bool = False, against: ArrayLike | None = None
) -> Rule:
    """The rule of :func:`gradvac`; its memory is the goal of each cosine, ``[K, K]``."""

    def init(rows: int) -> Array:
        return jnp.zeros((rows, rows))

    def weights(gram, values, memory, key):
        rows = gram.shape[0]
        unit, _ = normalised(gram)
        order = projection_order(rows, key, ascending)
        pairs = pairs_to_project(rows, against)
        goals = memory.astype(gram.dtype)
        coordinates, goals = project_to_goals(unit, order, pairs, goals, beta)
        return jnp.sum(coordinates, axis=0), goals, jnp.zeros(())

    return Rule(init, weights)


@with_rule(gradvac_rule)
def gradvac(
    rows: int,
    *,
    beta: Array | float = 0.01,
    ascending: bool = False,
    against: ArrayLike | None = None,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Gradient vaccine: PCGrad whose goal for each cosine is a running mean instead of 0.

    For every row i and every other row j in turn with ``rho = cos(g_i, g_j) < phi_ij``::

        g_i <- g_i + ||g_i|| (phi sqrt(1 - rho^2) - rho sqrt(1 - phi^2)) / (||g_j|| sqrt(1 - phi^2))
        g_j

    Then ``phi <- (1 - beta) phi + beta rho``, for every pair. The first update is that of
    :func:`pcgrad`.

    Args:
      rows: K, the number of losses.
      beta: step of the running mean.
      ascending: take j in ascending order. The default draws an order per row at every update.
      against: ``[K, K]`` bool, whether row i gives way to row j. Default: every row to every other
        row. See :func:`accuracy_first`.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      seed: of the order. ``update(..., key=)`` overrides it.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``memory`` holds phi.

    Reference:
      Wang, Tsvetkov, Firat, Cao: Gradient vaccine: investigating and improving multi-task
      optimization in massively multilingual models, ICLR 2021.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.gradvac(2, beta=0.5)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.memory[0]).round(3))
      [0.585 3.801 3.801] [ 0.    -0.421]
      >>> update, state = tx.update(rows, state, params)
      >>> print(np.asarray(update).round(3))
      [1.007 3.264 3.264]
    """
    rule = gradvac_rule(beta=beta, ascending=ascending, against=against)
    return link(rule, rows, per=per, measure=measure, seed=seed)
