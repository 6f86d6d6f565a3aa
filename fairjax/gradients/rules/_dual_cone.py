"""What UPGrad and DualProj share: the projection onto the dual cone of the rows.

No loss rises along the directions of the cone ``{u: J u >= 0}``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import normalised, present


def cone_problem(
    gram: Array, preference: ArrayLike | None, ridge: Array | float
) -> tuple[Array, Array, Array]:
    """The Gram matrix over its trace plus the ridge, preferences, and which rows are present."""
    rows = gram.shape[0]
    unit, _ = normalised(gram)
    free = present(unit)
    has_rows = jnp.any(free)
    trace = jnp.where(has_rows, jnp.trace(unit), 1.0)
    identity = jnp.eye(rows, dtype=gram.dtype)
    unit = unit / trace + ridge * identity
    if preference is None:
        weights = jnp.full(rows, 1.0 / rows)
    else:
        weights = jnp.asarray(preference)
    weights = jnp.where(free, weights.astype(gram.dtype), 0.0)
    return unit, weights, free
