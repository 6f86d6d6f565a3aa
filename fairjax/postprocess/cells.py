"""Cells: groups of one attribute, or crossed groups of several attributes, as one index per row.

``G`` cells are the combinations of levels, the last attribute fastest; the index ``G`` means an
unknown cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array


def cells_of_codes(codes: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Cell of every row, ``[N]`` in ``0 .. G``.

    Args:
      codes: per attribute the index of the row's level, ``[N]``; -1 where unknown. numpy or jax
        arrays.
      sizes: number of levels of each attribute; G is their product.
    """
    cell = codes[0]
    xp = np if isinstance(cell, np.ndarray) else jnp
    is_known = cell >= 0
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        cell = cell * np.int32(size) + code
        is_known = is_known & (code >= 0)
    unknown_cell = np.int32(math.prod(sizes))
    return xp.where(is_known, cell, unknown_cell)


def cells_of_groups(groups: Array, sizes: Sequence[int]) -> Array:
    """Cell of every row, ``[N]`` in ``0 .. G``, from membership.

    Args:
      groups: membership ``[N, sum(sizes)]``, attributes side by side; a block of zeros is an
        unknown level.
      sizes: number of levels of each attribute; G is their product.
    """
    codes = []
    start = 0
    for size in sizes:
        stop = start + size
        membership = groups[:, start:stop]
        level = jnp.argmax(membership, axis=1).astype(jnp.int32)
        is_known = jnp.max(membership, axis=1) > 0
        code = jnp.where(is_known, level, -1)
        codes.append(code)
        start = stop
    return cells_of_codes(codes, sizes)
