"""Nash-MTL: the bargaining solution of the rows."""

from __future__ import annotations

from collections.abc import Callable

import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import cut_factor, norm_of_sum
from fairjax.gradients.rules._alpha_fair import fair_weights
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def nash_mtl_rule(*, max_norm: Array | float = 1.0, ridge: Array | float = 1e-8) -> Rule:
    """The rule of :func:`nash_mtl`."""

    def weights(gram, values, memory, key):
        w, residual = fair_weights(gram, 1.0, 1.0, ridge)
        return w * cut_factor(norm_of_sum(gram, w), max_norm), memory, residual

    return Rule(no_memory, weights)


@with_rule(nash_mtl_rule)
def nash_mtl(
    rows: int,
    *,
    max_norm: Array | float = 1.0,
    ridge: Array | float = 1e-8,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Nash-MTL: the Nash bargaining solution, ``G a = 1 / a`` with ``a > 0``.

    It is the minimum of ``a' G a / 2 - sum log a``, found by Newton steps, and unique for a
    positive definite G. At a Pareto-stationary point (for example with more rows than parameters)
    there is no solution, and the residual is large.

    Args:
      rows: K, the number of losses.
      max_norm: the update is cut to this length; infinity leaves it.
      ridge: added to the Gram matrix relative to its largest row, so that opposite rows have a
        solution.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``residual`` is the largest error of ``a_k (G a)_k = 1``.

    Reference:
      Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-task learning as a
      bargaining game, ICML 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.nash_mtl(2, max_norm=jnp.inf)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.077 0.999 0.999] [0.591 0.407]
    """
    return link(nash_mtl_rule(max_norm=max_norm, ridge=ridge), rows, per=per, measure=measure)
