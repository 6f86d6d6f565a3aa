"""Encodings of numbers: from ``[B, P]`` to more columns, in which a network bends more easily.

All are flax modules that keep the numbers themselves as the first P columns.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import glorot_uniform, normal, zeros_init

from fairjax.core.types import Array, DataError, Spec


class Plain(nn.Module):
    """The numbers as they are."""

    @nn.compact
    def __call__(self, numeric: Array) -> Array:
        return numeric


class PiecewiseLinear(nn.Module):
    """A column per piece between two knots of a number.

    Piece j of a number x is ``(x - k_j) / (k_{j+1} - k_j)``, held between 0 and 1: 0 below the
    piece and 1 above it. The first one goes on below 0 and the last one above 1. A number with
    fewer than three knots has no pieces.

    ``knots`` has a row of ascending knots per number, in its units. Nothing is learned.

    Source: Gorishniy, Rubachev, Babenko, On embeddings for numerical features in tabular deep
    learning, NeurIPS 2022.
    """

    knots: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, numeric: Array) -> Array:
        cut = [j for j, knots in enumerate(self.knots) if len(knots) > 2]
        if not cut:
            return numeric
        rows = [np.asarray(self.knots[j], numeric.dtype) for j in cut]
        low = np.concatenate([row[:-1] for row in rows])
        width = np.concatenate([np.diff(row) for row in rows])
        least = np.concatenate([_only(0, -np.inf, 0.0, len(row) - 1) for row in rows])
        most = np.concatenate([_only(-1, np.inf, 1.0, len(row) - 1) for row in rows])
        column = np.repeat(cut, [len(row) - 1 for row in rows])
        pieces = jnp.clip((numeric[:, column] - low) / width, least, most)
        return jnp.concatenate([numeric, pieces.astype(numeric.dtype)], axis=1)


def _only(place: int, there: float, elsewhere: float, count: int) -> np.ndarray:
    """One value at a place, and another elsewhere."""
    values = np.full(count, elsewhere, np.float32)
    values[place] = there
    return values


class Periodic(nn.Module):
    """Columns ``relu(W [sin 2 pi c x, cos 2 pi c x] + b)`` of every number x.

    The frequencies c of a number, drawn from a normal distribution of deviation ``spread``, and one
    pair W, b for all numbers are learned ("PLR (lite)").

    Source: as :class:`PiecewiseLinear`; and Gorishniy, Kotelnikov, Babenko, TabM, ICLR 2025.
    """

    frequencies: int = 16
    width: int = 8
    spread: float = 0.1

    @nn.compact
    def __call__(self, numeric: Array) -> Array:
        rows, count = numeric.shape
        c = self.param("frequencies", normal(self.spread), (count, self.frequencies))
        kernel = self.param("kernel", glorot_uniform(), (2 * self.frequencies, self.width))
        bias = self.param("bias", zeros_init(), (self.width,))
        angle = 2 * np.pi * c * numeric[:, :, None]
        waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        columns = nn.relu(waves @ kernel + bias)
        return jnp.concatenate([numeric, columns.reshape(rows, -1)], axis=1)


# (spec) -> module
NUMBER_ENCODINGS: dict[str, Callable[[Spec], nn.Module]] = {
    "plain": lambda spec: Plain(),
    "piecewise_linear": lambda spec: PiecewiseLinear(spec.knots),
    "periodic": lambda spec: Periodic(),
}


def encoding_of(spec: Spec, name: str) -> nn.Module:
    """The encoding of the numbers of a spec.

    Raises:
      DataError: there is no encoding of that name.
    """
    if name not in NUMBER_ENCODINGS:
        raise DataError(f"number encoding {name!r} is not one of {', '.join(NUMBER_ENCODINGS)}")
    return NUMBER_ENCODINGS[name](spec)
