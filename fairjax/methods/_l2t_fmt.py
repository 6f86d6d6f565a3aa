"""L2T-FMT: a teacher tells every task in every step which of its two losses to learn from."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import group_mean, keep, weighted_mean
from fairjax.core.types import (
    Array,
    Components,
    DataError,
    Dataset,
    Model,
    Objective,
    PyTree,
    Recipe,
    Spec,
    Splits,
)
from fairjax.gradients import check_rows
from fairjax.gradients.gram_matrix import combine
from fairjax.methods.balance import balanced_weights, pace_of
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    notion_at,
    weight_range,
)
from fairjax.methods.teacher import ACTIONS, Learner, Lesson, Teacher, row_norms, teacher
from fairjax.models import scores as model_scores
from fairjax.notions import negatives, positives
from fairjax.notions.gaps import difference
from fairjax.objectives import per_task
from fairjax.training.loop import State

TRIAL_RATE = 1e-3  # of a hypothetical step
WIDTHS = (512, 512, 256)


class Quality(NamedTuple):
    """How good decisions are; 1 is perfect in both."""

    accuracy: Array
    fairness: Array  # 1 - (gap of true positive rates + gap of false positive rates)


class Classroom(NamedTuple):
    """Memory of the objective: what changes between epochs, and the notion's counts."""

    counts: PyTree  # memory of the fairness terms
    learner: Learner
    best: Quality  # [T] each, on validation rows; 0 before the first epoch has ended


class Student(NamedTuple):
    """State of the link: what changes in every step."""

    action: Array  # [T], 0 for accuracy and 1 for fairness, of the last step
    omega: Array  # [T], weights of the tasks on the trunk
    first: Array  # [2T], first values of the losses
    lessons: Lesson  # the sum of this epoch's lessons


