"""Layers of pretrained networks, functions of a dictionary of arrays.

They multiply in the precision of their weights. What is summed, and what goes from layer to layer,
is in float32 at least.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.types import Array


def wide(x: Array) -> Array:
    """In float32, or as it is if it is in float64."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def dense(params: dict[str, Array], x: Array) -> Array:
    """``x @ kernel + bias``, multiplied in the precision of the kernel, summed in float32."""
    return matmul(x, params["kernel"]) + params["bias"]


def matmul(x: Array, kernel: Array) -> Array:
    """``x @ kernel``, as in :func:`dense`."""
    precision = jnp.promote_types(kernel.dtype, jnp.float32)
    return jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=precision)


def layer_norm(params: dict[str, Array], x: Array, epsilon: float) -> Array:
    """``scale * (x - mean) / sqrt(variance + epsilon) + bias`` over the last axis."""
    centred = wide(x) - jnp.mean(wide(x), axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon) * params["scale"] + params["bias"]


def unit_length(x: Array, epsilon: float) -> Array:
    """``x / max(|x|, sqrt(epsilon))`` over the last axis; zeros have a gradient."""
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, epsilon))
