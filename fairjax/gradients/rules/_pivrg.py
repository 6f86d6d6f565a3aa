"""PIVRG: an alpha-fair update that favours tasks that perform badly."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._alpha_fair import fair_weights
from fairjax.gradients.task_space import Rule, no_memory, with_rule

ALPHA = 2.0


def pivrg_rule(
    *,
    scores: ArrayLike | None = None,
    temperature: Array | float = 1.0,
    ridge: Array | float = 1e-8,
) -> Rule:
    """The rule of :func:`pivrg`; its memory is the first value of each loss."""

    def weights(gram, values, memory, key):
        is_present = present(gram)
        if scores is None:
            memory = jnp.where((memory == 0) & is_present, values, memory)
            score = divide(values, memory)
        else:
            score = jnp.broadcast_to(jnp.asarray(scores, gram.dtype), is_present.shape)
        share = jax.nn.softmax(score / temperature, where=is_present)
        preference = jnp.where(is_present, jnp.sum(is_present) * share, 1.0)
        w, residual = fair_weights(gram, preference, 1.0 / ALPHA, ridge)
        return w, memory, residual

    if scores is None:
        return Rule(jnp.zeros, weights, needs_values=True)
    return Rule(no_memory, weights)


@with_rule(pivrg_rule)
def pivrg(
    rows: int,
    *,
    scores: ArrayLike | None = None,
    temperature: Array | float = 1.0,
    ridge: Array | float = 1e-8,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PIVRG: FairGrad that favours rows that perform badly, ``G w = sqrt(p / w)`` with ``w > 0``.

    Performance-informed variance reduction. ``p = T softmax(scores / temperature)`` over the T rows
    that are present. Equal scores give ``fairgrad(alpha=2)``.

    Args:
      rows: K, the number of losses.
      scores: ``[K]``, larger for a row that performs worse. The authors take how far each task is
        behind a network of its own, in percent of its metrics. Default: each loss over its first
        value, which needs ``values=``.
      temperature: of the softmax; in units of the scores. The authors take the larger of 10 and
        their range over ``log 2``, so that no row is favoured more than twice.
      ridge: added to the Gram matrix of unit rows, so that opposite rows have a solution.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``residual`` is the largest error of ``sqrt(w_k / p_k) (G w)_k = 1``.

    Reference:
      Qin, Wang, Yan: Revisiting fairness in multitask learning: a performance-driven approach for
      variance reduction, CVPR 2025.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.pivrg(2, scores=jnp.array([0.2, 0.8]))
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.077 0.776 0.776] [0.458 0.318]
    """
    rule = pivrg_rule(scores=scores, temperature=temperature, ridge=ridge)
    return link(rule, rows, per=per, measure=measure)
