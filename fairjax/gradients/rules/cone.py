"""Rules that project onto the dual cone ``{u: J u >= 0}``, where no loss rises: UPGrad, DualProj."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import normalised, present
from fairjax.gradients.solve import project_on_cone
from fairjax.gradients.task_space import Rule, linked


def _ready(gram: Array, preference, ridge) -> tuple[Array, Array, Array]:
    """Gram matrix over its trace with the ridge, preference, rows that are there."""
    unit, _ = normalised(gram)
    free = present(unit)
    trace = jnp.where(jnp.any(free), jnp.trace(unit), 1.0)
    unit = unit / trace + ridge * jnp.eye(gram.shape[0], dtype=gram.dtype)
    p = (
        jnp.full(gram.shape[0], 1.0 / gram.shape[0])
        if preference is None
        else jnp.asarray(preference)
    )
    return unit, jnp.where(free, p.astype(gram.dtype), 0.0), free


@linked
def upgrad(*, preference=None, ridge=1e-4) -> Rule:
    """UPGrad: every row is projected onto the dual cone of all rows, then the projections are added up.

    Args:
      preference: weight of each row, ``[K]``; default ``1 / K``.
      ridge: added to the Gram matrix over its trace, as in the authors' code; a row whose squared length is below it, relative
        to all, is hardly heard. 0 for the exact projection.

    Reference:
      Quinton, Rey: Jacobian descent for multi-objective optimization, 2024.
    """

    def weights(gram, values, memory, key):
        unit, p, free = _ready(gram, preference, ridge)
        # a projection is as long as what is projected: solved for weight 1, then scaled, all K at once
        v, residual = jax.vmap(lambda e: project_on_cone(unit, e, free))(
            jnp.eye(gram.shape[0], dtype=gram.dtype)
        )
        return p @ v, memory, jnp.max(jnp.where(free, residual, 0.0))

    return Rule(lambda rows: (), weights)


@linked
def dualproj(*, preference=None, ridge=1e-4) -> Rule:
    """Dual projection: the weighted sum of the rows, projected onto their dual cone.

    Args:
      preference: see :func:`upgrad`.
      ridge: see :func:`upgrad`.

    Reference:
      Lopez-Paz, Ranzato: Gradient episodic memory for continual learning, NIPS 2017.
    """

    def weights(gram, values, memory, key):
        unit, p, free = _ready(gram, preference, ridge)
        v, residual = project_on_cone(unit, p, free)
        return jnp.where(free, v, 0.0), memory, residual

    return Rule(lambda rows: (), weights)
