"""Aligned-MTL: orthogonal rows of one length."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import normalised
from fairjax.gradients.solve import pseudo_inverse
from fairjax.gradients.task_space import Rule, no_memory, with_rule

SCALES = ("min", "median", "rmse")


def aligned_mtl_rule(*, preference: ArrayLike | None = None, scale: str = "min") -> Rule:
    """The rule of :func:`aligned_mtl`."""
    if scale not in SCALES:
        raise ValueError(f"scale must be 'min', 'median' or 'rmse', got {scale!r}")

    def weights(gram, values, memory, key):
        rows = gram.shape[0]
        unit, _ = normalised(gram)
        if preference is None:
            p = jnp.full(rows, 1.0 / rows)
        else:
            p = jnp.asarray(preference)
        whiten, eigenvalues = pseudo_inverse(unit, -0.5)
        length = jnp.sqrt(_squared_length(eigenvalues, scale))
        w = length * (whiten @ p.astype(gram.dtype))
        return w, memory, jnp.zeros(())

    return Rule(no_memory, weights)


def _squared_length(eigenvalues: Array, scale: str) -> Array:
    """The least, median or mean eigenvalue that is not zero; they ascend, zeros first."""
    count = eigenvalues.shape[0]
    rank = jnp.sum(eigenvalues > 0)
    if scale == "rmse":
        return divide(jnp.sum(eigenvalues), rank.astype(eigenvalues.dtype))
    if scale == "min":
        index = count - rank
    else:
        index = count - 1 - rank // 2
    index = jnp.minimum(index, count - 1)  # where the rank is 0
    return eigenvalues[index]


@with_rule(aligned_mtl_rule)
def aligned_mtl(
    rows: int,
    *,
    preference: ArrayLike | None = None,
    scale: str = "min",
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Aligned-MTL: rows are rotated and scaled to be orthogonal and of one length, then averaged.

    ``w = s V l^{-1/2} V' p`` with the eigenvectors V and the eigenvalues l of G that are not zero.
    In float32 the weights lose half their digits where rows are nearly dependent, because G squares
    the rows.

    Args:
      rows: K, the number of losses.
      preference: p, ``[K]``. Default: ``1 / K`` each.
      scale: the common length s is the square root of the ``"min"``, the ``"median"`` or the mean
        (``"rmse"``) of the eigenvalues that are not zero.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Raises:
      ValueError: for an unknown ``scale``.

    Reference:
      Senushkin, Patakin, Kuznetsov, Konushin: Independent component alignment for multi-task
      learning, CVPR 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.aligned_mtl(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.213 0.967 0.967] [0.559 0.408]
    """
    rule = aligned_mtl_rule(preference=preference, scale=scale)
    return link(rule, rows, per=per, measure=measure)
