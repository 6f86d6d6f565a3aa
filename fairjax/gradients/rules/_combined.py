"""The rule of a combiner of losses: weights are its slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.task_space import Rule, no_memory


def combined(combine: Callable[..., Array], **constants: Any) -> Rule:
    """The rule of ``combine(values, where=, **constants) -> scalar``: ``w_k = dcombine / dL_k``."""

    def weights(gram, values, memory, key):
        is_present = present(gram)

        def total(values: Array) -> Array:
            return combine(values, where=is_present, **constants)

        slopes = jax.grad(total)(values)
        return jnp.where(is_present, slopes, 0.0).astype(gram.dtype), memory, jnp.zeros(())

    return Rule(no_memory, weights, needs_values=True, needs_products=False)
