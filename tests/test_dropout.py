"""Dropout: masks of a step's key, the network itself without one, and a study that uses it."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, fairjax, tabular_spec

from fairjax import models, notions, objectives
from fairjax.core.types import (
    Attribute,
    DataError,
    Images,
    Objective,
    Range,
    Recipe,
    Sentences,
    Spec,
    Task,
)
from fairjax.gradients import value_and_rows
from fairjax.methods import Context, baseline
from fairjax.study import NamedStudy, named_study
from fairjax.training import TrainConfig, make_train

SPEC = tabular_spec(2, 2, (3,))
DATA = dataset(SPEC, 24, 0)
KEY = jax.random.key(5)
GAP = notions.from_distance(notions.rate_gap, (notions.negatives,))
TASKS = (Task("a"), Task("b"))
GROUPS = (Attribute("g", ("0", "1")),)
TEXT = Spec(TASKS, GROUPS, vocab_size=9)
IMAGE = Spec(TASKS, GROUPS, image_shape=(4, 4))


def tokens():
    drawn = np.random.default_rng(0).integers(0, 9, (6, 5))
    return Sentences(jnp.asarray(drawn, jnp.int32))


def pixels():
    drawn = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3))
    return Images(jnp.asarray(drawn, jnp.uint8))


def told(model):
    return models.with_default_condition(model, jnp.ones(2))


NETWORKS = {  # from a rate to the model, and its rows
    "table": (lambda p: models.network(SPEC, (6, 5), (3,), 2, dropout=p), DATA.x),
    "text": (lambda p: models.network(TEXT, (6,), (3,), 2, dropout=p), tokens()),
    "image": (lambda p: models.image_encoder(IMAGE, widths=(6,), head=(), dropout=p), pixels()),
    "conditioned": (
        lambda p: told(models.conditioned_network(SPEC, (6,), (3,), 2, condition=2, dropout=p)),
        DATA.x,
    ),
    "modulated": (
        lambda p: told(models.modulated(models.network(SPEC, (6,), dropout=p), 6, condition=2)),
        DATA.x,
    ),
    "branched": (
        lambda p: models.branched(models.network(SPEC, (6, 5), (3,), 2, dropout=p), SPEC),
        DATA.x,
    ),
}


# ------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("rate", (0.1, 0.5, 0.9))
def test_a_mask_leaves_out_its_share_and_the_mean_over_masks_is_the_layer(rate):
    h = jnp.asarray([1.0, -2.0, 0.5, 3.0])
    keys = jax.random.split(KEY, 4000)
    drawn = np.asarray(jax.vmap(lambda key: models.dropped(h, rate, key))(keys), float)
    kept = drawn != 0
    deviation = np.sqrt(rate * (1 - rate) / len(keys))
    np.testing.assert_allclose(kept.mean(axis=0), 1 - rate, atol=5 * deviation)
    np.testing.assert_allclose(
        drawn[kept], np.broadcast_to(np.asarray(h) / (1 - rate), kept.shape)[kept], rtol=1e-6
    )
    np.testing.assert_allclose(drawn.mean(axis=0) / h, 1, atol=5 * deviation / (1 - rate))
    # units drop out independently of one another
    correlation = np.corrcoef(kept.T) - np.eye(4)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(len(keys))


def test_the_mean_over_masks_of_a_linear_head_is_the_network():
    model = models.shared_bottom(SPEC, (8,), (), 2, dropout=0.4)
    params = jax.jit(model.init)(KEY)
    keys = jax.random.split(KEY, 4000)
    masked = jax.jit(jax.vmap(lambda key: models.scores(model, params, DATA.x, key)))(keys)
    masked = np.asarray(masked, float)
    whole = models.scores(model, params, DATA.x)
    error = masked.std(axis=0) / np.sqrt(len(keys))
    assert np.all(error > 1e-4)
    assert np.all(np.abs(masked.mean(axis=0) - whole) < 5 * error)


def test_precision_is_that_of_the_activations():
    h = jnp.ones(64, jnp.bfloat16)
    halved = models.dropped(h, jnp.float32(0.5), KEY)
    assert halved.dtype == jnp.bfloat16 and set(np.unique(halved.astype(float))) == {0.0, 2.0}
    np.testing.assert_array_equal(models.dropped(h, 0.0, KEY), h)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_key_and_at_rate_0_there_is_no_mask(name):
    make, x = NETWORKS[name]
    bare, dropping = make(0.0), make(0.5)
    assert dropping.dropout and not bare.dropout
    params = jax.jit(bare.init)(KEY)
    whole = jax.jit(lambda params: models.scores(bare, params, x))(params)

    @jax.jit
    def both(params, key):
        return models.scores(dropping, params, x), models.scores(dropping, params, x, key)

    without, masked = both(params, KEY)
    np.testing.assert_array_equal(without, whole)
    assert np.any(masked != whole)
    np.testing.assert_array_equal(both(params, KEY)[1], masked)
    assert np.any(both(params, jax.random.key(6))[1] != masked)
    # a model without dropout is called as ever, whatever key its objective has
    no_mask = jax.jit(lambda params, key: models.scores(bare, params, x, key))
    assert "threefry" not in no_mask.lower(params, KEY).as_text()


def test_dropped_units_get_no_gradient_from_any_row():
    model = models.shared_bottom(SPEC, (24,), (), 2, dropout=0.5)
    params = jax.jit(model.init)(KEY)
    # every unit is active
    params["trunk"]["bias"] = params["trunk"]["bias"] + 9.0
    one_row = jax.tree.map(lambda leaf: leaf[:1], DATA)
    objective = objectives.per_task(model, SPEC, notion=GAP, lam=jnp.ones(2), reduction="mean")
    memory = objective.init(KEY, one_row)

    @jax.jit
    def step(params):
        rows = value_and_rows(lambda p: objective.apply(p, one_row, KEY, memory)[0])(params)[1]
        return rows, models.represent(model, params["trunk"], one_row.x, key=KEY)

    rows, z = step(params)
    is_dropped = np.asarray(z[0] == 0)
    assert 4 < is_dropped.sum() < 20
    for k, name in enumerate(("task0", "task1")):
        assert not np.any(rows["trunk"]["kernel"][k][:, is_dropped])
        assert not np.any(rows["heads"][name]["output"]["kernel"][k][is_dropped])
        assert np.all(rows["trunk"]["bias"][k][~is_dropped] != 0)
        assert np.all(rows["heads"][name]["output"]["kernel"][k][~is_dropped] != 0)


def test_copies_of_a_branched_trunk_have_one_mask():
    make, x = NETWORKS["branched"]
    model = make(0.5)
    params = jax.jit(model.init)(KEY)
    z = jax.jit(lambda trunk: models.represent(model, trunk, x, key=KEY))(params["trunk"])
    assert np.any(z) and not np.all(z)
    np.testing.assert_array_equal(z[0], z[1])


# ---------------------------------------------------------------------------------------- training


def difference_to_value_fn():
    """A link: the sum of the rows, and how far ``value_fn`` is from the step's values."""

    def update(rows, state, params=None, *, values, value_fn, **extra):
        del extra
        distance = jnp.max(jnp.abs(value_fn(params) - values))
        total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), rows)
        return total, jnp.maximum(state, distance)

    return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)


