"""FAFS: a network that branches where tasks find other rows hard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.masked import divide, keep, weighted_mean
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
    Splits,
)
from fairjax.gradients import on_branches
from fairjax.losses import against_rest
from fairjax.methods._branching import (
    divided,
    groups_above,
    record_branches,
    refuse_unbranchable,
    rows_at,
    smallest_tasks,
)
from fairjax.methods._clusters import spectral_clusters
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    weight_range,
)
from fairjax.models import branched
from fairjax.models import scores as model_scores
from fairjax.objectives import Predictions, predict
from fairjax.training.loop import State

DECAY = 0.99
STARTS = 5
LOWEST_COST = 0.5
HIGHEST_COST = 1 / 64


def fafs(notion: SweptNotions, *, every: int = 3, first: int = 1) -> Method:
    """A network whose tasks part, from the top downwards, where other rows are hard for them.

    A layer divides into the clusters of least cost ``(C - 1) c_l + alpha S``: C clusters cost
    columns, and S says how unlike the tasks of a cluster are, see :func:`cost_of_clusters`. With
    one cluster the network is complete and never branches again.

    Hyper-parameters: ``weight``, ``lam``, and ``alpha``, how much unlike tasks cost: 1 to 2 as
    published. The published form has no fairness loss: that is ``lam = 0``.

    Args:
      notion: of the fairness losses.
      every: blocks (epochs) between two branchings; published are 1000 updates.
      first: the lowest layer that may branch.

    Source: Lu, Kumar, Zhai, Cheng, Javidi, Feris, Fully-adaptive feature sharing in multi-task
    networks, CVPR 2017. Its thin network, initialised from a wide one by SOMP, is left out: the
    study gives the network. Of five starts of k-means the one of least cost counts.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        model = branched(context.model, spec)
        refuse_unbranchable(spec, model.layers, first)
        names = [task.name for task in spec.tasks]
        event = branch_by_errors(model, every, first)

        def build(hparams: PyTree) -> Components:
            rows = rows_at(context, model, notion, hparams)
            link = on_branches(names, model.layers, gate=False, surgery=False)

            def branch(key: Array, block: Array, state: State, data: Splits | Dataset) -> State:
                del data
                return event(key, block, state, hparams["alpha"])

            return Components(
                model,
                with_errors(rows, model, spec),
                optax.chain(link, context.optimizer(hparams)),
                (branch,),
                record_branches,
            )

        space = {
            "weight": weight_range(spec),
            "lam": lam_range(spec),
            "alpha": Range(1.0, 1.0, 2.0),
            **context.hparams,
        }
        return Recipe("fafs", build, space, notion=notion)

    return method


# ----------------------------------------------------------------------- which rows tasks find hard


class Errors(NamedTuple):
    """Sums over rows seen so far, older batches decayed by ``DECAY`` a step."""

    margin: Array  # [T]
    known: Array  # [T], weight of the rows whose label is known
    alike: Array  # [T, T], weight of the rows that are hard for both tasks or easy for both
    pairs: Array  # [T, T], weight of the rows whose labels both are known


def no_errors(tasks: int) -> Errors:
    """The sums before the first batch."""
    per_task, per_pair = jnp.zeros(tasks), jnp.zeros((tasks, tasks))
    return Errors(per_task, per_task, per_pair, per_pair)


def margins(spec: Spec, predictions: Predictions, batch: Dataset) -> tuple[Array, Array]:
    """How far predictions are from labels, ``[B, T]``, and which labels are known, ``[B, T]``.

    ``|label - probability|``; classes and labels by their mean, each against the rest; a regression
    by the distance of its score.
    """
    margin, known = [], []
    for t, prob in enumerate(predictions.probabilities):
        label, mask = against_rest(spec, t, batch.labels, batch.label_mask)
        distance = jnp.abs(keep(label, mask) - prob)
        margin.append(weighted_mean(distance.T, mask.T))
        known.append(jnp.max(mask, axis=1))
    return jnp.stack(margin, axis=1), jnp.stack(known, axis=1)


def with_batch(errors: Errors, margin: Array, known: Array, weight: Array) -> Errors:
    """The sums after another batch. A row is hard where its margin reaches the running mean.

    Args:
      errors: before; the running mean includes the batch.
      margin: ``[B, T]``.
      known: ``[B, T]``.
      weight: ``[B]``.
    """
    counted = known * weight[:, None]
    margin_sum = DECAY * errors.margin + jnp.sum(counted * margin, axis=0)
    known_sum = DECAY * errors.known + jnp.sum(counted, axis=0)
    is_hard = margin >= divide(margin_sum, known_sum)
    hard, easy = known * is_hard, known * ~is_hard

    def both(sort: Array) -> Array:
        return jnp.matmul((sort * weight[:, None]).T, sort, precision="highest")

    alike = DECAY * errors.alike + both(hard) + both(easy)
    return Errors(margin_sum, known_sum, alike, DECAY * errors.pairs + both(known))


def affinity(errors: Errors) -> Array:
    """``A_ij = P(hard for both) + P(easy for both)`` among rows with both labels, ``[T, T]``.

    It is 0 for tasks without such rows: nothing says that they are alike.
    """
    return divide(errors.alike, errors.pairs)


