"""Which block delivers: the best one on validation rows, by each measure, for every method."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import pad, splits, tabular_spec
from sklearn.metrics import roc_auc_score

from fairjax import Roles, from_table, methods, notions, study
from fairjax.core.types import DataError, Range
from fairjax.data import Prepared
from fairjax.methods import Context, delivering
from fairjax.metrics import Metric
from fairjax.models import scores, shared_bottom
from fairjax.training import TrainConfig, make_train

SPEC = tabular_spec()
DATA = splits(SPEC, n=40)
PARITY = notions.from_distance(notions.rate_gap, (notions.everyone,))
TRAIN = TrainConfig(epochs=8, batch_size=16)
WEIGHT = np.float32([0.3, 0.7])


def context(dropout: float = 0.0, trunk: tuple[int, ...] = (8,)) -> Context:
    model = shared_bottom(SPEC, trunk, (4,), 2, dropout=dropout)
    return Context.adamw(SPEC, model, 0.05, 16, 0.01, reduction="mean")


def trained(method, where: Context, data=DATA, **hparams):
    recipe = method(where)
    values = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
    values |= {name: jnp.asarray(value) for name, value in hparams.items()}
    train = make_train(TRAIN, recipe, record=lambda state: state.params)
    return jax.jit(train)(jax.random.key(3), jax.random.key(4), values, data)


def by_hand(stop: str, params, rows, lam: float) -> float:
    """Value of one block in float64: losses, errors and gaps of selection rates."""
    score = np.asarray(scores(shared_bottom(SPEC, (8,), (4,), 2), params, rows.x), float)
    total = 0.0
    for t, _ in enumerate(SPEC.tasks):
        known = rows.label_mask[:, t] > 0
        label = rows.labels[:, t]
        prob = 1 / (1 + np.exp(-score[:, t]))
        w = np.where(known, rows.weight, 0.0)
        if stop == "error":
            total += WEIGHT[t] * np.sum(w[known] * ((prob > 0.5) != label)[known]) / w.sum()
            continue
        loss = -np.where(label == 1, np.log(prob), np.log1p(-prob))
        total += WEIGHT[t] * np.sum(w[known] * loss[known]) / w.sum()
        if stop == "objective":
            for a, _ in enumerate(SPEC.attributes):
                of_group = rows.groups[:, SPEC.group_slice(a)] * rows.weight[:, None]
                rates = of_group.T @ prob / of_group.sum(0)
                total += WEIGHT[t] * lam * (rates.max() - rates.min())
    return total


@pytest.mark.parametrize("stop", ["objective", "loss", "error"])
def test_the_block_of_least_value_on_validation_rows_delivers(stop):
    assert all(task.kind == "binary" for task in SPEC.tasks)
    lam = 2.0
    baseline = delivering(methods.baseline(PARITY), stop)
    found = trained(baseline, context(), weight=WEIGHT, lam=np.float32([lam, lam]))
    blocks = [jax.tree.map(lambda leaf, i=i: leaf[i], found.record) for i in range(8)]
    values = [by_hand(stop, params, DATA.validation, lam) for params in blocks]
    assert found.block == np.argmin(values)
    jax.tree.map(np.testing.assert_array_equal, found.params, blocks[int(found.block)])


def test_dropout_is_off_where_blocks_are_ranked():
    method = delivering(methods.baseline(PARITY), "objective")
    where = context(dropout=0.5)
    recipe = method(where)
    values = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
    parts = recipe.build(values)
    params = where.model.init(jax.random.key(0))
    state = type("State", (), {"params": params, "memory": ((), ())})
    plain = methods.baseline(PARITY)(context()).build(values)
    memory = plain.objective.init(jax.random.key(0), DATA.train)
    state.memory = memory
    padded = pad(DATA.validation, 7)  # nine rows in batches of 16
    want, _ = plain.objective.apply(params, padded, jax.random.key(5), memory)
    np.testing.assert_allclose(parts.rank.value(state, DATA), [sum(want)], rtol=1e-6)


def test_a_run_without_validation_rows_looks_at_those_it_has():
    found = trained(delivering(methods.vanilla(), "loss"), context(), DATA.train)
    of_splits = DATA._replace(validation=DATA.train)
    same = trained(delivering(methods.vanilla(), "loss"), context(), of_splits)
    assert found.block == same.block


@pytest.mark.parametrize("stop", ["objective", "error"])
def test_methods_that_rank_or_change_their_network_stay_as_they_are(stop):
    where = context(trunk=(8, 8))
    for make in (methods.constrained(PARITY), methods.get("fairbranch", PARITY)):
        recipe = delivering(make, stop)(where)
        values = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
        rank = recipe.build(values).rank
        own = make(where).build(values).rank
        assert (rank is None) == (own is None)
        assert own is None or rank.passed_over == own.passed_over == 0.5


@pytest.mark.parametrize("name", methods.REGISTRY)
def test_every_method_may_stop_by_its_objective_and_one_by_every_measure(name):
    where = context(dropout=0.1, trunk=(8, 8))
    one_row = jax.tree.map(lambda leaf: leaf[:1], DATA.train.x)
    where = where._replace(inputs=one_row)
    for stop in methods.STOPS if name == "baseline" else ("objective",):
        recipe = delivering(methods.get(name, PARITY), stop)(where)
        hparams = {key: jnp.asarray(r.default, jnp.float32) for key, r in recipe.space.items()}
        train = make_train(TrainConfig(4, 16, patience=2), recipe)
        keys = jax.random.key(0), jax.random.key(1)
        shapes = jax.eval_shape(train, *keys, hparams, DATA)
        assert shapes.last.shape == ()


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 0.05),
        ({"optimizer": "adamw"}, 0.002),
        ({"optimizer": "adamw", "learning_rate": 0.3}, 0.3),
    ],
)
def test_a_learning_rate_is_that_of_its_optimizer(settings, rate):
    assert study.StudyConfig(**settings).learning_rate == rate
    named = study.named_study(**settings)
    assert named.config.learning_rate == rate
    assert study.NamedStudy.from_json(named.to_json()) == named


def test_last_is_the_method_itself():
    method = methods.vanilla()
    assert delivering(method, "last") is method


def test_an_unknown_stop_is_refused():
    with pytest.raises(ValueError, match="stop 'soon' is not one of last, objective, loss, error"):
        delivering(methods.vanilla(), "soon")


def test_adamw_has_its_rate_and_decay_as_hyper_parameters():
    space = context().hparams
    assert space == {"learning_rate": Range(0.05), "weight_decay": Range(0.01)}
    still = trained(methods.vanilla(), context(), learning_rate=np.float32(0))
    first = jax.tree.map(lambda leaf: leaf[0], still.record)
    jax.tree.map(np.testing.assert_array_equal, still.params, first)
    params = {"trunk": jnp.ones(3), "heads": jnp.ones(2)}
    hparams = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(0.5)}
    optimizer = context().optimizer(hparams)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    jax.tree.map(lambda u: np.testing.assert_allclose(u, -0.05, rtol=1e-6), updates)


# ---------------------------------------------------------------------------------------- a study


def studied(**config) -> tuple[Prepared, study.Study]:
    """Two methods on rows with a signal, at a rate that soon learns too much."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(600, 3))
    paid = signal[:, 0] + 0.5 * signal[:, 1] + rng.normal(size=600) > 0
    columns = {f"x{i}": column for i, column in enumerate(signal.T)}
    columns |= {
        "paid": np.where(paid, "yes", "no"),
        "sex": np.where(rng.random(600) < 0.5, "f", "m"),
    }
    data = from_table(columns, Roles(tasks=("paid",), sensitive=("sex",)))
    names = study.named_study(
        methods=("vanilla", "baseline"),
        runs=3,
        reference_seeds=2,
        **study.table_settings(360)
        | {"trunk": (16,), "epochs": 12, "learning_rate": 0.05}
        | config,
    )
    return data, study.from_names(data, names)


