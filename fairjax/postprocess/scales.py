"""Scales on which quantiles are averaged: a pair of functions, to the scale and back.

The repair of a transformed score is not the transform of the repaired score, so the scale is a
choice: probabilities as they are (as in the paper), their log-odds, or logarithms of positive
numbers (prices, incomes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, DataError

# A probability closer than this to 0 or 1 has no finite log-odds in single precision.
SMALLEST_PROBABILITY = 1e-7


def _refuses_nothing(score: np.ndarray) -> np.ndarray:
    return np.zeros(score.shape, bool)


class Scale(NamedTuple):
    """``forward`` to where quantiles are averaged, ``inverse`` back; both increasing, both
    elementwise.

    Both take traced arrays, and numpy arrays of double precision if the scale is for
    :class:`fairjax.Repair`. ``refused`` marks the scores that have no place on the scale; ``needs``
    says what scores must be.
    """

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    refused: Callable[[np.ndarray], np.ndarray] = _refuses_nothing
    needs: str = "on the scale"


def _on_host(value: Array) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _unchanged(value: Array) -> Array:
    return value


def _log_odds(prob: Array) -> Array:
    if _on_host(prob):
        from scipy.special import logit  # here, because this import is slow

        return logit(prob)
    clipped = jnp.clip(prob, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    return jax.scipy.special.logit(clipped)


def _probability(log_odds: Array) -> Array:
    if _on_host(log_odds):
        from scipy.special import expit

        return expit(log_odds)
    return jax.nn.sigmoid(log_odds)


def _logarithm(value: Array) -> Array:
    return np.log(value) if _on_host(value) else jnp.log(value)


def _exponential(value: Array) -> Array:
    return np.exp(value) if _on_host(value) else jnp.exp(value)


def _outside_unit_interval(prob: np.ndarray) -> np.ndarray:
    return (prob <= 0) | (prob >= 1)


def _not_positive(value: np.ndarray) -> np.ndarray:
    return value <= 0


identity: Scale = Scale(_unchanged, _unchanged)
logit: Scale = Scale(
    _log_odds, _probability, _outside_unit_interval, "between 0 and 1, both ends excluded"
)
log: Scale = Scale(_logarithm, _exponential, _not_positive, "positive")

SCALES = {"identity": identity, "logit": logit, "log": log}


def scale_named(scale: str | Scale) -> Scale:
    """The scale of a name, or the scale itself.

    Raises:
      DataError: the name is unknown.
    """
    if isinstance(scale, Scale):
        return scale
    if scale not in SCALES:
        raise DataError(f"scale {scale!r} is not one of {', '.join(SCALES)}.")
    return SCALES[scale]


def scale_name(scale: str | Scale) -> str | None:
    """The name of a scale; None for a scale without a name."""
    if isinstance(scale, str):
        return scale
    names = [name for name, named in SCALES.items() if named == scale]
    return names[0] if names else None
