"""MGDA: the point of least norm in the convex hull of the rows, and CAGrad, which keeps it near their mean."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import normalised, present
from fairjax.gradients.solve import min_norm, min_with_norm
from fairjax.gradients.task_space import Rule, linked

NORMALISE = ("none", "l2", "loss", "loss+")


@linked
def mgda(*, normalise: str = "none") -> Rule:
    """MGDA: ``w = argmin w' G w`` over the simplex of the rows that are there.

    Args:
      normalise: what each row is divided by before w is sought: ``"none"``, ``"l2"`` (its norm), ``"loss"`` (its loss),
        ``"loss+"`` (both). The weights are then given to the rows as they came, as in the authors' code.

    Reference:
      Desideri, C. R. Acad. Sci. 2012; Sener, Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018.
      At the representation (MGDA-UB) it is :func:`fairjax.gradients.at_representation`.
    """
    if normalise not in NORMALISE:
        raise ValueError(f"normalise must be one of {', '.join(NORMALISE)}, got {normalise!r}")

    def weights(gram, values, memory, key):
        by = jnp.ones(gram.shape[0], gram.dtype)
        if normalise in ("l2", "loss+"):
            by = by * jnp.sqrt(jnp.diagonal(gram))
        if normalise in ("loss", "loss+"):
            by = by * values.astype(gram.dtype)
        unit, _ = normalised(divide(divide(gram, by[:, None]), by[None, :]))
        w, residual = min_norm(unit, present(unit))
        return w, memory, residual

    return Rule(lambda rows: (), weights, needs_values=normalise.startswith("loss"))


@linked
def cagrad(*, c=0.5, rescale: int = 1) -> Rule:
    """CAGrad: ``u = g_0 + c ||g_0|| g_w / ||g_w||`` with the mean row ``g_0``.

    w is the point of the simplex that minimises ``<g_w, g_0> + c ||g_0|| ||g_w||``; u has the largest least product with a row
    among all directions that near to ``g_0``. In float32 its last digits go where rows differ a hundredfold in length.

    Args:
      c: how far from the mean row, relative to its length; from 1 on no task's loss rises.
      rescale: 0 leaves u, 1 divides by ``1 + c^2`` (the authors' default), 2 by ``1 + c``.

    Reference:
      Liu, Liu, Jin, Stone, Liu: Conflict-averse gradient descent, NeurIPS 2021.
    """
    if rescale not in (0, 1, 2):
        raise ValueError(f"rescale must be 0, 1 or 2, got {rescale}")

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        free = present(unit)
        mean = free.astype(gram.dtype) / jnp.maximum(jnp.sum(free), 1)
        to_mean = unit @ mean
        length = jnp.sqrt(jnp.maximum(mean @ to_mean, 0.0))
        some = jnp.maximum(c, 1e-3)  # for c = 0 any w will do
        w, a, residual = min_with_norm(
            unit, divide(to_mean, length) / (1.0 + some), some / (1.0 + some), free
        )
        norm = jnp.sqrt(jnp.maximum(w @ unit @ w, 0.0))

        def gain(v: Array) -> Array:
            """The least product of ``g_0 + v`` with a row: what the direction is to make large."""
            return jnp.min(jnp.where(free, to_mean + unit @ v, jnp.inf))

        # the direction by w has more digits, but where g_w is near 0 it has none, and the dual has it
        one, two = (c * length * v for v in (divide(w, norm), a * (1.0 + some) / some))
        u = mean + jnp.where(
            gain(one) > gain(two) - 4.0 * (1.0 + some) * length * residual, one, two
        )
        return u / (1.0, 1.0 + c**2, 1.0 + c)[rescale], memory, residual

    return Rule(lambda rows: (), weights)
