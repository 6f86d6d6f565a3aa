"""The experiment on tables: areas and errors are scikit-learn's, differences are paired."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fairjax import Roles, from_table

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "benchmark_tables.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("tables_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared():
    """Two tasks, one with a label that is often unknown, and a level that tells much."""
    rng = np.random.default_rng(0)
    n = 600
    x, town = rng.normal(size=n), rng.choice(["a", "b", "c"], n)
    paid = np.where(x + (town == "a") + 0.5 * rng.normal(size=n) > 0.5, "yes", "no").astype(object)
    late = np.where(x - rng.normal(size=n) > 0, "yes", "no").astype(object)
    late[rng.random(n) < 0.3] = ""
    columns = {"x": x, "town": town, "paid": paid, "late": late, "sex": rng.choice(["f", "m"], n)}
    return from_table(columns, Roles(tasks=("paid", "late"), sensitive=("sex",)))


def test_rows_are_dealt_once(experiment, prepared):
    parts = experiment.dealt(prepared.splits.train, 3)
    counts = [len(part.weight) for part in parts]
    assert counts == [216, 72, 72]
    dealt = np.sort(np.concatenate([part.x.numeric[:, 0] for part in parts]))
    np.testing.assert_array_equal(dealt, np.sort(prepared.splits.train.x.numeric[:, 0]))


def test_logistic_regression_sees_levels_as_columns_and_known_labels_alone(experiment, prepared):
    fit = experiment.linear_fit(prepared.spec, prepared.splits, 0)
    for t in range(2):
        designs, labels = [], []
        for part in (prepared.splits.train, prepared.splits.test):
            known = part.label_mask[:, t] == 1
            levels = np.eye(4)[part.x.codes[known, 0]][:, :3]
            designs.append(np.concatenate([part.x.numeric[known], levels], axis=1))
            labels.append(part.labels[known, t])
        model = LogisticRegression(max_iter=500).fit(designs[0], labels[0])
        prob = model.predict_proba(designs[1])[:, 1]
        assert fit.area_t[t] == pytest.approx(roc_auc_score(labels[1], prob), abs=1e-3)
        assert fit.error_t[t] == pytest.approx(np.mean((prob > 0.5) != labels[1]), abs=0.01)


@pytest.mark.parametrize("missing", [False, True])
def test_trees_with_and_without_lightgbm(experiment, prepared, monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, "lightgbm", None)
    else:
        pytest.importorskip("lightgbm")
    fit = experiment.trees_fit(prepared.spec, prepared.splits, 0)
    assert np.all(fit.area_t > 0.7) and np.all(fit.error_t < 0.4)


def test_a_network_is_measured_as_the_others_are(experiment, prepared):
    rows = prepared.splits.train
    settings = {"epochs": 20, "trunk": (8,), "head": ()}
    first, second = experiment.network_fits(prepared, rows, "table", 2, settings)
    assert np.all(first.area_t > 0.7) and not np.array_equal(first.area_t, second.area_t)
    assert first.seconds > 0 and first.swept > 0 and first.compilation == second.compilation


def test_the_table_has_differences_paired_by_seed(experiment):
    def row(model, seed, auc):
        numbers = {"auc": auc, "error": 0.2, "seconds": 1.0, "swept": 0.5, "compilation": 2.0}
        return {"table": "one", "model": model, "seed": seed, "task": "t", **numbers}

    rows = [row(experiment.TREES, 0, 0.7), row(experiment.TREES, 1, 0.9)]
    rows += [row("table", 0, 0.72), row("table", 1, 0.9)]
    rows += [row("paper 64-32", seed, 0.8) | {"seconds": 4.0, "swept": 0.25} for seed in (0, 1)]
    text = experiment.summary(rows)
    half = 12.7062 * np.std([0.02, 0.0], ddof=1) / np.sqrt(2)
    assert f"| one | table | 0.8100 | +0.0100 ± {half:.4f} |" in text
    assert "boosted trees +0.0000, table +0.0100" in text
    alone = [row(experiment.TREES, 0, 0.7) | {"table": "finance", "swept": np.nan}]
    assert "| finance | boosted trees |" in experiment.summary(alone)
    assert "| 1.000 |  | 2.0 |" in experiment.summary(alone)
    assert "all tables together: 0.25 of a fit, 2.00 of a run in a sweep." in text
