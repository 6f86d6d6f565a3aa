"""Named rows: losses of a batch built from supervised losses and fairness notions.

Every objective here is a function of ``terms``: the accuracy loss ``L_t``, the fairness loss ``F_t`` on the notion's
rows, and ``E_t``, the same on the rows exclusive to task t.

Reductions. ``"batch"`` (default, as in the MTA-F code, divided by B): sums over rows over the nominal batch size, so a
fairness loss counts in proportion to the rows it looks at, ``(n / B) F``; a padded last batch is exact. ``"mean"``: means
over the rows that count, as in MinDiff.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import against_rest, probabilities, row_losses
from fairjax.notions import Notion, exclusive, for_kind, negatives, nobody, positives

# one for all tasks, or per task one, several whose distances are added up, or None
Notions = Notion | Sequence[Notion | Sequence[Notion] | None]
_SORTS = (
    "attributes with levels (any distance between groups)",
    "attributes that are numbers (pearson and hsic, with continuous=True in the notion)",
)


class Terms:
    """Losses of one batch per task; each is computed when it is asked for.

    Args:
      spec: names the columns.
      scores: ``[B, C]``.
      batch: the rows.
      notion: the fairness notion; a sequence has one per task, or several (as of attributes with levels and of numbers),
        None for a task without; None where only accuracy is asked for.
      reduction: ``"batch"`` or ``"mean"``.
    """

    def __init__(
        self,
        spec: Spec,
        scores: Array,
        batch: Dataset,
        notion: Notions | None = None,
        reduction: str = "batch",
    ):
        if reduction not in ("batch", "mean"):
            raise ValueError(f"reduction must be 'batch' or 'mean', got {reduction!r}")
        self.spec, self.scores, self.batch, self.reduction = spec, scores, batch, reduction
        given = (
            [notion] * len(spec.tasks) if notion is None or isinstance(notion, Notion) else notion
        )
        self.notions = [
            [] if n is None else [n] if isinstance(n, Notion) else list(n) for n in given
        ]
        _check(spec, self.notions)
        self._binary = [i for i, t in enumerate(spec.tasks) if t.kind == "binary"]
        self._columns = [spec.label_slice(i).start for i in self._binary]

    def _reduce(self, total: Array, mass: Array) -> Array:
        """Mean over the batch, or over what counts."""
        return (
            total / self.batch.weight.shape[0] if self.reduction == "batch" else divide(total, mass)
        )

    def accuracy(self, t: int) -> Array:
        """``L_t``: weighted supervised loss over the rows whose label is known."""
        y, s = self.spec.label_slice(t), self.spec.score_slice(t)
        loss, known = row_losses(
            self.spec.tasks[t],
            self.scores[:, s],
            self.batch.labels[:, y],
            self.batch.label_mask[:, y],
        )
        weight = self.batch.weight * known
        return self._reduce(jnp.sum(weight * keep(loss, weight)), jnp.sum(weight))

    def fairness(self, t: int) -> Array:
        """``F_t``: the notion on task t, added up over its conditions and over attributes; 0 for a task without one."""
        return self._distance(t, lambda condition: condition(*self._labels(t)))

    def exclusive(self, t: int) -> Array:
        """``E_t``: the notion on the rows exclusive to task t."""
        if len(self.spec.tasks) == 1:
            return self.fairness(t)
        if t not in self._binary:
            return self._distance(t, lambda condition: nobody(*self._labels(t)))
        labels, mask = self.batch.labels[:, self._columns], self.batch.label_mask[:, self._columns]
        return self._distance(
            t, lambda condition: exclusive(condition, labels, mask, self._binary.index(t))[:, None]
        )

    def _labels(self, t: int) -> tuple[Array, Array]:
        return against_rest(self.spec, t, self.batch.labels, self.batch.label_mask)

    def _distance(self, t: int, select) -> Array:
        return sum(
            (self._of_notion(t, notion, select) for notion in self.notions[t]),
            start=jnp.zeros((), jnp.float32),
        )

    def _of_notion(self, t: int, notion: Notion, select) -> Array:
        prob, label, total = (
            probabilities(self.spec, self.scores)[t],
            self._labels(t)[0],
            jnp.zeros((), jnp.float32),
        )

        def distance(prob: Array, groups: Array, weight: Array, label: Array) -> Array:
            value = notion.distance(prob, groups, weight, *([label] if notion.labelled else []))
            return self._scale(
                value, weight, groups[:, 0] if notion.continuous else jnp.sum(groups, axis=1)
            )

        for a in _attributes(self.spec, notion):
            groups = self.batch.groups[:, self.spec.group_slice(a)]
            for condition in notion.conditions:
                weight = self.batch.weight[:, None] * select(condition)
                total = total + notion.average(distance, prob, groups, weight, label)
        return total

    def _scale(self, value: Array, weight: Array, known: Array) -> Array:
        return (
            value if self.reduction == "mean" else value * jnp.sum(weight * known) / weight.shape[0]
        )


def _attributes(spec: Spec, notion: Notion) -> list[int]:
    """Which of the spec's attributes a notion looks at."""
    mine = [i for i, a in enumerate(spec.attributes) if a.continuous == notion.continuous]
    return mine if notion.attributes is None else list(notion.attributes)


