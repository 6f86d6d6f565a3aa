"""GO4Align: losses in groups that share a weight."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.task_space import Rule, with_rule


def go4align_rule(*, groups: int = 2, step_size: Array | float = 1e-4) -> Rule:
    """The rule of :func:`go4align`; its memory is the logarithm of q, up to a constant."""
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")

    def weights(gram, values, memory, key):
        takes_part = present(gram) & (values > 0)
        memory = memory - step_size * jnp.where(takes_part, values, 0.0)
        share = jax.nn.softmax(memory, where=takes_part)
        total = jnp.sum(values, where=takes_part)
        risk = jnp.where(takes_part, share * divide(total, values), 0.0)
        w = group_means(risk, takes_part, groups)
        return w.astype(gram.dtype), memory, jnp.zeros(())

    return Rule(jnp.zeros, weights, needs_values=True, needs_products=False)


def group_means(numbers: Array, counts: Array, groups: int) -> Array:
    """Each number's mean in the groups of least squared error, ``[K]``; 0 for those left out.

    Groups of numbers are intervals, so dynamic programming over their ends finds the best ones,
    where k-means in the plane depends on its start.

    Args:
      numbers: ``[K]``.
      counts: ``[K]`` bool, the numbers that take part.
      groups: how many groups there may be.
    """
    order = jnp.argsort(jnp.where(counts, numbers, jnp.inf))
    number = jnp.where(counts, numbers, 0.0)[order]
    is_in = counts[order]
    place = jnp.arange(len(numbers))
    end = jnp.arange(len(numbers) + 1)
    # of the places from start to end, [start, end, place]
    inside = (place >= end[:, None, None]) & (place < end[:, None]) & is_in
    mean = divide(jnp.sum(inside * number, axis=2), jnp.sum(inside, axis=2))
    error = jnp.sum(jnp.where(inside, number - mean[:, :, None], 0.0) ** 2, axis=2)

    # of the places before end: the least error, and the means, [end, place]
    least_error = error[0]
    means = jnp.broadcast_to(mean[0][:, None], (len(end), len(place)))
    for _ in range(groups - 1):
        total = jnp.where(end[:, None] <= end, least_error[:, None] + error, jnp.inf)
        start = jnp.argmin(total, axis=0)
        least_error = jnp.min(total, axis=0)
        last_mean = mean[start, end]
        means = jnp.where(place >= start[:, None], last_mean[:, None], means[start])
    placed = jnp.zeros_like(numbers).at[order].set(means[-1])
    return jnp.where(counts, placed, 0.0)


@with_rule(go4align_rule)
def go4align(
    rows: int,
    *,
    groups: int = 2,
    step_size: Array | float = 1e-4,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """GO4Align: losses of similar risk form groups, and a group has one weight.

    With q, equal at first and multiplied by ``exp(-step_size L_k)`` in every step, of sum 1::

        risk_k = q_k sum_j L_j / L_k,    w_k = the mean risk of k's group

    Groups are those of k-means over the K risks, found exactly. With one group all weights are the
    mean.

    Args:
      rows: K, the number of losses.
      groups: how many groups there may be.
      step_size: of q.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. A loss that is not above 0 has no
      say. Its state is a :class:`LinkState`; ``memory`` is the logarithm of q, up to a constant.

    Raises:
      ValueError: for ``groups`` below 1.

    Reference:
      Shen, Wang, Xiao, van Noord, Worring: GO4Align: group optimization for multi-task alignment,
      NeurIPS 2024. The formula is that of the released code.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0], [0.0, 2.0, 0.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.go4align(3)
      >>> losses = jnp.array([4.0, 1.0, 3.0])
      >>> update, state = tx.update(rows, tx.init(params), params, values=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [12.892  5.     3.445] [0.778 2.667 0.778]
    """
    rule = go4align_rule(groups=groups, step_size=step_size)
    return link(rule, rows, per=per, measure=measure)
