"""STCH: the gradient of a smooth largest loss."""

from __future__ import annotations

from collections.abc import Callable

import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.combiners import smooth_tchebycheff
from fairjax.gradients.rules._combined import combined
from fairjax.gradients.task_space import Rule, with_rule


def stch_rule(
    *, mu: Array | float = 0.5, weight: ArrayLike | None = None, ideal: ArrayLike = 0.0
) -> Rule:
    """The rule of :func:`stch`."""
    return combined(smooth_tchebycheff, weight=weight, mu=mu, ideal=ideal)


@with_rule(stch_rule)
def stch(
    rows: int,
    *,
    mu: Array | float = 0.5,
    weight: ArrayLike | None = None,
    ideal: ArrayLike = 0.0,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """STCH, smooth Tchebycheff scalarization: the gradient of a smooth largest loss.

    The loss is ``mu log sum_k exp(weight_k (L_k - ideal_k) / mu)``, so the weights are
    ``w_k = weight_k softmax(weight (L - ideal) / mu)_k``.

    Args:
      rows: K, the number of losses.
      mu: above 0; the smaller, the more only the largest weighted loss counts.
      weight: ``[K]``. Default: equal over the rows that are present, of sum 1.
      ideal: the least value of each loss, ``[K]`` or a number.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`.

    Reference:
      Lin, Zhang, Yang, Liu, Wang, Zhang: Smooth Tchebycheff scalarization for multi-objective
      optimization, ICML 2024.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.stch(2)
      >>> losses = jnp.array([2.0, 1.0])
      >>> update, state = tx.update(rows, tx.init(params), params, values=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-0.655  0.5    0.5  ] [0.366 0.134]
    """
    return link(stch_rule(mu=mu, weight=weight, ideal=ideal), rows, per=per, measure=measure)
