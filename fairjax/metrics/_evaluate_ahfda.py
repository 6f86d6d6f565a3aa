"""AHFDA of decisions: how far the worst group's risk lies above the reference, per task."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from fairjax.core.decisions import decisions
from fairjax.core.groups import level_attributes
from fairjax.core.keys import Metric
from fairjax.core.types import Array, Dataset, Spec
from fairjax.notions import GroupSums, Statistic, ahfda, directional_violations
from fairjax.objectives import Penalty, Predictions, fairness_terms


def evaluate_ahfda(
    spec: Spec,
    scores: Array,
    data: Dataset,
    thresholds: Array,
    *,
    risk: str | Statistic = "default",
    reference: str | Array | float = "best",
    tolerance: Array | float = 0.0,
    min_count: Array | float = 1.0,
    attributes: Sequence[int] | None = None,
    favorable: int | None = None,
) -> dict[Metric, Array]:
    """The largest directional violation of decisions of every task that the risk is for.

    ``max_{u, g} max(0, r_ug - reference_u - tolerance)``, with risks of decisions where
    :func:`fairjax.notions.ahfda` has those of probabilities, and over all rows at once. Of a binary
    task, with the default risk and reference, it is the equalized odds difference between the
    crossed groups. The squared error of a regression is divided by the variance of the labels that
    are measured.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits, or predictions for regression.
      data: the rows of the scores; a row counts where its label and all crossed attributes are
        known.
      thresholds: ``[T]`` on the scores of binary tasks, anything for other tasks.
      risk: as in :func:`fairjax.notions.ahfda`; so are the other options.
      reference: the best group, all groups, or a bound.
      tolerance: how far above the reference a risk may lie.
      min_count: weight of the rows that a group's risk rests on.
      attributes: which attributes are crossed; by default all that have levels.
      favorable: direction of ``risk="parity"``.

    Returns:
      Scalars under ``ahfda_violation``, by task, of the attributes ``sex & race``. NaN where
      nothing can be compared: fewer than two groups, or none where the reference is a number.
    """
    crossed_attributes = tuple(level_attributes(spec, attributes))
    # rho = 1: the running sums are those of these rows
    notion = ahfda(
        risk,
        reference,
        tolerance,
        rho=1.0,
        min_count=min_count,
        attributes=crossed_attributes,
        favorable=favorable,
    )
    tasks = [t for t, task in enumerate(spec.tasks) if task.kind in notion.kinds]
    decided = [
        decisions(task, scores[:, spec.score_slice(t)], thresholds[t])
        for t, task in enumerate(spec.tasks)
    ]
    predictions = Predictions((), tuple(decided))
    terms = fairness_terms(spec, [Penalty(t, notion) for t in tasks])
    _, memory = terms.apply(predictions, data, terms.init(data))
    names = [spec.attributes[a].name for a in crossed_attributes]
    fewest = 2 if isinstance(reference, str) else 1
    out = {}
    for t, (sums,) in zip(tasks, memory, strict=True):
        key = Metric("ahfda_violation", spec.tasks[t].name, attribute=" & ".join(names))
        comparable = _comparable(sums, min_count, fewest)
        out[key] = jnp.where(comparable, notion.violation(sums), jnp.nan)
    return out


def _comparable(sums: GroupSums, min_count: Array | float, fewest: int) -> Array:
    """Whether so many groups have a risk in some unit."""
    _, valid_ug = directional_violations(sums, min_count=min_count)
    return jnp.any(jnp.sum(valid_ug, axis=1) >= fewest)
