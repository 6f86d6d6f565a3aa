"""DB-MTL: log losses, and running rows of one length."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.combiners import LEAST_LOSS
from fairjax.gradients.gram_matrix import row_norms
from fairjax.gradients.rules._tracked import tracked
from fairjax.gradients.task_space import Rule, no_memory


def db_mtl(
    rows: int,
    *,
    beta: Array | float = 0.9,
    sigma: Array | float = 0.5,
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """DB-MTL, dual balancing: averaged rows of log losses, each as long as the longest.

    ``y_k`` moves to ``g_k / (L_k + 1e-8)`` by the factor ``1 - beta / t^sigma`` at step t, and
    ``u = max_j ||y_j|| sum_k y_k / ||y_k||``. It keeps K copies of the parameters.

    Args:
      rows: K, the number of losses.
      beta: how much of the average stays in the first step; 0 for none.
      sigma: how fast that falls.
      measure: from key path to bool: the leaves that lengths are taken of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, which must not be negative, and gives one update. Its
      state is a :class:`TrackedState` with a :class:`LinkState`. The link has no rule in task
      space.

    Raises:
      ValueError: at trace time, without ``values``.

    Reference:
      Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok: Dual-balancing for multi-task learning,
      arXiv:2308.12029, 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.db_mtl(2, beta=0.0)
      >>> update, state = tx.update(rows, tx.init(params), params, values=jnp.array([2.0, 1.0]))
      >>> print(np.asarray(update).round(3), np.asarray(state.link.weights).round(3))
      [0.188 2.453 2.453] [2.906 1.   ]
    """

    def equal_lengths(gram, values, memory, key):
        norm = row_norms(gram)
        return divide(jnp.max(norm), norm), memory, jnp.zeros(())

    def rate(step: Array) -> Array:
        return 1.0 - beta / step**sigma

    def scale(values: Array) -> Array:
        return 1.0 / (jnp.maximum(values, 0.0) + LEAST_LOSS)

    inner = link(Rule(no_memory, equal_lengths), rows, measure=measure)
    return tracked(inner, rows, rate, scale)
