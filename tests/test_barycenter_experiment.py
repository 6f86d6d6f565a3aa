"""The experiment on exact repair and its benchmark: the anchor on COMPAS, small runs, and the
reading of runs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "experiments"


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_experiment", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def experiment():
    return script("barycenter")


@pytest.fixture(scope="module")
def bench():
    return script("bench_barycenter")


# ------------------------------------------------------------------------------------------ COMPAS


def test_the_anchor_on_compas_is_met_to_a_hundredth(experiment, data_dir, monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(data_dir))
    rows = experiment.anchor(experiment.Size(), ["train"])
    for task, expected in experiment.ANCHOR.items():
        mine = [r for r in rows if r["task"] == task and r["convention"] == "published"]
        assert len(mine) == 10
        found = [
            np.mean([r[name] for r in mine])
            for name in ("quality", "quality_after", "ks", "ks_after")
        ]
        np.testing.assert_allclose(found, expected, atol=0.01)
    mixed = {
        r["task"]: np.mean([s["quality_wrong_labels"] for s in rows if s["task"] == r["task"]])
        for r in rows
    }
    assert mixed["violent"] == pytest.approx(
        0.665, abs=0.01
    )  # task 2's scores against task 1's labels


def test_the_columns_of_compas_are_those_of_the_released_code(experiment, data_dir, monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(data_dir))
    data = experiment.compas_rows().data
    assert data.x.numeric.shape == (6172, 27)
    group = data.groups[:, 1] > 0
    assert round(group.mean(), 3) == 0.514
    means = [data.labels.mean(0), data.labels[group].mean(0), data.labels[~group].mean(0)]
    np.testing.assert_allclose(means, [[0.484, 0.112], [0.558, 0.134], [0.406, 0.089]], atol=6e-4)


def test_the_logistic_model_is_scikit_learns(experiment):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype("f4")
    y = (rng.random(300) < 1 / (1 + np.exp(-(x[:, 0] - 2 * x[:, 1] + 1)))).astype("f4")
    theirs = LogisticRegression(tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(
        experiment.logistic(x, y), [*theirs.coef_[0], *theirs.intercept_], atol=1e-3
    )


def test_a_split_has_the_test_rows_of_scikit_learn(experiment):
    from sklearn.model_selection import train_test_split

    train, pool, test = experiment.split(101, 42, (0.6, 0.2, 0.2))
    np.testing.assert_array_equal(
        test, train_test_split(np.arange(101), test_size=0.2, random_state=42)[1]
    )
    np.testing.assert_array_equal(np.sort(np.concatenate([train, pool, test])), np.arange(101))
    assert len(train) == 61 and len(experiment.split(101, 42, (0.8, 0.0, 0.2))[0]) == 80


# ---------------------------------------------------------------------------------------- networks


def test_networks_are_measured_per_seed_setting_and_task(experiment):
    from fairjax.core.types import Attribute, Task
    from fairjax.postprocess import barycenter

    rng = np.random.default_rng(0)
    group = rng.random(2000) < 0.4
    x = np.stack([rng.normal(size=2000) + group, 1.0 * group], axis=1).astype("f4")
    labels = np.stack(
        [2 * x[:, 0] + rng.normal(size=2000), x[:, 0] > rng.normal(size=2000)], axis=1
    )
    rows = experiment.loaded(
        (Task("income", "regression", mean=10.0), Task("moved")),
        Attribute("a", ("f", "m")),
        ("x", "g"),
        x,
        labels,
        group,
        [True, False],
    )
    weights = np.array([(0.5, 0.5), (0, 1), (0, 1)], np.float32)
    found = experiment.trained(
        rows,
        experiment.Net((8,), 4, 64, 0.02),
        (1, 2),
        weights,
        np.array([0, 0, 0.95], np.float32),
        {"": (barycenter(), "pool")},
    )
    assert found["ks_after"].shape == (2, 3, 2)
    np.testing.assert_allclose(
        found["quality"][:, 1, 1], found["quality"][:, 2, 1], atol=1e-6
    )  # it has all its labels
    assert np.all(found["quality"][:, 0, 0] < 0.5 * np.var(labels[:, 0])) and np.all(
        found["quality"][:, :, 1] > 0.7
    )
    assert np.all(found["ks"][:, 0] > 0.3) and np.all(found["ks_after"][:, 0] < 0.2)
    part = rows.data.groups[experiment.split(2000, 1, (0.6, 0.2, 0.2))[-1]].sum(0)
    np.testing.assert_allclose(found["floor"][0], 0.8687 * np.sqrt((1 / part).sum()), rtol=1e-4)


# ------------------------------------------------------------------------------- synthetic studies


@pytest.fixture(scope="module")
def small(experiment):
    return dataclasses.replace(
        experiment.QUICK, draws=8, pools=(50, 1000), levels=(), held_out=2000
    )


def test_the_study_of_gaussians_nears_the_closed_form_and_is_reported(experiment, small, tmp_path):
    assert experiment.run_all(["gaussians"], small, tmp_path) == []
    rows = experiment.read_rows(tmp_path / "gaussians.csv")
    assert len(rows) == 2 * 2 * 8
    levels = {Fraction(i, 35) for i in range(36)} | {Fraction(i, 15) for i in range(16)}
    published = max(abs(Fraction(35 * p // 1, 35) - Fraction(15 * p // 1, 15)) for p in levels)
    for name, at_50 in (("ours", 1 / 21), ("published", float(published))):  # of 35 and 15 rows
        few, many = (
            [r for r in rows if r["convention"] == name and r["rows"] == n] for n in (50, 1000)
        )
        assert np.mean([r["error"] for r in many]) < 0.09 < 0.2 < np.mean([r["error"] for r in few])
        assert np.mean([r["ks_in_pool"] for r in few]) == pytest.approx(at_50, abs=1e-3)
        assert 0.03 < np.mean([r["ks"] for r in many]) < 0.09 < np.mean([r["ks"] for r in few])
        assert np.mean([r["ks_before"] for r in many]) == pytest.approx(0.345, abs=0.03)
    foretold = [
        r["price_foretold"] for r in rows if r["rows"] == 1000 and r["convention"] == "ours"
    ]
    assert np.mean(foretold) == pytest.approx(rows[0]["price_oracle"], rel=0.15)
    text = (tmp_path / "tables.md").read_text()
    assert (
        "## gaussians" in text
        and "## compas" not in text
        and (tmp_path / "gaussians.png").stat().st_size > 1000
    )


def test_a_study_that_fails_does_not_cost_the_others(
    experiment, small, tmp_path, monkeypatch, capsys
):
    def fail(size):
        raise FileNotFoundError("no such rows")

    def draw(rows, path):
        path.write_bytes(b"")

    good = experiment.Study(
        lambda size: [{"seed": 1, "ks": 0.25, "what": "a"}],
        lambda rows: f"KS {rows[0]['ks']}",
        draw,
    )
    monkeypatch.setattr(
        experiment, "STUDIES", {"bad": ("b", good._replace(run=fail)), "good": ("g", good)}
    )
    assert experiment.run_all(["bad", "good"], small, tmp_path) == ["bad"]
    assert (
        "KS 0.25" in (tmp_path / "tables.md").read_text()
        and "no such rows" in capsys.readouterr().err
    )
    assert experiment.read_rows(tmp_path / "good.csv") == [{"seed": 1.0, "ks": 0.25, "what": "a"}]


def test_means_come_with_intervals_and_what_is_missing_is_empty(experiment):
    rows = [{"a": "x", "v": v} for v in (1.0, 2.0, 3.0)] + [{"a": "y"}]
    (_, first), (_, second) = experiment.together(rows, ("a",))
    mean, low, high = experiment.interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and 1.0 <= low < 2.0 < high <= 3.0
    assert experiment.cell(first, "v").startswith("2.000 [") and experiment.cell(second, "v") == ""


# ----------------------------------------------------------------------------------- the benchmark


def test_both_sorts_of_the_benchmark_agree(bench):
    score, cell = bench.made_up(500, 7, 2)
    np.testing.assert_array_equal(bench.by_group(score, cell, 7), bench.at_once(score, cell, 7))


def test_the_benchmark_measures_with_and_without_equipy(bench, tmp_path, capsys):
    made = bench.equipy()
    line = bench.measured(600, 3, 2, None, 1)
    assert (
        np.isnan(line["parity"])
        and line["apply"] > 0
        and "agrees" not in bench.report([line], [], tmp_path)
    )
    if made is None:
        assert "pip install" in capsys.readouterr().out
        pytest.skip("no EquiPy")
    score, cell = bench.made_up(600, 3, 2)
    *_, repaired = bench.theirs(made, score, cell, 1)
    assert bench.parity(repaired, score, cell, 3) < 1e-6 < np.abs(repaired - score).max()
