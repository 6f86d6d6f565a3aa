"""GradNorm: weights that balance gradient norms and training pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present, row_norms
from fairjax.gradients.rules._learned import Learned, learned
from fairjax.gradients.task_space import Rule, with_rule

LEAST_WEIGHT = 1e-3


class Norms(NamedTuple):
    """Memory of GradNorm: the weights with their optimizer, and the first value of each loss."""

    weights: Learned
    first: Array  # [K], 0 until the row is present


def gradnorm_rule(*, alpha: Array | float = 1.5, learning_rate: Array | float = 0.025) -> Rule:
    """The rule of :func:`gradnorm`; its memory is :class:`Norms`."""
    init_weights, learn = learned(1.0, learning_rate)

    def init(rows: int) -> Norms:
        return Norms(init_weights(rows), jnp.zeros(rows))

    def weights(gram, values, memory: Norms, key):
        w = memory.weights.number
        is_first = (memory.first == 0) & present(gram)
        first = jnp.where(is_first, values, memory.first)
        gradient = gradnorm_gradient(gram, values, w, first, alpha)
        after_step = learn(gradient, memory.weights)
        positive = jnp.maximum(after_step.number, LEAST_WEIGHT)
        number = positive * positive.shape[0] / jnp.sum(positive)
        new_memory = Norms(after_step._replace(number=number), first)
        return w.astype(gram.dtype), new_memory, jnp.zeros(())

    return Rule(init, weights, needs_values=True, needs_products=False)


def gradnorm_gradient(
    gram: Array, values: Array, weights: Array, first: Array, alpha: Array | float
) -> Array:
    """``d/dw_k`` of ``sum_k |w_k n_k - target_k|``, ``[K]``; 0 for absent rows.

    The target is a constant.
    """
    is_present = present(gram)
    norm = row_norms(gram)
    count = jnp.maximum(jnp.sum(is_present), 1)
    pace = jnp.where(is_present, divide(values, first), 0.0)
    mean_pace = jnp.sum(pace) / count
    rate = jnp.maximum(divide(pace, mean_pace), 0.0)
    weighted_norm = weights * norm
    mean_norm = jnp.sum(weighted_norm) / count
    target = mean_norm * rate**alpha
    gradient = jnp.sign(weighted_norm - target) * norm
    return jnp.where(is_present, gradient, 0.0)


@with_rule(gradnorm_rule)
def gradnorm(
    rows: int,
    *,
    alpha: Array | float = 1.5,
    learning_rate: Array | float = 0.025,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """GradNorm: learned weights that balance gradient norms and training pace.

    Weighted gradient norms follow ``mean_j(w_j n_j) r_k^alpha``.

    ``n_k = ||g_k||`` and ``r_k = (L_k / L_k(0)) / mean_j(L_j / L_j(0))``. The target is a constant.
    The gradient of the distance to it by ``w_k`` is ``sign(w_k n_k - target_k) n_k``, and Adam
    descends it. Weights stay above 0.001 and add up to K. The paper takes norms on the last shared
    layer: pass ``measure``.

    Args:
      rows: K, the number of losses.
      alpha: pull towards equal training pace.
      learning_rate: of the weights.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``memory`` is a :class:`Norms`.

    Reference:
      Chen, Badrinarayanan, Lee, Rabinovich: GradNorm: gradient normalization for adaptive loss
      balancing in deep multitask networks, ICML 2018.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.gradnorm(2)
      >>> state = tx.init(params)
      >>> for losses in ([4.0, 1.0], [2.0, 1.0], [1.0, 1.0]):
      ...     update, state = tx.update(rows, state, params, values=jnp.array(losses))
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [1.763 2.    2.   ] [1.024 0.976]
    """
    rule = gradnorm_rule(alpha=alpha, learning_rate=learning_rate)
    return link(rule, rows, per=per, measure=measure)
