"""Every gradient link as a method.

Rows are ``w_t (L_t + lam_t F_t)``, or accuracy and fairness as rows of their own.

With no conflict, or with the sum in place of the link, all of them are Baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import optax

from fairjax import gradients
from fairjax.core.types import Components, Model, Objective, PyTree, Recipe
from fairjax.gradients import REGISTRY, LinkEntry, at_representation, route, sum_rows
from fairjax.methods.context import Context, lam_range, weight_range
from fairjax.objectives import per_task


def aggregated(
    name: str,
    split: bool,
    transform: Callable[[int, optax.GradientTransformation], optax.GradientTransformation],
    weigh: Callable[[Model, Callable[[Model], Objective]], Objective] | None = None,
) -> Callable[[Context], Recipe]:
    """A recipe from what turns K rows and an optimizer into a chain.

    Args:
      name: of the method.
      split: accuracy and fairness as rows of their own (2T rows) or one row per task.
      transform: from K and the optimizer to the whole transformation.
      weigh: from the model and the rows' objective to the objective that is trained, when weights
        are found inside it.
    """

    def make(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            def rows(model: Model) -> Objective:
                return per_task(
                    model,
                    context.spec,
                    notion=context.notion(hparams),
                    lam=hparams["lam"],
                    weight=hparams["weight"],
                    split=split,
                    reduction=context.reduction,
                )

            objective = weigh(context.model, rows) if weigh else rows(context.model)
            return Components(
                context.model, objective, transform(len(objective.rows), context.optimizer(hparams))
            )

        return Recipe(
            name,
            build,
            {
                "weight": weight_range(context.spec),
                "lam": lam_range(context.spec),
                **context.hparams,
            },
        )

    make.__name__ = name
    return make


def _on_trunk(link: Callable) -> Callable:
    """The link sees and moves the trunk; every head takes the sum of its own rows."""
    return lambda rows, optimizer: optax.chain(
        route({"trunk": link(rows), "heads": sum_rows()}), optimizer
    )


def _on_losses(link: Callable) -> Callable:
    """The link weighs losses, for the trunk and for the heads; gradient norms are the trunk's."""
    return lambda rows, optimizer: optax.chain(
        link(rows, measure=lambda path: path[0].key == "trunk"), optimizer
    )


def _transform(entry: LinkEntry) -> Callable:
    """The chain of a link of the family: from K and the optimizer to the whole transformation."""
    factory = partial(entry.factory, **entry.constants)
    if entry.owns_optimizer:
        return factory
    if entry.weighs == "gradients":
        return _on_trunk(factory)
    return _on_losses(factory)


def _summed(rows: int, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(sum_rows(), optimizer)


def _ub(model: Model, rows: Callable[[Model], Objective]) -> Objective:
    return at_representation(model, rows, gradients.mgda.rule())


def _surgery(rows: int) -> optax.GradientTransformationExtraArgs:
    return gradients.pcgrad(rows, against=gradients.accuracy_first(rows // 2))


def _family() -> dict[str, Callable[[Context], Recipe]]:
    links = {name: entry for name, entry in REGISTRY.items() if entry.weighs != "nothing"}
    recipes = {"fairness_surgery": aggregated("fairness_surgery", True, _on_trunk(_surgery))}
    for split, suffix in ((False, ""), (True, "_split")):
        recipes[f"mgda_ub{suffix}"] = aggregated(f"mgda_ub{suffix}", split, _summed, _ub)
        for name, entry in links.items():
            recipes[name + suffix] = aggregated(name + suffix, split, _transform(entry))
    return dict(sorted(recipes.items()))


AGGREGATED = _family()