def l2t_fmt(notion: SweptNotions, *, widths: tuple[int, ...] = WIDTHS) -> Method:
    """Learning to teach: ``sum_t T w_t omega_t g_t``, with ``g_t`` of ``L_t`` or ``lam_t F_t``.

    A Q-network that learns beside the network reads the parameters of a task's head and chooses the
    loss with the larger value; ties go to accuracy. Per step, task and loss one step of a fresh
    Adam is tried on the same batch. Its reward is the smaller of the relative gains in accuracy and
    in equalized odds of decisions, over the best of the validation rows so far. Both actions are
    lessons, whatever was chosen. See :func:`fairjax.methods.teacher.teacher`. The teacher learns,
    and the best is measured, at the end of every block of training, an epoch by default.

    The weights ``omega`` add up to 1 and even out gradient norms of the trunk; see
    :mod:`fairjax.methods.balance`. Heads take ``T w_t g_t``. At the default weights ``T w_t`` is 1.
    The published form has ``lam = 1``.

    Defects of the published code that are not here: the gradients of its trunk are lost, so that
    the trunk never trains; here it trains. Its fairness loss and its measure take rows of the batch
    by numbers within a group; here both use the rows of each label and group. Its first best
    fairness is the violation itself; here gains are relative to 1 until there is a best. It divides
    the first value of one loss into the other; here each loss has its own.

    One difference: the state is the head before the step, where the teacher chooses, and not after
    it. The hypothetical steps then need no other gradients than the step itself.

    Hyper-parameters: ``weight`` and ``lam``, each per task.

    Args:
      notion: of the fairness losses.
      widths: of the teacher's shared layers.

    Raises:
      DataError: a task is not binary.

    Reference:
      Roy, Ntoutsi: Learning to teach fairness-aware deep multi-task learning, ECML-PKDD 2022.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        model = context.model
        _refuse_other_kinds(spec)
        tasks = len(spec.tasks)
        params = jax.eval_shape(model.init, jax.random.key(0))
        states = jax.eval_shape(lambda heads: head_states(spec, heads), params["heads"])
        guide = teacher(tasks, states.shape[1], widths)

        def build(hparams: PyTree) -> Components:
            losses = per_task(
                model,
                spec,
                notion=notion_at(notion, hparams),
                lam=hparams["lam"],
                split=True,
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
            )
            weight = tasks * hparams["weight"]
            link = taught(spec, model, guide, weight)
            return Components(
                model,
                _with_teacher(losses, guide),
                optax.chain(link, context.optimizer(hparams)),
                events=(end_of_epoch(spec, model, guide),),
            )

        space = {
            "weight": weight_range(spec),
            "lam": lam_range(spec),
            **context.hparams,
        }
        return Recipe("l2t_fmt", build, space, notion=notion)

    return method


def taught(
    spec: Spec, model: Model, guide: Teacher, weight: Array
) -> optax.GradientTransformationExtraArgs:
    """The link of :func:`l2t_fmt`: 2T rows in, one update out.

    Args:
      spec: names the tasks.
      model: whose hypothetical steps are measured.
      guide: reads its parameters from ``memory``, a :class:`Classroom`.
      weight: factors of the tasks' gradients ``[T]``.

    Returns:
      An aggregator. ``update(rows, state, params, values=, memory=, batch=)`` takes the gradients
      ``[2T, ...]`` of ``L_t`` of all tasks, then of ``lam_t F_t``. Its state is a
      :class:`Student`.
    """
    tasks = len(spec.tasks)

    def init_fn(params: PyTree) -> Student:
        del params
        return Student(
            action=jnp.zeros(tasks, jnp.int32),
            omega=jnp.full(tasks, 1.0 / tasks),
            first=jnp.zeros(ACTIONS * tasks),
            lessons=guide.blank(),
        )

    def update_fn(
        updates: PyTree,
        state: Student,
        params: PyTree | None = None,
        *,
        values: Array,
        memory: Classroom,
        batch: Dataset,
        **extra: Any,
    ):
        check_rows(updates, params, ACTIONS * tasks, extra.get("given_rows"))
        head_td = head_states(spec, params["heads"])
        value_ta = guide.values(memory.learner.params, head_td)
        action = jnp.argmax(value_ta, axis=1).astype(jnp.int32)

        after = steps_ahead(params, updates)
        reward_ta = rewards(spec, model, after, batch, memory.best)
        heads_after = jax.vmap(lambda heads: head_states(spec, heads))(after["heads"])
        head_atd = _own(heads_after, tasks)
        lesson = guide.lesson(memory.learner.params, head_td, reward_ta, head_atd)
        lessons = jax.tree.map(jnp.add, state.lessons, lesson)

        chosen = action * tasks + jnp.arange(tasks)
        rows = jax.tree.map(lambda leaf: leaf[chosen], updates)
        pace, first = pace_of(values, state.first)
        omega = balanced_weights(state.omega, row_norms(rows["trunk"]), pace[chosen])
        update = {
            "trunk": jax.tree.map(lambda leaf: combine(weight * omega, leaf), rows["trunk"]),
            "heads": jax.tree.map(lambda leaf: combine(weight, leaf), rows["heads"]),
        }
        return update, Student(action, omega, first, lessons)

    # optax knows no extra argument that has to be given
    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]


def head_states(spec: Spec, heads: PyTree) -> Array:
    """What the teacher sees of every task, ``[T, D]``: the parameters of its head in one vector.

    A shorter head is followed by zeros. Heads that are no dict by task stand for every task's.
    """
    vectors = []
    for task in spec.tasks:
        has_own = isinstance(heads, dict) and task.name in heads
        own = heads[task.name] if has_own else heads
        flat = [jnp.ravel(leaf) for leaf in jax.tree.leaves(own)]
        vectors.append(jnp.concatenate(flat))
    width = max(len(vector) for vector in vectors)
    return jnp.stack([jnp.pad(vector, (0, width - len(vector))) for vector in vectors])


def steps_ahead(params: PyTree, rows: PyTree) -> PyTree:
    """Parameters after one step of a fresh Adam along each row, leaves ``[K, ...]``.

    The first step of Adam is ``-rate g / (|g| + 1e-8)``.
    """

    def step(param: Array, row: Array) -> Array:
        return param - TRIAL_RATE * row / (jnp.abs(row) + 1e-8)

    return jax.tree.map(step, params, rows)


def rewards(spec: Spec, model: Model, after: PyTree, batch: Dataset, best: Quality) -> Array:
    """Rewards of both actions of every task, ``[T, 2]``.

    ``R_ta = min((A_ta - A*_t) / A*_t, (E_ta - E*_t) / E*_t)`` with accuracy A and fairness E on the
    batch, and their best on validation rows. A best of 0 is none yet, and 1 stands for it. It is 0
    for a task without labels in the batch.

    Args:
      spec: names the tasks.
      model: scores the batch.
      after: parameters after the hypothetical steps, leaves ``[2T, ...]``.
      batch: B rows.
      best: ``[T]`` each.
    """
    tasks = len(spec.tasks)
    scores = jax.vmap(lambda params: model_scores(model, params, batch.x))(after)
    scores = scores.reshape(ACTIONS, tasks, *scores.shape[1:])
    rows = []
    for t in range(tasks):
        of_task = jax.vmap(lambda score, t=t: quality(spec, t, score, batch))
        reached = of_task(scores[:, t])
        gain = jnp.minimum(
            _relative(reached.accuracy, best.accuracy[t]),
            _relative(reached.fairness, best.fairness[t]),
        )
        mask = batch.label_mask[:, spec.label_slice(t)][:, 0]
        has_labels = jnp.sum(batch.weight * mask) > 0
        rows.append(jnp.where(has_labels, gain, 0.0))
    return jnp.stack(rows)


def _relative(value: Array, best: Array) -> Array:
    reference = jnp.where(best > 0, best, 1.0)
    return (value - reference) / reference


def quality(spec: Spec, task: int, scores: Array, data: Dataset) -> Quality:
    """Accuracy and fairness of the decisions ``p >= 1/2`` on one task, two scalars.

    Fairness is 1 less the violation of equalized odds, ``TPR gap + FPR gap``, of the worst
    attribute with levels. A group without positives, or without negatives, is left out of that gap;
    between fewer than two groups there is none.

    Args:
      spec: names tasks and attributes.
      task: t.
      scores: of all tasks, ``[N, C]``.
      data: N rows.
    """
    column = spec.label_slice(task).start
    label = data.labels[:, column]
    mask = data.label_mask[:, column]
    is_positive = scores[:, spec.score_slice(task)][:, 0] >= 0
    decision = is_positive.astype(jnp.float32)
    is_right = (decision == keep(label, mask)).astype(jnp.float32)
    accuracy = weighted_mean(is_right, data.weight * mask)
    violation = jnp.zeros(())
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        block = data.groups[:, spec.group_slice(i)]
        gap = jnp.zeros(())
        for condition in (negatives, positives):
            weight = data.weight * condition(label, mask)
            gap = gap + difference(*group_mean(decision, block, weight))
        violation = jnp.maximum(violation, gap)
    return Quality(accuracy, 1.0 - violation)


def end_of_epoch(spec: Spec, model: Model, guide: Teacher):
    """The event after a block: the teacher learns from its lessons, and the best is measured.

    It is measured on the validation rows, or on the training rows where there are no others.
    """

    def event(key: Array, block: Array, state: State, data: Dataset | Splits) -> State:
        del key, block
        student, *others = state.opt_state
        learner = guide.learn(state.memory.learner, student.lessons)
        rows = data.validation if isinstance(data, Splits) else data
        scores = model_scores(model, state.params, rows.x)
        of_tasks = [quality(spec, t, scores, rows) for t in range(len(spec.tasks))]
        reached = jax.tree.map(lambda *values: jnp.stack(values), *of_tasks)
        best = jax.tree.map(jnp.maximum, state.memory.best, reached)
        student = student._replace(lessons=guide.blank())
        memory = state.memory._replace(learner=learner, best=best)
        return state._replace(opt_state=(student, *others), memory=memory)

    return event


def _with_teacher(losses: Objective, guide: Teacher) -> Objective:
    """The losses, with a teacher beside their counts in memory."""
    tasks = len(losses.rows) // ACTIONS

    def init(key: Array, data: Dataset) -> Classroom:
        counts_key, teacher_key = jax.random.split(key)
        counts = losses.init(counts_key, data)
        nothing = Quality(jnp.zeros(tasks), jnp.zeros(tasks))
        return Classroom(counts, guide.init(teacher_key), nothing)

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: Classroom
    ) -> tuple[tuple[Array, ...], Classroom]:
        values, counts = losses.apply(params, batch, key, memory.counts)
        return values, memory._replace(counts=counts)

    return Objective(losses.rows, init, apply)


def _own(states: Array, tasks: int) -> Array:
    """Of the states ``[2T, T, D]`` after the step of each row, that of the row's own task.

    ``[2, T, D]``.
    """
    by_action = states.reshape(ACTIONS, tasks, tasks, -1)
    own = jnp.diagonal(by_action, axis1=1, axis2=2)
    return jnp.moveaxis(own, -1, 1)


def _refuse_other_kinds(spec: Spec) -> None:
    others = [task.name for task in spec.tasks if task.kind != "binary"]
    if others:
        raise DataError(
            f"l2t_fmt measures yes-or-no decisions, but {len(others)} of {len(spec.tasks)} tasks "
            f"are not binary: {', '.join(others)}; leave them out, or take greedy_fmt"
        )
