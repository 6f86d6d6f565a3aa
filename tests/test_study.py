"""Studies from objects and from names: one table of several methods, and models kept from it."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dataset, tabular_spec

from fairjax import methods, models, notions, postprocess, study
from fairjax.core.keys import HParam, Metric
from fairjax.core.tables import read_csv, write_csv
from fairjax.core.types import Attribute, DataError, Post, Spec, Task
from fairjax.data import Roles, from_table
from fairjax.study import NamedStudy, StudyConfig, assemble, make_study, named_study, run_study
from fairjax.training import Runs

SPEC = Spec((Task("known"), Task("unknown")), (Attribute("a", ("0", "1")),))
GAP = "false_positive_rate_difference"
FPR = notions.from_distance(notions.rate_gap, (notions.negatives,))
SMALL = StudyConfig(runs=2, reference_seeds=2, epochs=1, batch_size=64)


def small_network(spec):
    return models.shared_bottom(spec, (4,), (2,), 2)


# ---------------------------------------------------------------------------------------- the table


def runs(error, gap):
    """Runs of one seed each; ``error`` and ``gap`` are ``[M, T]``."""
    metrics = {}
    for split in ("validation", "test"):
        for t, task in enumerate(SPEC.tasks):
            metrics[Metric("error", task.name, split=split)] = np.float32(error)[:, t]
            metrics[Metric(GAP, task.name, attribute="a", split=split)] = np.float32(gap)[:, t]
    return runs_of(metrics, len(error))


def runs_of(metrics, count):
    return Runs(
        point=np.arange(count),
        seed=np.zeros(count, int),
        hparams={"weight": np.full((count, 2), 0.5)},
        metrics={"plain": metrics},
        diverged=np.zeros(count, bool),
        values=None,
        scores={},
        params=None,
        record=(),
        block=np.zeros(count, int),
        compilations=1,
        chunk=1,
    )


@functools.cache
def plain_study():
    return make_study(SPEC, [methods.vanilla()], model=small_network, config=SMALL)


def test_a_task_without_demographics_is_in_are_and_not_in_arfg():
    nothing = float("nan")
    # each task's network, one seed
    single = runs([[0.2, 9.0], [9.0, 0.4]], [[0.1, nothing], [9.0, nothing]])
    both = runs([[0.1, 0.4], [0.2, 0.8]], [[0.05, nothing], [0.3, nothing]])
    swept = {"single_task": single, "vanilla": both}
    table, info = assemble(plain_study(), swept, "single_task")
    np.testing.assert_allclose(table["test.are"], [1.0, 0.75, 1.5], rtol=1e-6)
    np.testing.assert_allclose(table["test.arfg"], [1.0, 0.5, 3.0], rtol=1e-6)
    assert np.isnan(info["single_task"]["test"]["unknown"]["gap"])


def test_without_any_gap_there_is_no_arfg():
    nothing = float("nan")
    single = runs([[0.2, 9.0], [9.0, 0.4]], [[nothing] * 2] * 2)
    table, _ = assemble(plain_study(), {"single_task": single}, "single_task")
    assert np.isnan(table["test.arfg"]).all() and np.isfinite(table["test.are"]).all()


def test_the_verdict_of_a_run_with_constraints_is_in_the_table_and_comes_back(tmp_path):
    errors, gaps = [[0.1, 0.4], [0.2, 0.8]], [[0.05, 0.1], [0.3, 0.1]]
    single, plain, bounded = (runs(errors, gaps) for _ in range(3))
    violation = np.array([[[0.01], [0.2], [0.04]], [[0.2], [0.2], [0.3]]])
    multiplier = np.full((2, 3, 1), 5.0)
    bounded = bounded._replace(
        record=methods.ConstraintRecord(violation, multiplier),
        hparams=bounded.hparams | {"tolerance": np.full(2, 0.05), "cap": np.full(2, 5.0)},
        block=np.array([2, 1]),
    )
    study = make_study(
        SPEC, [methods.vanilla(), methods.constrained(FPR)], model=small_network, config=SMALL
    )
    swept = {"single_task": single, "vanilla": plain, "constrained": bounded}
    table, _ = assemble(study, swept, "single_task")
    assert table["verdict"].tolist() == ["", "", "", "met", "infeasible"]
    again = read_csv(write_csv(tmp_path / "table.csv", table))
    assert again["verdict"].tolist() == table["verdict"].tolist()
    del swept["constrained"]
    assert "verdict" not in assemble(study, swept, "single_task")[0]


MIXED = Spec(
    (Task("y"), Task("z"), Task("size", "regression"), Task("alone")),
    (Attribute("a", ("0", "1")), Attribute("b", ("0", "1", "2")), Attribute("n", (), True)),
)
TPR, FALSE = "true_positive_rate_difference", "false_positive_rate_difference"


def gain_runs(spec, seed, count, reference=False):
    """Random metrics of tasks of ``MIXED``; nobody's demographics are known on ``alone``."""
    rng = np.random.default_rng(seed)
    members = count * len(spec.tasks) if reference else count
    metrics = {}
    for split in ("validation", "test"):
        for task in spec.tasks:
            metrics[Metric("error", task.name, split=split)] = rng.uniform(0.1, 0.4, members)
            for attribute in spec.attributes:
                subject = Metric("", task.name, attribute=attribute.name, split=split)
                names = (TPR, FALSE)
                if attribute.continuous:
                    names = ("correlation", "correlation_given_negative")
                elif task.kind == "regression":
                    names = ("mean_prediction_difference",)
                for name in names:
                    values = rng.uniform(0.1, 0.5, members)
                    values[:] = np.nan if task.name == "alone" else values
                    metrics[subject._replace(metric=name)] = values
    return runs_of(metrics, members)


