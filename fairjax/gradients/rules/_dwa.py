"""DWA, dynamic weight average: more weight to losses that fall slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.task_space import Rule, with_rule


class Pace(NamedTuple):
    """Losses over periods of steps."""

    total: Array  # [K], sum of this period
    steps: Array  # [K], those of this period with the row present
    last: Array  # [K], mean of the last period
    before: Array  # [K], mean of the period before it
    step: Array  # []


def dwa_rule(*, every: Array | int, temperature: Array | float = 2.0) -> Rule:
    """The rule of :func:`dwa`; its memory is a :class:`Pace`."""

    def init(rows: int) -> Pace:
        return Pace(
            total=jnp.zeros(rows),
            steps=jnp.zeros(rows),
            last=jnp.zeros(rows),
            before=jnp.zeros(rows),
            step=jnp.zeros((), jnp.int32),
        )

    def weights(gram, values, memory: Pace, key):
        has_ratio = memory.step >= 2 * every
        ratio = divide(memory.last, memory.before)
        ratio = jnp.where(has_ratio & (memory.before > 0), ratio, 1.0)
        w = gram.shape[0] * jax.nn.softmax(ratio / temperature)
        w = jnp.where(has_ratio, w, 1.0)
        new_memory = _record(memory, values, present(gram), every)
        return w.astype(gram.dtype), new_memory, jnp.zeros(())

    return Rule(init, weights, needs_values=True, needs_products=False)


def _record(memory: Pace, values: Array, is_present: Array, every: Array | int) -> Pace:
    """The memory after one more step; at the end of a period its mean becomes the last one."""
    total = memory.total + jnp.where(is_present, values, 0.0)
    steps = memory.steps + is_present
    step = memory.step + 1
    is_end = step % every == 0
    mean = jnp.where(steps > 0, divide(total, steps), memory.last)
    return Pace(
        total=jnp.where(is_end, 0.0, total),
        steps=jnp.where(is_end, 0.0, steps),
        last=jnp.where(is_end, mean, memory.last),
        before=jnp.where(is_end, memory.last, memory.before),
        step=step,
    )


@with_rule(dwa_rule)
def dwa(
    rows: int,
    *,
    every: Array | int,
    temperature: Array | float = 2.0,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """DWA, dynamic weight average: ``w = K softmax(r / temperature)``.

    ``r_k`` is the ratio of loss k's means over the last two periods.

    A loss that falls slowly has a large ratio and gets more weight. Weights are 1 in the first two
    periods.

    Args:
      rows: K, the number of losses.
      every: steps of a period. The paper's period is an epoch.
      temperature: of the softmax. A high temperature makes weights equal.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``memory`` is a :class:`Pace`.

    Reference:
      Liu, Johns, Davison: End-to-end multi-task learning with attention, CVPR 2019.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.dwa(2, every=1)
      >>> state = tx.init(params)
      >>> for losses in ([4.0, 1.0], [2.0, 1.0], [1.0, 1.0]):
      ...     update, state = tx.update(rows, state, params, values=jnp.array(losses))
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [3.244 2.    2.   ] [0.876 1.124]
    """
    return link(dwa_rule(every=every, temperature=temperature), rows, per=per, measure=measure)
