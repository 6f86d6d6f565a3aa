"""The Gram matrix of K gradients, and the sum that weights make of them.

Rows are a pytree whose leaves are ``[K, ...]``. Products are accumulated in float32 or better,
whatever the dtype of the rows. No leaf is ever copied into one long vector.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.gradients import implicit_rows

CHUNK = 4096  # columns that stay in a CPU's cache while all rows are multiplied


def gram(leaves: Sequence[Array], scales: Sequence[Array | float] | None = None) -> Array:
    """``G_ij = <g_i, g_j>`` summed over leaves ``[K, ...]``, each times its scale.

    It is ``[K, K]`` in float32, or in float64 for float64 rows. In float32 squares below 1e-38 are
    0 and those above 3e38 infinite: a row whose largest entry is below 1e-19 looks absent, one
    above 1e19 not finite. A pass for the largest entry would cost about half of this product.
    """
    if implicit_rows.are_implicit(leaves):
        return implicit_rows.products(leaves, scales)
    total = 0.0
    for i, leaf in enumerate(leaves):
        flat = leaf.reshape(leaf.shape[0], -1)
        if flat.shape[1] < 8 * CHUNK:
            products = _products(flat)
        else:
            # On a CPU, one product of few long rows takes two to six times as long as pieces.
            products = jax.lax.platform_dependent(flat, cpu=_products_of_pieces, default=_products)
        if scales is not None:
            products = jnp.asarray(scales[i], products.dtype) * products
        total = total + products
    return total


def _products(flat: Array) -> Array:
    return jnp.einsum(
        "ip,jp->ij",
        flat,
        flat,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.promote_types(flat.dtype, jnp.float32),
    )


def _products_of_pieces(flat: Array) -> Array:
    """As :func:`_products`, CHUNK columns at a time, then those that remain."""
    piece_count, remaining = divmod(flat.shape[1], CHUNK)

    def add_piece(i, total):
        piece = jax.lax.dynamic_slice_in_dim(flat, i * CHUNK, CHUNK, axis=1)
        return total + _products(piece)

    zeros = jnp.zeros_like(_products(flat[:, :1]))
    total = jax.lax.fori_loop(0, piece_count, add_piece, zeros)
    if remaining:
        total = total + _products(flat[:, -remaining:])
    return total


def add_rows(rows: Sequence[Array]) -> Array:
    """The sum of K arrays in one pass over memory.

    ``jnp.sum`` over a leading axis takes ten times as long on a CPU.
    """
    return functools.reduce(jnp.add, rows)


def sum_of_rows(leaves: Sequence[Array]) -> list[Array]:
    """``sum_k g_k`` for each leaf ``[K, ...]``."""
    if implicit_rows.are_implicit(leaves):
        return implicit_rows.pull(leaves, jnp.ones(leaves[0].shape[0]))
    return [add_rows([leaf[k] for k in range(leaf.shape[0])]) for leaf in leaves]


def one_row(leaves: Sequence[Array], k: int) -> list[Array]:
    """``g_k`` for each leaf ``[K, ...]``."""
    if implicit_rows.are_implicit(leaves):
        return implicit_rows.pull(leaves, jnp.zeros(leaves[0].shape[0]).at[k].set(1.0))
    return [leaf[k] for leaf in leaves]


def combine_leaves(
    weights: Array,
    leaves: Sequence[Array],
    finite: Array,
    scales: Sequence[Array | float] | None = None,
) -> list[Array]:
    """:func:`combine` of each leaf, times its scale; ``finite`` says which rows are, ``[K]``."""
    if implicit_rows.are_implicit(leaves):
        # A backward pass makes NaN of 0 times NaN, which is no update where no row is finite.
        is_step = jnp.any(finite)
        updates = []
        for i, update in enumerate(implicit_rows.pull(leaves, weights)):
            if scales is not None:
                update = (jnp.asarray(scales[i], weights.dtype) * update).astype(update.dtype)
            updates.append(jnp.where(is_step, update, 0))
        return updates
    updates = []
    for i, leaf in enumerate(leaves):
        leaf_weights = weights
        if scales is not None:
            leaf_weights = jnp.asarray(scales[i], weights.dtype) * weights
        updates.append(combine(leaf_weights, leaf))
    return updates


def combine(weights: Array, rows: Array) -> Array:
    """``sum_k w_k g_k`` for one leaf ``[K, ...]``, in its own dtype.

    A row of weight 0 may hold anything, NaN too.
    """
    dtype = jnp.promote_types(rows.dtype, jnp.float32)
    terms = []
    # Row by row: a select before a product of all rows would copy all rows.
    for k in range(rows.shape[0]):
        product = weights[k].astype(dtype) * rows[k].astype(dtype)
        terms.append(jnp.where(weights[k] != 0, product, 0))
    return add_rows(terms).astype(rows.dtype)


def squared_norms(leaves: Sequence[Array], scales: Sequence[Array | float] | None = None) -> Array:
    """``||g_k||^2``, ``[K]``: the diagonal of :func:`gram`, in one pass over memory."""
    if implicit_rows.are_implicit(leaves):
        return implicit_rows.squared_norms(leaves, scales)
    total = 0.0
    for i, leaf in enumerate(leaves):
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        squares = jnp.sum(wide**2, axis=tuple(range(1, leaf.ndim)))
        if scales is not None:
            squares = jnp.asarray(scales[i], squares.dtype) * squares
        total = total + squares
    return total


def row_norms(gram: Array) -> Array:
    """``||g_k||``, ``[K]``."""
    return jnp.sqrt(jnp.diagonal(gram))


def norm_of_sum(gram: Array, weights: Array) -> Array:
    """``||sum_k w_k g_k||``, a scalar; 0 where rounding makes the square ``w' G w`` negative."""
    return jnp.sqrt(jnp.maximum(weights @ gram @ weights, 0.0))


def cosines(gram: Array) -> Array:
    """``cos(g_i, g_j)``, ``[K, K]``; 0 where a row is zero."""
    norm = row_norms(gram)
    return divide(divide(gram, norm[:, None]), norm[None, :])


def normalised(gram: Array) -> tuple[Array, Array]:
    """``(G / s, s)`` with the largest squared norm s; s is 1 when all are 0.

    A rule then sees numbers of order one.
    """
    largest = jnp.max(jnp.diagonal(gram))
    scale = jnp.where(largest > 0, largest, 1.0)
    return gram / scale, scale


def present(gram: Array) -> Array:
    """Which rows are present, ``[K]`` bool.

    A row is absent (zero) if its task has no labels in the batch, or if it is quarantined.
    """
    return jnp.diagonal(gram) > 0


def cut_factor(length: Array, longest: Array | float) -> Array:
    """The factor, 1 at most, that makes a vector of this length at most ``longest`` long."""
    factor = longest / jnp.where(length > 0, length, 1.0)
    return jnp.where(length > longest, factor, 1.0)
