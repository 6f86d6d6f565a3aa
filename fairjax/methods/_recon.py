"""Recon: the layers with the most conflicts become layers of their own for every task."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, Components, Dataset, PyTree, Range, Recipe, Splits
from fairjax.gradients import Branches, on_branches
from fairjax.methods._branching import record_branches, refuse_unbranchable, rows_at
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    weight_range,
)
from fairjax.models import branched
from fairjax.training.loop import State


def recon(notion: SweptNotions, *, search: int = 5) -> Method:
    """Layers whose accuracy gradients conflict most become task-specific; then training restarts.

    In the first blocks (epochs) a shared network counts, per layer, the steps and pairs of tasks
    with a cosine below ``conflict_cosine``. Then the ``split`` share of the layers with the highest
    counts get a copy per task, and all parameters and the optimizer begin anew.

    Hyper-parameters: ``weight``; ``lam``, at 0 as published, without fairness losses;
    ``conflict_cosine``, between -0.1 and 0 in the paper; and ``split``, the share of layers, 0.25
    to 0.4 of a ResNet there. At least one layer is split.

    Args:
      notion: of the fairness losses.
      search: blocks of the search. The paper searches for as long as it trains afterwards; here
        both share the epochs of the study, so that methods cost the same.

    Source: Shi, Ren, Zhang, Pan, Zhang, Recon: Reducing conflicting gradients from the root for
    multi-task learning, ICLR 2023.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        model = branched(context.model, spec)
        refuse_unbranchable(spec, model.layers, 0)
        names = [task.name for task in spec.tasks]

        def build(hparams: PyTree) -> Components:
            objective = rows_at(context, model, notion, hparams)
            link = on_branches(
                names,
                model.layers,
                gate=False,
                surgery=False,
                conflict_cosine=hparams["conflict_cosine"],
            )
            chain = optax.chain(link, context.optimizer(hparams))

            def begin(key: Array) -> tuple[PyTree, PyTree]:
                params = model.init(key)
                return params, chain.init(params)

            event = divide_by_conflicts(begin, hparams["split"], search)
            return Components(model, objective, chain, (event,), record_branches)

        space = {
            "weight": weight_range(spec),
            "lam": lam_range(spec),
            "conflict_cosine": Range(-0.02, -0.1, 0.0),
            "split": Range(0.34, 0.1, 0.6),
            **context.hparams,
        }
        return Recipe("recon", build, space, notion=notion)

    return method


def layer_conflicts(conflicts: Array) -> Array:
    """Conflicts of every layer ``[D]`` from those of pairs of tasks ``[D, T, T]``."""
    pairs = np.triu(np.ones(conflicts.shape[-2:], bool), 1)
    return jnp.sum(conflicts * pairs, axis=(1, 2))


def divide_by_conflicts(
    begin: Callable[[Array], tuple[PyTree, PyTree]], split: Array, search: int
) -> Callable[[Array, Array, State, Splits | Dataset], State]:
    """The event that gives every task its own copy of the layers with the most conflicts.

    Args:
      begin: from a key to new parameters and a new state of the chain, which begins with
        :func:`fairjax.gradients.on_branches`.
      split: share of the layers; at least one is divided. Of equal layers the lower one is.
      search: the event happens after so many blocks.
    """

    def event(key: Array, block: Array, state: State, data: Splits | Dataset) -> State:
        del data
        branches = state.memory["branches"]
        depth, tasks = branches.labels.shape
        counts = layer_conflicts(state.opt_state[0].conflicts[0])
        rank = jnp.argsort(jnp.argsort(-counts, stable=True))
        divided = rank < jnp.maximum(jnp.round(split * depth), 1)
        own = jnp.arange(tasks, dtype=branches.labels.dtype)
        labels = jnp.where(divided[:, None], own, branches.labels)
        anew = begin(key)
        now = block + 1 == search
        params, opt_state, branches = jax.tree.map(
            lambda new, old: jnp.where(now, new, old),
            (*anew, Branches(labels, branches.next_layer)),
            (state.params, state.opt_state, branches),
        )
        memory = {**state.memory, "branches": branches}
        return state._replace(params=params, opt_state=opt_state, memory=memory)

    return event