def method_at(rate, learning_rate=0.1):
    context = Context(
        SPEC,
        models.shared_bottom(SPEC, (6,), (3,), 2, dropout=rate),
        lambda hparams: optax.sgd(learning_rate),
        {},
        batch_size=8,
    )
    return baseline(GAP)(context)


def hparams():
    return {"weight": jnp.full(2, 0.5), "lam": jnp.ones(2)}


def test_a_link_looks_ahead_under_the_masks_of_its_step():
    recipe = method_at(0.5)

    def build(point):
        parts = recipe.build(point)
        chain = optax.chain(difference_to_value_fn(), optax.sgd(0.1))
        return parts._replace(transform=chain)

    train = make_train(TrainConfig(2, 8), recipe._replace(build=build))
    run = jax.jit(train)(KEY, jax.random.key(1), hparams(), DATA)
    assert run.state.opt_state[0] == 0.0


def test_every_step_has_its_own_masks_and_a_run_resumes_to_the_same_bits():
    # nothing is learned and a batch is all rows, so that only masks tell steps apart
    still = jax.jit(make_train(TrainConfig(4, 24), method_at(0.5, learning_rate=0.0)))
    values = np.asarray(still(KEY, jax.random.key(1), hparams(), DATA).values)[:, 0]
    assert np.min(np.abs(np.diff(np.sort(values)))) > 1e-4

    whole = jax.jit(make_train(TrainConfig(2, 8), method_at(0.5)))
    half = jax.jit(make_train(TrainConfig(1, 8), method_at(0.5)))
    arguments = (KEY, jax.random.key(1), hparams(), DATA)
    at_once = whole(*arguments).state
    resumed = half(*arguments, half(*arguments).state).state
    jax.tree.map(np.testing.assert_array_equal, resumed, at_once)


