"""Samplers against counting in numpy: who is in a batch, how often, and in which order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, tabular_spec

from fairjax.core.types import Components, Recipe, Splits
from fairjax.gradients import sum_rows
from fairjax.models import shared_bottom
from fairjax.notions import differential as df
from fairjax.objectives import Penalty, objective, per_task
from fairjax.training import State, TrainConfig, make_train, samplers

SPEC = tabular_spec(3)
N, STATIC = 60, TrainConfig(4, 8, 2)
POOLS = {0: np.arange(0, 40), 1: np.arange(40, 55), 2: np.arange(55, 58)}  # two rows know nothing


def disjoint():
    data = dataset(SPEC, N, 0)
    mask = np.zeros((N, 3), np.float32)
    for t, rows in POOLS.items():
        mask[rows, t] = 1.0
    return data._replace(
        label_mask=mask,
        labels=np.where(mask > 0, data.labels, np.nan),
        weight=np.ones(N, np.float32),
    )


DATA = disjoint()
STEPS = 2 * 8  # two epochs of eight batches


def taken(sampler, block=0, state=None, data=DATA, key=0):
    made = jax.jit(lambda k, b: sampler(STATIC, k, b, state, data))(jax.random.key(key), block)
    return jax.tree.map(np.asarray, made)


def drawn_tasks(sampler, state=None, data=DATA):
    """The tasks of all steps of forty blocks."""
    made = jax.jit(jax.vmap(lambda b: sampler(STATIC, jax.random.key(0), b, state, data)))(
        jnp.arange(40)
    )
    return task_of(np.asarray(made.rows))[:, :, 0].ravel()


def task_of(rows):
    return np.select([np.isin(rows, POOLS[t]) for t in POOLS], list(POOLS), -1)


def test_shuffled_passes_over_all_rows_every_epoch():
    got = taken(samplers.shuffled)
    assert got.rows.shape == (STEPS, 8) and (got.labels == 1).all()
    for epoch in got.rows.reshape(2, -1):
        np.testing.assert_array_equal(np.sort(epoch), [*range(N), *[N] * 4])
    assert (taken(samplers.shuffled, 1).rows != got.rows).any()


def test_balanced_batches_hold_every_task_alike():
    got, counts = taken(samplers.balanced(SPEC)), (3, 3, 2)
    tasks = task_of(got.rows)
    for t, count in enumerate(counts):
        assert ((tasks == t).sum(axis=1) == count).all()
        mine = got.rows[tasks == t]
        whole = (
            len(mine) // len(POOLS[t]) * len(POOLS[t])
        )  # passes through the pool, each without repetition
        for one in mine[:whole].reshape(-1, len(POOLS[t])):
            np.testing.assert_array_equal(np.sort(one), POOLS[t])


def test_a_batch_has_room_for_every_task():
    with pytest.raises(ValueError, match="a batch of 2 rows cannot hold one of each of 3 tasks"):
        samplers.balanced(SPEC)(TrainConfig(1, 2), jax.random.key(0), 0, None, DATA)


def test_a_task_has_the_same_rows_whatever_stands_beside_it():
    made = {
        weight: taken(samplers.balanced(SPEC, jnp.float32(weight), 2)).rows
        for weight in ((1, 0, 2), (1, 1, 0), (0, 0, 1), (0, 1, 0))
    }
    for weight, rows in made.items():
        tasks = task_of(rows)
        for t in range(3):
            assert ((tasks == t).sum(axis=1) == 4 * (weight[t] > 0)).all()
        assert ((rows == N).sum(axis=1) == 8 - 4 * np.count_nonzero(weight)).all()

    def of(t, rows):
        return rows[task_of(rows) == t]

    np.testing.assert_array_equal(of(0, made[1, 0, 2]), of(0, made[1, 1, 0]))
    np.testing.assert_array_equal(of(2, made[1, 0, 2]), of(2, made[0, 0, 1]))
    np.testing.assert_array_equal(of(1, made[0, 1, 0]), of(1, made[1, 1, 0]))


def test_alternating_takes_the_tasks_in_turn_and_goes_on_in_the_next_block():
    both = [taken(samplers.alternating(SPEC), block) for block in (0, 1)]
    order = np.concatenate([task_of(b.rows) for b in both])
    assert (order == (np.arange(2 * STEPS) % 3)[:, None]).all()
    np.testing.assert_array_equal(both[0].labels, np.eye(3)[np.arange(STEPS) % 3])


def test_proportional_draws_a_task_as_often_as_it_has_rows():
    tasks = drawn_tasks(samplers.proportional(SPEC))
    share = np.bincount(tasks, minlength=3) / len(tasks)
    want = np.array([40, 15, 3]) / 58
    assert np.abs(share - want).max() < 4 * np.sqrt(want * (1 - want) / len(tasks)).max()


def test_dynamic_begins_in_proportion_and_then_draws_what_lags_behind():
    splits = Splits(DATA, DATA, DATA)
    sampler = samplers.dynamic(SPEC, lambda params, rows: params, temperature=0.1)

    def share(step, score):
        state = State(jnp.float32(score), (), (), jnp.int32(step))
        return np.bincount(drawn_tasks(sampler, state, splits), minlength=3) / (40 * STEPS)

    np.testing.assert_allclose(share(0, [0.9, 0.5, 0.9]), np.array([40, 15, 3]) / 58, atol=0.08)
    worth = np.exp((np.mean([0.9, 0.7, 0.9]) - np.array([0.9, 0.7, 0.9])) / 0.1)
    np.testing.assert_allclose(share(16, [0.9, 0.7, 0.9]), worth / worth.sum(), atol=0.08)
    alone = DATA._replace(label_mask=DATA.label_mask * np.float32([1, 1, 0]))
    unknown = drawn_tasks(
        sampler,
        State(jnp.float32([0.9, 0.8, np.nan]), (), (), jnp.int32(16)),
        Splits(alone, alone, alone),
    )
    np.testing.assert_allclose((unknown == 1).mean(), 1 / (1 + np.exp(-1)), atol=0.08)
    with pytest.raises(ValueError, match="looks at validation rows: give train all Splits"):
        taken(sampler, 0, State((), (), (), jnp.int32(0)), DATA)


@pytest.mark.parametrize("make", [samplers.balanced, samplers.alternating, samplers.proportional])
def test_a_task_without_rows_is_padding_or_never_drawn(make):
    mask = np.array(DATA.label_mask)
    mask[:, 2] = 0
    rows = taken(make(SPEC), data=DATA._replace(label_mask=mask)).rows
    tasks = task_of(rows)
    assert not (tasks == 2).any() and ((tasks >= 0) | (rows == N)).all()
    if make is samplers.alternating:
        assert (rows[2::3] == N).all()
    else:
        assert (rows < N).all()


def test_labels_of_other_tasks_do_not_count_in_a_step_of_one_task():
    """Rows that know every label: a step of one task must not move the others."""
    whole = dataset(SPEC, N, 0)

    def build(hparams):
        model = shared_bottom(SPEC, (4,), (), 2)
        known = objective(
            model,
            ("known",),
            lambda scores, batch: (jnp.sum(scores) * 0 + jnp.sum(batch.label_mask[:, 1]),),
        )
        return Components(
            model,
            known,
            optax.chain(sum_rows(), optax.sgd(0.0)),
            sampler=samplers.alternating(SPEC),
        )

    train = make_train(TrainConfig(3, 8, 3), Recipe("it", build, {}))
    values = jax.jit(train)(jax.random.key(0), jax.random.key(1), {}, whole).values
    per_step = np.asarray(whole.label_mask[:, 1]).mean() * 8
    assert 0.2 * per_step < values[0, 0] < 0.45 * per_step  # a third of the steps


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [None, samplers.proportional(SPEC)])
def test_a_run_gone_on_with_is_the_run_that_never_stopped(sampler):
    """Parameters, optimizer, running counts and step: two halves equal the whole bit for bit."""
    model = shared_bottom(SPEC, (4,), (), 2)

    def build(hparams):
        counting = df.differential_fairness(df.parity, attributes=(0,), burn_in=5)
        fair = per_task(
            model, SPEC, notion=[Penalty(1, counting)], lam=hparams["lam"], batch_size=8
        )
        return Components(model, fair, optax.chain(sum_rows(), optax.adam(0.01)), sampler=sampler)

    recipe, keys, hparams = (
        Recipe("it", build, {}),
        (jax.random.key(0), jax.random.key(1)),
        {"lam": jnp.ones(3)},
    )
    whole = jax.jit(make_train(TrainConfig(4, 8, 2), recipe))(*keys, hparams, DATA)
    half = jax.jit(make_train(TrainConfig(2, 8, 2), recipe))
    first = half(*keys, hparams, DATA)
    second = half(*keys, hparams, DATA, first.state)
    jax.tree.map(np.testing.assert_array_equal, second.state, whole.state)
    np.testing.assert_array_equal(np.concatenate([first.values, second.values]), whole.values)
    ((counted,),) = whole.state.memory
    assert int(counted.steps) > 5 and not np.array_equal(
        counted.joint, first.state.memory[0][0].joint
    )
    afresh = half(*keys, hparams, DATA, first.state._replace(memory=model_memory(recipe, hparams)))
    assert not np.array_equal(afresh.state.memory[0][0].joint, counted.joint)


def model_memory(recipe, hparams):
    return recipe.build(hparams).objective.init(jax.random.key(0), DATA)
