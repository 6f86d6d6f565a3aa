"""One number per row that learns by Adam.

Uncertainty weighting, IMTL-L, GradNorm and FAMO share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree


class Learned(NamedTuple):
    """One number per row, with its optimizer's state."""

    number: Array  # [K]
    optimizer: PyTree


def learned(
    start: Array | float, learning_rate: Array | float, decay: Array | float = 0.0
) -> tuple[Callable[[int], Learned], Callable[[Array, Learned], Learned]]:
    """``init(K)`` and ``learn(gradient, memory)`` of numbers that descend by Adam.

    ``decay`` is the factor of an L2 penalty.
    """
    adam = optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate))

    def init(rows: int) -> Learned:
        number = jnp.full(rows, start)
        return Learned(number, adam.init(number))

    def learn(gradient: Array, memory: Learned) -> Learned:
        updates, state = adam.update(gradient, memory.optimizer, memory.number)
        return Learned(memory.number + updates, state)

    return init, learn
