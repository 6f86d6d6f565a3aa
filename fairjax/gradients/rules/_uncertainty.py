"""Uncertainty weighting."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._learned import Learned, learned
from fairjax.gradients.task_space import Rule, with_rule


def uncertainty_rule(*, learning_rate: Array | float = 0.025, start: Array | float = -0.5) -> Rule:
    """The rule of :func:`uncertainty`; its memory is s and the state of its Adam."""
    init, learn = learned(start, learning_rate)

    def weights(gram, values, memory: Learned, key):
        w = 0.5 * jnp.exp(-memory.number)
        gradient = jnp.where(present(gram), 0.5 - values * w, 0.0)
        return w.astype(gram.dtype), learn(gradient, memory), jnp.zeros(())

    return Rule(init, weights, needs_values=True, needs_products=False)


@with_rule(uncertainty_rule)
def uncertainty(
    rows: int,
    *,
    learning_rate: Array | float = 0.025,
    start: Array | float = -0.5,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Uncertainty weighting: ``w_k = 1 / (2 e^{s_k})`` with a learned log variance ``s_k``.

    Parameters and s descend ``sum_k L_k / (2 e^{s_k}) + s_k / 2``.

    Args:
      rows: K, the number of losses.
      learning_rate: of s, by Adam.
      start: of s.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``memory.number`` is s.

    Reference:
      Kendall, Gal, Cipolla: Multi-task learning using uncertainty to weigh losses for scene
      geometry and semantics, CVPR 2018.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.uncertainty(2)
      >>> state = tx.init(params)
      >>> for losses in ([4.0, 1.0], [2.0, 1.0], [1.0, 1.0]):
      ...     update, state = tx.update(rows, state, params, values=jnp.array(losses))
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [1.56 1.57 1.57] [0.786 0.784]
    """
    rule = uncertainty_rule(learning_rate=learning_rate, start=start)
    return link(rule, rows, per=per, measure=measure)
