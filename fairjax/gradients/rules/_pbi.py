"""PBI: the gradient of the length of the losses along a direction and their distance from it."""

from __future__ import annotations

from collections.abc import Callable

import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.combiners import boundary_intersection
from fairjax.gradients.rules._combined import combined
from fairjax.gradients.task_space import Rule, with_rule


def pbi_rule(
    *, preference: ArrayLike | None = None, theta: Array | float = 5.0, ideal: ArrayLike = 0.0
) -> Rule:
    """The rule of :func:`pbi`."""
    return combined(boundary_intersection, preference=preference, theta=theta, ideal=ideal)


@with_rule(pbi_rule)
def pbi(
    rows: int,
    *,
    preference: ArrayLike | None = None,
    theta: Array | float = 5.0,
    ideal: ArrayLike = 0.0,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PBI, penalty-based boundary intersection: the gradient of ``d_1 + theta d_2``.

    ``d_1`` is the length of the losses along the preference r, and ``d_2`` their distance from the
    line through it. A loss that is small for its preference has a negative weight.

    Args:
      rows: K, the number of losses.
      preference: r, ``[K]``. Default: equal.
      theta: the weight of the distance.
      ideal: the least value of each loss, ``[K]`` or a number.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`.

    Reference:
      Zhang, Li: MOEA/D: a multiobjective evolutionary algorithm based on decomposition, IEEE
      Transactions on Evolutionary Computation, 2007.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.pbi(2)
      >>> losses = jnp.array([2.0, 1.0])
      >>> update, state = tx.update(rows, tx.init(params), params, values=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-33.941   1.414   1.414] [ 4.243 -2.828]
    """
    return link(
        pbi_rule(preference=preference, theta=theta, ideal=ideal), rows, per=per, measure=measure
    )
