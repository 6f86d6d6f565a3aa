"""GLS: the gradient of the geometric mean of the losses."""

from __future__ import annotations

from collections.abc import Callable

import optax

from fairjax.core.types import KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.combiners import geometric_mean
from fairjax.gradients.rules._combined import combined
from fairjax.gradients.task_space import Rule, with_rule


def geometric_loss_rule() -> Rule:
    """The rule of :func:`geometric_loss`."""
    return combined(geometric_mean)


@with_rule(geometric_loss_rule)
def geometric_loss(
    rows: int,
    *,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """GLS, geometric loss strategy: the gradient of the geometric mean M of the losses.

    ``w_k = M / (n L_k)`` over the n rows that are present. A loss below 1e-8 has no say.

    Args:
      rows: K, the number of losses.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`.

    Reference:
      Chennupati, Sistu, Yogamani, Rawashdeh: MultiNet++: multi-stream feature aggregation and
      geometric loss strategy for multi-task learning, CVPR workshops 2019.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.geometric_loss(2)
      >>> losses = jnp.array([2.0, 1.0])
      >>> update, state = tx.update(rows, tx.init(params), params, values=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [2.828 1.061 1.061] [0.354 0.707]
    """
    return link(geometric_loss_rule(), rows, per=per, measure=measure)
