"""What keeps a report honest: constant predictors, small groups, and warnings."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

from fairjax import methods, models, notions
from fairjax.core.keys import Metric
from fairjax.core.tables import Table
from fairjax.data import Roles, from_table
from fairjax.study import StudyConfig, make_study, run_study
from fairjax.study.references import (
    constant_are,
    constants,
    left_out,
    left_out_sentences,
    warnings_of,
)

FPR = notions.get("rate_gap", notions.CONDITIONS["fpr"])


def people(rows=2000, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=rows)
    score = 0.36 * skill + rng.normal(size=rows)
    return {
        "skill": skill,
        "sex": rng.choice(["f", "m"], rows),
        "race": rng.choice(["a", "b", "c"], rows, p=[0.6, 0.39, 0.01]),
        "hired": (score > np.quantile(score, 1 - share)).astype(int),
        "job": rng.choice(["x", "y", "z"], rows, p=[0.5, 0.3, 0.2]),
        "pay": 20 + 5 * skill + rng.normal(size=rows),
    }


@pytest.fixture(scope="module")
def data():
    return from_table(people(), Roles(tasks=("hired", "job", "pay"), sensitive=("sex", "race")))


def test_constants_are_those_of_scikit_learn(data):
    found = constants(data)
    train = data.splits.train
    none = np.zeros((len(train.weight), 1))
    for split in ("validation", "test"):
        rows = getattr(data.splits, split)
        x = np.zeros((len(rows.weight), 1))
        for name, label in (("nobody", 0), ("everybody", 1)):
            dummy = DummyClassifier(strategy="constant", constant=label)
            dummy.fit(none, train.labels[:, 0])
            error = 1 - dummy.score(x, rows.labels[:, 0])
            assert found[split]["hired"][name]["error"] == pytest.approx(error, abs=1e-6)
        frequent = DummyClassifier(strategy="most_frequent").fit(none, train.labels[:, 1])
        error = 1 - frequent.score(x, rows.labels[:, 1])
        assert found[split]["job"]["most frequent"]["error"] == pytest.approx(error, abs=1e-6)
        mean = DummyRegressor().fit(none, train.labels[:, 2])
        square = np.mean((mean.predict(x) - rows.labels[:, 2]) ** 2)
        error = data.spec.tasks[2].deviation * np.sqrt(square)
        assert found[split]["pay"]["mean"]["error"] == pytest.approx(error, rel=1e-5)
        rate = train.labels[:, 0].mean()
        drawn = np.random.default_rng(1).random((2000, len(x))) < rate
        at_random = np.mean(drawn != rows.labels[:, 0])
        assert found[split]["hired"]["at random"]["error"] == pytest.approx(at_random, abs=5e-3)


def test_small_groups_are_named_with_their_counts(data):
    study = make_study(data, [methods.baseline(FPR)], model=models.network, config=StudyConfig())
    entries = left_out(data, study)["test"]
    race_c = data.splits.test.groups[:, 4] > 0
    negative = data.splits.test.labels[:, 0] == 0
    hired = [entry for entry in entries if entry["task"] == "hired"]
    assert hired == [
        {
            "attribute": "race",
            "group": "c",
            "task": "hired",
            "rows": int(race_c.sum()),
            "rows_that_count": int((race_c & negative).sum()),
        }
    ]
    info = {"minimum": 10, "left_out": {"test": hired}}
    (sentence,) = left_out_sentences(info)
    assert "fewer than 10 test rows" in sentence and "race=c for hired" in sentence


def table_of(errors, ares, arfgs):
    columns = {"method": np.array(["single_task", *["baseline"] * (len(errors) - 1)])}
    columns["diverged"] = np.zeros(len(errors), bool)
    columns[Metric("error", "y", split="validation")] = np.asarray(errors)
    columns[Metric("are", split="validation")] = np.asarray(ares)
    columns[Metric("arfg", split="validation")] = np.asarray(arfgs)
    return Table(columns)


def info_of(constant, single_task=0.1, noisy=False):
    info = {
        "reference_methods": ["single_task"],
        "constants": {"validation": {"y": {"nobody": {"error": constant}}}},
        "single_task": {
            "validation": {"y": {"error": single_task}},
            "test": {"y": {"gap": 0.1, "gap_deviation": 0.1, "gap_is_noisy": noisy, "runs": 3}},
        },
        "labelled": {"validation": {"y": 10_000}},
        "decision": {"rule": "half"},
    }
    return info | {"constant_are": {"validation": constant_are(info, "validation")}}


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        (0.2, []),  # better runs alone
        (0.115, ["beyond ARE 1.150: "]),  # one of two runs of the frontier
        (0.1, ["frontier: ", "Of y no run is clearly better"]),
    ],
)
def test_runs_that_a_constant_beats_are_not_to_be_read(constant, expected):
    table = table_of([0.1, 0.1, 0.12, 0.13], [1.0, 1.0, 1.2, 1.3], [1.0, 1.0, 0.5, 0.6])
    found = warnings_of(table, info_of(constant))
    assert len(found) == len(expected)
    for sentence, part in zip(found, expected, strict=True):
        assert part in sentence


def test_single_tasks_without_an_error_beat_every_constant():
    info = info_of(0.2, single_task=0.0)
    assert info["constant_are"]["validation"] == np.inf
    table = table_of([0.0, 0.0], [1.0, 1.0], [1.0, 1.0])
    assert warnings_of(table, info) == []


def test_a_noisy_denominator_is_said():
    table = table_of([0.1, 0.1], [1.0, 1.0], [1.0, 1.0])
    (sentence,) = warnings_of(table, info_of(0.2, noisy=True))
    assert "over 3 seeds" in sentence and "y (0.1000, deviation 0.1000)" in sentence


@pytest.mark.slow
@pytest.mark.parametrize(("share", "warned"), [(0.05, True), (0.45, False)])
def test_rare_positives_are_warned_of(share, warned):
    rows = people(6000, share)
    if not warned:
        rows["skill"] = 3 * rows["hired"] + rows["skill"]
    data = from_table(rows, Roles(tasks=("hired",), sensitive=("sex",), features=("skill",)))
    config = StudyConfig(runs=4, reference_seeds=2, epochs=5)
    results = run_study(data, [methods.baseline(FPR)], model=models.network, config=config)
    found = [text for text in results.info["warnings"] if "noisy" not in text]
    assert bool(found) == warned
    if warned:
        assert "Do not read this frontier" in found[0]
