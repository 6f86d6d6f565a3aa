"""Fairness of all tasks together: what the tuple of predictions says about the group, where each task alone says nothing."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import probabilities


def jointly_fair(
    inner: Objective,
    model: Model,
    spec: Spec,
    distance: Callable[..., Array],
    lam: Array | float,
    *,
    attributes: tuple[int, ...] | None = None,
    reduction: str = "batch",
) -> Objective:
    """An objective with one more row, ``lam`` times a distance between groups of the predictions of all tasks at once.

    Every row of the batch is a point: its probabilities of binary tasks, classes and labels, and standardised predictions of
    regressions, side by side. Everyone counts whose demographics are known, with or without labels.

    Args:
      inner: the objective of the other rows.
      model: as of ``inner``; it scores the batch.
      spec: names tasks and attributes.
      distance: ``(prob[B, C], groups[B, G], weight[B]) -> scalar``: :func:`fairjax.notions.sliced`, ``sinkhorn`` or
        ``projected``.
      lam: what it counts; may be traced.
      attributes: over which to add up; all that have levels by default.
      reduction: ``"batch"`` multiplies by the share of the batch that counts, ``"mean"`` does not; as in
        :mod:`fairjax.objectives.rows`.

    Returns:
      An objective whose last row is ``joint fairness``.

    Raises:
      ValueError: for another reduction, or without an attribute that has levels.
    """
    if reduction not in ("batch", "mean"):
        raise ValueError(f"reduction must be 'batch' or 'mean', got {reduction!r}")
    chosen = (
        [i for i, a in enumerate(spec.attributes) if not a.continuous]
        if attributes is None
        else list(attributes)
    )
    if not chosen or any(spec.attributes[a].continuous for a in chosen):
        raise ValueError(
            "a joint distance is between groups: give it attributes with levels (a rule such as 'age > 25' makes "
            "them of a number)"
        )

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        values, memory = inner.apply(params, batch, key, memory)
        scores = model.predict(
            params["heads"], model.represent(params["trunk"], batch.x)
        )  # the same, for XLA, as inside
        prob, total = jnp.concatenate(probabilities(spec, scores), axis=1), jnp.zeros(())
        for a in chosen:
            groups = batch.groups[:, spec.group_slice(a)]
            share = (
                jnp.sum(batch.weight @ groups) / len(batch.weight) if reduction == "batch" else 1.0
            )
            total = total + share * distance(prob, groups, batch.weight)
        return (*values, lam * total), memory

    return Objective((*inner.rows, "joint fairness"), inner.init, apply)
