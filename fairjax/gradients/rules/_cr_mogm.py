"""CR-MOGM: any rule, with weights that change slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath, PyTree
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._mgda import mgda
from fairjax.gradients.task_space import Rule, with_rule


class Smoothed(NamedTuple):
    """Memory of CR-MOGM: that of its rule, and the running weights."""

    rule: PyTree
    weights: Array  # [K]
    seen: Array  # [K] bool, whether the row was ever present


def cr_mogm_rule(*, rule: Rule | None = None, decay: Array | float = 0.9) -> Rule:
    """The rule of :func:`cr_mogm`; its memory is :class:`Smoothed`."""
    inner = mgda.rule() if rule is None else rule

    def init(rows: int) -> Smoothed:
        return Smoothed(inner.init(rows), jnp.zeros(rows), jnp.zeros(rows, bool))

    def weights(gram, values, memory: Smoothed, key):
        fresh, inner_memory, residual = inner.weights(gram, values, memory.rule, key)
        is_present = present(gram)
        smooth = decay * memory.weights + (1.0 - decay) * fresh
        smooth = jnp.where(memory.seen, smooth, fresh).astype(gram.dtype)
        kept = jnp.where(is_present, smooth, memory.weights)
        memory = Smoothed(inner_memory, kept, memory.seen | is_present)
        return jnp.where(is_present, smooth, 0.0), memory, residual

    return Rule(init, weights, inner.needs_values)


@with_rule(cr_mogm_rule)
def cr_mogm(
    rows: int,
    *,
    rule: Rule | None = None,
    decay: Array | float = 0.9,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """CR-MOGM: the weights of any rule, averaged over steps.

    Correction-reduced multi-objective gradient manipulation:
    ``w_k = decay w_{k, before} + (1 - decay) w_{k, rule}``. Weights that follow every batch make
    the update biased. The first weights of a row are the rule's, and those of an absent row wait.

    Args:
      rows: K, the number of losses.
      rule: whose weights are averaged, such as ``upgrad.rule()``. Default: ``mgda.rule()``.
      decay: of the average; 0 leaves the rule as it is. The paper lets it rise towards 1 as the
        learning rate falls.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      seed: of a rule that draws. ``update(..., key=)`` overrides it.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs ``values=``, the K losses, where the rule needs
      them. Its state is a :class:`LinkState`; ``memory`` is :class:`Smoothed`.

    Reference:
      Zhou, Zhang, Jiang, Zhong, Gu, Zhu: On the convergence of stochastic multi-objective gradient
      manipulation and beyond, NeurIPS 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.cr_mogm(2, rule=fairjax.gradients.mgda.rule(), decay=0.5)
      >>> state = tx.init(params)
      >>> for scale in (1.0, 3.0):
      ...     update, state = tx.update(rows.at[0].multiply(scale), state, params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-2.219  1.913  1.913] [0.457 0.543]
    """
    smoothed = cr_mogm_rule(rule=rule, decay=decay)
    return link(smoothed, rows, per=per, measure=measure, seed=seed)
