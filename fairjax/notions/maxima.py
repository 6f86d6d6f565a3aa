"""The largest of some values under a mask: as it is, and smooth.

They serve units and groups of one task, and tasks of which some are absent. With nothing valid both
are 0 with gradient 0. What stands under the mask may be anything, NaN included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.types import Array


def hard_maximum(values: Array, valid: Array) -> Array:
    """The largest valid value; 0 where nothing is valid.

    Args:
      values: of any shape.
      valid: true where a value counts, of the same shape.

    Returns:
      A scalar.
    """
    any_valid = jnp.any(valid)
    # infinities of an empty set must not leave this function
    absent_value = jnp.where(any_valid, -jnp.inf, 0.0)
    largest = jnp.max(jnp.where(valid, values, absent_value))
    return jnp.where(any_valid, largest, 0.0)


def smooth_maximum(values: Array, valid: Array, temperature: Array | float) -> Array:
    """``tau log mean_valid exp(v / tau)``: between the mean and the maximum of the valid values.

    It is at least ``max - tau log n`` for n valid values, and equal values give that value. So of
    values that are not negative it is 0 if and only if all are 0. The log of the sum, without the
    division by n, is ``tau log n`` there. Gradients are positive and add up to 1.

    Args:
      values: of any shape.
      valid: true where a value counts, of the same shape.
      temperature: tau, positive; towards 0 it gives :func:`hard_maximum`.

    Returns:
      A scalar; 0 where nothing is valid.

    Raises:
      ValueError: the temperature is not positive, where it can be looked at.

    >>> values = jnp.asarray([0.7, 0.0, jnp.nan])
    >>> print(f"{smooth_maximum(values, jnp.asarray([True, True, False]), 0.1):.2f}")
    0.63
    """
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(
            f"smooth maximum: the temperature is {temperature:g}, expected a positive number; "
            "hard_maximum is its limit at 0"
        )
    top = jax.lax.stop_gradient(hard_maximum(values, valid))
    distance = jnp.where(valid, values - top, 0.0)
    terms = jnp.where(valid, jnp.exp(distance / temperature), 0.0)
    any_valid = jnp.any(valid)
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.where(any_valid, jnp.sum(terms) / count, 1.0)
    return top + temperature * jnp.log(mean)
