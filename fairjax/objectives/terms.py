"""The terms that every objective is made of: ``L_t``, the loss of task t, and ``F_p``, one fairness
notion on one task.

Reductions. ``"batch"`` (default, as in the MTA-F code): sums over rows divided by the number of
rows B of the batch, so that a distance counts in proportion to the rows it looks at, ``(n / B) F``,
and a padded last batch is exact. ``"mean"``: means over the rows that count, as in MinDiff.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.groups import crossed, level_attributes
from fairjax.core.masked import divide
from fairjax.core.types import Array, Dataset, PyTree, Spec
from fairjax.losses import AS_LABELLED, Supervision, against_rest, probabilities, total_loss
from fairjax.notions import Notion, TaskRows, exclusive, for_kind, negatives, positives

REDUCTIONS = ("batch", "mean")
SORTS = (
    "attributes with levels (any distance between groups)",
    "attributes that are numbers (pearson and hsic, with continuous=True)",
)

# one notion for all tasks; or per task one, several that are added up, or None
Notions = Notion | Sequence[Notion | Sequence[Notion] | None]


class Predictions(NamedTuple):
    """Scores and probabilities of a batch, one array ``[B, c]`` per task."""

    scores: tuple[Array, ...]
    probabilities: tuple[Array, ...]


class Penalty(NamedTuple):
    """A notion on one task."""

    task: int
    notion: Notion


class FairnessTerms(NamedTuple):
    """The fairness terms of some penalties, a named pair of pure functions.

    ``init(data) -> memory`` sees the training data.
    ``apply(predictions, batch, memory) -> (values, memory)`` gives one scalar per penalty.
    """

    penalties: tuple[Penalty, ...]
    init: Callable[[Dataset], PyTree]
    apply: Callable[[Predictions, Dataset, PyTree], tuple[list[Array], PyTree]]

    def of_task(self, values: Sequence[Array], task: int) -> Array:
        """``F_t``: the sum of a task's values; 0 for a task without a penalty."""
        own = [v for p, v in zip(self.penalties, values, strict=True) if p.task == task]
        return sum(own, start=jnp.zeros((), jnp.float32))


def predict(spec: Spec, scores: Array) -> Predictions:
    """Predictions of all tasks from the scores ``[B, C]``.

    One split serves all terms. A slice per term would make the gradient a sum of padded matrices,
    one for every term, and a step would grow with the square of the number of tasks.
    """
    ends = np.cumsum([task.score_width for task in spec.tasks])[:-1]
    columns = jax.lax.split(scores, np.diff([0, *ends, scores.shape[1]]).tolist(), axis=1)
    return Predictions(tuple(columns), tuple(probabilities(spec, columns)))


def accuracy_terms(
    spec: Spec,
    predictions: Predictions,
    batch: Dataset,
    reduction: str = "batch",
    supervision: Supervision = AS_LABELLED,
) -> list[Array]:
    """``L_t`` of every task: the weighted supervised loss over the rows whose label is known."""
    _check_reduction(reduction)
    terms = []
    for t, task in enumerate(spec.tasks):
        columns = spec.label_slice(t)
        labels = batch.labels[:, columns]
        mask = batch.label_mask[:, columns]
        total, label_weight = total_loss(
            task, predictions.scores[t], labels, mask, batch.weight, *supervision.of_task(t)
        )
        if reduction == "batch":
            terms.append(total / batch.weight.shape[0])
        else:
            terms.append(divide(total, label_weight))
    return terms


def fairness_terms(
    spec: Spec,
    notion: Notions | Sequence[Penalty],
    *,
    reduction: str = "batch",
    on_exclusive: bool = False,
    batch_size: int = 512,
) -> FairnessTerms:
    """``F_p`` of every penalty, each added up over the notion's attributes.

    Args:
      spec: names tasks and attributes.
      notion: one notion for all tasks; or per task a notion, several notions that are added up, or
        None; or penalties.
      reduction: ``"batch"`` or ``"mean"``, see this module.
      on_exclusive: look at the rows exclusive to each task (``E_t`` of MTA-F) instead of all its
        rows.
      batch_size: rows of a full batch, the scale at which running counts start.

    Raises:
      ValueError: an unknown reduction, a notion that does not fit its task or the sort of its
        attributes, or another number of notions than tasks.
    """
    _check_reduction(reduction)
    penalties = _penalties(spec, notion)
    for penalty in penalties:
        _check(spec, penalty)

    def views(penalty: Penalty, predictions: Predictions, batch: Dataset) -> list[TaskRows]:
        size = batch.weight.shape[0] if reduction == "batch" else None
        return _views(spec, penalty, predictions, batch, size, on_exclusive)

    def init(data: Dataset) -> PyTree:
        rows = data.weight.shape[0]
        widths = [task.score_width for task in spec.tasks]
        unseen = tuple(jnp.zeros((rows, width)) for width in widths)
        predictions = Predictions(unseen, unseen)
        return tuple(
            tuple(
                penalty.notion.init(view, batch_size) for view in views(penalty, predictions, data)
            )
            for penalty in penalties
        )

    def apply(
        predictions: Predictions, batch: Dataset, memory: PyTree
    ) -> tuple[list[Array], PyTree]:
        values = []
        updated = []
        shared: dict[
            tuple[Any, ...], tuple[Array, PyTree]
        ] = {}  # a joint notion is the same for every task
        for penalty, counts in zip(penalties, memory, strict=True):
            notion = penalty.notion
            identity = (id(notion.apply), notion.conditions, tuple(attributes_of(spec, notion)))
            if notion.joint and identity in shared:
                value, counts = shared[identity]
            else:
                rows = views(penalty, predictions, batch)
                value, counts = _add_up(notion, rows, counts)
                shared[identity] = (value, counts)
            values.append(value)
            updated.append(counts)
        return values, tuple(updated)

    return FairnessTerms(penalties, init, apply)