def _check(spec: Spec, notions: list[list[Notion]]) -> None:
    """Refuse a notion for a task of a kind, or for attributes of a sort, that it is not for."""
    if len(notions) != len(spec.tasks):
        raise ValueError(
            f"{len(notions)} notions for {len(spec.tasks)} tasks; give one for all, or one (or None) per task"
        )
    for task, notion in [
        (task, n) for task, several in zip(spec.tasks, notions, strict=True) for n in several
    ]:
        on_label = [c.__name__ for c in notion.conditions if c in (negatives, positives)] * (
            task.kind == "regression"
        )
        if task.kind not in notion.kinds or on_label:
            why = (
                f"a notion on {' and '.join(on_label)}"
                if on_label
                else f"a notion for {', '.join(notion.kinds)} tasks"
            )
            raise ValueError(
                f"task {task.name!r} is of kind {task.kind}, but was given {why}. For this kind there are "
                f"{', '.join(for_kind(task.kind))} (fairjax.notions.get), and any distance on everyone"
            )
        wrong = [
            spec.attributes[a].name
            for a in _attributes(spec, notion)
            if spec.attributes[a].continuous != notion.continuous
        ]
        if wrong or not _attributes(spec, notion):
            which = (
                f"attribute {wrong[0]!r} is none"
                if wrong
                else f"there is none among {len(spec.attributes)} attributes"
            )
            raise ValueError(
                f"task {task.name!r} was given a notion for {_SORTS[notion.continuous]}, but {which}. Give one for "
                f"{_SORTS[not notion.continuous]}"
            )


def objective(model: Model, rows: Sequence[str], values) -> Objective:
    """An objective without memory from ``values(scores[B, C], batch) -> K scalars``."""

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        del key
        scores = model.predict(params["heads"], model.represent(params["trunk"], batch.x))
        return tuple(values(scores, batch)), memory

    return Objective(tuple(rows), lambda key, data: (), apply)


def per_task(
    model: Model,
    spec: Spec,
    *,
    notion: Notions | None = None,
    lam: Array | None = None,
    weight: Array | None = None,
    split: bool = False,
    reduction: str = "batch",
) -> Objective:
    """One row per task: ``w_t (L_t + lam_t F_t)``, or ``w_t L_t`` alone without a notion.

    Args:
      model: scores the batch.
      spec: names tasks and attributes.
      notion: the fairness notion, one per task where they differ (or several, or None), as of :class:`Terms`; None leaves
        fairness out.
      lam: ``[T]``, needed with a notion.
      weight: ``[T]``; default 1.
      split: accuracy and fairness as rows of their own, ``w_t L_t`` for all tasks, then ``w_t lam_t F_t`` for all.
      reduction: see the module.

    Returns:
      An objective with T rows named after the tasks, or 2T, the later ones named ``fairness of task``.
    """
    names = [t.name for t in spec.tasks]

    def values(scores: Array, batch: Dataset) -> list[Array]:
        terms = Terms(spec, scores, batch, notion, reduction)
        w, tasks = [1.0] * len(names) if weight is None else weight, range(len(names))
        loss = [w[t] * terms.accuracy(t) for t in tasks]
        if notion is None:
            return loss
        fair = [w[t] * lam[t] * terms.fairness(t) for t in tasks]
        return loss + fair if split else [a + b for a, b in zip(loss, fair, strict=True)]

    return objective(model, names + [f"fairness of {name}" for name in names] * split, values)


def weighted(inner: Objective, weight: Array) -> Objective:
    """One row, ``sum_k weight_k v_k``: the cheap form of every aggregator that is a fixed weighted sum."""

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        values, memory = inner.apply(params, batch, key, memory)
        return (sum(weight[k] * v for k, v in enumerate(values)),), memory

    return Objective(("total",), inner.init, apply)
