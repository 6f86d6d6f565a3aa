"""PCGrad, gradient surgery."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import normalised
from fairjax.gradients.rules._projections import pairs_to_project, project, projection_order
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def pcgrad_rule(
    *, ascending: bool = False, against: ArrayLike | None = None, mean: bool = False
) -> Rule:
    """The rule of :func:`pcgrad`."""

    def weights(gram, values, memory, key):
        rows = gram.shape[0]
        unit, _ = normalised(gram)
        order = projection_order(rows, key, ascending)
        pairs = pairs_to_project(rows, against)
        coordinates = project(unit, order, pairs)
        divisor = rows if mean else 1
        return jnp.sum(coordinates, axis=0) / divisor, memory, jnp.zeros(())

    return Rule(no_memory, weights)


@with_rule(pcgrad_rule)
def pcgrad(
    rows: int,
    *,
    ascending: bool = False,
    against: ArrayLike | None = None,
    mean: bool = False,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """PCGrad, gradient surgery: every row is projected off the rows that it conflicts with.

    For every row i and every other row j in turn with ``<g_i, g_j> < 0``::

        g_i <- g_i - <g_i, g_j> / ||g_j||^2 g_j

    Args:
      rows: K, the number of losses.
      ascending: take j in ascending order. The default draws an order per row at every update, as
        published.
      against: ``[K, K]`` bool, whether row i gives way to row j. Default: every row to every other
        row. See :func:`accuracy_first`.
      mean: divide the sum of the projected rows by K.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      seed: of the order. ``update(..., key=)`` overrides it.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Yu, Kumar, Gupta, Levine, Hausman, Finn: Gradient surgery for multi-task learning, NeurIPS
      2020.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.pcgrad(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.585 3.801 3.801] [2.222 1.579]
    """
    rule = pcgrad_rule(ascending=ascending, against=against, mean=mean)
    return link(rule, rows, per=per, measure=measure, seed=seed)