def gain_table(spec=MIXED):
    study = make_study(spec, [methods.vanilla()], model=small_network, config=SMALL)
    swept = {"single_task": gain_runs(spec, 0, 4, True), "vanilla": gain_runs(spec, 1, 5)}
    return assemble(study, swept, "single_task")[0]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_gains_are_recomputed_from_the_tables_own_columns(split):
    table = gain_table()
    single = table["method"] == "single_task"
    assert single.sum() == 4
    errors = np.stack([table[f"{split}.error[{t}]"] for t in ("y", "z", "alone")], axis=1)
    alone = errors[single].mean(axis=0)
    np.testing.assert_allclose(table[f"{split}.knowledge_gain"], (alone - errors).mean(axis=1))
    np.testing.assert_allclose(
        table[f"{split}.ara"], ((1 - errors) / (1 - alone)).mean(axis=1), rtol=1e-12
    )
    for name, parts in {"ep": (TPR,), "eo": (TPR, FALSE)}.items():
        worst = np.stack(
            [
                np.maximum(*(sum(table[f"{split}.{p}[{t}|{a}]"] for p in parts) for a in "ab"))
                for t in "yz"
            ],
            axis=1,
        )
        alone = worst[single].mean(axis=0)
        gain, ratio = (table[f"{split}.{kind}_{name}"] for kind in ("discrimination_gain", "arf"))
        np.testing.assert_allclose(gain, (worst - alone).mean(axis=1), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ratio, (worst / alone).mean(axis=1), rtol=1e-12)
        assert abs(gain[single].mean()) < 1e-12
    assert abs(table[f"{split}.knowledge_gain"][single].mean()) < 1e-12


def test_without_classes_or_demographics_there_are_no_gains():
    regression = gain_table(replace(MIXED, tasks=MIXED.tasks[2:3]))
    assert np.isnan(regression["test.knowledge_gain"]).all()
    unknown = gain_table(replace(MIXED, tasks=MIXED.tasks[3:]))
    assert np.isfinite(unknown["test.knowledge_gain"]).all()
    for table in (regression, unknown):
        for name in ("discrimination_gain_ep", "discrimination_gain_eo", "arf_ep", "arf_eo"):
            assert np.isnan(table[f"test.{name}"]).all()


