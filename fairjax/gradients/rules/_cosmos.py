"""COSMOS: the gradient of a weighted sum of the losses and its angle to the weights."""

from __future__ import annotations

from collections.abc import Callable

import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.combiners import cosmos_loss
from fairjax.gradients.rules._combined import combined
from fairjax.gradients.task_space import Rule, with_rule


def cosmos_rule(*, preference: ArrayLike | None = None, lam: Array | float = 1.0) -> Rule:
    """The rule of :func:`cosmos`."""
    return combined(cosmos_loss, preference=preference, lam=lam)


@with_rule(cosmos_rule)
def cosmos(
    rows: int,
    *,
    preference: ArrayLike | None = None,
    lam: Array | float = 1.0,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """COSMOS: the gradient of ``r . L - lam cos(r, L)``, which prefers losses in proportion to r.

    A loss that is large for its preference has a larger weight than ``r_k``, and one that is small
    may have a negative one. The paper draws r anew at every step and tells it to the network.

    Args:
      rows: K, the number of losses.
      preference: r, ``[K]``. Default: equal over the rows that are present, of sum 1.
      lam: the weight of the cosine; 0 gives the weighted sum.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`.

    Reference:
      Ruchte, Grabocka: Scalable Pareto front approximation for deep multi-objective learning,
      ICDM 2021.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.cosmos(2)
      >>> losses = jnp.array([2.0, 1.0])
      >>> update, state = tx.update(rows, tx.init(params), params, values=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-0.012  0.937  0.937] [0.563 0.374]
    """
    return link(cosmos_rule(preference=preference, lam=lam), rows, per=per, measure=measure)
