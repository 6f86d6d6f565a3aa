"""FairBranch: a network that branches where tasks differ, fairness corrected in each branch."""

from __future__ import annotations

from functools import partial

import optax

from fairjax.core.types import Components, PyTree, Range, Recipe
from fairjax.gradients import on_branches
from fairjax.methods._branching import (
    branch,
    chance_above,
    record_branches,
    refuse_unbranchable,
    rows_at,
)
from fairjax.methods._likeness import Likeness, cka
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    weight_range,
)
from fairjax.models import branched


def fairbranch(
    notion: SweptNotions,
    *,
    every: int = 3,
    warmup: int = 0,
    first: int = 1,
    likeness: Likeness = cka,
    gate: bool = True,
    surgery: bool = True,
    reset: bool = False,
) -> Method:
    """A network that branches while it trains, with fairness gradients corrected in each branch.

    Its rows are ``sum_t w_t L_t`` and ``sum_t w_t lam_t F_t``.

    Hyper-parameters: ``weight``, ``lam``, and ``tau``, the least likeness of tasks that stay
    together: 0.7 for tables and 0.8 for images in the paper.

    Args:
      notion: of the fairness losses; the paper's is ``robust_log``.
      every: blocks (epochs) between two branchings. Every 7 of 405 passes over a state's rows for
        the paper's tables, every 3 of 60 passes over a quarter of the images.
      warmup: blocks before the first branching.
      first: the lowest layer that may branch.
      likeness: of parameters; :func:`cka` as published.
      gate: leave out a task's fairness where it conflicts with its accuracy on the head.
      surgery: project conflicting fairness gradients of a branch off each other.
      reset: begin the optimizer anew at a branching, as the released code does.

    Source: Roy, Koutlis, Papadopoulos, Ntoutsi, FairBranch: Mitigating bias transfer in fair
    multi-task learning, IJCNN 2024. The released code departs from it in what is projected, in the
    pairs that are merged and in the rows of its loss; this is the paper's text. Here the optimizer
    is that of the study, and losses are reduced as everywhere in it.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        model = branched(context.model, spec)
        refuse_unbranchable(spec, model.layers, first)
        names = [task.name for task in spec.tasks]
        chance = chance_above(model, names) if likeness is cka else None
        record = partial(record_branches, chance=chance)

        def build(hparams: PyTree) -> Components:
            objective = rows_at(context, model, notion, hparams)
            link = on_branches(names, model.layers, gate=gate, surgery=surgery)
            chain = optax.chain(link, context.optimizer(hparams))
            event = branch(
                spec,
                model.layers,
                likeness,
                hparams["tau"],
                every=every,
                warmup=warmup,
                first=first,
                fresh=chain if reset else None,
            )
            return Components(model, objective, chain, (event,), record)

        space = {
            "weight": weight_range(spec),
            "lam": lam_range(spec),
            "tau": Range(0.7, 0.4, 0.9),
            **context.hparams,
        }
        return Recipe("fairbranch", build, space, notion=notion)

    return method
