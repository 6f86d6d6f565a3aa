"""Gaps of decisions over the last batches: less noise than in one batch."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.decisions import decisions
from fairjax.core.masked import divide
from fairjax.core.types import Array, Dataset, PyTree, Spec
from fairjax.objectives.terms import FairnessTerms, Predictions, predict

AT_HALF = 0.0  # the score of probability one half
# Notions of the rates of decisions. Others look at how probabilities are distributed, at pairs of
# rows, or count over batches themselves.
BY_RATES = (
    "rate_gap",
    "demographic_parity",
    "equal_opportunity",
    "predictive_equality",
    "equalized_odds",
    "predictive_parity",
    "accuracy_parity",
    "treatment_equality",
    "f_score_parity",
)


class Recent(NamedTuple):
    """Memory of :func:`over_recent_batches`."""

    counts: PyTree  # of the terms themselves
    rows: Dataset  # [M * B, ...], the last one first; x: scores; weight 0: not yet seen


def over_recent_batches(
    terms: FairnessTerms, spec: Spec, batches: int, batch_size: int
) -> FairnessTerms:
    """Gaps of decisions in a batch and in the ``batches`` before it, as they were decided then.

    For notions of rates (:data:`BY_RATES`); where one is none of them, all terms stay as they are.

    The value is that of decisions at one half, the slope that of probabilities (straight through):
    a gap of probabilities can be 0 where decisions differ much. A gap of few rows is above the gap
    of all rows, and its gradient has much noise: hence the memory. The gradient flows through the
    batch alone, and is multiplied by the number of batches, so that a group's mean has the same
    gradient as without a memory, on average.

    Args:
      terms: in units that do not depend on the number of rows (reduction ``"mean"``).
      spec: names tasks.
      batches: M, remembered; fewer where an epoch has no more, none where a batch has all rows.
      batch_size: B, rows of every batch.
    """
    if not all(penalty.notion.name in BY_RATES for penalty in terms.penalties):
        return terms

    def init(data: Dataset) -> PyTree:
        epoch = -(-data.weight.shape[0] // batch_size)
        rows = min(batches, epoch - 1) * batch_size
        width = sum(task.score_width for task in spec.tasks)
        scored = data._replace(x=jnp.zeros((1, width)))

        def no_rows(leaf: Array) -> Array:
            return jnp.zeros((rows, *leaf.shape[1:]), jnp.float32)

        return Recent(terms.init(data), jax.tree.map(no_rows, scored))

    def apply(
        predictions: Predictions, batch: Dataset, memory: PyTree
    ) -> tuple[list[Array], PyTree]:
        past = memory.rows
        scores = jnp.concatenate(predictions.scores, axis=1)
        share = divide(_row_count(past), _row_count(batch))
        amplified = scale_gradient(scores, 1.0 + share)
        rows = _joined(batch._replace(x=amplified), past)
        recent = predict(spec, rows.x)
        of_tasks = zip(spec.tasks, *recent, strict=True)
        decided = tuple(
            with_slope_of(decisions(task, score, AT_HALF), prob) for task, score, prob in of_tasks
        )
        values, counts = terms.apply(Predictions(recent.scores, decided), rows, memory.counts)
        kept = jax.tree.map(lambda leaf: leaf[: len(past.weight)], rows)
        kept = jax.lax.stop_gradient(kept)
        return values, Recent(counts, kept)

    return FairnessTerms(terms.penalties, init, apply)


def scale_gradient(values: Array, factor: Array) -> Array:
    """The values themselves, whose gradient is multiplied by a factor."""
    constant = jax.lax.stop_gradient(values)
    return constant + factor * (values - constant)


def with_slope_of(values: Array, slope: Array) -> Array:
    """Values that have the gradient of others alone: the straight-through estimator."""
    return slope + jax.lax.stop_gradient(values - slope)


def _row_count(rows: Dataset) -> Array:
    return jnp.sum(rows.weight > 0)


def _joined(now: Dataset, past: Dataset) -> Dataset:
    return jax.tree.map(lambda new, old: jnp.concatenate([new, old]), now, past)
