"""Repair of a model's binary decisions, by the scores of its binary tasks and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fairjax.core.groups import crossed, level_attributes
from fairjax.core.masked import check_membership
from fairjax.core.types import Array, DataError, Post, Spec

DECIDED = ("binary", "multilabel")  # kinds of tasks


def on_decisions(post: Post, spec: Spec, attributes: Sequence[int] | None = None) -> Post:
    """A repair of scores that decide at 0 as a repair of a model's scores ``[N, C]``.

    Scores of regressions and of several classes stay as they are.

    Args:
      post: labelled; sees the columns of binary tasks and of labels, in scores and labels alike,
        and membership in the crossed groups of the attributes.
      spec: of the model.
      attributes: indices of the attributes; all attributes with levels by default.

    Raises:
      DataError: no task is binary or of labels, there is no attribute with levels, or one of
        ``attributes`` is a number.
    """
    chosen = level_attributes(spec, attributes)
    score_columns = []
    label_columns = []
    for i, task in enumerate(spec.tasks):
        if task.kind in DECIDED:
            score_columns.append(np.r_[spec.score_slice(i)])
            label_columns.append(np.r_[spec.label_slice(i)])
    if not score_columns:
        kinds = ", ".join(f"{task.name} is {task.kind}" for task in spec.tasks)
        raise DataError(
            f"{post.name}: none of {len(spec.tasks)} tasks decides yes or no ({kinds}). Name a "
            "binary task, or take --postprocess barycenter."
        )
    decided = np.concatenate(score_columns)
    labelled = np.concatenate(label_columns)

    def membership_of(groups: Array, rows: Array) -> Array:
        check_membership(groups, rows)
        return crossed(spec, groups, chosen)

    def fit(scores: Array, groups: Array, weight: Array, labels: Array, label_mask: Array):
        membership = membership_of(groups, scores)
        known = label_mask[:, labelled]
        return post.fit(scores[:, decided], membership, weight, labels[:, labelled], known)

    def apply(state, scores: Array, groups: Array, **options: Any) -> Array:
        membership = membership_of(groups, scores)
        repaired = post.apply(state, scores[:, decided], membership, **options)
        return jnp.asarray(scores).at[:, decided].set(repaired)

    return Post(fit, apply, post.name, labelled=True)
