"""Rules that solve a linear system in the Gram matrix: IMTL-G, Nash-MTL, Aligned-MTL, ConFIG."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.gradients.gram_matrix import cosines, normalised, present
from fairjax.gradients.solve import pseudo_inverse
from fairjax.gradients.task_space import Rule, linked


@linked
def imtl_g() -> Rule:
    """IMTL-G, impartial gradients: u has equal projections on all unit rows; ``w = G^+ d / sum(G^+ d)``, ``d_k = ||g_k||``.

    Weights add up to 1 and may be negative.

    Reference:
      Liu et al.: Towards impartial multi-task learning, ICLR 2021.
    """

    def weights(gram, values, memory, key):
        # in unit rows: G = D C D, so that norms of 1 and of 1e10 are equally well solved
        norm = jnp.sqrt(jnp.diagonal(normalised(gram)[0]))
        inverse, _ = pseudo_inverse(cosines(gram))
        w = divide(inverse @ (norm > 0).astype(gram.dtype), norm)
        total = jnp.sum(w)
        return (
            jnp.where(jnp.abs(total) > 1e-12, w / jnp.where(total == 0, 1.0, total), 0.0),
            memory,
            jnp.zeros(()),
        )

    return Rule(lambda rows: (), weights)


@linked
def nash_mtl(*, max_norm=1.0, ridge=1e-8) -> Rule:
    """Nash-MTL: the bargaining solution, ``G a = 1 / a`` with ``a > 0``, as the minimum of ``a' G a / 2 - sum log a``.

    Solved by damped Newton steps; the minimum is unique for a positive definite G. At a Pareto-stationary point (more rows
    than parameters, say) there is none, and the residual is large.

    Args:
      max_norm: u is cut to this length; infinity leaves it.
      ridge: added to the Gram matrix relative to its largest row, so that opposite rows have a solution.

    Reference:
      Navon et al.: Multi-task learning as a bargaining game, ICML 2022.
    """

    def weights(gram, values, memory, key):
        unit, scale = normalised(gram)
        free, rows = present(unit), gram.shape[0]
        least = jnp.maximum(jnp.asarray(ridge, gram.dtype), 4 * jnp.finfo(gram.dtype).eps)
        norm = jnp.where(free, jnp.sqrt(jnp.diagonal(unit)), 1.0)
        # in unit rows, b = a ||g||: C b = 1 / b
        angles = cosines(unit)
        unit_rows = (
            angles + least * jnp.eye(rows, dtype=gram.dtype) + jnp.diag(jnp.where(free, 0.0, 1.0))
        )

        def step(_, b):
            gradient = unit_rows @ b - 1.0 / b
            move = jnp.linalg.solve(unit_rows + jnp.diag(1.0 / b**2), gradient)
            return b - move / (1.0 + jnp.sqrt(jnp.maximum(gradient @ move, 0.0)))

        b = jax.lax.fori_loop(0, 40, step, jnp.ones_like(norm))
        residual = jnp.max(jnp.where(free, jnp.abs(angles @ b * b - 1.0), 0.0))
        a = jnp.where(free, b / norm, 0.0) / jnp.sqrt(scale)
        length = jnp.sqrt(jnp.maximum(a @ unit @ a, 0.0)) * jnp.sqrt(scale)
        return (
            a * jnp.where(length > max_norm, max_norm / jnp.where(length > 0, length, 1.0), 1.0),
            memory,
            residual,
        )

    return Rule(lambda rows: (), weights)


@linked
def aligned_mtl(*, preference=None, scale: str = "min") -> Rule:
    """Aligned-MTL: rows rotated and scaled to be orthogonal and of one length, then averaged.

    ``w = s V l^{-1/2} V' p`` with the eigenvalues l of G that are not zero.

    Args:
      preference: p, ``[K]``; default ``1 / K`` each.
      scale: s is the square root of the ``"min"``, ``"median"`` or mean (``"rmse"``) eigenvalue that is not zero.

    Reference:
      Senushkin, Patakin, Kuznetsov, Konushin: Independent component alignment for multi-task learning, CVPR 2023.
    """
    if scale not in ("min", "median", "rmse"):
        raise ValueError(f"scale must be 'min', 'median' or 'rmse', got {scale!r}")

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        p = (
            jnp.full(gram.shape[0], 1.0 / gram.shape[0])
            if preference is None
            else jnp.asarray(preference)
        )
        whiten, values_k = pseudo_inverse(unit, -0.5)
        rank = jnp.sum(values_k > 0)
        if scale == "rmse":
            s = divide(jnp.sum(values_k), rank.astype(gram.dtype))
        else:  # eigenvalues ascend, zeros first
            place = gram.shape[0] - rank if scale == "min" else gram.shape[0] - 1 - rank // 2
            s = values_k[jnp.minimum(place, gram.shape[0] - 1)]
        return jnp.sqrt(s) * (whiten @ p.astype(gram.dtype)), memory, jnp.zeros(())

    return Rule(lambda rows: (), weights)


@linked
def conflict_free() -> Rule:
    """ConFIG: the direction with equal cosine to every row, as long as the sum of the rows' projections on it.

    In unit rows U: direction ``U' (U U')^+ 1``, length ``sum_k <g_k, direction>``.

    Reference:
      Liu, Chu, Thuerey: ConFIG, conflict-free training of physics informed neural networks, ICLR 2025.
    """

    def weights(gram, values, memory, key):
        unit, _ = normalised(gram)
        norm, angles = jnp.sqrt(jnp.diagonal(unit)), cosines(unit)
        inverse, _ = pseudo_inverse(angles)
        toward = inverse @ (norm > 0).astype(gram.dtype)
        direction = divide(toward, jnp.sqrt(jnp.maximum(toward @ angles @ toward, 0.0)))
        length = jnp.sum(norm * (angles @ direction))
        return length * divide(direction, norm), memory, jnp.zeros(())

    return Rule(lambda rows: (), weights)
