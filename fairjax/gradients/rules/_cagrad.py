"""CAGrad: the best direction for the worst row, near the mean row."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import norm_of_sum, normalised, present
from fairjax.gradients.norm_program import min_with_norm
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def cagrad_rule(*, c: Array | float = 0.5, rescale: Array | int = 1) -> Rule:
    """The rule of :func:`cagrad`."""
    if not isinstance(rescale, jax.core.Tracer) and rescale not in (0, 1, 2):
        raise ValueError(f"rescale must be 0, 1 or 2, got {rescale}")

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        free = present(unit)
        count = jnp.maximum(jnp.sum(free), 1)
        mean = free.astype(gram.dtype) / count
        gram_mean = unit @ mean
        squared_length = jnp.maximum(mean @ gram_mean, 0.0)
        length = jnp.sqrt(squared_length)
        reach = jnp.maximum(c, 1e-3)  # for c = 0 any w will do
        # Divided by ||g_0|| (1 + reach), so that the problem is of order one.
        linear = divide(gram_mean, length) / (1.0 + reach)
        norm_factor = reach / (1.0 + reach)
        w, dual, residual = min_with_norm(unit, linear, norm_factor, free)

        def least_product(direction: Array) -> Array:
            """The least product of ``g_0 + direction`` with a row; CAGrad makes it large."""
            products = gram_mean + unit @ direction
            return jnp.min(jnp.where(free, products, jnp.inf))

        # The direction by w has more digits. Where g_w is near 0 it has none, so the dual is used.
        radius = c * length
        unit_w = divide(w, norm_of_sum(unit, w))
        unit_dual = dual * (1.0 + reach) / reach
        from_w = radius * unit_w
        from_dual = radius * unit_dual
        tolerance = 4.0 * (1.0 + reach) * length * residual
        is_sharper = least_product(from_w) > least_product(from_dual) - tolerance
        u = mean + jnp.where(is_sharper, from_w, from_dual)
        divisors = jnp.stack([jnp.ones_like(c), 1.0 + jnp.square(c), 1.0 + c])
        divisor = divisors[rescale].astype(u.dtype)
        return u / divisor, memory, residual

    return Rule(no_memory, weights)


@with_rule(cagrad_rule)
def cagrad(
    rows: int,
    *,
    c: Array | float = 0.5,
    rescale: Array | int = 1,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """CAGrad: the best direction for the worst row, near the mean row ``g_0``.

    Conflict-averse gradient descent.

    ``u = g_0 + c ||g_0|| g_w / ||g_w||`` with ``g_w = sum_k w_k g_k``. w is the point of the
    simplex that minimises ``<g_w, g_0> + c ||g_0|| ||g_w||``. Among all directions within
    ``c ||g_0||`` of ``g_0``, u has the largest least product with a row. In float32, u loses its
    last digits where rows differ a hundredfold in length.

    Args:
      rows: K, the number of losses.
      c: the largest distance from the mean row, relative to the length of that row. From 1 on no
        task's loss rises.
      rescale: 0 leaves u, 1 divides it by ``1 + c^2`` (the authors' default), 2 by ``1 + c``.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``residual`` tells how exactly w was found.

    Raises:
      ValueError: for an unknown ``rescale``.

    Reference:
      Liu, Liu, Jin, Stone, Liu: Conflict-averse gradient descent for multi-task learning, NeurIPS
      2021.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.cagrad(2, c=0.5, rescale=0)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.184 1.204 1.204] [0.704 0.5  ]
    """
    return link(cagrad_rule(c=c, rescale=rescale), rows, per=per, measure=measure)
