"""Weights that descend on the simplex: MoCo, MoDo and SDMGrad share it."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from fairjax.core.types import Array


def project_on_simplex(weights: Array, free: Array) -> Array:
    """The nearest point of the simplex over the free entries, ``[K]``; 0 where none is free."""
    largest = jnp.max(weights, initial=-jnp.inf, where=free)
    # What lies more than 1 below the largest entry is 0 in the projection.
    inside = jnp.where(free, weights, largest - 2.0)
    projected = optax.projections.projection_simplex(jnp.where(jnp.any(free), inside, 0.0))
    return jnp.where(free, projected, 0.0)


def has_products(products: Array) -> Array:
    """Which rows have a product that is not 0, ``[K]``; of two batches the matrix has no sign."""
    return jnp.any(products != 0, axis=1)
