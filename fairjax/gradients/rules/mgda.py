"""MGDA: the point of least norm in the convex hull of the rows, and CAGrad, which keeps it near their mean."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.gradients.gram import normalised, present
from fairjax.gradients.solve import interior_point, min_norm
from fairjax.gradients.task_space import Rule, linked
from fairjax.masked import divide

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

    w is the point of the simplex that minimises ``<g_w, g_0> + c ||g_0|| ||g_w||``.

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
        reach = c * length

        def derivatives(x):
            """Of ``<g_w, g_0> + reach (||g_w||^2 / n + n) / 2`` in ``x = (w, n)``, which is least at ``n = ||g_w||``."""
            w, n = x[:-1], x[-1]
            at = unit @ w
            ratio = w @ at / n**2
            across = -reach * at / n**2
            hessian = jnp.block([[reach * unit / n, across[:, None]], [across[None], (reach * ratio / n)[None, None]]])
            return jnp.append(to_mean + reach * at / n, 0.5 * reach * (1.0 - ratio)), hessian

        every = jnp.append(free, jnp.any(free))
        x, residual = interior_point(derivatives, jnp.zeros_like(mean, shape=every.shape), every,
                                     jnp.append(free, False), quadratic=False)
        w = x[:-1]
        norm = jnp.sqrt(jnp.maximum(w @ unit @ w, 0.0))
        # at a Pareto-stationary point the direction is gone, and only the mean row is left
        u = mean + jnp.where(norm > 1e-4, c * length * divide(w, norm), 0.0)
        return u / (1.0, 1.0 + c**2, 1.0 + c)[rescale], memory, residual

    return Rule(lambda rows: (), weights)
