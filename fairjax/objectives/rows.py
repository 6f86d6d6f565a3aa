"""Objectives: named rows of losses, built from the terms of :mod:`fairjax.objectives.terms`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.models import scores as model_scores
from fairjax.objectives.terms import Notions, Penalty, accuracy_terms, fairness_terms, predict


def objective(
    model: Model,
    rows: Sequence[str],
    values: Callable[[Array, Dataset], Sequence[Array]],
) -> Objective:
    """An objective without memory.

    Args:
      model: scores the batch.
      rows: names of the K losses.
      values: ``(scores[B, C], batch) -> K scalars``.
    """

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: PyTree,
    ) -> tuple[tuple[Array, ...], PyTree]:
        scores = model_scores(model, params, batch.x, key)
        return tuple(values(scores, batch)), memory

    return Objective(tuple(rows), lambda key, data: (), apply)


def per_task(
    model: Model,
    spec: Spec,
    *,
    notion: Notions | Sequence[Penalty] | None = None,
    lam: Array | None = None,
    weight: Array | Sequence[float] | None = None,
    split: bool = False,
    reduction: str = "batch",
    batch_size: int = 512,
    supervision: Supervision = AS_LABELLED,
) -> Objective:
    """One row per task: ``w_t (L_t + lam_t F_t)``, or ``w_t L_t`` alone without a notion.

    Args:
      model: scores the batch.
      spec: names tasks and attributes.
      notion: the fairness notion, see :func:`fairjax.objectives.fairness_terms`; None leaves
        fairness out.
      lam: ``[T]``, needed with a notion.
      weight: ``[T]``; default 1.
      split: accuracy and fairness in rows of their own: ``w_t L_t`` of all tasks, then
        ``w_t lam_t F_t`` of all tasks.
      reduction: see :mod:`fairjax.objectives.terms`.
      batch_size: rows of a full batch, for notions that count over minibatches.
      supervision: smoothing and class weights of ``L_t``.

    Returns:
      An objective with T rows named after the tasks, or with 2T rows, the second half named
      ``fairness of TASK``.

    Raises:
      ValueError: ``split`` without a notion.
    """
    if split and notion is None:
        raise ValueError("per_task: split=True needs a notion, whose terms are the second rows")
    tasks = range(len(spec.tasks))
    names = [task.name for task in spec.tasks]
    if weight is None:
        weight = [1.0] * len(names)
    penalties = () if notion is None else notion
    fairness = fairness_terms(spec, penalties, reduction=reduction, batch_size=batch_size)

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: PyTree,
    ) -> tuple[tuple[Array, ...], PyTree]:
        scores = model_scores(model, params, batch.x, key)
        predictions = predict(spec, scores)
        accuracy = accuracy_terms(spec, predictions, batch, reduction, supervision)
        losses = [weight[t] * accuracy[t] for t in tasks]
        if notion is None:
            return tuple(losses), memory
        values, memory = fairness.apply(predictions, batch, memory)
        gaps = [weight[t] * lam[t] * fairness.of_task(values, t) for t in tasks]
        if split:
            return (*losses, *gaps), memory
        sums = [loss + gap for loss, gap in zip(losses, gaps, strict=True)]
        return tuple(sums), memory

    rows = names
    if split:
        rows = names + [f"fairness of {name}" for name in names]
    return Objective(tuple(rows), lambda key, data: fairness.init(data), apply)


def weighted(inner: Objective, weight: Array) -> Objective:
    """One row, ``sum_k weight_k v_k``: the cheap form of an aggregator with fixed weights."""

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: PyTree,
    ) -> tuple[tuple[Array, ...], PyTree]:
        values, memory = inner.apply(params, batch, key, memory)
        parts: list[Array] = [weight[k] * value for k, value in enumerate(values)]
        total = sum(parts[1:], parts[0])
        return (total,), memory

    return Objective(("total",), inner.init, apply)