# -------------------------------------------------------------------------------- from objects


def people(second: str) -> dict:
    rng = np.random.default_rng(0)
    levels = np.array(["a|b", "c=]@"])
    group = rng.integers(0, 2, 300)
    skill = rng.normal(size=300) + group
    return {
        "skill": skill,
        "noise": rng.normal(size=300),
        "y": (skill > 0).astype(int),
        second: (skill + rng.normal(size=300) > 0.5).astype(int),
        "set": levels[group],
    }


@functools.cache
def results_of(second: str):
    roles = Roles(tasks=("y", second), sensitive=("set",))
    data = from_table(people(second), roles)
    chosen = [methods.baseline(FPR)]
    return data, run_study(data, chosen, model=small_network, config=SMALL)


@functools.cache
def awkward():
    """Tasks ``y`` and ``y=1``, and the same table with the second task called ``z``."""
    return results_of("z"), results_of("y=1")


@pytest.mark.slow
def test_names_that_look_like_keys_take_the_numbers_of_their_own_task(tmp_path):
    (_, plain), (_, strange) = awkward()
    for key, values in plain.table.items():
        if isinstance(key, Metric | HParam) and key.task == "z":
            key = key._replace(task="y=1")
        np.testing.assert_array_equal(strange.table[key], values, err_msg=str(key))
    levels = {key.group for key in strange.table.metrics if key.group}
    assert levels == {"a|b", "c=]@"}
    read = read_csv(write_csv(tmp_path / "table.csv", strange.table))
    assert list(read) == list(strange.table)


@pytest.mark.slow
def test_the_model_of_a_run_is_saved_and_loaded(tmp_path):
    data, results = awkward()[1]
    run = results.table.rows - 1
    model, scores = study.model_of_run(data, results, run)
    for key, value in model.metrics.items():
        np.testing.assert_allclose(value, results.table[key][run], rtol=1e-5, atol=1e-6)
    model.save(tmp_path)
    with pytest.raises(DataError, match="Give it as model="):
        study.load_model(tmp_path)
    again = study.load_model(tmp_path, model=small_network(data.spec))
    rows = {name: column[:20] for name, column in people("y=1").items()}
    one, other = model.predict(rows), again.predict(rows)
    assert list(one) == list(other) and len(one) == 4
    for name, column in one.items():
        np.testing.assert_array_equal(other[name], column)
    with pytest.raises(DataError, match="single-task reference"):
        study.model_of_run(data, results, 0)
    shown = [data, results.study, results, model]
    for one, word in zip(shown, ("features", "lam", "method", "decided from"), strict=True):
        text = one._repr_html_()
        assert word in text


@pytest.mark.slow
def test_intervals_that_were_compiled_ahead_are_not_compiled_again(caplog):
    data, results = results_of("z")
    run = results.table.rows - 1

    def compiled(is_ahead: bool) -> bool:
        """Whether candidates of a fresh study compile their intervals."""
        fresh = replace(results, study=replace(results.study))
        if is_ahead:
            fresh.study.compile_resampled(data.splits.test)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            study.candidates(data, fresh, [run])
        return "XLA compilation of jit(resampled)" in caplog.text

    assert compiled(is_ahead=False)
    assert not compiled(is_ahead=True)


def test_the_gap_that_is_shown_is_the_one_that_is_trained():
    on_positives = notions.from_distance(notions.rate_gap, (notions.positives,))
    made = make_study(
        SPEC, [methods.vanilla(), methods.mta_f(on_positives)], model=small_network, config=SMALL
    )
    assert made.condition == "tpr"


