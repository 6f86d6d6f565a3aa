"""Every gradient link as a method.

The rows are ``w_t (L_t + lam_t F_t)``, or accuracy and fairness are rows of their own. With no
conflict, or with the sum in place of the link, all of them are Baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from fairjax import gradients
from fairjax.core.types import Array, Components, Model, Objective, PyTree, Recipe
from fairjax.gradients import LinkEntry, at_representation, consistent_heads, route, sum_rows
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    notion_at,
    weight_range,
)
from fairjax.objectives import on_two_batches, per_task

# from the number of rows and an optimizer to the whole transformation
Transform = Callable[[int, optax.GradientTransformation], optax.GradientTransformationExtraArgs]
# from the model and the rows of a model to the objective that is trained
Weigh = Callable[[Model, Callable[[Model], Objective]], Objective]


def aggregated(
    notion: SweptNotions,
    name: str,
    transform: Transform,
    *,
    split: bool,
    weigh: Weigh | None = None,
) -> Method:
    """A method from what turns K rows and an optimizer into a chain.

    Args:
      notion: of the fairness losses.
      name: of the method.
      transform: from K and the optimizer to the whole transformation.
      split: accuracy and fairness in rows of their own (2T rows), or one row per task.
      weigh: from the rows to the objective that is trained, such as one that finds weights inside.
    """

    def method(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            def rows(model: Model) -> Objective:
                return per_task(
                    model,
                    context.spec,
                    notion=notion_at(notion, hparams),
                    lam=hparams["lam"],
                    weight=hparams["weight"],
                    split=split,
                    reduction=context.reduction,
                    batch_size=context.batch_size,
                    supervision=context.supervision,
                )

            if weigh is None:
                objective = rows(context.model)
            else:
                objective = weigh(context.model, rows)
            optimizer = context.optimizer(hparams)
            chain = transform(len(objective.rows), optimizer)
            return Components(context.model, objective, chain)

        space = {
            "weight": weight_range(context.spec),
            "lam": lam_range(context.spec),
            **context.hparams,
        }
        return Recipe(name, build, space, notion=notion)

    return method


def linked(notion: SweptNotions, name: str, *, split: bool = False) -> Method:
    """The method of a gradient link: one row per task.

    With ``split``, accuracy and fairness have rows of their own.

    Args:
      notion: of the fairness losses.
      name: of the link, a key of ``fairjax.gradients.REGISTRY``.
      split: see :func:`aggregated`.
    """
    entry = gradients.REGISTRY[name]
    full_name = f"{name}_split" if split else name
    weigh = _twice if entry.two_batches else None
    return aggregated(notion, full_name, _transform(entry), split=split, weigh=weigh)


def _twice(model: Model, rows: Callable[[Model], Objective]) -> Objective:
    """The rows on each half of the batch."""
    return on_two_batches(rows(model))


def mgda_ub(notion: SweptNotions, *, split: bool = False) -> Method:
    """MGDA at the representation (MGDA-UB).

    Gradients by the representation give the weights, and their weighted sum is the one row that is
    trained.

    Reference:
      Sener, Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018.
    """

    def weigh(model: Model, rows: Callable[[Model], Objective]) -> Objective:
        return at_representation(model, rows, gradients.mgda.rule())

    name = "mgda_ub_split" if split else "mgda_ub"
    return aggregated(notion, name, _summed, split=split, weigh=weigh)


def consmtl(
    notion: SweptNotions, *, split: bool = False, consistency: Array | float = 1.0
) -> Method:
    """ConsMTL: FairGrad on the trunk, and heads that turn their gradients towards its update.

    The heads' term is second-order: it costs one more pass through the heads and back.

    Args:
      notion: of the fairness losses.
      split: accuracy and fairness in rows of their own.
      consistency: the weight of the heads' term, see :func:`fairjax.gradients.consistent_heads`.

    Reference:
      Qin, Wang, Yan: Towards consistent multi-task learning: unlocking the potential of
      task-specific parameters, CVPR 2025.
    """

    def weigh(model: Model, rows: Callable[[Model], Objective]) -> Objective:
        return consistent_heads(model, rows, gradients.fairgrad.rule(), consistency=consistency)

    name = "consmtl_split" if split else "consmtl"
    return aggregated(notion, name, _summed, split=split, weigh=weigh)


def _summed(
    rows: int, optimizer: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """One row, whose weights are in its objective."""
    return optax.chain(sum_rows(), optimizer)


def fairness_surgery(notion: SweptNotions) -> Method:
    """PCGrad where rows of fairness give way to rows of accuracy, and not the reverse."""

    def transform(rows: int, optimizer: optax.GradientTransformation):
        link = gradients.pcgrad(rows, against=gradients.accuracy_first(rows // 2))
        return _on_trunk(link, optimizer)

    return aggregated(notion, "fairness_surgery", transform, split=True)


def pcd_accuracy_first(notion: SweptNotions) -> Method:
    """PCD with accuracy as the primary row and a share of progress for every fairness row."""
    return _pcd(notion, "pcd_accuracy_first", lambda tasks: range(tasks))


def pcd_fairness_first(notion: SweptNotions) -> Method:
    """PCD with fairness as the primary row and a share of progress for every accuracy row."""
    return _pcd(notion, "pcd_fairness_first", lambda tasks: range(tasks, 2 * tasks))


def _pcd(notion: SweptNotions, name: str, primary: Callable[[int], range]) -> Method:
    def transform(rows: int, optimizer: optax.GradientTransformation):
        return _on_trunk(gradients.pcd(rows, primary=primary(rows // 2)), optimizer)

    return aggregated(notion, name, transform, split=True)


def _transform(entry: LinkEntry) -> Transform:
    def transform(rows: int, optimizer: optax.GradientTransformation):
        if entry.owns_optimizer:
            return entry.factory(rows, optimizer, **entry.constants)
        if entry.two_batches:
            link = entry.factory(rows, two_batches=True, **entry.constants)
            return _on_trunk(link, optimizer)
        if entry.weighs == "gradients":
            return _on_trunk(entry.factory(rows, **entry.constants), optimizer)
        if entry.weighs == "all":
            return optax.chain(entry.factory(rows, **entry.constants), optimizer)
        link = entry.factory(rows, measure=_is_trunk, **entry.constants)
        return optax.chain(link, optimizer)

    return transform


def _on_trunk(link, optimizer: optax.GradientTransformation):
    """The link sees and moves the trunk; every head takes the sum of its own rows."""
    return optax.chain(route({"trunk": link, "heads": sum_rows()}), optimizer)


def _is_trunk(path: tuple[Any, ...]) -> bool:
    """A link that weighs losses measures gradients on the trunk."""
    return path[0].key == "trunk"
