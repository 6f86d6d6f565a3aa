"""Rows in task space: the Gram matrix of K gradients, and the sum that weights make of them.

Rows are a pytree whose leaves are ``[K, ...]``. Whatever the rows are in, products are accumulated in float32 or better;
no leaf is ever copied into one long vector.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

CHUNK = 2048  # columns that stay in a CPU's cache while all rows are multiplied


def gram(leaves: Sequence[Array]) -> Array:
    """``G_ij = <g_i, g_j>`` summed over leaves ``[K, ...]``; ``[K, K]`` in float32, or float64 for float64 rows."""
    total = 0.0
    for g in leaves:
        flat = g.reshape(g.shape[0], -1)
        if flat.shape[1] < 16 * CHUNK:
            total = total + _products(flat)
        else:  # one product of few long rows takes a CPU two to six times as long as one of pieces at a time
            total = total + jax.lax.platform_dependent(flat, cpu=_in_pieces, default=_products)
    return total


def _products(flat: Array) -> Array:
    return jnp.einsum(
        "ip,jp->ij",
        flat,
        flat,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.promote_types(flat.dtype, jnp.float32),
    )


def _in_pieces(flat: Array) -> Array:
    """As :func:`_products`, CHUNK columns at a time; the last piece overlaps, since a slice for the rest copies all rows."""
    columns = flat.shape[1]

    def add(i, total):
        begin = jnp.minimum(i * CHUNK, columns - CHUNK)
        piece = jax.lax.dynamic_slice_in_dim(flat, begin, CHUNK, axis=1)
        return total + _products(jnp.where(begin + jnp.arange(CHUNK) >= i * CHUNK, piece, 0))

    return jax.lax.fori_loop(0, -(-columns // CHUNK), add, jnp.zeros_like(_products(flat[:, :1])))


def add_rows(rows: Sequence[Array]) -> Array:
    """The sum of K arrays, one pass over memory; ``jnp.sum`` over a leading axis takes ten times as long on a CPU."""
    return functools.reduce(jnp.add, rows)


def combine(weights: Array, rows: Array) -> Array:
    """``sum_k w_k g_k`` for one leaf ``[K, ...]``, in its own dtype; a row of weight 0 may hold anything, NaN too."""
    kind = jnp.promote_types(rows.dtype, jnp.float32)
    # row by row: a select before a product would copy all rows
    parts = [
        jnp.where(weights[k] != 0, weights[k].astype(kind) * rows[k].astype(kind), 0)
        for k in range(rows.shape[0])
    ]
    return add_rows(parts).astype(rows.dtype)


def cosines(gram: Array) -> Array:
    """``cos(g_i, g_j)``, ``[K, K]``; 0 where a row is zero."""
    norm = jnp.sqrt(jnp.diagonal(gram))
    return divide(divide(gram, norm[:, None]), norm[None, :])


def normalised(gram: Array) -> tuple[Array, Array]:
    """``(G / s, s)`` with the largest squared norm s, so that a rule sees numbers of order one; s is 1 when all are 0."""
    largest = jnp.max(jnp.diagonal(gram))
    scale = jnp.where(largest > 0, largest, 1.0)
    return gram / scale, scale


def present(gram: Array) -> Array:
    """Which rows are there, ``[K]`` bool: not zero (a task without labels in a batch), not quarantined."""
    return jnp.diagonal(gram) > 0