def with_errors(inner: Objective, model: Model, spec: Spec) -> Objective:
    """The objective, whose memory also has :class:`Errors` and whether the network is complete."""

    def init(key: Array, data: Dataset) -> PyTree:
        memory = inner.init(key, data)
        errors = no_errors(len(spec.tasks))
        return {**memory, "errors": errors, "complete": jnp.zeros((), bool)}

    def apply(params: PyTree, batch: Dataset, key: Array, memory: PyTree) -> tuple[Any, ...]:
        values, changed = inner.apply(params, batch, key, memory)
        # the scores are those of the losses, so XLA computes them once
        scores = jax.lax.stop_gradient(model_scores(model, params, batch.x, key))
        margin, known = margins(spec, predict(spec, scores), batch)
        errors = with_batch(memory["errors"], margin, known, batch.weight)
        return values, {**memory, **changed, "errors": errors}

    return Objective(inner.rows, init, apply)


# -------------------------------------------------------------------------------------- the event


def between_branches(affinity: Array, group: Array) -> Array:
    """``[T, T]``: the affinity of branches, at the labels of both; 0 where one does not exist.

    ``A_jk = (a_jk + a_kj) / 2`` with ``a_jk`` the mean over tasks of j of the least affinity with a
    task of k.

    Args:
      affinity: ``[T, T]`` of tasks.
      group: ``[T]`` labels.
    """
    index = jnp.arange(len(group))
    is_member = group[:, None] == index[None, :]  # [task, branch]
    least = jnp.min(jnp.where(is_member[None], affinity[:, :, None], jnp.inf), axis=1)
    size = jnp.sum(is_member, axis=0)
    least = jnp.where(size > 0, least, 0.0)  # [task, branch]
    mean = divide(jnp.matmul(1.0 * is_member.T, least, precision="highest"), size[:, None])
    return (mean + mean.T) / 2


def cost_of_clusters(
    affinity: Array, cluster: Array, exists: Array, column_cost: Array, alpha: Array
) -> Array:
    """``(C - 1) c + alpha mean_clusters (1 - mean_members least affinity in the cluster)``.

    The least affinity of a member includes that with itself, which is below 1 for a branch of
    tasks that differ.

    Args:
      affinity: ``[T, T]`` of branches.
      cluster: ``[T]``, in 0 ... T - 1.
      exists: ``[T]``, which branches there are.
      column_cost: c.
      alpha: how much unlike tasks cost.
    """
    mates = (cluster[:, None] == cluster[None, :]) & exists[None, :]
    least = jnp.min(jnp.where(mates, affinity, jnp.inf), axis=1)
    member = jax.nn.one_hot(cluster, len(cluster)) * exists[:, None]
    size = jnp.sum(member, axis=0)
    count = jnp.sum(size > 0)
    mean = divide(jnp.where(exists, least, 0.0) @ member, size)
    unlike = jnp.sum(jnp.where(size > 0, 1.0 - mean, 0.0)) / count
    return (count - 1) * column_cost + alpha * unlike


def column_costs(depth: int, first: int) -> np.ndarray:
    """What another column costs in every layer ``[D]``: 1/2 in the lowest that may branch.

    It halves from layer to layer upwards, down to 1/64.
    """
    height = np.arange(depth) - first
    return np.maximum(LOWEST_COST * 0.5**height, HIGHEST_COST)


def cheapest_groups(
    key: Array, affinity: Array, group: Array, column_cost: Array, alpha: Array
) -> Array:
    """The groups of least cost among spectral clusterings into 1 ... T clusters.

    Args:
      key: of the starts of k-means.
      affinity: ``[T, T]`` of tasks.
      group: ``[T]`` labels of the branches that are merged.
      column_cost: of one more column.
      alpha: how much unlike tasks cost.

    Returns:
      ``[T]`` labels; of equal costs those of fewest clusters.
    """
    tasks = len(group)
    exists = group == jnp.arange(tasks)
    branches = between_branches(affinity, group)
    counts = jnp.arange(1, tasks + 1)
    clusterings = spectral_clusters(key, branches, exists, counts, STARTS).reshape(-1, tasks)
    cost = jax.vmap(
        lambda cluster: cost_of_clusters(branches, cluster, exists, column_cost, alpha)
    )(clusterings)
    cluster = clusterings[jnp.argmin(cost)]
    return smallest_tasks(cluster[group])


def branch_by_errors(
    model: Model, every: int, first: int
) -> Callable[[Array, Array, State, Array], State]:
    """The event that divides the next layer into the groups of least cost.

    Args:
      model: a branched model.
      every: blocks between two branchings.
      first: the lowest layer that may branch.

    Returns:
      ``(key, block, state, alpha) -> state``.
    """
    costs = column_costs(len(model.layers), first)

    def event(key: Array, block: Array, state: State, alpha: Array) -> State:
        branches = state.memory["branches"]
        is_complete = state.memory["complete"]
        layer = branches.next_layer
        above = groups_above(branches)
        alike = affinity(state.memory["errors"])
        # an index below 0 would be the top layer; the event is not due then
        cost = jnp.asarray(costs, jnp.float32)[jnp.maximum(layer, 0)]
        groups = cheapest_groups(key, alike, above, cost, alpha)
        is_due = ((block + 1) % every == 0) & (layer >= first) & ~is_complete
        divides = is_due & (jnp.max(groups) > 0)
        branches = divided(branches, groups, divides)
        is_complete = is_complete | (is_due & ~divides)
        memory = {**state.memory, "branches": branches, "complete": is_complete}
        return state._replace(memory=memory)

    return event
