"""From scores to decisions, of tasks of any kind. Scores are logits: 0 is probability one half."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.types import Array, Task


def choose(scores: Array) -> Array:
    """Index of the largest of the class scores ``[N, C]``.

    The first index in a tie; NaN where a score of the row is NaN.
    """
    unknown = jnp.any(jnp.isnan(scores), axis=-1)
    best = jnp.argmax(scores, axis=-1)
    return jnp.where(unknown, jnp.nan, best.astype(jnp.float32))


def chosen(scores: Array) -> Array:
    """:func:`choose` as one-hot columns ``[N, C]``; a row of NaN where a score is NaN."""
    choice = choose(scores)[:, None]
    classes = jnp.arange(scores.shape[1])[None]
    one_hot = choice == classes
    unknown = jnp.isnan(choice)
    decision = jnp.where(unknown, jnp.nan, one_hot)
    return decision.astype(jnp.float32)


def decide(score: Array, threshold: Array | float) -> Array:
    """``1[score >= threshold]`` as float32; NaN where the score or the threshold is NaN."""
    unknown = jnp.isnan(score) | jnp.isnan(threshold)
    selected = score >= threshold
    return jnp.where(unknown, jnp.nan, selected.astype(jnp.float32))


def decisions(task: Task, scores: Array, threshold: Array | float) -> Array:
    """Decisions ``[N, c]`` of a task of any kind; predictions of a regression are what they are.

    Args:
      task: names the kind.
      scores: the task's columns ``[N, c]``.
      threshold: on the score of a binary task. Labels are decided at one half, classes are chosen.
    """
    if task.kind == "regression":
        return scores.astype(jnp.float32)
    if task.kind == "multiclass":
        return chosen(scores)
    if task.kind == "multilabel":
        threshold = jnp.zeros(())
    return decide(scores, threshold)
