"""Scales on which quantiles are averaged: a pair of functions, to the scale and back.

The repair of a transformed score is not the transform of the repaired score, so the scale is a choice: probabilities as
they are (the paper's), their log-odds, or logarithms of what is positive (prices, incomes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logit as log_odds

from fairjax.core.types import Array

SMALLEST = (
    1e-7  # a probability closer than this to 0 or 1 has no finite log-odds in single precision
)


class Scale(NamedTuple):
    """``forward`` to where quantiles are averaged, ``inverse`` back; both increasing, both elementwise."""

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]


identity = Scale(lambda score: score, lambda value: value)
logit = Scale(lambda prob: log_odds(jnp.clip(prob, SMALLEST, 1.0 - SMALLEST)), jax.nn.sigmoid)
log = Scale(jnp.log, jnp.exp)