def test_two_methods_of_one_name_are_refused_and_a_dict_names_them():
    pair = [methods.baseline(FPR), methods.baseline(notions.get("accuracy_parity"))]
    with pytest.raises(ValueError, match="two methods are called 'baseline'"):
        make_study(SPEC, pair, model=small_network)
    named = dict(zip(("fpr", "accuracy"), pair, strict=True))
    made = make_study(SPEC, named, model=small_network)
    assert set(made.recipes) == {study.REFERENCE, "fpr", "accuracy"}


@pytest.mark.slow
def test_repairs_of_ones_own_and_a_told_network_are_rows_of_the_table():
    def fit(scores, groups, weight):
        return jnp.mean(scores, axis=0)

    def apply(mean, scores, groups, key=None, amount=1.0):
        return (1.0 - amount) * scores + amount * mean

    flat = Post(fit, apply, "flat")
    data, _ = awkward()[0]
    results = run_study(
        data,
        [methods.yoto(FPR)],
        model=small_network,
        repairs=[flat, postprocess.model_barycenter],
        amounts=(0.0, 1.0),
        config=SMALL,
    )
    table = results.table
    assert sorted(set(table["method"])) == sorted(
        name + tail for name in ("single_task", "yoto") for tail in ("", "+flat", "+barycenter")
    )
    plain = table["method"] == "yoto"
    flattened = table["method"] == "yoto+flat"
    auc = table["test.auc[z]"]
    np.testing.assert_allclose(auc[flattened][0::2], auc[plain], rtol=1e-6)
    np.testing.assert_allclose(auc[flattened][1::2], 0.5, atol=1e-6)
    assert len(np.unique(table["test.loss[z]"][plain])) == 2  # one network, two answers
    point = study.point_of(results, int(np.flatnonzero(flattened)[1]))
    assert point.method == "yoto" and point.repair == ("flat", 1.0)


def test_an_amount_beyond_one_is_refused():
    with pytest.raises(DataError, match="amounts from 0"):
        make_study(
            SPEC, [], model=small_network, repairs=[postprocess.model_barycenter], amounts=(2,)
        )


# ---------------------------------------------------------------------------------- from names


def test_a_named_study_is_json_and_comes_back():
    names = named_study(
        methods=("mta_f", "pcgrad_split"),
        method_options={"mta_f": {"scale_trunk": False}},
        fixed={"r": [0.5, 2.0]},
        notion="mmd",
        trunk=(8,),
        epochs=3,
        amounts=(0.5,),
    )
    again = NamedStudy.from_json(json.loads(json.dumps(names.to_json())))
    assert again.to_json() == names.to_json()
    made = study.from_names(tabular_spec(), again)
    np.testing.assert_array_equal(made.recipes["mta_f"].space["r"].default, [0.5, 2.0])
    assert made.recipes["mta_f"].space["r"].low is None
    assert [post.name for post in made.repairs] == ["barycenter"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("nothing",)}, "method 'nothing' is not one of"),
        ({"notion": "nothing"}, "notion 'nothing' is not one of"),
        ({"model": "nothing"}, "model 'nothing' is not one of"),
        ({"condition": "nothing"}, "condition 'nothing' is not one of"),
        ({"colour": "red"}, "no settings colour"),
    ],
)
def test_unknown_names_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        named_study(**settings)


@pytest.mark.parametrize("name", methods.REGISTRY)
def test_every_method_of_the_registry_is_a_recipe_of_a_study(name):
    spec = tabular_spec()
    made = study.from_names(spec, named_study(methods=(name,), trunk=(4, 3), head=(2,)))
    hparams, _ = made.points(name)
    first = {key: jnp.asarray(values[0]) for key, values in hparams.items()}
    components = made.recipes[name].build(first)
    params = components.model.init(jax.random.key(0))
    data = dataset(spec, 8, 0)
    memory = components.objective.init(jax.random.key(1), data)
    values, _ = components.objective.apply(params, data, jax.random.key(2), memory)
    assert len(values) == len(components.objective.rows)
    assert np.isfinite(np.asarray(values)).all()
