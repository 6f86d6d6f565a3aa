"""Every run of a sweep, repaired: the same numbers as by hand, one compilation, and a model that repairs new rows."""

from __future__ import annotations

import numpy as np
import pytest

from fairjax.core.keys import Metric
from fairjax.core.types import DataError
from fairjax.data import Roles, from_table
from fairjax.metrics import base_rates, evaluate
from fairjax.postprocess import model_barycenter
from fairjax.report import knee_run
from fairjax.study import FOLDS, StudyConfig, origin, points, study
from fairjax.study.saved import load_saved, repaired_scores, save, train_one


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
    plan = StudyConfig(
        methods=("vanilla", "baseline"),
        runs=4,
        reference_seeds=2,
        epochs=2,
        batch_size=128,
        trunk=(4,),
        head=(3,),
        condition="parity",
        repair=(0.0, 0.5, 1.0),
    )
    return prepared, plan, *study(plan, prepared.spec, prepared.splits)


@pytest.fixture(scope="module")
def trained(made):
    """The third point of baseline again, as it is and half repaired: each a model and its scores."""
    prepared, plan, _, _ = made
    hparams = {name: v[2] for name, v in points(plan, prepared.spec, "baseline")[1].items()}
    return [train_one(prepared, plan, "baseline", hparams, 0, amount) for amount in (None, 0.5)]


def test_rows_of_the_table(made):
    prepared, plan, table, info = made
    methods, counts = np.unique(table["method"], return_counts=True)
    assert dict(zip(methods.tolist(), counts.tolist(), strict=True)) == {
        "baseline": 4,
        "baseline+repair": 12,
        "single_task": 2,
        "single_task+repair": 6,
        "vanilla": 4,
        "vanilla+repair": 12,
    }
    assert info["compilations"] == {"single_task": 1, "vanilla": 1, "baseline": 1}
    plain, after = table["method"] == "vanilla", table["method"] == "vanilla+repair"
    np.testing.assert_array_equal(table["hparam.repair"][after], [0.0, 0.5, 1.0] * 4)
    assert np.isnan(table["hparam.repair"][plain]).all()
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
    hparams = [name for name in table if name.startswith("hparam.weight")]
    for name in hparams:
        np.testing.assert_array_equal(table[name][after], np.repeat(table[name][plain], 3))
    assert "single" not in str(table["method"][knee_run(table, info)])


def test_a_row_is_what_a_repair_by_hand_gives(made, trained):
    prepared, plan, table, _ = made
    spec, splits, ((_, scores), (saved, again)) = prepared.spec, prepared.splits, trained
    run = int(
        np.flatnonzero(table["method"] == "baseline+repair")[7]
    )  # the third point, half repaired
    method, point, amount = origin(plan, str(table["method"][run]), int(table["point"][run]))
    assert (method, point, amount) == ("baseline", 2, 0.5)
    post, pool = model_barycenter(spec), splits.validation
    state = post.fit(scores["validation"], pool.groups, pool.weight)
    after = post.apply(state, scores["test"], splits.test.groups, amount=amount)
    by_hand = evaluate(spec, after, splits.test, base_rates(spec, splits.train))
    for key in (
        Metric("error", "hired"),
        Metric("error", "pay"),
        Metric("demographic_parity_difference", "hired", attribute="sex", threshold="0.5"),
    ):
        assert by_hand[key] == pytest.approx(float(table[f"test.{key}"][run]), abs=1e-4)
    np.testing.assert_allclose(again["test"], after, atol=1e-4)
    assert saved.metrics["validation.error[pay]"] == pytest.approx(
        float(table["validation.error[pay]"][run]), abs=1e-4
    )
    # validation rows are not repaired by themselves
    own = post.apply(state, scores["validation"], pool.groups, amount=amount)
    other = repaired_scores(prepared, scores, amount)["validation"]
    assert 1e-4 < np.abs(own - other).mean() < 0.2 and FOLDS == 5


def test_a_saved_model_repairs_new_rows(trained, tmp_path):
    (plain, _), (saved, _) = trained
    save(tmp_path, saved)
    rows = {"skill": [0.0, 0.0, 0.0], "sex": ["f", "m", ""]}
    loaded = load_saved(tmp_path)
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
    with pytest.raises(DataError, match="repaired by 'sex', of which none of the 2 rows"):
        loaded.predict({"skill": [0.0, 1.0]})


def test_amounts_are_amounts():
    with pytest.raises(ValueError, match="amounts from 0"):
        StudyConfig(repair=(0.5, 2.0))
