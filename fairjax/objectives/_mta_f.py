"""The two rows of MTA-F: what the trunk descends and what the heads descend."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, Spec
from fairjax.objectives.rows import Notions, Terms, objective


def mta_f_rows(
    loss: Sequence[Array],
    fairness: Sequence[Array],
    exclusive: Sequence[Array],
    weight: Array,
    lam: Array,
    r: Array,
    scale_trunk: bool = True,
) -> tuple[Array, Array]:
    """The two rows of MTA-F from per-task losses: what the trunk descends and what the heads descend.

    ``trunk = sum_t w_t (L_t + lam_t (F_t - r_t E_t))`` and ``heads = sum_t w_t (L_t + lam_t r_t E_t)``.

    Args:
      loss: accuracy losses ``L_t``, T scalars.
      fairness: ``F_t`` on each task's own rows.
      exclusive: ``E_t`` on the rows exclusive to each task.
      weight: ``w[T]``, lam: ``[T]``, r: head-to-shared ratio ``[T]``.
      scale_trunk: subtract ``r_t E_t`` (the code of the paper) or ``E_t`` (Eq. 10 of the paper) from the trunk.

    Returns:
      ``(trunk, heads)``.

    Reference:
      Wang, Wang, Beutel, Prost, Chen, Chi: Understanding and improving fairness-accuracy trade-offs in multi-task
      learning, KDD 2021, Algorithm 1 and Eqs. 9 to 11.
    """
    trunk = heads = jnp.zeros(())
    for t, (l_t, f_t, e_t) in enumerate(zip(loss, fairness, exclusive, strict=True)):
        moved = r[t] * e_t
        trunk = trunk + weight[t] * (l_t + lam[t] * (f_t - (moved if scale_trunk else e_t)))
        heads = heads + weight[t] * (l_t + lam[t] * moved)
    return trunk, heads


def mta_f(
    model: Model,
    spec: Spec,
    *,
    notion: Notions,
    weight: Array,
    lam: Array,
    r: Array,
    scale_trunk: bool = True,
    reduction: str = "batch",
) -> Objective:
    """MTA-F as an objective with the rows ``trunk`` and ``heads``; see :func:`mta_f_rows`.

    Equal opportunity by false positives is a notion on ``negatives``, by true positives on ``positives``, equalized odds
    on both. Rows without demographics count for accuracy alone.
    """

    def values(scores: Array, batch: Dataset) -> tuple[Array, Array]:
        terms = Terms(spec, scores, batch, notion, reduction)
        tasks = range(len(spec.tasks))
        return mta_f_rows(
            [terms.accuracy(t) for t in tasks],
            [terms.fairness(t) for t in tasks],
            [terms.exclusive(t) for t in tasks],
            weight,
            lam,
            r,
            scale_trunk,
        )

    return objective(model, ("trunk", "heads"), values)
