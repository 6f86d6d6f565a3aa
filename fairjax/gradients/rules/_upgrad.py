"""UPGrad: every row projected to where no loss rises."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.rules._dual_cone import cone_problem
from fairjax.gradients.solve import project_on_cone
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def upgrad_rule(*, preference: ArrayLike | None = None, ridge: Array | float = 1e-4) -> Rule:
    """The rule of :func:`upgrad`."""

    def weights(gram, values, memory, key):
        unit, p, free = cone_problem(gram, preference, ridge)
        # Projections scale with what is projected: solved for weight 1, all K at once, then scaled.
        basis = jnp.eye(gram.shape[0], dtype=gram.dtype)
        projections, residual = jax.vmap(lambda e: project_on_cone(unit, e, free))(basis)
        return p @ projections, memory, jnp.max(jnp.where(free, residual, 0.0))

    return Rule(no_memory, weights)


@with_rule(upgrad_rule)
def upgrad(
    rows: int,
    *,
    preference: ArrayLike | None = None,
    ridge: Array | float = 1e-4,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """UPGrad: every row is projected onto the dual cone of all rows, then they are averaged.

    The dual cone ``{u: J u >= 0}`` holds the directions along which no loss rises.

    Args:
      rows: K, the number of losses.
      preference: weight of each row, ``[K]``. Default: ``1 / K`` each.
      ridge: added to the Gram matrix over its trace, as in the authors' code. A row whose squared
        length, relative to all, is below the ridge has little influence. 0 gives the exact
        projection.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Quinton, Rey: Jacobian descent for multi-objective optimization, arXiv:2406.16232, 2024.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.upgrad(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.293 1.9   1.9  ] [1.111 0.789]
    """
    return link(upgrad_rule(preference=preference, ridge=ridge), rows, per=per, measure=measure)
