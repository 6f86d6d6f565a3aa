"""The teacher of L2T-FMT: a Q-network that tells how much each task gains by either loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import glorot_uniform

from fairjax.core.types import Array, PyTree
from fairjax.gradients.gram_matrix import combine
from fairjax.methods.balance import balanced_weights, pace_of

ACTIONS = 2  # learn from the accuracy loss, learn from the fairness loss
DISCOUNT = 0.9


class Body(nn.Module):
    """Layers that all tasks share: ``[..., D] -> [..., widths[-1]]``.

    Every layer but the last one is normalised.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        last = len(self.widths) - 1
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, kernel_init=glorot_uniform(), name=f"dense_{i}")(x)
            if i < last:
                x = nn.LayerNorm(epsilon=1e-5, name=f"norm_{i}")(x)
            x = nn.relu(x)
        return x


class Lesson(NamedTuple):
    """What a step tells the teacher, or the sum over steps."""

    error: Array  # [T], mean squared error over both actions
    trunk: PyTree  # gradients of every task's error, leaves [T, ...]
    heads: PyTree  # leaves [T, ...]; a head is moved by its own task alone
    steps: Array  # [], steps that were added up


class Learner(NamedTuple):
    """A teacher in training."""

    params: PyTree  # {"trunk": ..., "heads": leaves [T, ...]}
    opt_state: PyTree
    omega: Array  # [T], weights of the tasks' errors on the trunk, see methods.balance
    first: Array  # [T], first errors


class Teacher(NamedTuple):
    """A Q-network of T tasks as pure functions."""

    init: Callable[[Array], Learner]
    blank: Callable[[], Lesson]  # the sum of no lessons
    values: Callable[[PyTree, Array], Array]  # params, state [T, D] -> Q [T, 2]
    # params, state [T, D], reward [T, 2], state after either action [2, T, D]
    lesson: Callable[..., Lesson]
    learn: Callable[[Learner, Lesson], Learner]  # from the sum of an epoch's lessons


def teacher(tasks: int, width: int, widths: tuple[int, ...]) -> Teacher:
    """The teacher: shared layers, and per task a linear head of two values.

    A lesson's target is ``R_ta + 0.9 max_b Q_t(s_ta)_b`` for both actions a, a constant. The error
    is the mean squared distance. At the end of an epoch AdamW takes one step by the mean over its
    lessons. The targets of an epoch are those of the teacher at its start, so that the sum of
    gradients stands for all transitions and no buffer is needed. There is no replay and no second
    network.

    Args:
      tasks: T.
      width: D, of a state.
      widths: of the shared layers.

    Source: Roy, Ntoutsi, ECML-PKDD 2022.
    """
    body = Body(widths)
    # the defaults of AdamW where it was published
    optimizer = optax.adamw(1e-3, weight_decay=1e-2)

    def init(key: Array) -> Learner:
        trunk_key, head_key = jax.random.split(key)
        trunk = body.init(trunk_key, jnp.zeros(width))["params"]
        keys = jax.random.split(head_key, tasks)
        shape = (widths[-1], ACTIONS)
        kernel = jax.vmap(lambda k: glorot_uniform()(k, shape))(keys)
        heads = {"kernel": kernel, "bias": jnp.zeros((tasks, ACTIONS))}
        params = {"trunk": trunk, "heads": heads}
        omega = jnp.full(tasks, 1.0 / tasks)
        return Learner(params, optimizer.init(params), omega, jnp.zeros(tasks))

    def blank() -> Lesson:
        params = jax.eval_shape(init, jax.random.key(0)).params
        trunk = jax.tree.map(lambda leaf: jnp.zeros((tasks, *leaf.shape)), params["trunk"])
        heads = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params["heads"])
        return Lesson(jnp.zeros(tasks), trunk, heads, jnp.zeros(()))

    def value(trunk: PyTree, head: PyTree, state: Array) -> Array:
        z = body.apply({"params": trunk}, state)
        return z @ head["kernel"] + head["bias"]

    def values(params: PyTree, state: Array) -> Array:
        of_tasks = jax.vmap(value, (None, 0, 0))
        return of_tasks(params["trunk"], params["heads"], state)

    def error(trunk: PyTree, head: PyTree, state: Array, target: Array) -> Array:
        distance = value(trunk, head, state) - target
        return jnp.mean(jnp.square(distance))

    def lesson(params: PyTree, state: Array, reward: Array, state_after: Array) -> Lesson:
        after_atb = jax.vmap(values, (None, 0))(params, state_after)
        best_at = jnp.max(after_atb, axis=-1)
        target_ta = reward + DISCOUNT * best_at.T
        of_tasks = jax.vmap(jax.value_and_grad(error, (0, 1)), (None, 0, 0, 0))
        error_t, (trunk, heads) = of_tasks(params["trunk"], params["heads"], state, target_ta)
        return Lesson(error_t, trunk, heads, jnp.ones(()))

    def learn(learner: Learner, lessons: Lesson) -> Learner:
        def mean(total: Array) -> Array:
            return total / jnp.maximum(lessons.steps, 1.0)

        trunk_rows = jax.tree.map(mean, lessons.trunk)
        pace, first = pace_of(mean(lessons.error), learner.first)
        omega = balanced_weights(learner.omega, row_norms(trunk_rows), pace)
        gradient = {
            "trunk": jax.tree.map(lambda rows: combine(omega, rows), trunk_rows),
            "heads": jax.tree.map(mean, lessons.heads),
        }
        updates, opt_state = optimizer.update(gradient, learner.opt_state, learner.params)
        params = optax.apply_updates(learner.params, updates)
        return Learner(params, opt_state, omega, first)

    return Teacher(init, blank, values, lesson, learn)


def row_norms(rows: PyTree) -> Array:
    """Norms ``[K]`` of rows whose leaves are ``[K, ...]``."""
    squares = [
        jnp.sum(jnp.square(leaf), axis=range(1, leaf.ndim)) for leaf in jax.tree.leaves(rows)
    ]
    return jnp.sqrt(sum(squares))
