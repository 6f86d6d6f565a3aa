"""IMTL-L: learned scales that make all losses equal."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._learned import Learned, learned
from fairjax.gradients.task_space import Rule, with_rule


def imtl_l_rule(*, learning_rate: Array | float = 0.025) -> Rule:
    """The rule of :func:`imtl_l`; its memory is s and the state of its Adam."""
    init, learn = learned(0.0, learning_rate)

    def weights(gram, values, memory: Learned, key):
        w = jnp.exp(memory.number)
        gradient = jnp.where(present(gram), w * values - 1.0, 0.0)
        return w.astype(gram.dtype), learn(gradient, memory), jnp.zeros(())

    return Rule(init, weights, needs_values=True, needs_products=False)


@with_rule(imtl_l_rule)
def imtl_l(
    rows: int,
    *,
    learning_rate: Array | float = 0.025,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """IMTL-L, impartial losses: ``w_k = e^{s_k}`` with a learned scale ``s_k`` per loss.

    The scales make weighted losses equal.

    Parameters and s descend ``sum_k e^{s_k} L_k - s_k``.

    Args:
      rows: K, the number of losses.
      learning_rate: of s, by Adam; s starts at 0.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``memory.number`` is s.

    Reference:
      Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards impartial multi-task learning, ICLR
      2021.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.imtl_l(2)
      >>> state = tx.init(params)
      >>> for losses in ([4.0, 1.0], [2.0, 1.0], [1.0, 1.0]):
      ...     update, state = tx.update(rows, state, params, values=jnp.array(losses))
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [2.182 1.954 1.954] [0.954 1.   ]
    """
    return link(imtl_l_rule(learning_rate=learning_rate), rows, per=per, measure=measure)
