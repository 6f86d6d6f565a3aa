"""Repair of a model's own scores, by its probabilities and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from fairjax.core.groups import crossed, level_attributes
from fairjax.core.masked import check_membership
from fairjax.core.types import Array, Post, Spec, Task
from fairjax.losses import probabilities
from fairjax.postprocess.scales import SMALLEST_PROBABILITY, logit


def on_scores(
    post: Post, spec: Spec, attributes: Sequence[int] | None = None, cross: bool = False
) -> Post:
    """A repair of probabilities and predictions as a repair of a model's scores ``[N, C]``.

    Probabilities are repaired and turned back to log-odds, predictions are repaired in the units of
    their column. Of several classes each one's probability is repaired against all others and
    softmax makes them add up to 1 again, so that for classes parity is no longer exact.

    Args:
      post: sees columns ``[N, C]`` and membership in the attributes, and no labels.
      spec: of the model.
      attributes: indices of the attributes; all attributes with levels by default.
      cross: show ``post`` membership in the crossed groups; otherwise the blocks of the attributes
        side by side.

    Raises:
      DataError: there is no attribute with levels, or one of ``attributes`` is a number.
      ValueError: ``post`` is labelled.
    """
    if post.labelled:
        raise ValueError(
            f"{post.name} decides at score 0 and not at probability 0; give it to on_decisions"
        )
    chosen = level_attributes(spec, attributes)
    blocks = [spec.group_slice(a) for a in chosen]

    def values_of(scores: Array) -> Array:
        columns = []
        for task, prob in zip(spec.tasks, probabilities(spec, scores), strict=True):
            columns.append(task.in_units(prob))
        return jnp.concatenate(columns, axis=1)

    def scores_of(value: Array) -> Array:
        columns = []
        for i, task in enumerate(spec.tasks):
            task_value = value[:, spec.score_slice(i)]
            columns.append(_score_of(task, task_value))
        return jnp.concatenate(columns, axis=1)

    def membership_of(groups: Array, rows: Array) -> Array:
        check_membership(groups, rows)
        if cross:
            return crossed(spec, groups, chosen)
        return jnp.concatenate([groups[:, block] for block in blocks], axis=1)

    def fit(scores: Array, groups: Array, weight: Array):
        value = values_of(scores)
        membership = membership_of(groups, scores)
        return post.fit(value, membership, weight)

    def apply(state, scores: Array, groups: Array, **options: Any) -> Array:
        value = values_of(scores)
        membership = membership_of(groups, scores)
        repaired = post.apply(state, value, membership, **options)
        return scores_of(repaired)

    return Post(fit, apply)


def _score_of(task: Task, value: Array) -> Array:
    """Scores of a task from its probabilities, or from predictions in the units of its column."""
    if task.kind == "regression":
        return task.standardised(value)
    if task.kind == "multiclass":
        prob = jnp.maximum(value, SMALLEST_PROBABILITY)
        return jnp.log(prob)
    return logit.forward(value)
