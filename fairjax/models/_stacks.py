"""Layers of several networks of one width side by side, for tables.

Activations are feature-major, ``[networks, width, B]``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, glorot_uniform

from fairjax.core.types import Array, Columns, PyTree, Spec
from fairjax.models.tabular import trunk_of


def glorot_of_one(width: int) -> Initializer:
    """Glorot's range of one network, for kernels ``[inputs, networks * width + more]``."""

    def init(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        limit = (6.0 / (shape[0] + width)) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def first_layers(
    spec: Spec, networks: int, width: int, more: int, embedding: int, number_encoding: str
) -> tuple[Callable[[Array], PyTree], Callable[[PyTree, Columns], tuple[Array, Array]]]:
    """The first layer of all networks, and further linear functions of the inputs, as one product.

    All networks look at the same embeddings.

    Returns:
      ``init(key) -> params`` and ``apply(params, x)``, which gives sums ``[networks, width, B]``
      before any activation, and the further functions ``[more, B]``.
    """
    count = networks * width
    init, body = trunk_of(
        spec,
        (count + more,),
        embedding,
        True,
        glorot_of_one(width),
        number_encoding=number_encoding,
    )

    def apply(params: PyTree, x: Columns) -> tuple[Array, Array]:
        sums = body(params, x, lambda layer, z: z)
        return sums[:count].reshape(networks, width, -1), sums[count:]

    return init, apply


def draw_layer(key: Array, networks: int, inputs: int, width: int) -> PyTree:
    """Parameters of one layer of every network."""
    keys = jax.random.split(key, networks)
    kernel = jax.vmap(lambda k: glorot_uniform()(k, (inputs, width)))(keys)
    return {"kernel": kernel, "bias": jnp.zeros((networks, width))}


def layer(params: PyTree, h: Array) -> Array:
    """Sums of one layer: ``[networks, inputs, B] -> [networks, width, B]``."""
    return jnp.einsum("niw,nib->nwb", params["kernel"], h) + params["bias"][:, :, None]


def per_task(h: Array) -> tuple[Array, ...]:
    """``[T, width, B]`` as a representation ``[B, width]`` per task."""
    return tuple(h_t.T for h_t in h)
