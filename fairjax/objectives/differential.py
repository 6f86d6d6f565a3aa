"""Differential fairness as a penalty on chosen tasks: fairness is learned where demographics are known, and transferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.groups import crossed, level_attributes
from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import against_rest, probabilities
from fairjax.notions import differential as diff
from fairjax.notions import for_kind
from fairjax.objectives.rows import Terms


class Differential(NamedTuple):
    """A penalty ``max(0, epsilon - target)`` on one task, over the groups of some attributes, crossed when several.

    Of a multilabel task the label with the largest epsilon counts. See :mod:`fairjax.notions.differential`.
    """

    task: int
    attributes: tuple[int, ...]
    rates: tuple[Callable, ...] = diff.odds
    target: Array | float = 0.0
    concentration: Array | float = 0.1
    rho: Array | float = 0.1
    burn_in: int = 0  # steps without a penalty, in which nothing is counted
    together: Callable[[Array], Array] = jnp.sum
    temperature: float = 0.0


class Counted(NamedTuple):
    """What a penalty remembers: it is part of the training state."""

    joint: Array  # [U, G, Y, K], U labels of a multilabel task, else 1
    size: Array  # [], weight of the training rows that count
    steps: Array  # [], that had such rows


def differentially_fair(
    model: Model,
    spec: Spec,
    penalties: Sequence[Differential],
    *,
    lam: Array,
    batch_size: int,
    weight: Array | None = None,
    reduction: str = "batch",
    axis: str | None = None,
) -> Objective:
    """One row per task, ``w_t (L_t + sum_p lam_p max(0, epsilon_p - target_p))`` over its penalties p, soft counts running on.

    A task without a penalty has none: the way from the fairness of one task to that of another is the trunk alone. Rows
    without demographics, or without the task's label, count for no epsilon.

    Args:
      model: scores the batch.
      spec: names tasks and attributes.
      penalties: which tasks, over which attributes.
      lam: a number per penalty; at 0 this is :func:`per_task` to the last bit.
      batch_size: rows of a full batch, for the scale at which counts start.
      weight: ``[T]``; default 1.
      reduction: of the accuracy losses; see the module.

    Raises:
      ValueError: for a penalty on a regression, over no attribute, or over one that is a number.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic information, 2023; Foulds,
      Islam, Keya, Pan: An intersectional definition of fairness, ICDE 2020.
    """
    for penalty in penalties:
        if spec.tasks[penalty.task].kind == "regression":
            raise ValueError(
                f"task {spec.tasks[penalty.task].name!r} is a regression: differential fairness compares rates of "
                f"outcomes. For this kind there are {', '.join(for_kind('regression'))} (fairjax.notions.get)"
            )
        level_attributes(spec, penalty.attributes)

    def init(key: Array, data: Dataset) -> tuple[Counted, ...]:
        del key
        made = []
        for penalty in penalties:
            label, weight_un = _outcomes(spec, penalty, None, data)[1:]
            groups, size = (
                crossed(spec, data.groups, penalty.attributes),
                jnp.max(jnp.sum(weight_un, axis=1)),
            )
            task = spec.tasks[penalty.task]
            outcomes = len(task.levels) if task.kind == "multiclass" else 2
            joint = diff.start(size, batch_size, jnp.sum(groups, axis=0), label.shape[2], outcomes)
            made.append(
                Counted(
                    jnp.broadcast_to(joint, (len(label), *joint.shape)),
                    size,
                    jnp.zeros((), jnp.int32),
                )
            )
        return tuple(made)

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: tuple[Counted, ...]
    ) -> tuple[tuple[Array, ...], PyTree]:
        del key
        scores = model.predict(params["heads"], model.represent(params["trunk"], batch.x))
        terms, after = Terms(spec, scores, batch, None, reduction), []
        values = [terms.accuracy(t) for t in range(len(spec.tasks))]
        for p, (penalty, old) in enumerate(zip(penalties, memory, strict=True)):
            value, new = _penalty(spec, penalty, scores, batch, old, axis)
            values[penalty.task] = values[penalty.task] + lam[p] * value
            after.append(new)
        return tuple(
            values if weight is None else [w * v for w, v in zip(weight, values, strict=True)]
        ), tuple(after)

    return Objective(tuple(t.name for t in spec.tasks), init, apply)


def _outcomes(
    spec: Spec, penalty: Differential, scores: Array | None, batch: Dataset
) -> tuple[Array | None, Array, Array]:
    """Probabilities ``[U, N, K]`` (None without scores), one-hot labels ``[U, N, Y]`` and weights ``[U, N]``."""
    label, mask = against_rest(spec, penalty.task, batch.labels, batch.label_mask)
    prob = None if scores is None else probabilities(spec, scores)[penalty.task]
    if spec.tasks[penalty.task].kind == "multiclass":  # one question with many answers
        label, mask, prob = label[None], mask[None, :, 0], None if prob is None else prob[None]
    else:
        label, mask, prob = diff.two(label.T), mask.T, None if prob is None else diff.two(prob.T)
    if diff.parity_rates in penalty.rates:
        return (
            prob,
            jnp.ones((*label.shape[:2], 1)),
            jnp.broadcast_to(batch.weight, label.shape[:2]),
        )
    return prob, label, mask * batch.weight


def _penalty(
    spec: Spec, penalty: Differential, scores: Array, batch: Dataset, old: Counted, axis: str | None
) -> tuple[Array, Counted]:
    prob, label, weight = _outcomes(spec, penalty, scores, batch)
    groups = crossed(spec, batch.groups, penalty.attributes)
    rows = jnp.max(jnp.sum(weight, axis=1))
    now = jax.vmap(diff.count, (0, 0, None, 0))(prob, label, groups, weight)
    if axis is not None:
        now, rows = jax.lax.psum((now, rows), axis)
    joint = diff.running(old.joint, now, old.size, rows, penalty.rho)
    each = jax.vmap(
        lambda j: diff.epsilon(
            j, penalty.rates, penalty.concentration, penalty.together, penalty.temperature
        )
    )(joint)
    counts = (rows > 0) & (
        old.steps >= penalty.burn_in
    )  # a batch of other tasks' rows leaves the counts alone
    value = jnp.where(counts, jax.nn.relu(jnp.max(each) - penalty.target), 0.0)
    return value, Counted(
        jax.lax.stop_gradient(jnp.where(counts, joint, old.joint)),
        old.size,
        old.steps + (rows > 0).astype(jnp.int32),
    )
