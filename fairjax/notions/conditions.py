"""On which rows a notion looks: the conditioning sets.

A condition takes a binary task's ``label[N]`` and ``mask[N]`` and returns ``select[N]``, 1 for the
rows it wants.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fairjax.core.masked import keep
from fairjax.core.types import Array

Condition = Callable[[Array, Array], Array]  # label [N], mask [N] -> select [N]


def everyone(label: Array, mask: Array) -> Array:
    """All rows, labelled or not (demographic parity)."""
    del label
    return jnp.ones_like(mask)


def known(label: Array, mask: Array) -> Array:
    """Rows whose label is known."""
    del label
    return mask


def negatives(label: Array, mask: Array) -> Array:
    """Rows known to be negative (rates of false positives)."""
    return mask * (1.0 - keep(label, mask))


def positives(label: Array, mask: Array) -> Array:
    """Rows known to be positive (rates of true positives)."""
    return mask * keep(label, mask)


def opposite(condition: Condition, label: Array, mask: Array) -> Array:
    """Rows that are known and do not meet the condition."""
    return mask * (1.0 - condition(label, mask))


def exclusive(condition: Condition, label: Array, mask: Array, task: int) -> Array:
    """Rows that meet the condition on one task and its opposite on every other task.

    For ``negatives`` this is MTA-F's exclusive set: negative on t and positive on all other tasks.
    A row whose other label is missing is not exclusive. Where everyone meets the condition on every
    task, no row is exclusive. With one task alone these are all rows that meet the condition.

    Args:
      condition: of this module or one's own.
      label: ``[N, T]`` of binary tasks.
      mask: ``[N, T]``.
      task: column t.

    Returns:
      ``select[N]``.
    """
    select = condition(label[:, task], mask[:, task])
    for other in range(label.shape[1]):
        if other != task:
            select = select * opposite(condition, label[:, other], mask[:, other])
    return select


# The command line's names of conditions.
CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "fpr": (negatives,),
    "tpr": (positives,),
    "odds": (negatives, positives),
    "parity": (everyone,),
}
