"""The experiment on frontiers: gaps by hand, volumes of what validation rows choose, totals."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from fairjax.data.sets.synthetic import synthetic

FOLDER = Path(__file__).resolve().parents[1] / "experiments"

pytest.importorskip("fairlearn")


@pytest.fixture(scope="module")
def experiment():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(
            "frontiers_experiment", FOLDER / "benchmark_frontiers.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def part_of(experiment, seed: int, rows: int = 300):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, rows)
    group[:4] = 2  # too few to count
    label = (rng.random(rows) < 0.5).astype(float)
    return experiment.Part(np.zeros((rows, 1)), label, group)


@pytest.mark.parametrize("condition", ["parity", "tpr", "odds"])
def test_a_gap_is_that_of_groups_of_ten_rows(experiment, condition):
    part = part_of(experiment, 0)
    decision = np.random.default_rng(1).random(300) < 0.3 + 0.3 * part.group / 2
    rows = {
        "parity": [np.ones(300, bool)],
        "tpr": [part.label == 1],
        "odds": [part.label == 1, part.label == 0],
    }[condition]
    gaps = []
    for counted in rows:
        rates = [decision[counted & (part.group == g)].mean() for g in (0, 1)]
        gaps.append(abs(rates[0] - rates[1]))
    assert experiment.gap_of(condition, part, decision) == pytest.approx(max(gaps))
    lone = part._replace(group=np.zeros(300, int))
    assert np.isnan(experiment.gap_of(condition, lone, decision))


def test_a_volume_is_of_the_points_that_validation_rows_choose(experiment):
    parts = [part_of(experiment, seed) for seed in range(3)]
    right = [part.label.astype(bool) for part in parts]
    nobody = np.zeros(300, bool)
    # on test rows the second point would be the best, but validation rows do not choose it
    front = experiment.Front(
        np.stack([right[1], ~right[1]]), np.stack([nobody, right[2]]), seconds=0.0
    )
    error = np.mean(right[2]) / 0.5  # of nobody, whose gap is 0
    assert error < 1.25
    volume = experiment.volume_of("tpr", *parts[1:], front, [0.5, 0.5])
    assert volume == pytest.approx(1.25 - error)


def test_scores_of_a_pool_are_of_fits_that_left_them_out(experiment):
    splits = synthetic(503).splits
    pool = experiment.pooled(splits)
    assert len(pool.weight) % experiment.FOLDS == 0
    count = len(pool.weight)

    def fit(fold_splits, k):
        trained = {tuple(row) for row in fold_splits.train.x.numeric}
        assert not trained & {tuple(row) for row in fold_splits.validation.x.numeric}
        rows = {"validation": fold_splits.validation, "test": fold_splits.test}
        return {name: part.x.numeric[:, :2] + 10 * k for name, part in rows.items()}

    found = experiment.cross_fitted(fit, pool, splits.test)
    fold = 10 * (np.arange(count) % experiment.FOLDS)
    np.testing.assert_allclose(found["validation"][:, 0], pool.x.numeric[:, 0] + fold, rtol=1e-5)
    mean = 10 * (experiment.FOLDS - 1) / 2
    np.testing.assert_allclose(found["test"], splits.test.x.numeric[:, :2] + mean, rtol=1e-5)


def test_totals_count_tables_tasks_and_conditions(experiment):
    rows = []
    for system, volumes in zip(experiment.SYSTEMS, ((1, 1), (2, 0.5), (1, 1), (2, 2)), strict=True):
        for task, volume in zip("ab", volumes, strict=True):
            for condition in experiment.CONDITIONS:
                rows.append(
                    {
                        "table": "one",
                        "task": task,
                        "condition": condition,
                        "seed": 0,
                        "system": system,
                        "volume": volume,
                        "seconds": 1,
                    }
                )
    text = experiment.summary(rows)
    assert "network: volume 1.250 against 1.000, 1.25 times; below in 3 of 6" in text
    assert "fairjax: volume 2.000 against 1.000, 2.00 times; below in 0 of 6" in text
    assert text.splitlines()[2].startswith("| one | parity | 1.000 | 1.250 | +0.2500 |")
