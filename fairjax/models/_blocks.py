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
      most: rows of a block; the last block is padded with zeros.
    """
    rows = len(jax.tree.leaves(x)[0])
    if rows <= most:
        return encode(x)
    missing = -rows % most

    def blocks_of(leaf: Array) -> Array:
        margins = [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, margins).reshape(-1, most, *leaf.shape[1:])

    z = jax.lax.map(encode, jax.tree.map(blocks_of, x))
    return z.reshape(-1, z.shape[-1])[:rows]
