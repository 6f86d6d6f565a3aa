"""The two rows of MTA-F: what the trunk descends and what the heads descend."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.models import scores as model_scores
from fairjax.objectives.terms import Notions, accuracy_terms, fairness_terms, predict


def mta_f_rows(
    loss: Array | Sequence[Array],
    fairness: Array | Sequence[Array],
    exclusive: Array | Sequence[Array],
    weight: Array,
    lam: Array,
    r: Array,
    scale_trunk: bool = True,
) -> tuple[Array, Array]:
    """The two rows of MTA-F from per-task losses: what the trunk descends and what the heads
    descend.

    ``trunk = sum_t w_t (L_t + lam_t (F_t - r_t E_t))`` and ``heads = sum_t w_t (L_t + lam_t r_t
    E_t)``.

    Args:
      loss: accuracy losses ``L_t``, T scalars.
      fairness: ``F_t`` on each task's own rows.
      exclusive: ``E_t`` on the rows exclusive to each task.
      weight: ``w[T]``, lam: ``[T]``, r: head-to-shared ratio ``[T]``.
      scale_trunk: subtract ``r_t E_t`` (the code of the paper) or ``E_t`` (Eq. 10 of the paper)
        from the trunk.

    Returns:
      ``(trunk, heads)``.

    Reference:
      Wang, Wang, Beutel, Prost, Chen, Chi: Understanding and improving fairness-accuracy trade-offs
      in multi-task learning, KDD 2021, Algorithm 1 and Eqs. 9 to 11.
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
    batch_size: int = 512,
    supervision: Supervision = AS_LABELLED,
) -> Objective:
    """MTA-F as an objective with the rows ``trunk`` and ``heads``; see :func:`mta_f_rows`.

    Equal opportunity by false positives is a notion on ``negatives``, by true positives on
    ``positives``, equalized odds on both. Rows without demographics count for accuracy alone.
    """
    tasks = range(len(spec.tasks))
    options = {"reduction": reduction, "batch_size": batch_size}
    on_own = fairness_terms(spec, notion, **options)
    on_exclusive = fairness_terms(spec, notion, on_exclusive=True, **options)

    def init(key: Array, data: Dataset) -> PyTree:
        del key
        return on_own.init(data), on_exclusive.init(data)

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, Array], PyTree]:
        predictions = predict(spec, model_scores(model, params, batch.x, key))
        loss = accuracy_terms(spec, predictions, batch, reduction, supervision)
        own_values, own_memory = on_own.apply(predictions, batch, memory[0])
        exclusive_values, exclusive_memory = on_exclusive.apply(predictions, batch, memory[1])
        fairness = [on_own.of_task(own_values, t) for t in tasks]
        exclusive = [on_exclusive.of_task(exclusive_values, t) for t in tasks]
        rows = mta_f_rows(loss, fairness, exclusive, weight, lam, r, scale_trunk)
        return rows, (own_memory, exclusive_memory)

    return Objective(("trunk", "heads"), init, apply)
