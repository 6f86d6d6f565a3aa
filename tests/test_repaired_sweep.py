"""Every run of a sweep, repaired: the same numbers as by hand, one compilation, and a model that
repairs new rows.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from fairjax.core.keys import HParam, Metric
from fairjax.core.types import DataError
from fairjax.data import Roles, from_table
from fairjax.metrics import evaluate
from fairjax.postprocess import audit_model, model_barycenter
from fairjax.report import knee_run
from fairjax.study import (
    Point,
    different_metrics,
    explain_run,
    finished_model,
    from_names,
    groups_of,
    load_model,
    member_of,
    model_of_run,
    named_study,
    params_of,
    point_of,
    repaired,
    run_study,
    scores_of,
    train_one,
)
from fairjax.study.evaluation import FOLDS


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], 900)
    skill = rng.normal(size=900) + 1.0 * (sex == "m")
    people = {
        "skill": skill,
        "sex": sex,
        "hired": (skill + rng.normal(size=900) > 0).astype(int),
        "pay": 10 + 3 * skill + rng.normal(size=900),
    }
    prepared = from_table(people, Roles(tasks=("hired", "pay"), sensitive=("sex",)))
    names = named_study(
        methods=("vanilla", "baseline"),
        runs=4,
        reference_seeds=2,
        epochs=2,
        batch_size=128,
        trunk=(4,),
        head=(3,),
        condition="parity",
        amounts=(0.0, 0.5, 1.0),
    )
    return prepared, run_study(prepared, study=from_names(prepared, names))


@pytest.fixture(scope="module")
def trained(made):
    """The third point of baseline, as it is and half repaired: model and scores."""
    prepared, results = made
    study = results.study
    hparams = {name: values[2] for name, values in study.points("baseline")[0].items()}
    repairs = (None, ("barycenter", 0.5))
    points = [Point("baseline", hparams, 0, repair) for repair in repairs]
    return [train_one(prepared, study, point) for point in points]


@pytest.mark.slow
def test_rows_of_the_table(made):
    _, results = made
    table, info = results.table, results.info
    methods, counts = np.unique(table["method"], return_counts=True)
    assert dict(zip(methods.tolist(), counts.tolist(), strict=True)) == {
        "baseline": 4,
        "baseline+barycenter": 12,
        "single_task": 2,
        "single_task+barycenter": 6,
        "vanilla": 4,
        "vanilla+barycenter": 12,
    }
    assert info["compilations"] == {"single_task": 1, "vanilla": 1, "baseline": 1}
    plain, after = table["method"] == "vanilla", table["method"] == "vanilla+barycenter"
    np.testing.assert_array_equal(table[HParam("repair")][after], [0.0, 0.5, 1.0] * 4)
    assert np.isnan(table[HParam("repair")][plain]).all()
    for name in (
        "test.error[pay]",
        "test.auc[hired]",
        "validation.mean_prediction_difference[pay|sex]",
        "test.are",
    ):
        np.testing.assert_allclose(
            table[name][after][::3], table[name][plain], rtol=2e-4, atol=1e-4
        )  # amount 0
    gap = table["validation.mean_prediction_difference[pay|sex]"][after].reshape(4, 3)
    np.testing.assert_allclose(gap[:, 1], gap[:, 0] / 2, atol=0.15)
    assert np.all(gap[:, 2] < 0.35 * gap[:, 0])
    hparams = [key for key in table if isinstance(key, HParam) and key.name == "weight"]
    for name in hparams:
        np.testing.assert_array_equal(table[name][after], np.repeat(table[name][plain], 3))
    assert "single" not in str(table["method"][knee_run(table, info)])


@pytest.mark.slow
def test_a_row_is_what_a_repair_by_hand_gives(made, trained):
    prepared, results = made
    study, table = results.study, results.table
    spec, splits, ((_, scores), (saved, again)) = prepared.spec, prepared.splits, trained
    run = int(
        np.flatnonzero(table["method"] == "baseline+barycenter")[7]
    )  # the third point, half repaired
    point = point_of(results, run)
    assert point.method == "baseline" and point.repair == ("barycenter", 0.5)
    for name, values in study.points("baseline")[0].items():
        np.testing.assert_array_equal(point.hparams[name], values[2])
    amount = 0.5
    post, pool = model_barycenter(spec), splits.validation
    state = post.fit(scores["validation"], pool.groups, pool.weight)
    after = post.apply(state, scores["test"], splits.test.groups, amount=amount)
    by_hand = evaluate(spec, after, splits.test, np.zeros(2))
    gap = Metric("demographic_parity_difference", "hired", attribute="sex")
    for key in (Metric("error", "hired"), Metric("error", "pay"), gap):
        expected = float(table[key._replace(split="test")][run])
        assert by_hand[key] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(again["test"], after, atol=1e-4)
    assert saved.metrics[Metric("error", "pay", split="validation")] == pytest.approx(
        float(table["validation.error[pay]"][run]), abs=1e-4
    )
    # validation rows are not repaired by themselves
    own = post.apply(state, scores["validation"], pool.groups, amount=amount)
    other = repaired(saved.repair, prepared, scores)["validation"]
    assert 1e-4 < np.abs(own - other).mean() < 0.2 and FOLDS == 5


@pytest.mark.slow
def test_a_saved_model_repairs_new_rows(trained, tmp_path):
    (plain, _), (saved, _) = trained
    saved.save(tmp_path)
    rows = {"skill": [0.0, 0.0, 0.0], "sex": ["f", "m", ""]}
    loaded = load_model(tmp_path)
    got, bare = loaded.predict(rows), plain.predict(rows)
    assert (
        bare["pay"][0] == bare["pay"][1]
    )  # sex is no feature, so before the repair equals are treated as equals
    assert (
        got["pay"][0] > bare["pay"][0] > got["pay"][1]
        and got["pay"][1] < got["pay"][2] < got["pay"][0]
    )
    np.testing.assert_array_equal(
        got["pay"][:1], loaded.predict({k: v[:1] for k, v in rows.items()})["pay"]
    )
    with pytest.raises(DataError, match="repaired by 'sex', but none of the 2 rows"):
        loaded.predict({"skill": [0.0, 1.0]})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:2 of 2 groups have fewer:UserWarning")
def test_a_run_is_explained_by_its_groups_and_its_audit(made):
    prepared, results = made
    table = results.table
    repaired_run = int(np.flatnonzero(table["method"] == "baseline+barycenter")[7])
    plain_run = int(np.flatnonzero(table["method"] == "baseline")[2])
    # a run that is not repaired is audited by the largest amount
    for run, amount in ((repaired_run, 0.5), (plain_run, 1.0)):
        model, scores = model_of_run(prepared, results, run)
        explanation = explain_run(prepared, results, run)
        groups = groups_of(prepared, results.study, model, scores).columns
        for name, values in groups.items():
            if values.dtype.kind == "f":
                np.testing.assert_array_equal(explanation.groups.columns[name], values)
        subject = {"run": run, "method": str(table["method"][run])}
        assert explanation.info["repair"] == subject
        assert explanation.info["groups"].items() >= subject.items()
        unrepaired = scores_of(prepared, results.study, model.model, model.params)
        audit = audit_model(prepared, unrepaired, amount)
        np.testing.assert_array_equal(explanation.audit.after, audit.after)


@pytest.mark.parametrize("method", ["vanilla", "baseline", "baseline+barycenter"])
def test_the_model_of_a_run_is_the_one_that_was_evaluated(made, method):
    prepared, results = made
    first, *_, last = np.flatnonzero(results.table["method"] == method)
    for run in (first, last):
        model, _ = model_of_run(prepared, results, run)
        assert different_metrics(model, results, run) == []
        kept = results.params[method.split("+")[0]]
        member = member_of(results, run)
        for leaf, stacked in zip(jax.tree.leaves(model.params), jax.tree.leaves(kept), strict=True):
            np.testing.assert_array_equal(leaf, stacked[member])


def test_a_model_of_a_transductive_study_decides_by_validation_rows(made):
    prepared, results = made
    run = int(np.flatnonzero(results.table["method"] == "baseline")[2])
    studies = {}
    for decision in ("transductive", "base_rate"):
        config = dataclasses.replace(results.study.config, decision=decision)
        studies[decision] = dataclasses.replace(results.study, config=config)
    params = params_of(prepared, results, run)
    point = point_of(results, run)
    (one, _), (other, _) = (
        finished_model(prepared, study, point, params) for study in studies.values()
    )
    assert one.decision == other.decision == "base_rate"
    assert one.thresholds == other.thresholds
    assert one.metrics == other.metrics


def test_amounts_are_amounts(made):
    prepared, _ = made
    with pytest.raises(DataError, match="amounts from 0"):
        from_names(prepared, named_study(amounts=(0.5, 2.0)))
