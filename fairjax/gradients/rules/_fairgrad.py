"""FairGrad: gains of the rows that are alpha-fair."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.rules._alpha_fair import fair_weights
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def fairgrad_rule(*, alpha: Array | float = 2.0, ridge: Array | float = 1e-8) -> Rule:
    """The rule of :func:`fairgrad`."""
    if not isinstance(alpha, jax.core.Tracer) and not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}; for 0 it is mean_rows")

    def weights(gram, values, memory, key):
        w, residual = fair_weights(gram, 1.0, 1.0 / alpha, ridge)
        return w, memory, residual

    return Rule(no_memory, weights)


@with_rule(fairgrad_rule)
def fairgrad(
    rows: int,
    *,
    alpha: Array | float = 2.0,
    ridge: Array | float = 1e-8,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """FairGrad: the alpha-fair update, ``G w = w^(-1 / alpha)`` with ``w > 0``.

    The gains ``G w`` of the rows maximise ``sum_k gain_k^(1 - alpha) / (1 - alpha)`` within a ball.
    Alpha 1 is Nash-MTL without its cut; the larger alpha, the nearer are the gains to one another.
    The update scales with the rows to the power ``(1 - alpha) / (1 + alpha)``: for alpha above 1 it
    is longer for shorter rows. At a Pareto-stationary point there is no solution, and the residual
    is large.

    Args:
      rows: K, the number of losses.
      alpha: above 0. The solver is made for 0.5 to 5; far outside it may not arrive where rows
        differ a thousandfold in length, which the residual shows.
      ridge: added to the Gram matrix of unit rows, so that opposite rows have a solution.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``residual`` is the largest error of ``w_k^(1 / alpha) (G w)_k = 1``.

    Raises:
      ValueError: for an ``alpha`` of 0 or less.

    Reference:
      Ban, Ji: Fair resource allocation in multi-task learning, ICML 2024.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.fairgrad(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.031 0.791 0.791] [0.471 0.319]
    """
    return link(fairgrad_rule(alpha=alpha, ridge=ridge), rows, per=per, measure=measure)
