"""Fairness transfer between a target task and an auxiliary task: the variants of the paper by name, and BLIND.

All variants that are one weighted sum of losses are points of one recipe, :func:`transfer`, so that a whole table of them
is one sweep; :func:`settings` gives their hparams. :func:`sequential` and :func:`blind` are programs of their own.

========== ======================= ============================================ ===================================
name       losses                  penalty                                      demographics needed
========== ======================= ============================================ ===================================
stl_base   target                  none                                         none
stl_fair   target                  on the target                                all of the target
mtl_base   target and auxiliary    none                                         none
mtl_fair   target and auxiliary    on the auxiliary                             of the auxiliary
stl_inter  target                  on the target, attributes crossed            all of the target
mtl_inter  target and auxiliary    one attribute on the target, the other on    one attribute of each
                                   the auxiliary
sequential auxiliary, then target  on the auxiliary, in the first stage         of the auxiliary
blind      target                  none; what an auxiliary model finds easy to  none
                                   foresee counts less
========== ======================= ============================================ ===================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.masked import weighted_mean
from fairjax.core.types import (
    Array,
    Components,
    Dataset,
    Model,
    Objective,
    PyTree,
    Range,
    Recipe,
    Spec,
)
from fairjax.gradients import route, sum_rows
from fairjax.losses import row_losses, sigmoid_cross_entropy
from fairjax.methods.context import Context, weight_range
from fairjax.objectives import Differential, differentially_fair, weighted
from fairjax.training import samplers
from fairjax.training.loop import State

VARIANTS = ("stl_base", "stl_fair", "mtl_base", "mtl_fair", "stl_inter", "mtl_inter")


def transfer(
    context: Context, penalties: Sequence[Differential], tasks: int | None = None
) -> Recipe:
    """``sum_t w_t (L_t + sum_p lam_p max(0, epsilon_p))``; see :func:`penalised`.

    Args:
      setup: model, optimizer; the notion is not used.
      penalties: every one that some variant in the sweep asks for; :func:`settings` has the hparams of the variants.
      tasks: see :func:`penalised`.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic information, 2023.
    """
    return penalised(context, _differential(context, penalties), len(penalties), tasks)._replace(
        name="transfer"
    )


def penalised(
    context: Context, rows: Callable[[Array], Objective], count: int, tasks: int | None = None
) -> Recipe:
    """Losses of tasks with penalties on some of them, every batch with as many rows of each task.

    Knobs: ``weight [T]``, ``lam [count]`` and ``reach``, how much of the penalties reaches the heads. At 1, as published, the
    head of a penalised task may take the fairness upon itself and leave the trunk as it is; at 0 only the trunk can
    lower the penalty, and other tasks share what it finds. A task learns from the same rows in every variant, whatever is
    learned beside it.

    Args:
      setup: model, optimizer; the notion is not used.
      rows: ``lam -> Objective`` with a row per task, such as :func:`fairjax.objectives.per_task` with a notion.
      count: how many strengths that takes.
      tasks: None for batches with rows of all tasks, which all members share; or how many tasks have a positive weight at
        most: batches then hold no others. That pays with many tasks and a network that cannot share work among members, as
        one of texts.
    """

    def build(hparams: PyTree) -> Components:
        return _parts(
            context, _reaching(rows, hparams, hparams["weight"]), hparams, hparams["weight"], tasks
        )

    return Recipe("penalised", build, _space(context, count))


def _differential(
    context: Context, penalties: Sequence[Differential]
) -> Callable[[Array], Objective]:
    return lambda lam: differentially_fair(
        context.model,
        context.spec,
        penalties,
        lam=lam,
        batch_size=context.batch_size,
        reduction=context.reduction,
    )


def _reaching(
    rows: Callable[[Array], Objective], hparams: PyTree, weight: Array, on: Array | float = 1.0
) -> Objective:
    """Two rows, what the trunk descends and what the heads descend; ``on`` scales all penalties."""
    trunk, heads = (
        weighted(rows(on * head_penalty_scale * hparams["lam"]), weight)
        for head_penalty_scale in (1.0, hparams["reach"])
    )

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        (one,), after = trunk.apply(params, batch, key, memory)
        (other,), _ = heads.apply(params, batch, key, memory)
        return (one, other), after

    return Objective(("trunk", "heads"), trunk.init, apply)


def _parts(
    context: Context, rows: Objective, hparams: PyTree, weight: Array, tasks: int | None
) -> Components:
    return Components(
        context.model,
        rows,
        optax.chain(route({"trunk": 0, "heads": 1}), context.optimizer(hparams)),
        sampler=samplers.balanced(context.spec, None if tasks is None else weight, tasks),
    )


def _space(context: Context, count: int) -> dict[str, Range]:
    return {
        "weight": weight_range(context.spec),
        "lam": Range(np.zeros(count), 0.0, 5.0),
        "reach": Range(1.0, 0.0, 1.0),
        **context.hparams,
    }


def settings(
    variant: str,
    spec: Spec,
    penalties: Sequence[Differential],
    target: int,
    auxiliary: int | None = None,
    *,
    lam: float = 1.0,
    head_penalty_scale: float = 1.0,
    attributes: tuple[int, ...] = (0,),
) -> dict[str, np.ndarray]:
    """Knobs ``weight``, ``lam`` and ``reach`` of a variant, for :func:`transfer` with these penalties.

    Args:
      variant: one of ``VARIANTS``.
      spec: names the tasks.
      penalties: of the recipe.
      target: the task that is to become fairer.
      auxiliary: the other task, of the ``mtl_`` variants.
      lam: strength.
      reach: how much of the penalty reaches the heads.
      attributes: which ones; ``mtl_inter`` penalises the target on the first and the auxiliary on the rest.

    Raises:
      ValueError: an unknown variant, no auxiliary task where one is needed, or a penalty that is not among those given.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"variant {variant!r} is not one of {', '.join(VARIANTS)}; sequential and blind are recipes"
        )
    if variant.startswith("mtl") and auxiliary is None:
        raise ValueError(f"{variant} learns two tasks: give auxiliary=")
    wanted = {
        "stl_fair": [(target, attributes)],
        "stl_inter": [(target, attributes)],
        "mtl_fair": [(auxiliary, attributes)],
        "mtl_inter": [(target, attributes[:1]), (auxiliary, attributes[1:])],
    }.get(variant, [])
    there = [(p.task, p.attributes) for p in penalties]
    for one in wanted:
        if one not in there:
            given = ", ".join(f"Differential{p}" for p in there) or "none"
            raise ValueError(
                f"{variant} needs Differential{one}, a penalty on task {spec.tasks[one[0]].name!r} over "
                f"attributes {one[1]}; the recipe was given {given}"
            )
    weight = np.zeros(len(spec.tasks), np.float32)
    weight[[target] if variant.startswith("stl") else [target, auxiliary]] = 1.0
    return {
        "weight": weight,
        "lam": np.float32([lam * (p in wanted) for p in there]),
        "reach": np.float32(head_penalty_scale),
    }