def _add_up(notion: Notion, views: list[TaskRows], memory: PyTree) -> tuple[Array, PyTree]:
    total = jnp.zeros((), jnp.float32)
    updated = []
    for view, counts in zip(views, memory, strict=True):
        value, counts = notion.apply(view, counts)
        total = total + value
        updated.append(counts)
    return total, tuple(updated)


def _views(
    spec: Spec,
    penalty: Penalty,
    predictions: Predictions,
    batch: Dataset,
    batch_size: int | None,
    on_exclusive: bool,
) -> list[TaskRows]:
    """What a penalty looks at: one view per attribute, or one of all attributes crossed."""
    t, notion = penalty
    label, mask = against_rest(spec, t, batch.labels, batch.label_mask)
    prob = predictions.probabilities[t]
    if notion.joint:
        prob = jnp.concatenate(predictions.probabilities, axis=1)
        label, mask = (jnp.zeros_like(prob), jnp.ones_like(prob))
    weights = []
    for condition in notion.conditions:
        if on_exclusive and not notion.joint:
            select = _exclusive_rows(spec, t, condition, label, mask, batch)
        else:
            select = condition(label, mask)
        weight = batch.weight[:, None] * select
        weights.append(jnp.broadcast_to(weight, prob.shape))
    kind = spec.tasks[t].kind
    if notion.crossed:
        attributes = level_attributes(spec, notion.attributes)
        blocks = [crossed(spec, batch.groups, attributes)]
    else:
        blocks = [batch.groups[:, spec.group_slice(a)] for a in attributes_of(spec, notion)]
    return [TaskRows(prob, label, block, tuple(weights), kind, batch_size) for block in blocks]


def _exclusive_rows(
    spec: Spec, t: int, condition, label: Array, mask: Array, batch: Dataset
) -> Array:
    """Rows exclusive to a task ``[B, 1]``; a task that is not binary has none, unless it is the
    only task.
    """
    if len(spec.tasks) == 1:
        return condition(label, mask)
    binary = [i for i, task in enumerate(spec.tasks) if task.kind == "binary"]
    if t not in binary:
        return jnp.zeros_like(mask)
    columns = np.array([spec.label_slice(i).start for i in binary])
    labels = batch.labels[:, columns]
    masks = batch.label_mask[:, columns]
    return exclusive(condition, labels, masks, binary.index(t))[:, None]


def _penalties(spec: Spec, notion: Notions | Sequence[Penalty]) -> tuple[Penalty, ...]:
    if isinstance(notion, Notion):
        return tuple(Penalty(t, notion) for t in range(len(spec.tasks)))
    entries: list[Any] = list(notion)
    if all(isinstance(entry, Penalty) for entry in entries):
        return tuple(entries)
    if len(entries) != len(spec.tasks):
        raise ValueError(
            f"{len(entries)} notions for {len(spec.tasks)} tasks; give one for all, or one (or "
            "None) per task"
        )
    penalties = []
    for t, entry in enumerate(entries):
        if entry is None:
            continue
        notions = [entry] if isinstance(entry, Notion) else entry
        penalties += [Penalty(t, n) for n in notions]
    return tuple(penalties)


def attributes_of(spec: Spec, notion: Notion) -> list[int]:
    """Which of the spec's attributes a notion looks at."""
    if notion.attributes is not None:
        return list(notion.attributes)
    return [i for i, a in enumerate(spec.attributes) if a.continuous == notion.continuous]


def _check(spec: Spec, penalty: Penalty) -> None:
    """Refuse a notion for a kind of task, or a sort of attribute, that it is not for."""
    task = spec.tasks[penalty.task]
    notion = penalty.notion
    if not notion.joint:
        _check_kind(task, notion)
    if notion.crossed:
        level_attributes(spec, notion.attributes)
        return
    attributes = attributes_of(spec, notion)
    wrong = [a for a in attributes if spec.attributes[a].continuous != notion.continuous]
    if wrong or not attributes:
        reason = (
            f"attribute {spec.attributes[wrong[0]].name!r} is none"
            if wrong
            else f"there is none among {len(spec.attributes)} attributes"
        )
        raise ValueError(
            f"task {task.name!r} has a notion for {SORTS[notion.continuous]}, but {reason}. Give "
            "one for "
            f"{SORTS[not notion.continuous]}"
        )


def _check_kind(task, notion: Notion) -> None:
    labelled = [c.__name__ for c in notion.conditions if c in (negatives, positives)]
    if task.kind in notion.kinds and not (labelled and task.kind == "regression"):
        return
    if task.kind not in notion.kinds:
        reason = f"a notion for {', '.join(notion.kinds)} tasks"
    else:
        reason = f"a notion on {' and '.join(labelled)}"
    raise ValueError(
        f"task {task.name!r} is of kind {task.kind}, but has {reason}. For this kind there are "
        f"{', '.join(for_kind(task.kind))} (fairjax.notions.get), and any distance on everyone"
    )


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'batch' or 'mean', got {reduction!r}")
