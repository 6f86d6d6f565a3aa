"""An encoder in blocks of rows: a whole validation set, times members, would fill the memory."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, PyTree


def in_blocks(encode: Callable[[PyTree], Array], x: PyTree, most: int) -> Array:
    """``encode(x)``, ``[B, D]``, with at most so many rows at a time.

    Args:
      encode: gives every row what it would give it alone.
      x: leaves ``[B, ...]``.
      most: rows of a block; rows of zeros fill the last places.
    """
    rows = len(jax.tree.leaves(x)[0])
    if rows <= most:
        return encode(x)

    # Block i of n has the rows i, i + n, i + 2 n: every device has its share of every block, where
    # devices share the rows.
    def blocks_of(leaf: Array) -> Array:
        margins = [(0, -rows % most)] + [(0, 0)] * (leaf.ndim - 1)
        dealt = jnp.pad(leaf, margins).reshape(most, -1, *leaf.shape[1:])
        return jnp.moveaxis(dealt, 1, 0)

    z = jax.lax.map(encode, jax.tree.map(blocks_of, x))
    return jnp.moveaxis(z, 0, 1).reshape(-1, z.shape[-1])[:rows]
