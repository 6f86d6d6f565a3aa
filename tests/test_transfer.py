"""Differential fairness as a penalty on one task: which gradients it changes, and its memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, splits, tabular_spec

from fairjax.core.groups import crossed
from fairjax.core.types import Attribute, Components, DataError, Dataset, Recipe, Spec, Task
from fairjax.data import Part, mask_supervision
from fairjax.gradients import sum_rows, value_and_rows
from fairjax.methods import Context, baseline
from fairjax.models import scores, shared_bottom
from fairjax.notions import differential as df
from fairjax.objectives import Penalty, fairness_terms, per_task
from fairjax.training import TrainConfig, make_train, sweep

A, B, SIZE = 0, 1, 32
SPEC = tabular_spec(2)
MODEL = shared_bottom(SPEC, (5,), (4,), 3)
DATA = dataset(SPEC, SIZE, 0, missing=0.2, unknown=0.2)
PARAMS = jax.jit(MODEL.init)(jax.random.key(0))


def fair_on_b(lam, **options):
    penalty = Penalty(B, df.differential_fairness(attributes=(0,), **options))
    return per_task(MODEL, SPEC, notion=[penalty], lam=[0.0, lam[0]], batch_size=SIZE)


@jax.jit
def after_a_step(params, batch, lam, memory):
    return value_and_rows(lambda p: fair_on_b(lam).apply(p, batch, None, memory), has_aux=True)(
        params
    )


def memory_of(objective, data=DATA):
    return objective.init(jax.random.key(1), data)


LAM = np.float32([5.0])


def test_the_penalty_on_b_reaches_trunk_and_head_b_and_never_head_a():
    memory = memory_of(fair_on_b(LAM))
    (with_it, _), rows = after_a_step(PARAMS, DATA, LAM, memory)
    (without, _), plain = after_a_step(PARAMS, DATA, 0 * LAM, memory)
    assert with_it[A] == without[A] and with_it[B] > without[B]
    of_penalty = jax.tree.map(lambda a, b: np.asarray(a - b)[B], rows, plain)
    for path, leaf in jax.tree.leaves_with_path(of_penalty):
        name = jax.tree_util.keystr(path)
        assert (np.abs(leaf).max() == 0) == ("task0" in name), name
    assert all(
        (leaf == 0).all()
        for leaf in jax.tree.leaves(jax.tree.map(lambda a, b: np.asarray(a - b)[A], rows, plain))
    )


@pytest.mark.slow
def test_lambda_zero_is_multi_task_learning_to_the_last_bit():
    def trained(make):
        recipe = Recipe(
            "it",
            lambda hparams: Components(
                MODEL, make(hparams["lam"]), optax.chain(sum_rows(), optax.adagrad(0.1))
            ),
            {},
        )
        return jax.jit(make_train(TrainConfig(3, 8), recipe))(
            jax.random.key(0), jax.random.key(1), {"lam": 0 * LAM}, DATA
        )

    one, other = trained(fair_on_b), trained(lambda lam: per_task(MODEL, SPEC))
    jax.tree.map(np.testing.assert_array_equal, one.state.params, other.state.params)
    ((counted,),) = one.state.memory
    assert int(counted.steps) == 12 and counted.joint.shape == (1, 2, 2, 2)
    fair = jax.jit(
        make_train(
            TrainConfig(3, 8),
            Recipe(
                "it",
                lambda hparams: Components(
                    MODEL, fair_on_b(hparams["lam"]), optax.chain(sum_rows(), optax.adagrad(0.1))
                ),
                {},
            ),
        )
    )(jax.random.key(0), jax.random.key(1), {"lam": LAM}, DATA)
    assert (
        max(
            np.abs(a - b).max()
            for a, b in zip(*(jax.tree.leaves(t.state.params) for t in (one, fair)), strict=True)
        )
        > 1e-3
    )


def test_counts_are_those_of_the_batch_run_over_the_old_ones():
    memory = memory_of(fair_on_b(LAM))
    (values, after), _ = after_a_step(PARAMS, DATA, LAM, memory)
    prob = jax.nn.sigmoid(scores(MODEL, PARAMS, DATA.x)[:, B])
    weight = DATA.label_mask[:, B] * DATA.weight
    size = weight.sum()
    start = df.start(size, SIZE, np.ones(2), 2, 2)
    joint = df.running(
        start, df.count(df.two(prob), df.two(DATA.labels[:, B]), DATA.groups, weight), size, size
    )
    np.testing.assert_allclose(after[0][0].joint[0], joint, rtol=1e-5)
    plain = after_a_step(PARAMS, DATA, 0 * LAM, memory)[0][0]
    np.testing.assert_allclose(values[B] - plain[B], 5 * df.epsilon(joint), rtol=1e-4)


def test_a_batch_without_rows_of_b_and_the_burn_in_leave_counts_alone():
    only_a = DATA._replace(
        label_mask=DATA.label_mask * np.float32([1, 0]),
        labels=DATA.labels * np.float32([1, np.nan]),
    )
    memory = memory_of(fair_on_b(LAM))
    (values, after), rows = after_a_step(PARAMS, only_a, LAM, memory)
    jax.tree.map(np.testing.assert_array_equal, after, memory)
    assert values[B] == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))
    cold = fair_on_b(LAM, burn_in=2)
    steps = jax.jit(lambda p, m: cold.apply(p, DATA, None, m))
    one, first = steps(PARAMS, memory_of(cold))
    two, second = steps(PARAMS, first)
    three, third = steps(PARAMS, second)
    assert one[B] == two[B] < three[B] and int(third[0][0].steps) == 3
    np.testing.assert_array_equal(second[0][0].joint, memory[0][0].joint)
    assert not np.array_equal(third[0][0].joint, second[0][0].joint)


def test_counts_of_devices_are_added_before_logs():
    """Halves of a batch on two devices have the counts, and so the epsilon, of the whole."""
    memory = memory_of(fair_on_b(LAM))
    halves = jax.tree.map(lambda a: np.asarray(a).reshape(2, SIZE // 2, *a.shape[1:]), DATA)

    def penalty(batch, axis):
        made = [fair_on_b(lam, axis=axis) for lam in (LAM, 0 * LAM)]
        (with_it, after), (without, _) = (m.apply(PARAMS, batch, None, memory) for m in made)
        return with_it[B] - without[B], after[0][0].joint

    whole, counts = jax.jit(lambda b: penalty(b, None))(DATA)
    apart, both = jax.jit(jax.vmap(lambda b: penalty(b, "devices"), axis_name="devices"))(halves)
    np.testing.assert_allclose(apart, [whole, whole], rtol=1e-4)
    np.testing.assert_allclose(both, [counts, counts], rtol=1e-5)
    assert whole > 0.01


def test_rows_of_unknown_demographics_count_nowhere_but_for_accuracy():
    memory = memory_of(fair_on_b(LAM))
    unknown = DATA.groups.sum(1) == 0
    assert unknown.any()
    flipped = DATA._replace(labels=np.where(unknown[:, None], 1 - DATA.labels, DATA.labels))
    (one, counts), _ = after_a_step(PARAMS, DATA, LAM, memory)
    (other, same), _ = after_a_step(PARAMS, flipped, LAM, memory)
    np.testing.assert_array_equal(counts[0][0].joint, same[0][0].joint)
    assert one[B] != other[B]


def test_a_target_above_epsilon_leaves_no_gradient():
    memory = memory_of(fair_on_b(LAM))
    easy = fair_on_b(LAM, target=50.0)
    _, rows = jax.jit(
        lambda p: value_and_rows(lambda q: easy.apply(q, DATA, None, memory), has_aux=True)(p)
    )(PARAMS)
    _, plain = after_a_step(PARAMS, DATA, 0 * LAM, memory)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), rows, plain)


def test_crossed_attributes_are_pairs_of_levels():
    spec = Spec((Task("t"),), (Attribute("a", ("0", "1")), Attribute("b", ("x", "y", "z"))))
    groups = np.float32([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(
        crossed(spec, groups, (0, 1)), [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0] * 6, [0] * 6]
    )
    np.testing.assert_array_equal(crossed(spec, groups, (1,)), groups[:, 2:])


@pytest.mark.parametrize(
    "rates", [df.odds, df.opportunity, df.parity], ids=["odds", "opportunity", "parity"]
)
@pytest.mark.parametrize(
    "kind, levels", [("binary", ()), ("multiclass", ("x", "y", "z")), ("multilabel", ("u", "v"))]
)
def test_every_kind_of_class_and_two_axes(kind, levels, rates):
    """The epsilon of crossed groups from the objective is that of a loop over labels."""
    task = Task("t", kind, levels)
    spec = Spec(
        (task, Task("other")),
        (Attribute("a", ("0", "1")), Attribute("b", ("0", "1"))),
        ("x0", "x1"),
    )
    rng = np.random.default_rng(0)
    n, width = 40, task.label_width
    own = rng.integers(0, len(levels) if kind == "multiclass" else 2, (n, width))
    labels = np.concatenate([own, rng.integers(0, 2, (n, 1))], 1).astype(np.float32)
    groups = np.concatenate(
        [np.eye(2)[rng.permutation(np.arange(n) % 2)] for _ in range(2)], 1
    ).astype(np.float32)
    model = shared_bottom(spec, (4,), (3,), 2)
    x = dataset(tabular_spec(levels=()), n, 0).x
    data = Dataset(x, labels, np.ones_like(labels), groups, np.ones(n, np.float32))
    p = jax.jit(model.init)(jax.random.key(2))
    penalty = Penalty(0, df.differential_fairness(rates, attributes=(0, 1), rho=1.0))
    made = per_task(model, spec, notion=[penalty], lam=np.float32([1, 0]), batch_size=n)
    memory = made.init(jax.random.key(0), data)
    values, after = jax.jit(lambda p: made.apply(p, data, None, memory))(p)
    plain = jax.jit(lambda p: per_task(model, spec).apply(p, data, None, ())[0])(p)
    logits = np.asarray(scores(model, p, x))[:, spec.score_slice(0)]
    group = crossed(spec, groups, (0, 1))

    def one(prob, label):
        y = np.ones((n, 1), np.float32) if rates is df.parity else label
        return float(df.epsilon(df.count(prob, y, group, np.ones(n, np.float32)), rates))

    if kind == "multiclass":
        want = one(np.asarray(jax.nn.softmax(logits)), np.eye(3, dtype=np.float32)[own[:, 0]])
    else:
        want = max(
            one(
                np.asarray(df.two(jax.nn.sigmoid(logits[:, u]))),
                np.eye(2, dtype=np.float32)[own[:, u]],
            )
            for u in range(width)
        )
    np.testing.assert_allclose(values[0] - plain[0], want, rtol=1e-3, atol=1e-5)
    assert want > 0 and after[0][0].joint.shape[1] == 4


def test_a_regression_has_no_epsilon():
    spec = Spec((Task("wage", "regression"),), (Attribute("a", ("0", "1")),), ("x0",))
    with pytest.raises(ValueError, match="'wage' is of kind regression.*mean_residual_parity"):
        fairness_terms(spec, df.differential_fairness())


def test_mapped_over_lambda_is_a_loop():
    memory = memory_of(fair_on_b(LAM))
    lams = np.float32([[0], [2], [9]])
    mapped = jax.jit(jax.vmap(lambda lam: fair_on_b(lam).apply(PARAMS, DATA, None, memory)[0][B]))(
        lams
    )
    alone = [fair_on_b(lam).apply(PARAMS, DATA, None, memory)[0][B] for lam in lams]
    np.testing.assert_allclose(mapped, jnp.stack(alone), rtol=1e-5)


# ------------------------------------------------------------------------------- partial knowledge


def test_rows_are_dealt_to_parts_that_know_less():
    spec = tabular_spec(2)
    whole = splits(spec, 400)
    parts = (Part(("task0",), share=3.0), Part(("task1",), ("a",)))
    got = mask_supervision(whole, spec, parts, seed=1)
    train, mask = got.train, got.train.label_mask > 0
    assert mask.sum(1).max() == 1 and mask.sum(0).tolist() == [300, 100]
    assert (train.labels[~mask] == 0).all()
    np.testing.assert_array_equal(train.labels[mask], whole.train.labels[mask])
    np.testing.assert_array_equal(train.groups, whole.train.groups * mask[:, 1:])
    jax.tree.map(np.testing.assert_array_equal, got.test, whole.test)
    jax.tree.map(np.testing.assert_array_equal, got, mask_supervision(whole, spec, parts, seed=1))
    assert (
        got.train.label_mask != mask_supervision(whole, spec, parts, seed=2).train.label_mask
    ).any()
    with pytest.raises(DataError, match="names attribute 'sex', but the data set has a"):
        mask_supervision(whole, spec, (Part(("task0",), ("sex",)),))


def test_one_sweep_over_lambda_lowers_epsilon_where_demographics_are_known():
    """Scores that follow the group: as lam grows, epsilon falls, in one compiled program."""
    spec, rng = tabular_spec(2, numeric=2, levels=()), np.random.default_rng(0)
    whole = splits(spec, 400)
    second = whole.train.groups[:, 1]
    x = np.stack([2.0 * second + rng.normal(size=400), rng.normal(size=400)], 1).astype(np.float32)
    labels = (x.sum(1, keepdims=True) + rng.normal(size=(400, 2)) > 1).astype(np.float32)
    whole = whole._replace(
        train=whole.train._replace(x=whole.train.x._replace(numeric=x), labels=labels)
    )
    data = mask_supervision(whole, spec, (Part(("task0",)), Part(("task1",), ("a",))))
    context = Context.paper(spec, shared_bottom(spec, (8,), (4,), 2), 0.1, 64)
    on_b = baseline([None, df.differential_fairness(df.parity, attributes=(0,))])

    def evaluate(scores, given):
        prob, rows = jax.nn.sigmoid(scores["validation"]), given.validation
        of_b = df.smoothed_empirical_epsilon(df.two(prob[:, B]), rows.groups, rows.weight)
        return {"epsilon": of_b, "spread": jnp.std(prob[:, B])}

    hparams = {
        "lam": np.float32([[0, 0], [0, 1], [0, 10]]),
        "weight": np.full((3, 2), 0.5, np.float32),
        "learning_rate": np.full(3, 0.1, np.float32),
    }
    runs = sweep(
        on_b(context),
        TrainConfig(30, 64),
        hparams,
        [0, 1],
        data._replace(validation=whole.train),
        evaluate,
        chunk=6,
        devices=jax.local_devices()[:1],
    )
    assert runs.compilations == 1
    found = runs.metrics["epsilon"].reshape(3, 2).mean(axis=1)
    assert found[0] > found[1] > found[2] and found[2] < 0.5 * found[0], found
    assert (runs.metrics["spread"] > 0.01).all()
