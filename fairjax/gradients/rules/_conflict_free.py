"""ConFIG: equal cosines with all rows."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import cosines, norm_of_sum, normalised, row_norms
from fairjax.gradients.solve import pseudo_inverse
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def conflict_free_rule() -> Rule:
    """The rule of :func:`conflict_free`."""

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        norm = row_norms(unit)
        angles = cosines(unit)
        inverse, _ = pseudo_inverse(angles)
        combination = inverse @ (norm > 0).astype(gram.dtype)
        # Rows that cancel have no direction of equal cosines: what is left is rounding.
        noise = 8 * len(gram) * jnp.finfo(gram.dtype).eps
        has_direction = jnp.max(jnp.abs(angles @ combination)) > noise
        combination = jnp.where(has_direction, combination, 0.0)
        direction = divide(combination, norm_of_sum(angles, combination))
        length = jnp.sum(norm * (angles @ direction))
        return length * divide(direction, norm), memory, jnp.zeros(())

    return Rule(no_memory, weights)


@with_rule(conflict_free_rule)
def conflict_free(
    rows: int,
    *,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """ConFIG: the direction with equal cosine to every row.

    It is as long as the sum of the rows' projections on it.

    With the rows of length 1 in U, the direction is that of ``U' (U U')^+ 1`` and the length
    ``sum_k <g_k, direction>``. Where no such direction exists (rows that cancel), the update is 0.
    In float32 the weights lose half their digits where rows are nearly dependent, because the Gram
    matrix squares the rows.

    Args:
      rows: K, the number of losses.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Liu, Chu, Thuerey: ConFIG: towards conflict-free training of physics informed neural networks,
      ICLR 2025.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.conflict_free(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.159 2.071 2.071] [1.226 0.844]
    """
    return link(conflict_free_rule(), rows, per=per, measure=measure)
