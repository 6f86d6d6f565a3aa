"""Fairness transfer between a target task and an auxiliary task: the variants of the paper by name.

All variants that are one weighted sum of losses are points of one method, :func:`transfer`.
Therefore a table of them is one sweep; :func:`settings` gives their hyper-parameters.
``sequential`` and ``blind`` are methods of their own.

========== ======================= ==================================== =========================
name       losses                  penalty                              demographics needed
========== ======================= ==================================== =========================
stl_base   target                  none                                 none
stl_fair   target                  on the target                        all of the target
mtl_base   target and auxiliary    none                                 none
mtl_fair   target and auxiliary    on the auxiliary                     of the auxiliary
stl_inter  target                  on the target, attributes crossed    all of the target
mtl_inter  target and auxiliary    one attribute on the target, the     one attribute of each
                                   other on the auxiliary
sequential auxiliary, then target  on the auxiliary, in the first stage of the auxiliary
blind      target                  none; rows whose outcome is easy to  none
                                   predict count less
========== ======================= ==================================== =========================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.groups import level_attributes
from fairjax.core.types import Array, Components, Dataset, Objective, PyTree, Range, Recipe, Spec
from fairjax.gradients import route
from fairjax.methods.context import Context, Method, weight_range
from fairjax.models import scores as model_scores
from fairjax.notions import Notion, differential_fairness
from fairjax.objectives import Notions, Penalty, accuracy_terms, fairness_terms, predict
from fairjax.training import samplers
from fairjax.training.loop import State

VARIANTS = ("stl_base", "stl_fair", "mtl_base", "mtl_fair", "stl_inter", "mtl_inter")
Penalties = Notions | Sequence[Penalty]


def differential_penalty(task: int, attributes: tuple[int, ...], **options: Any) -> Penalty:
    """Differential fairness of one task, over the combinations of some attributes."""
    return Penalty(task, differential_fairness(attributes=attributes, **options))


def transfer(penalties: Penalties | None = None, tasks: int | None = None) -> Method:
    """Losses of tasks with penalties on some of them, ``sum_t w_t (L_t + sum_p lam_p F_p)``.

    Every batch has the same number of rows of each task. So a task learns from the same rows in
    every variant, whatever is learned beside it.

    Hyper-parameters: ``weight [T]``; ``lam``, one per penalty; and ``head_penalty_scale``, the
    share of the penalties that reaches the heads. At 1, as published, the head of a penalised task
    may become fair by itself and leave the trunk as it is. At 0 only the trunk can lower the
    penalty, and other tasks share what it learns.

    Args:
      penalties: all penalties of the variants in the sweep. Default: differential fairness of every
        task of classes. A notion, or a notion per task, stands for a penalty on each task.
      tasks: None gives batches with rows of all tasks, which all members share. A number is the
        largest number of tasks with a positive weight; batches then hold rows of no other task.
        That pays where there are many tasks and a network that cannot share work among members,
        such as one for texts.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic
        information, 2023.
    """

    def method(context: Context) -> Recipe:
        chosen = _penalties(context, penalties)

        def build(hparams: PyTree) -> Components:
            objective = two_rows(context, chosen, hparams)
            return balanced_components(context, objective, hparams, hparams["weight"], tasks)

        return Recipe("transfer", build, transfer_space(context, chosen), notion=chosen)

    return method


def sequential(penalties: Penalties | None = None, tasks: int | None = None) -> Method:
    """Fairness on one task first, then another task alone, from the parameters of the first stage.

    It shows how much fairness is left after fine-tuning.

    Hyper-parameters: ``weight``, ``lam`` and ``head_penalty_scale`` of the first stage;
    ``then [T]``, the weights of the second stage, which has no penalty; and ``until``, the number
    of blocks of training after which the second stage begins, with a fresh optimizer.

    Args:
      penalties: see :func:`transfer`.
      tasks: see :func:`transfer`.

    Reference:
      Aguirre, Dredze, 2023, which compares with intermediate-task training (Phang, Fevry, Bowman,
      2018).
    """

    def method(context: Context) -> Recipe:
        chosen = _penalties(context, penalties)

        def build(hparams: PyTree) -> Components:
            first = two_rows(context, chosen, hparams)

            def init(key: Array, data: Dataset) -> PyTree:
                return jnp.zeros((), bool), first.init(key, data)

            def apply(
                params: PyTree, batch: Dataset, key: Array, memory: tuple[Any, ...]
            ) -> tuple[tuple[Array, ...], PyTree]:
                in_second, counts = memory
                weight = jnp.where(in_second, hparams["then"], hparams["weight"])
                lam = (1.0 - in_second) * hparams["lam"]
                stage = hparams | {"weight": weight, "lam": lam}
                rows = two_rows(context, chosen, stage)
                values, counts = rows.apply(params, batch, key, counts)
                return values, (in_second, counts)

            objective = Objective(first.rows, init, apply)
            both_weights = hparams["weight"] + hparams["then"]
            components = balanced_components(context, objective, hparams, both_weights, tasks)

            def begin_second(key: Array, block: Array, state: State, data: PyTree) -> State:
                begins = block + 1 == hparams["until"]
                opt_state = jax.tree.map(
                    lambda new, old: jnp.where(begins, new, old),
                    components.transform.init(state.params),
                    state.opt_state,
                )
                in_second, counts = state.memory
                memory = (in_second | begins, counts)
                return state._replace(opt_state=opt_state, memory=memory)

            return components._replace(events=(begin_second,))

        space = transfer_space(context, chosen)
        space |= {"then": weight_range(context.spec), "until": Range(1.0)}
        return Recipe("sequential", build, space, notion=chosen)

    return method


def two_rows(context: Context, penalties: Sequence[Penalty], hparams: PyTree) -> Objective:
    """Two rows: the loss that the trunk descends, and the loss that the heads descend.

    They differ in the scale of the penalties.
    """
    spec = context.spec
    fairness = fairness_terms(
        spec, penalties, reduction=context.reduction, batch_size=context.batch_size
    )
    weight = hparams["weight"]

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, Array], PyTree]:
        scores = model_scores(context.model, params, batch.x, key)
        predictions = predict(spec, scores)
        accuracy = accuracy_terms(spec, predictions, batch, context.reduction, context.supervision)
        values, memory = fairness.apply(predictions, batch, memory)
        loss = sum(weight[t] * accuracy[t] for t in range(len(spec.tasks)))
        penalty = jnp.zeros(())
        for p, value in enumerate(values):
            task = penalties[p].task
            penalty = penalty + weight[task] * hparams["lam"][p] * value
        trunk_loss = loss + penalty
        heads_loss = loss + hparams["head_penalty_scale"] * penalty
        return (trunk_loss, heads_loss), memory

    return Objective(("trunk", "heads"), lambda key, data: fairness.init(data), apply)


def balanced_components(
    context: Context, objective: Objective, hparams: PyTree, weight: Array, tasks: int | None
) -> Components:
    """Components of a method with a row for the trunk and a row for the heads.

    Batches are balanced over tasks.
    """
    routes = route({"trunk": 0, "heads": 1})
    optimizer = context.optimizer(hparams)
    if tasks is None:
        sampler = samplers.balanced(context.spec)
    else:
        sampler = samplers.balanced(context.spec, weight, tasks)
    return Components(
        context.model,
        objective,
        optax.chain(routes, optimizer),
        sampler=sampler,
    )


def transfer_space(context: Context, penalties: Sequence[Penalty]) -> dict[str, Range]:
    """The hyper-parameters of :func:`transfer`."""
    labels = tuple(_label(context.spec, penalty) for penalty in penalties)
    return {
        "weight": weight_range(context.spec),
        "lam": Range(np.ones(len(penalties)), 0.0, 5.0, labels=labels),
        "head_penalty_scale": Range(1.0, 0.0, 1.0),
        **context.hparams,
    }


def settings(
    variant: str,
    spec: Spec,
    penalties: Sequence[Penalty],
    target: int,
    auxiliary: int | None = None,
    *,
    lam: float = 1.0,
    head_penalty_scale: float = 1.0,
    attributes: tuple[int, ...] = (0,),
) -> dict[str, np.ndarray | np.float32]:
    """``weight``, ``lam`` and ``head_penalty_scale`` of a variant, for :func:`transfer`.

    Args:
      variant: one of ``VARIANTS``.
      spec: names the tasks.
      penalties: those of the method.
      target: the task that is to become fairer.
      auxiliary: the other task, of the ``mtl_`` variants.
      lam: strength of the penalty.
      head_penalty_scale: the share of the penalty that reaches the heads.
      attributes: those of the penalty; ``mtl_inter`` penalises the target on the first and the
        auxiliary on the others.

    Raises:
      ValueError: an unknown variant, no auxiliary task where one is needed, or a penalty that the
        method does not have.
    """
    if variant not in VARIANTS:
        allowed = ", ".join(VARIANTS)
        raise ValueError(
            f"variant {variant!r} is not one of {allowed}; sequential and blind are methods"
        )
    if variant.startswith("mtl") and auxiliary is None:
        raise ValueError(f"{variant} learns two tasks: give auxiliary=")
    needed_by_variant = {
        "stl_fair": [(target, attributes)],
        "stl_inter": [(target, attributes)],
        "mtl_fair": [(auxiliary, attributes)],
        "mtl_inter": [(target, attributes[:1]), (auxiliary, attributes[1:])],
    }
    needed = needed_by_variant.get(variant, [])
    present = [(p.task, _attributes(spec, p.notion)) for p in penalties]
    for task, over in needed:
        if (task, over) not in present:
            name = spec.tasks[task].name
            raise ValueError(
                f"{variant} needs a penalty on task {task} ({name!r}) over attributes {over}; the "
                f"method has penalties (task, attributes) {present}"
            )
    weight = np.zeros(len(spec.tasks), np.float32)
    weight[target] = 1.0
    if not variant.startswith("stl"):
        weight[auxiliary] = 1.0
    return {
        "weight": weight,
        "lam": np.array([lam * (penalty in needed) for penalty in present], np.float32),
        "head_penalty_scale": np.float32(head_penalty_scale),
    }


def _penalties(context: Context, penalties: Penalties | None) -> tuple[Penalty, ...]:
    if penalties is None:
        notion = differential_fairness()
        tasks = enumerate(context.spec.tasks)
        penalties = [Penalty(t, notion) for t, task in tasks if task.kind != "regression"]
    return fairness_terms(context.spec, penalties).penalties


def _attributes(spec: Spec, notion: Notion) -> tuple[int, ...]:
    if notion.attributes is not None:
        return tuple(notion.attributes)
    return tuple(level_attributes(spec))


def _label(spec: Spec, penalty: Penalty) -> str:
    """A penalty in a table of runs: the name of its task, and of the attributes that it names."""
    name = spec.tasks[penalty.task].name
    if penalty.notion.attributes is None:
        return name
    names = [spec.attributes[i].name for i in penalty.notion.attributes]
    attributes = " & ".join(names)
    return f"{name} by {attributes}"
