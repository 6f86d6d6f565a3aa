"""A rule on the products of two batches, ``J_1 J_2'``, whose mean no noise of one batch shifts."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.gradients.task_space import Rule


def on_two_batches(rule: Rule) -> Rule:
    """The rule on 2K rows: K halved losses of one batch, then the same of another.

    :func:`fairjax.objectives.on_two_batches` makes such rows. The rule sees ``J_1 J_2'`` in place
    of a Gram matrix and the mean losses; its weights go to the rows of both batches.

    Args:
      rule: that takes a matrix which is not symmetric.

    Raises:
      ValueError: when initialised, for an odd number of rows.
    """

    def init(rows: int):
        if rows % 2:
            raise ValueError(f"two batches have an even number of rows, got {rows}")
        return rule.init(rows // 2)

    def weights(gram, values, memory, key):
        count = gram.shape[0] // 2
        products = 4.0 * gram[:count, count:]
        if values is not None:
            values = values[:count] + values[count:]
        w, memory, residual = rule.weights(products, values, memory, key)
        return jnp.concatenate([w, w]), memory, residual

    return Rule(init, weights, rule.needs_values)
