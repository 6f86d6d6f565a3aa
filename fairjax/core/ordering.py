"""Rows in ascending order of a number, for sums over all rows up to one of them; no gradients.

XLA's sort of one array of integers takes a quarter of the time, on a CPU, of one that carries a
second array along. So the numbers alone are sorted, and every row looks for its place among them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.types import Array


class Ordered(NamedTuple):
    """Numbers in ascending order, NaN last, and where the rows stand among them."""

    value: Array  # [N] float32, or float64
    place: Array  # [N] of each row, that of the first number that equals its own


def ordered(value: Array) -> Ordered:
    """Sort numbers ``[N]``, half precision as float32; -0 and 0 are equal, and all NaN are."""
    value = jax.lax.stop_gradient(value)
    value = value.astype(jnp.promote_types(value.dtype, jnp.float32))
    code = _code(value)
    ascending = jax.lax.sort(code, is_stable=False)
    place = jnp.searchsorted(ascending, code)
    return Ordered(_value(ascending), place)


def reached(order: Ordered, columns: Array) -> Array:
    """Sums ``[N, K]`` of the rows' columns ``[N, K]`` up to each number, equal ones included."""
    return jnp.cumsum(sums_of_equals(order, columns), axis=0)


def sums_of_equals(order: Ordered, columns: Array) -> Array:
    """Sums ``[N, K]`` of the columns over equal numbers, at the first of them; 0 elsewhere."""
    return jnp.zeros_like(columns).at[order.place].add(columns)


def _code(value: Array) -> Array:
    """Integers in the order of the numbers."""
    value = jnp.where(value == 0, 0.0, value)
    value = jnp.where(jnp.isnan(value), jnp.nan, value)
    integer = jnp.int32 if value.dtype == jnp.float32 else jnp.int64
    return _turned(jax.lax.bitcast_convert_type(value, integer))


def _value(code: Array) -> Array:
    """The numbers of :func:`_code`."""
    number = jnp.float32 if code.dtype == jnp.int32 else jnp.float64
    return jax.lax.bitcast_convert_type(_turned(code), number)


def _turned(bits: Array) -> Array:
    """Negative numbers in opposite order; twice is once."""
    return jnp.where(bits < 0, jnp.iinfo(bits.dtype).min - bits, bits)