def sequential(
    context: Context, penalties: Sequence[Differential], tasks: int | None = None
) -> Recipe:
    """Fair on one task first, then another task alone from there: what of the fairness is left after fine-tuning.

    Knobs: ``weight``, ``lam`` and ``reach`` of the first stage, ``then [T]``, the weights of the second, which has no penalty,
    and ``until``, after how many blocks of training it begins, with a fresh optimizer.

    Reference:
      Aguirre, Dredze, 2023, which compares with intermediate-task training (Phang, Fevry, Bowman, 2018).
    """

    def build(hparams: PyTree) -> Components:
        rows = _differential(context, penalties)
        first = _reaching(rows, hparams, hparams["weight"])

        def apply(
            params: PyTree, batch: Dataset, key: Array, memory: tuple
        ) -> tuple[tuple[Array, ...], PyTree]:
            second, counts = memory
            weight = jnp.where(second, hparams["then"], hparams["weight"])
            values, counts = _reaching(rows, hparams, weight, 1.0 - second).apply(
                params, batch, key, counts
            )
            return values, (second, counts)

        made = first._replace(
            init=lambda key, data: (jnp.zeros((), bool), first.init(key, data)), apply=apply
        )
        parts = _parts(context, made, hparams, hparams["weight"] + hparams["then"], tasks)

        def stage(key: Array, block: Array, state: State, data: PyTree) -> State:
            now = block + 1 == hparams["until"]
            fresh = jax.tree.map(
                lambda a, b: jnp.where(now, a, b),
                parts.transform.init(state.params),
                state.opt_state,
            )
            return state._replace(opt_state=fresh, memory=(state.memory[0] | now, state.memory[1]))

        return parts._replace(events=(stage,))

    return Recipe(
        "sequential",
        build,
        {
            **_space(context, len(penalties)),
            "then": weight_range(context.spec),
            "until": Range(1.0),
        },
    )


