"""Folds of a pool, and repair of the pool's own rows by the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, Post


def assign_folds(cell: Array, rank: Array, folds: int) -> Array:
    """Fold of every row, ``[N]`` in ``0 .. folds - 1``; each cell is spread evenly over the folds.

    Rows are ordered by cell, then by rank, and get the folds in turn.

    Args:
      cell: ``[N]``; one value for all rows gives folds of equal size that ignore the groups.
      rank: a random permutation ``[N]``, numpy on the host or jax in a trace.
      folds: their number.
    """
    xp = np if isinstance(rank, np.ndarray) else jnp
    order = xp.lexsort((rank, cell))
    turn = xp.argsort(order)
    return (turn % folds).astype(xp.int32)


def cross_fitted(
    post: Post,
    scores: Array,
    groups: Array,
    weight: Array,
    fold: Array,
    folds: int,
    labels: Sequence[Array] = (),
    **options: Any,
) -> Array:
    """The pool's own rows ``[N, C]`` repaired, each row by a fit on the rows of the other folds.

    After a repair that was fitted on the same rows the groups' distributions agree by construction,
    which proves nothing: the Kolmogorov-Smirnov distance of Gaussian scores is .017 in a pool of
    200 rows and .146 on new rows.

    Args:
      post: the repair.
      scores: ``[N, C]``.
      groups: ``[N, G]``.
      weight: ``[N]``.
      fold: ``[N]`` in ``0 .. folds - 1``, see :func:`assign_folds`.
      folds: at least 2.
      labels: ``[N, Y]`` and their mask, for a labelled repair.
      options: key and amount, for ``apply``.
    """

    def repaired_without(k: Array) -> Array:
        is_fitted = fold != k
        state = post.fit(scores, groups, weight * is_fitted, *labels)
        return post.apply(state, scores, groups, **options)

    repaired_knc = jax.vmap(repaired_without)(jnp.arange(folds))
    fold_1n1 = fold[None, :, None]
    own_fold = jnp.take_along_axis(repaired_knc, fold_1n1, axis=0)
    return own_fold[0]
