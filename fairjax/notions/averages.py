"""How the columns of a task with several classes or labels become one value.

An average is ``(distance, prob[B, U], groups[B, G], weight[B, U], label[B, U]) -> scalar``. The
distance is of one column.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fairjax.core.types import Array

Distance = Callable[..., Array]


def macro(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The mean of the columns' distances."""
    return jnp.mean(_of_columns(distance, prob, groups, weight, label))


def worst(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The largest of the columns' distances."""
    return jnp.max(_of_columns(distance, prob, groups, weight, label))


def added(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """The sum of the columns' distances."""
    return jnp.sum(_of_columns(distance, prob, groups, weight, label))


def micro(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """One distance of all columns together: every row counts once per column."""
    repeated_groups = jnp.repeat(groups, prob.shape[1], axis=0)
    return distance(jnp.ravel(prob), repeated_groups, jnp.ravel(weight), jnp.ravel(label))


def jointly(distance: Distance, prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """One distance of rows as points of U columns (``sliced``, ``sinkhorn``).

    A row has the smallest of its columns' weights.
    """
    return distance(prob, groups, jnp.min(weight, axis=1), label)


def _of_columns(
    distance: Distance, prob: Array, groups: Array, weight: Array, label: Array
) -> Array:
    columns = range(prob.shape[1])
    return jnp.stack([distance(prob[:, u], groups, weight[:, u], label[:, u]) for u in columns])
