"""L2T-FMT and Greedy-FMT: what is chosen, what is tried, what the teacher learns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, double, tabular_spec

from fairjax import methods, metrics, notions
from fairjax.core.types import Attribute, Columns, DataError, Dataset, Spec, Splits, Task
from fairjax.gradients import value_and_rows
from fairjax.methods._greedy_fmt import larger_of_pairs
from fairjax.methods._l2t_fmt import (
    Quality,
    head_states,
    l2t_fmt,
    quality,
    rewards,
    steps_ahead,
)
from fairjax.methods.balance import balanced_weights, pace_of
from fairjax.methods.teacher import teacher
from fairjax.models import scores as model_scores
from fairjax.models import shared_bottom
from fairjax.objectives import objective, per_task
from fairjax.training import TrainConfig, keys, make_train, start, sweep

SPEC = tabular_spec(2)
ODDS = notions.get("rate_gap", notions.CONDITIONS["odds"])
BATCH = 16
WIDTHS = (8, 8, 4)
SEED = 5


MAKERS = [
    pytest.param(methods.greedy_fmt, id="greedy_fmt"),
    pytest.param(
        lambda notion: l2t_fmt(notion, widths=WIDTHS), id="l2t_fmt", marks=pytest.mark.slow
    ),
]


def context(spec=SPEC, optimizer=None) -> methods.Context:
    model = shared_bottom(spec, (4,), (3,), 2)
    made = methods.Context.paper(spec, model, 0.05, BATCH)
    return made if optimizer is None else made._replace(optimizer=optimizer, hparams={})


def defaults(recipe, **values):
    space = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
    return space | {name: jnp.asarray(v, jnp.float32) for name, v in values.items()}


def splits(spec=SPEC, rows=40, **options) -> Splits:
    return Splits(*(dataset(spec, rows, seed, **options) for seed in range(3)))


def trained(recipe, hparams, data, epochs=2, watch=None):
    run = jax.jit(make_train(TrainConfig(epochs, BATCH), recipe, watch=watch))
    (key,), order_key = keys(0, np.array([SEED]))
    return run(key, order_key, hparams, data)


def first_state(recipe, hparams, data):
    """The state before the first step of :func:`trained`."""
    (key,), _ = keys(0, np.array([SEED]))
    init_key = jax.random.split(key, 3)[2]
    return jax.jit(lambda h: start(recipe.build(h), init_key, data.train))(hparams)


def all_finite(tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


# ------------------------------------------------------------------------------------------ greedy


@pytest.mark.parametrize(
    ("values", "total", "slopes"),
    [
        ((3.0, 1.0, 2.0, 4.0), 7.0, (1, 0, 0, 1)),
        ((3.0, 5.0, 2.0, 4.0), 8.0, (1, 1, 0, 0)),
        ((2.0, 1.0, 2.0, 4.0), 6.0, (1, 0, 0, 1)),  # a tie is the accuracy loss alone
    ],
)
def test_the_larger_of_two_losses_is_trained_and_nothing_of_the_other(values, total, slopes):
    names = ("a", "b", "fairness of a", "fairness of b")

    def losses(params, batch, key, memory):
        return tuple(params[k] for k in range(4)), memory

    pairs = objective(None, names, None)._replace(apply=losses)
    row = larger_of_pairs(pairs)
    assert row.rows == ("total",)
    value, slope = jax.value_and_grad(lambda p: row.apply(p, None, None, ())[0][0])(
        jnp.array(values)
    )
    assert value == total
    np.testing.assert_array_equal(slope, slopes)


def test_greedy_follows_the_larger_loss_of_every_task():
    """In float64: losses of 99 times a gap leave few digits of float32."""
    recipe = methods.greedy_fmt(ODDS)(context(optimizer=lambda h: optax.sgd(1.0)))
    batch = splits().train
    weight = np.float32([0.3, 0.7])
    drawn = context().model.init(jax.random.key(0))

    @jax.jit
    def gradients(params, lam):
        parts = recipe.build(defaults(recipe) | {"lam": lam, "weight": weight})
        memory = start(parts, jax.random.key(0), batch, params).memory
        model = context().model
        pairs = per_task(model, SPEC, notion=ODDS, lam=lam, split=True, batch_size=BATCH)
        pair_rows = value_and_rows(lambda p: pairs.apply(p, batch, None, memory)[0])
        values, rows = pair_rows(params)
        greedy = value_and_rows(lambda p: parts.objective.apply(p, batch, None, memory)[0])
        _, row = greedy(params)
        return values, rows, row

    for lam, chosen in (([0.0, 0.0], (0, 0)), ([99.0, 0.0], (1, 0)), ([99.0, 99.0], (1, 1))):
        with double():
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), drawn)
            values, rows, row = gradients(params, jnp.array(lam))
        np.testing.assert_array_equal(values[2:] > values[:2], chosen)
        index = np.array(chosen) * 2 + np.arange(2)
        jax.tree.map(
            lambda got, leaf, index=index: np.testing.assert_allclose(
                got[0], np.tensordot(weight, leaf[index], 1), atol=1e-6
            ),
            row,
            rows,
        )


# ------------------------------------------------------------------------------ hypothetical steps


def test_hypothetical_steps_are_single_steps_of_a_fresh_adam():
    with double():
        rng = np.random.default_rng(0)
        params = {"trunk": rng.normal(size=(3, 4)), "heads": {"a": rng.normal(size=5)}}
        rows = jax.tree.map(lambda leaf: rng.normal(size=(6, *leaf.shape)), params)
        rows["heads"]["a"][2] = 0.0  # a head that the loss does not reach
        rows["trunk"][1] *= 1e-9  # where the epsilon of Adam counts
        ahead = steps_ahead(params, rows)
        adam = optax.adam(1e-3)
        for k in range(6):
            row = jax.tree.map(lambda leaf, k=k: jnp.asarray(leaf[k]), rows)
            updates, _ = adam.update(row, adam.init(params), params)
            jax.tree.map(
                lambda got, param, update, k=k: np.testing.assert_allclose(
                    got[k], param + update, rtol=1e-13
                ),
                ahead,
                params,
                updates,
            )
        np.testing.assert_array_equal(ahead["heads"]["a"][2], params["heads"]["a"])


def brute_quality(decision, label, mask, weight, group):
    """Accuracy and 1 - (TPR gap + FPR gap) by loops over the cells ``(y, s)``."""
    known = (mask > 0) & (weight > 0)
    accuracy = np.average(decision[known] == label[known], weights=weight[known])
    violation = 0.0
    for y in (0, 1):
        rates = []
        for g in range(2):
            cell = known & (label == y) & (group == g)
            if cell.any():
                rates.append(np.average(decision[cell], weights=weight[cell]))
        violation += abs(rates[0] - rates[1]) if len(rates) == 2 else 0.0
    return accuracy, 1.0 - violation


@pytest.mark.parametrize("absent", [None, (1, 0), (0, 1)])
def test_quality_is_that_of_masks_per_label_and_group(absent):
    data = dataset(SPEC, 60, 1, missing=0.2, unknown=0.2, weighted=True)
    group = np.where(data.groups.sum(axis=1) > 0, data.groups.argmax(axis=1), -1)
    if absent is not None:
        y, g = absent
        gone = (np.nan_to_num(data.labels[:, 0], nan=-1) == y) & (group == g)
        data = data._replace(weight=np.where(gone, 0.0, data.weight).astype(np.float32))
    scores = np.random.default_rng(2).normal(size=(60, 2)).astype(np.float32)
    for t in range(2):
        got = quality(SPEC, t, jnp.asarray(scores), data)
        want = brute_quality(
            scores[:, t] >= 0, data.labels[:, t], data.label_mask[:, t], data.weight, group
        )
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_quality_is_that_of_the_disparities_of_the_library():
    data = dataset(SPEC, 80, 3)
    scores = np.random.default_rng(4).normal(size=(80, 2)).astype(np.float32)
    truth = data.labels[:, 1]
    decision = (scores[:, 1] >= 0).astype(int)
    arguments = {"sensitive_features": data.groups.argmax(axis=1)}
    gap = metrics.disparities.true_positive_rate_difference(truth, decision, **arguments)
    gap += metrics.disparities.false_positive_rate_difference(truth, decision, **arguments)
    got = quality(SPEC, 1, jnp.asarray(scores), data)
    np.testing.assert_allclose(got, (np.mean(decision == truth), 1 - gap), atol=1e-6)


def test_constant_and_opposed_decisions_have_the_violations_0_and_2():
    groups = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    labels = np.float32([[0], [1], [0], [1]])
    spec = Spec((Task("t"),), (Attribute("s", ("a", "b")),), ("x",))
    x = Columns(np.zeros((4, 1), np.float32), np.zeros((4, 0), np.int32))
    data = Dataset(x, labels, np.ones_like(labels), groups, np.ones(4, np.float32))
    constant = quality(spec, 0, jnp.ones((4, 1)), data)
    np.testing.assert_allclose(constant, (0.5, 1.0))
    # right for one group and wrong for the other
    opposed = quality(spec, 0, jnp.array([[-1.0], [1.0], [1.0], [-1.0]]), data)
    np.testing.assert_allclose(opposed, (0.5, -1.0))


def test_rewards_are_those_of_a_loop_over_tasks_and_actions():
    model = context().model
    data = dataset(SPEC, 50, 5, missing=0.2, weighted=True)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 4))
    best = Quality(jnp.array([0.8, 0.0]), jnp.array([0.9, 0.7]))
    reward = jax.jit(lambda data: rewards(SPEC, model, params, data, best))
    measured = jax.jit(quality, static_argnums=(0, 1))
    got = reward(data)
    assert got.shape == (2, 2)
    for action in range(2):
        for t in range(2):
            own = jax.tree.map(lambda leaf, k=2 * action + t: leaf[k], params)
            accuracy, fairness = measured(SPEC, t, model_scores(model, own, data.x), data)
            top = (0.8, 1.0)[t], (0.9, 0.7)[t]  # no best yet: 1 stands for it
            want = min((accuracy - top[0]) / top[0], (fairness - top[1]) / top[1])
            np.testing.assert_allclose(got[t, action], want, rtol=1e-5)
    unlabelled = data._replace(label_mask=data.label_mask * np.float32([1, 0]))
    np.testing.assert_array_equal(reward(unlabelled)[1], 0.0)


# ----------------------------------------------------------------------------------------- balance


def test_weights_move_as_by_hand_for_two_tasks():
    omega = jnp.array([0.5, 0.5])
    # weighted norms (1, 2), mean 1.5, rates (1, 1): signs (-1, 1); steps -(2, 4) (-1, 1) / 1000
    got = balanced_weights(omega, jnp.array([2.0, 4.0]), jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(got, np.array([0.502, 0.496]) / 0.998, rtol=1e-6)
    # rates (0.5, 1.5): targets (0.75, 2.25): signs (1, -1)
    got = balanced_weights(omega, jnp.array([2.0, 4.0]), jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(got, np.array([0.498, 0.504]) / 1.002, rtol=1e-6)


def test_weights_are_the_gradient_of_a_distance_and_add_up_to_one():
    rng = np.random.default_rng(0)
    with double():
        for tasks in (1, 2, 3, 5):
            omega = rng.dirichlet(np.ones(tasks))
            norm = rng.uniform(0.1, 2.0, tasks)
            pace = np.ones(tasks)

            def distance(weights, norm=norm):
                weighted = weights * norm
                return jnp.sum(jnp.abs(weighted - jnp.mean(weighted)))

            gradient = jax.grad(distance)(jnp.asarray(omega)) if tasks > 1 else np.zeros(1)
            moved = np.maximum(omega - 1e-3 * gradient, 1e-3)
            got = balanced_weights(jnp.asarray(omega), jnp.asarray(norm), jnp.asarray(pace))
            np.testing.assert_allclose(got, moved / moved.sum(), rtol=1e-9)
            np.testing.assert_allclose(jnp.sum(got), 1.0, rtol=1e-12)


def test_weights_even_out_the_norms_and_stay_positive():
    norm = jnp.array([1.0, 3.0])
    omega = jax.lax.fori_loop(
        0, 3000, lambda i, w: balanced_weights(w, norm, jnp.ones(2)), jnp.full(2, 0.5)
    )
    np.testing.assert_allclose(omega, [0.75, 0.25], atol=5e-3)
    far = balanced_weights(jnp.array([0.001, 0.999]), jnp.array([9e3, 0.1]), jnp.ones(2))
    assert np.all(far > 0)
    nothing = balanced_weights(jnp.full(2, 0.5), jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_array_equal(nothing, [0.5, 0.5])


def test_a_loss_that_was_zero_gets_its_first_value_later():
    pace, first = pace_of(jnp.array([0.0, 3.0]), jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(pace, [0.0, 1.5])
    np.testing.assert_array_equal(pace_of(jnp.array([4.0, 3.0]), first)[0], [1.0, 1.5])


# ----------------------------------------------------------------------------------------- teacher


def transitions(tasks, width, seed=0):
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(tasks, width)).astype(np.float32)
    reward = rng.uniform(-1, 1, (tasks, 2)).astype(np.float32)
    after = state + 0.1 * rng.normal(size=(2, tasks, width)).astype(np.float32)
    return state, reward, after


def test_the_teachers_error_falls_on_a_fixed_batch():
    guide = teacher(3, 6, (16, 16, 8))
    steps = [transitions(3, 6, seed) for seed in range(4)]

    @jax.jit
    def epoch(learner):
        lessons = guide.blank()
        for step in steps:
            lesson = guide.lesson(learner.params, *step)
            lessons = jax.tree.map(jnp.add, lessons, lesson)
        return guide.learn(learner, lessons), lessons.error / lessons.steps

    learner = jax.jit(guide.init)(jax.random.key(0))
    learner, first = epoch(learner)
    for _ in range(400):
        learner, last = epoch(learner)
    assert np.all(last < 0.1 * first)
    np.testing.assert_allclose(jnp.sum(learner.omega), 1.0, rtol=1e-5)


def test_summed_lessons_are_one_step_on_all_transitions():
    """The sum of gradients is the gradient of the mean over a buffer of all steps."""
    guide = teacher(2, 5, WIDTHS)
    learner = jax.jit(guide.init)(jax.random.key(1))
    steps = [transitions(2, 5, seed) for seed in range(3)]

    @jax.jit
    def summed(params):
        lessons = [guide.lesson(params, *step) for step in steps]
        return jax.tree.map(lambda *leaves: sum(leaves), *lessons)

    lessons = summed(learner.params)
    assert lessons.steps == 3

    @jax.jit
    def buffered(params, fixed):
        errors = []
        for t in range(2):
            for state, reward, after in steps:
                for action in range(2):
                    best = jnp.max(guide.values(fixed, after[action])[t])
                    target = reward[t, action] + 0.9 * best
                    errors.append((guide.values(params, state)[t, action] - target) ** 2)
        return jnp.mean(jnp.stack(errors).reshape(2, 6), axis=1)

    errors = buffered(learner.params, learner.params)
    gradients = jax.jit(jax.jacrev(buffered))(learner.params, learner.params)
    np.testing.assert_allclose(lessons.error / 3, errors, rtol=1e-5)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got / 3, want, atol=1e-5),
        lessons.trunk,
        gradients["trunk"],
    )
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got / 3, want[[0, 1], [0, 1]], atol=1e-5),
        lessons.heads,
        gradients["heads"],
    )


def test_states_are_the_heads_in_one_vector_padded_to_the_longest():
    heads = {
        "a": {"kernel": np.arange(2.0)[:, None], "bias": np.array([7.0])},
        "b": {"kernel": np.ones((4, 1)), "bias": np.array([8.0])},
    }
    spec = Spec((Task("a"), Task("b")), ())
    expected = [[7, 0, 1, 0, 0], [8, 1, 1, 1, 1]]
    np.testing.assert_array_equal(head_states(spec, heads), expected)
    np.testing.assert_array_equal(head_states(spec, jnp.arange(3.0)), [[0, 1, 2]] * 2)


# ------------------------------------------------------------------------------------ a whole run


def test_one_step_is_the_chosen_rows_by_hand():
    """Trunk ``sum_t T w_t omega_t g_t``, heads ``T w_t g_t``, of the losses the teacher chose."""
    recipe = l2t_fmt(ODDS, widths=WIDTHS)(context(optimizer=lambda h: optax.sgd(1.0)))
    weight = np.float32([0.2, 0.8])
    hparams = defaults(recipe, weight=weight, lam=[2.0, 3.0])
    data = splits()
    parts = recipe.build(hparams)
    state = first_state(recipe, hparams, data)

    guide = teacher(2, 4 * 3 + 3 + 3 + 1, WIDTHS)

    @jax.jit
    def step(state):
        def losses(params):
            return parts.objective.apply(params, data.train, None, state.memory)[0]

        values, rows = value_and_rows(losses)(state.params)
        extra = {"values": values, "memory": state.memory, "batch": data.train}
        update, (student, *_) = parts.transform.update(rows, state.opt_state, state.params, **extra)
        head = head_states(SPEC, state.params["heads"])
        return values, rows, update, student, guide.values(state.memory.learner.params, head)

    values, rows, update, student, q = jax.device_get(step(state))
    assert np.all(values > 0)
    np.testing.assert_array_equal(student.action, q.argmax(axis=1))
    chosen = q.argmax(axis=1) * 2 + np.arange(2)
    omega = np.asarray(student.omega)
    np.testing.assert_allclose(omega.sum(), 1.0, rtol=1e-6)
    assert np.all(np.abs(omega - 0.5) > 1e-7)
    for part, factor in (("trunk", 2 * weight * omega), ("heads", 2 * weight)):
        jax.tree.map(
            lambda got, leaf, factor=factor: np.testing.assert_allclose(
                got, -np.tensordot(factor, leaf[chosen], 1), atol=1e-6
            ),
            update[part],
            rows[part],
        )


@pytest.mark.slow
def test_the_trunk_trains_the_teacher_learns_and_the_best_is_that_of_validation_rows():
    recipe = l2t_fmt(ODDS, widths=WIDTHS)(context())
    hparams = defaults(recipe)
    data = splits()
    before = first_state(recipe, hparams, data)
    run = trained(recipe, hparams, data, epochs=1, watch=lambda s: s.opt_state[0])
    after = run.state
    for part in ("trunk", "heads"):
        for old, new in zip(
            jax.tree.leaves(before.params[part]), jax.tree.leaves(after.params[part]), strict=True
        ):
            assert np.max(np.abs(old - new)) > 1e-4, part
    for leaf in jax.tree.leaves(
        jax.tree.map(
            lambda old, new: np.max(np.abs(old - new)),
            before.memory.learner.params,
            after.memory.learner.params,
        )
    ):
        assert 0 < leaf < 2e-3  # one step of AdamW
    model = context().model
    scores = model_scores(model, after.params, data.validation.x)
    for t in range(2):
        accuracy, fairness = quality(SPEC, t, scores, data.validation)
        np.testing.assert_allclose(after.memory.best.accuracy[t], accuracy, atol=1e-6)
        np.testing.assert_allclose(after.memory.best.fairness[t], max(fairness, 0.0), atol=1e-6)
    np.testing.assert_array_equal(run.watched.lessons.steps, [1, 2, 3])
    np.testing.assert_allclose(run.watched.omega.sum(axis=1), 1.0, rtol=1e-6)
    # the next epoch begins without lessons
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(after.opt_state[0].lessons))


@pytest.mark.slow
def test_the_best_never_falls():
    recipe = l2t_fmt(ODDS, widths=WIDTHS)(context())
    run = jax.jit(make_train(TrainConfig(4, BATCH), recipe, record=lambda s: s.memory.best))
    (key,), order_key = keys(0, np.array([SEED]))
    best = run(key, order_key, defaults(recipe), splits()).record
    for values in best:
        assert np.all(np.diff(values, axis=0) >= 0)


@pytest.mark.parametrize("make", MAKERS)
def test_a_sweep_of_points_and_seeds_is_compiled_once(make):
    recipe = make(ODDS)(context())
    data = splits()
    points = {name: np.stack([np.float32(v)] * 2) for name, v in defaults(recipe).items()}
    points["lam"] = np.float32([[1, 1], [4, 0]])
    points["weight"] = np.float32([[0.5, 0.5], [0.9, 0.1]])
    runs = sweep(
        recipe,
        TrainConfig(2, BATCH),
        points,
        [SEED, SEED + 1],
        data,
        lambda scores, splits: {"mean": jnp.mean(scores["test"])},
        chunk=2,
        devices=jax.local_devices()[:1],
        keep=("params",),
    )
    assert runs.compilations == 1 and not runs.diverged.any()
    assert len({float(mean) for mean in runs.metrics["mean"]}) == 4
    alone = trained(recipe, {name: values[1] for name, values in points.items()}, data)
    third = jax.tree.map(lambda leaf: leaf[2], runs.params)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, atol=1e-4),
        third,
        alone.state.params,
    )


@pytest.mark.parametrize("make", MAKERS)
def test_one_task_absent_demographics_and_absent_labels_give_finite_numbers(make):
    spec = tabular_spec(1)
    recipe = make(ODDS)(context(spec))
    data = splits(spec, missing=0.3, weighted=True)
    hparams = defaults(recipe)
    nobody = data._replace(
        train=data.train._replace(groups=np.zeros_like(data.train.groups)),
        validation=data.validation._replace(groups=np.zeros_like(data.validation.groups)),
    )
    unlabelled = data._replace(
        train=data.train._replace(label_mask=np.zeros_like(data.train.label_mask))
    )
    run = jax.jit(make_train(TrainConfig(2, BATCH), recipe))
    (key,), order_key = keys(0, np.array([SEED]))
    for rows in (data, nobody, unlabelled):
        result = run(key, order_key, hparams, rows)
        assert all_finite(result.state.params) and all_finite(result.values)
        assert all_finite(result.state.memory) and all_finite(result.state.opt_state)


def test_a_task_that_is_not_binary_is_refused():
    tasks = (Task("yes"), Task("wage", "regression"))
    spec = Spec(tasks, SPEC.attributes, SPEC.numeric, SPEC.categorical)
    with pytest.raises(DataError, match="1 of 2 tasks are not binary: wage; .*greedy_fmt"):
        methods.l2t_fmt(ODDS)(context(spec))
