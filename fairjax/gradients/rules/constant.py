"""Rules that look at nothing: mean, given weights, random weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.gradients.task_space import Rule, linked


def _stateless(rows: int) -> tuple:
    return ()


@linked
def mean_rows() -> Rule:
    """Mean of the rows: ``w_k = 1 / K``."""
    return Rule(
        _stateless,
        lambda gram, values, memory, key: (
            jnp.full(gram.shape[0], 1.0 / gram.shape[0], gram.dtype),
            memory,
            jnp.zeros(()),
        ),
    )


@linked
def weighted_rows(*, weights) -> Rule:
    """Given weights: ``w_k = weights[k]``."""
    return Rule(
        _stateless,
        lambda gram, values, memory, key: (
            jnp.broadcast_to(jnp.asarray(weights, gram.dtype), gram.shape[:1]),
            memory,
            jnp.zeros(()),
        ),
    )


@linked
def random_weighting() -> Rule:
    """Random loss weighting: ``w = softmax(n)`` with standard normal n, drawn at every update.

    Reference:
      Lin, Ye, Zhang, Tsang: Reasonable effectiveness of random weighting, TMLR 2022.
    """
    return Rule(
        _stateless,
        lambda gram, values, memory, key: (
            jax.nn.softmax(jax.random.normal(key, gram.shape[:1], gram.dtype)),
            memory,
            jnp.zeros(()),
        ),
    )