def blind(context: Context, width: int, tasks: int | None = None) -> Recipe:
    """BLIND: rows whose success or failure an auxiliary model foresees count less; no demographics anywhere.

    ``sum_t w_t mean_i stop(1 - q_ti)^gamma l_ti``, with ``q_ti`` the probability that a linear model of the representation
    gives to what happens: that the network decides task t right on row i, or that it does not. The auxiliary model learns
    beside it, by cross-entropy, and moves nothing but itself. For binary tasks.

    Knobs: ``weight [T]``; ``gamma``, 0 for no effect.

    Args:
      setup: model, optimizer; the notion is not used.
      width: of the model's representation ``[B, width]``.
      tasks: see :func:`penalised`.

    Raises:
      ValueError: a task that is not binary.

    Reference:
      Orgad, Belinkov: BLIND, bias removal with no demographics, ACL 2023. Its weights are those of the debiased focal loss
      of Karimi Mahabadi, Belinkov, Henderson, ACL 2020.
    """
    spec = context.spec
    for task in spec.tasks:
        if task.kind != "binary":
            raise ValueError(
                f"blind foresees right and wrong decisions of binary tasks; {task.name!r} is of kind {task.kind}"
            )

    def build(hparams: PyTree) -> Components:
        model = _with_detector(context.model, width, len(spec.tasks))

        def apply(
            params: PyTree, batch: Dataset, key: Array, memory: tuple
        ) -> tuple[tuple[Array, ...], tuple]:
            del key
            z = model.represent(params["trunk"], batch.x)
            scores, foreseen = (
                model.predict(params["heads"], z),
                _foreseen(params["heads"]["success"], z),
            )
            total = jnp.zeros(())
            for t in range(len(spec.tasks)):
                y = spec.label_slice(t)
                loss, known = row_losses(
                    spec.tasks[t],
                    scores[:, spec.score_slice(t)],
                    batch.labels[:, y],
                    batch.label_mask[:, y],
                )
                weight = known * batch.weight
                right = jax.lax.stop_gradient(
                    (scores[:, t] >= 0) == (batch.labels[:, y.start] > 0.5)
                ).astype(jnp.float32)
                surprise = 1.0 - jnp.exp(-sigmoid_cross_entropy(foreseen[:, t], right))
                counts = jax.lax.stop_gradient(surprise) ** hparams["gamma"]
                total = total + hparams["weight"][t] * (
                    weighted_mean(counts * loss, weight)
                    + weighted_mean(sigmoid_cross_entropy(foreseen[:, t], right), weight)
                )
            return (total,), memory

        return Components(
            model,
            Objective(("total",), lambda key, data: (), apply),
            optax.chain(sum_rows(), context.optimizer(hparams)),
            sampler=samplers.balanced(spec, None if tasks is None else hparams["weight"], tasks),
        )

    return Recipe(
        "blind",
        build,
        {"weight": weight_range(spec), "gamma": Range(2.0, 0.0, 4.0), **context.hparams},
    )


def _foreseen(detector: PyTree, z: Array) -> Array:
    """Log-odds that each task's decision is right ``[B, T]``; nothing flows back into the representation."""
    return jax.lax.stop_gradient(z) @ detector["kernel"] + detector["bias"]


def _with_detector(model: Model, width: int, tasks: int) -> Model:
    """The model with a linear auxiliary model of its representation ``[B, D]`` beside the heads."""

    def init(key: Array) -> PyTree:
        params = model.init(key)
        # at zero every success is a toss-up, and all rows count alike
        success = {"kernel": jnp.zeros((width, tasks)), "bias": jnp.zeros(tasks)}
        return params | {"heads": params["heads"] | {"success": success}}

    return model._replace(init=init)
