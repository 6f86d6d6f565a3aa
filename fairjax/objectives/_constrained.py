"""Accuracy losses, and fairness terms as constraints: rows of their own, and violations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.models import scores as model_scores
from fairjax.notions import smooth_maximum
from fairjax.objectives._recent import over_recent_batches
from fairjax.objectives.terms import (
    FairnessTerms,
    Notions,
    Penalty,
    accuracy_terms,
    fairness_terms,
    predict,
)

TOGETHER = ("one", "each")


class Constrained(NamedTuple):
    """Memory of :func:`constrained`."""

    fairness: PyTree  # of the fairness terms
    protected: PyTree  # of the protected notion's terms
    violation: Array  # [J], hard, of every constraint; NaN before the first measurement
    age: Array  # [], steps that have read the violation since it was measured
    loss: Array  # [], of the rows that were measured; NaN where no event measures


def constrained(
    model: Model,
    spec: Spec,
    *,
    notion: Notions | Sequence[Penalty],
    together: str = "one",
    temperature: Array | float = 0.1,
    weight: Array | Sequence[float] | None = None,
    protected: Notions | Sequence[Penalty] | None = None,
    running: bool = True,
    recent: int = 0,
    reduction: str = "batch",
    batch_size: int = 512,
    supervision: Supervision = AS_LABELLED,
) -> Objective:
    """Rows ``w_t L_t`` of all tasks, then J rows of constraints, for a ``multiplier``.

    Between them stand rows of the ``protected`` notion, one per task that has it: losses that no
    step should raise, such as the risk of the groups that are served best.

    Together, J = 1: ``C = tau log mean_t exp(F_t / tau)`` over the tasks that have a notion, and
    labels in the batch. It lies between the mean and the largest ``F_t``, and is 0 where all are.
    Each, J is the number of tasks that have a notion, and their rows are ``F_t``.

    ``F_t`` is in units of its gap, whatever share of the rows it is about (reduction ``"mean"``).

    Rows are soft, and what is trained. The violation is hard, and what a multiplier follows. Where
    every notion measures its own from its memory (``Notion.violation``) each step writes it: of a
    task the largest over its notions and attributes, together the largest of all tasks. Otherwise
    it stays as it is, and an event writes it: see ``fairjax.methods.constrained``. A multiplier
    follows each measurement once, see :func:`new_violation`.

    Args:
      model: scores the batch.
      spec: names tasks and attributes.
      notion: see :func:`fairjax.objectives.fairness_terms`.
      together: ``"one"`` constraint, or one for ``"each"`` task.
      temperature: tau, in units of ``F_t``.
      weight: ``w[T]`` of the accuracy losses; default 1.
      protected: a notion for more losses; default none.
      running: whether steps write violations, of notions that have them; otherwise an event does.
      recent: batches that are remembered, so that the row of a notion of rates is a gap of
        decisions with less noise, see :func:`over_recent_batches`.
      reduction: of the accuracy losses, see :mod:`fairjax.objectives.terms`.
      batch_size: rows of a full batch, for notions that count over minibatches.
      supervision: smoothing and class weights of ``L_t``.

    Returns:
      An objective whose memory is :class:`Constrained`. Its rows are named after the tasks, then
      ``protected on TASK``, then ``constraint``, or ``constraint on TASK``.

    Raises:
      ValueError: another ``together``, or no task has a notion.
    """
    fairness = fairness_terms(spec, notion, reduction="mean", batch_size=batch_size)
    if recent:
        fairness = over_recent_batches(fairness, spec, recent, batch_size)
    tasks = constrained_tasks(fairness.penalties, together)
    others = fairness_terms(spec, protected or (), reduction=reduction, batch_size=batch_size)
    shielded = tuple(sorted({penalty.task for penalty in others.penalties}))
    if weight is None:
        weight = [1.0] * len(spec.tasks)
    measures = running and measures_itself(fairness.penalties)

    def init(key: Array, data: Dataset) -> Constrained:
        del key
        unknown = jnp.full(constraint_count(tasks, together), jnp.nan, jnp.float32)
        age = jnp.zeros((), jnp.int32)
        loss = jnp.array(jnp.nan, jnp.float32)
        return Constrained(fairness.init(data), others.init(data), unknown, age, loss)

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: Constrained,
    ) -> tuple[tuple[Array, ...], Constrained]:
        predictions = predict(spec, model_scores(model, params, batch.x, key))
        accuracy = accuracy_terms(spec, predictions, batch, reduction, supervision)
        losses = [weight[t] * loss for t, loss in enumerate(accuracy)]
        values, counts = fairness.apply(predictions, batch, memory.fairness)
        constraints = [fairness.of_task(values, t) for t in tasks]
        other_values, other_counts = others.apply(predictions, batch, memory.protected)
        losses += [others.of_task(other_values, t) for t in shielded]
        if together == "one":
            present = jnp.stack([_has_labels(spec, t, batch) for t in tasks])
            constraints = [smooth_maximum(jnp.stack(constraints), present, temperature)]
        violation, age = memory.violation, memory.age + 1
        if measures:
            violation = own_violations(fairness, tasks, counts)
            violation = worst_violation(violation, together)
            age = jnp.ones_like(age)
        new = Constrained(counts, other_counts, violation, age, memory.loss)
        return (*losses, *constraints), new

    names = [task.name for task in spec.tasks]
    rows = names + [f"protected on {names[t]}" for t in shielded]
    if together == "one":
        rows += ["constraint"]
    else:
        rows += [f"constraint on {names[t]}" for t in tasks]
    return Objective(tuple(rows), init, apply)


def constrained_tasks(penalties: Sequence[Penalty], together: str) -> tuple[int, ...]:
    """The tasks that have a notion, in order."""
    if together not in TOGETHER:
        raise ValueError(f"constrained: together {together!r} is not one of {', '.join(TOGETHER)}")
    tasks = tuple(sorted({penalty.task for penalty in penalties}))
    if not tasks:
        raise ValueError("constrained: 0 tasks have a notion; give one to at least one task")
    return tasks


def constraint_count(tasks: Sequence[int], together: str) -> int:
    """J of some constrained tasks."""
    return 1 if together == "one" else len(tasks)


def new_violation(memory: Constrained) -> Array:
    """Violations ``[J]`` in the first step that reads them; NaN in later ones."""
    return jnp.where(memory.age == 1, memory.violation, jnp.nan)


def with_measurement(memory: Constrained, violation: Array, loss: Array) -> Constrained:
    """The memory after a measurement of the violations ``[J]`` and of the loss."""
    return memory._replace(
        violation=violation.astype(jnp.float32),
        age=jnp.zeros_like(memory.age),
        loss=loss.astype(jnp.float32),
    )


def measures_itself(penalties: Sequence[Penalty]) -> bool:
    """Whether every notion measures its violation from its memory."""
    return all(penalty.notion.violation is not None for penalty in penalties)


def worst_violation(violation_t: Array, together: str) -> Array:
    """Violations ``[J]`` from those of the constrained tasks; a task of NaN has no say together."""
    if together == "each":
        return violation_t
    known = ~jnp.isnan(violation_t)
    largest = jnp.max(jnp.where(known, violation_t, -jnp.inf))
    return jnp.where(jnp.any(known), largest, jnp.nan)[None]


def own_violations(fairness: FairnessTerms, tasks: Sequence[int], memory: PyTree) -> Array:
    """The largest violation of every constrained task, from its notions' memories."""
    violations = {t: [] for t in tasks}
    for penalty, views in zip(fairness.penalties, memory, strict=True):
        for counts in views:
            violations[penalty.task].append(penalty.notion.violation(counts))
    return jnp.stack([jnp.max(jnp.stack(violations[t])) for t in tasks])


def _has_labels(spec: Spec, task: int, batch: Dataset) -> Array:
    mask = batch.label_mask[:, spec.label_slice(task)]
    return jnp.any(mask * batch.weight[:, None] > 0)