def test_members_have_masks_of_their_own_and_the_rate_may_be_swept():
    def build(point):
        return method_at(point["dropout"], 0.0).build({"weight": point["weight"], "lam": LAM})

    space = {"weight": Range(np.full(2, 0.5)), "dropout": Range(0.1, 0.0, 0.9)}
    train = make_train(TrainConfig(1, 24), Recipe("swept", build, space))
    rate = jnp.asarray([0.0, 0.0, 0.5, 0.5])
    points = {"weight": jnp.full((4, 2), 0.5), "dropout": rate}
    # all members begin from the same parameters
    keys = jax.random.split(KEY, 4)
    bare = make_train(TrainConfig(1, 24), method_at(0.0, 0.0))
    begin = jax.jit(bare)(keys[0], jax.random.key(1), hparams(), DATA)
    state = begin.state._replace(step=jnp.zeros((), jnp.int32))
    run = jax.jit(jax.vmap(train, (0, None, 0, None, None)))
    values = np.asarray(run(keys, jax.random.key(1), points, DATA, state).values)[:, 0, 0]
    np.testing.assert_allclose(values[:2], begin.values[0, 0], rtol=1e-5)
    assert abs(values[2] - values[0]) > 1e-4 and abs(values[3] - values[2]) > 1e-4


LAM = jnp.ones(2)


def test_an_objective_of_ones_own_gets_the_masks_by_one_argument():
    model = models.shared_bottom(SPEC, (6,), (), 2, dropout=0.5)
    params = jax.jit(model.init)(KEY)

    def apply(params, batch, key, memory):
        return (jnp.mean(models.scores(model, params, batch.x, key)),), memory

    own = Objective(("mean",), lambda key, data: (), apply)
    shipped = objectives.objective(model, ("mean",), lambda scores, batch: (jnp.mean(scores),))
    values = [one.apply(params, DATA, KEY, ())[0][0] for one in (own, shipped)]
    assert values[0] == values[1] != jnp.mean(models.scores(model, params, DATA.x))


# ------------------------------------------------------------------------------------------- study


@pytest.mark.parametrize("rate", (-0.1, 1.0, 1.5, float("nan"), np.float32(1.0)))
def test_rates_that_are_no_share_are_refused(rate):
    message = f"dropout {rate:g}: the share of units that a step leaves out is at least 0 and below"
    for refused in (
        lambda: models.shared_bottom(SPEC, dropout=rate),
        lambda: models.network(TEXT, dropout=rate),
        lambda: models.image_encoder(IMAGE, dropout=rate),
        lambda: models.conditioned_network(SPEC, condition=2, dropout=rate),
        lambda: named_study(dropout=rate),
    ):
        with pytest.raises(DataError, match=message):
            refused()


def test_a_study_keeps_the_rate_and_one_without_it_is_written_as_before():
    names = named_study(dropout=0.25, methods=("baseline",))
    again = NamedStudy.from_json(json.loads(json.dumps(names.to_json())))
    assert again == names and again.model_options["dropout"] == 0.25
    assert again.build_model(SPEC).dropout
    assert again.conditioned_model(SPEC)(4).dropout
    assert not NamedStudy().build_model(SPEC).dropout
    assert "dropout" not in named_study().to_json()["model_options"]


@pytest.mark.slow
def test_a_frontier_with_dropout_from_sweep_to_saved_model(tmp_path):
    small = "--epochs 2 --batch-size 64 --trunk 6,5 --head 3 --devices 1".split()
    sweep = "frontier --methods baseline,fairbranch,yoto --runs 2 --dropout".split()
    refused = fairjax(*sweep, "1", *small, "--out", "out", cwd=tmp_path)
    assert refused.returncode and "dropout 1: the share of units" in refused.stderr
    assert "Traceback" not in refused.stderr and not (tmp_path / "out").exists()

    done = fairjax(*sweep, "0.3", *small, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert study["study"]["model_options"]["dropout"] == 0.3
    run = study["groups"]["run"]
    again = fairjax("train", "--like", "out", "--run", run, "--out", "model", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"metrics are those of run {run}" in again.stdout

    one = "train --method baseline --dropout 0.3 --out".split()
    trained = fairjax(*one, "own", *small, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    description = json.loads((tmp_path / "own" / "model.json").read_text())
    assert description["study"]["model_options"]["dropout"] == 0.3