@pytest.mark.parametrize(
    ("rows", "epochs", "decay"),
    [(389, 40, 0.42), (3_700, 22, 0.1), (7_200, 12, 0.097), (1_000_000, 12, 0.00072)],
)
def test_a_table_has_epochs_by_its_rows_and_decays_as_much_whatever_they_are(rows, epochs, decay):
    settings = study.table_settings(rows)
    assert (settings["epochs"], settings["weight_decay"]) == (epochs, decay)
    steps = epochs * np.ceil(rows / settings["batch_size"])
    assert steps * decay == pytest.approx(33.6, rel=0.02)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"epochs": 6}, 6 * 15),
        ({"batch_size": 64}, 12 * 58),
        ({"epochs": 7, "batch_size": 1}, 25_900),
    ],
)
def test_a_table_decays_as_much_over_the_steps_that_are_given(given, steps):
    settings = study.table_settings(3_700, **given)
    assert given.items() <= settings.items()
    assert settings["epochs"] * np.ceil(3_700 / settings["batch_size"]) == steps
    assert steps * settings["weight_decay"] == pytest.approx(33.6, rel=0.05)


@pytest.mark.parametrize("given", [{"epochs": 2}, {"epochs": 1, "batch_size": 10_000}])
def test_a_short_run_decays_no_more_than_the_smallest_table(given):
    smallest = study.table_settings(389)
    assert study.table_settings(389, **given)["weight_decay"] == smallest["weight_decay"]


def test_a_stopped_study_resumes_to_the_same_table_and_its_model_is_the_one_evaluated(tmp_path):
    data, made = studied(patience=2)
    begun = study.run_study(data, study=made, out=tmp_path, progress=False)
    again = study.run_study(data, study=made, out=tmp_path, progress=False)
    whole = study.run_study(data, study=made, progress=False)
    for other in (again, whole):
        for key in begun.table:
            np.testing.assert_array_equal(begun.table[key], other.table[key])
    # the model of a run is the one that was evaluated, also where it is trained again
    for results in (whole, dataclasses.replace(whole, params={})):
        _, scored = study.model_of_run(data, results, 3)
        area = roc_auc_score(data.splits.test.labels[:, 0], scored["test"][:, 0])
        want = whole.table[Metric("auc", "paid", split="test")][3]
        np.testing.assert_allclose(area, want, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"optimizer": "adagrad"}, r"weight decay 0.42 is AdamW's, but the optimizer is adagrad"),
        (
            {"stop": "last", "patience": 4},
            r"patience 4: a run that delivers its last epoch has no better one",
        ),
    ],
)
def test_settings_that_would_do_nothing_are_refused(config, message):
    with pytest.raises(DataError, match=message):
        studied(**config)


def test_epochs_are_not_chosen_on_test_rows():
    data, made = studied()
    same = dataclasses.replace(data, splits=data.splits._replace(validation=data.splits.test))
    with pytest.raises(DataError, match="120 validation rows are the test rows. Leave a share"):
        study.from_names(same, made.names)
    last = dataclasses.replace(made.names.config, stop="last", patience=0)
    study.from_names(same, dataclasses.replace(made.names, config=last))
