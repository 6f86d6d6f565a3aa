"""From predictions.csv alone, scikit-learn and fairlearn give every number of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import fairlearn.metrics
import numpy as np
import pandas
import pytest
import sklearn.metrics
from cases import fairjax

from fairjax.core.keys import Metric
from fairjax.core.tables import read_csv

SMALL = ["--runs", "2", "--epochs", "2", "--trunk", "8", "--head", "4", "--devices", "1"]
DIFFERENCES = {
    "demographic_parity_difference": fairlearn.metrics.demographic_parity_difference,
    "true_positive_rate_difference": fairlearn.metrics.equal_opportunity_difference,
    "equalized_odds_difference": fairlearn.metrics.equalized_odds_difference,
}
RATES = {
    "selection_rate": fairlearn.metrics.selection_rate,
    "true_positive_rate": fairlearn.metrics.true_positive_rate,
    "false_positive_rate": fairlearn.metrics.false_positive_rate,
    "accuracy": sklearn.metrics.accuracy_score,
}


def people(path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 1500
    sex = rng.choice(["f", "m", ""], rows, p=[0.45, 0.45, 0.1])
    skill = rng.normal(size=rows) + (sex == "m")
    verdict = np.where(skill + rng.normal(size=rows) > 0.5, "denied", "approved").astype(object)
    verdict[rng.random(rows) < 0.1] = ""
    paid = 20 + 5 * skill + rng.normal(size=rows)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["skill", "sex", "verdict", "paid", "mass"])
        writer.writerows(zip(skill, sex, verdict, paid, rng.integers(1, 4, rows), strict=True))
    return path


def run_of(folder: Path, *options: str) -> tuple[pandas.DataFrame, dict, dict]:
    """Predictions, the row of the table, and the description of the last run of a sweep."""
    done = fairjax("frontier", *options, *SMALL, "--methods", "baseline", "--out", "s", cwd=folder)
    assert done.returncode == 0, done.stderr
    table = read_csv(folder / "s" / "table.csv")
    run = table.rows - 1
    done = fairjax("train", "--like", "s", "--run", str(run), "--out", "m", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"are those of run {run}" in done.stdout
    predictions = pandas.read_csv(folder / "m" / "predictions.csv", keep_default_na=False)
    row = {key: values[run] for key, values in table.items()}
    return predictions, row, json.loads((folder / "m" / "model.json").read_text())


def check_binary(frame: pandas.DataFrame, row: dict, task: str, attributes: list[str]) -> None:
    (label_name,) = [name for name in frame if name.startswith(f"{task} label (1: ")]
    decision_name = label_name.replace(" label (", " decision (")
    for split in ("validation", "test"):
        of_split = frame[frame["split"] == split]
        known = of_split[of_split[label_name] != ""]
        label = known[label_name].astype(float).astype(int)
        decision = known[decision_name]
        weight = known["weight"] if "weight" in known else np.ones(len(known))
        subject = Metric("", task, split=split)
        error = 1 - sklearn.metrics.accuracy_score(label, decision, sample_weight=weight)
        assert row[subject._replace(metric="error")] == pytest.approx(error, abs=1e-6)
        auc = sklearn.metrics.roc_auc_score(label, known[task], sample_weight=weight)
        assert row[subject._replace(metric="auc")] == pytest.approx(auc, abs=1e-5)
        threshold = row[subject._replace(metric="threshold")]
        np.testing.assert_array_equal(decision, known[task] >= threshold)
        for attribute in attributes:
            on = subject._replace(attribute=attribute)
            member = known[known[attribute] != ""]
            weight = member["weight"] if "weight" in member else np.ones(len(member))
            arguments = (member[label_name].astype(float).astype(int), member[decision_name])
            options = {"sensitive_features": member[attribute], "sample_weight": weight}
            for name, difference in DIFFERENCES.items():
                if name.startswith("demographic") and len(known) < len(of_split):
                    continue  # of all rows, below
                expected = difference(*arguments, **options)
                assert row[on._replace(metric=name)] == pytest.approx(expected, abs=1e-6), name
            everyone = of_split[of_split[attribute] != ""]
            weight = everyone["weight"] if "weight" in everyone else np.ones(len(everyone))
            selected = everyone[decision_name]
            parity = fairlearn.metrics.demographic_parity_difference(
                selected,
                selected,
                sensitive_features=everyone[attribute],
                sample_weight=weight,
            )
            key = on._replace(metric="demographic_parity_difference")
            assert row[key] == pytest.approx(parity, abs=1e-6)


def check_groups(folder: Path, frame: pandas.DataFrame, task: str, attribute: str) -> None:
    groups = pandas.read_csv(folder / "m" / "groups.csv", keep_default_na=False)
    (label_name,) = [name for name in frame if name.startswith(f"{task} label (1: ")]
    decision_name = label_name.replace(" label (", " decision (")
    known = frame[(frame["split"] == "test") & (frame[label_name] != "")]
    if attribute:
        known = known[known[attribute] != ""]
    rates = {"selection_rate", *RATES} if "weight" not in frame else set(RATES)
    levels = known[attribute].unique() if attribute else ["overall"]
    for level in levels:
        member = known[known[attribute] == level] if attribute else known
        weight = member["weight"] if "weight" in member else np.ones(len(member))
        label = member[label_name].astype(float).astype(int)
        for name in rates - {"selection_rate"}:
            expected = RATES[name](label, member[decision_name], sample_weight=weight)
            found = groups[
                (groups["task"] == task)
                & (groups["attribute"] == attribute)
                & (groups["group"] == level)
                & (groups["statistic"] == name)
            ]
            assert float(found["value"].iloc[0]) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.slow
def test_a_table_with_unknown_labels_and_weights(tmp_path):
    path = people(tmp_path / "people.csv")
    roles = ["--task", "verdict", "--task", "paid", "--sensitive", "sex"]
    options = ["--weight-column", "mass", "--decision", "base_rate"]
    frame, row, model = run_of(tmp_path, "--data", path.name, *roles, *options)
    assert model["label_1"]["verdict"] == "denied" and model["decision"] == "base_rate"
    check_binary(frame, row, "verdict", ["sex"])
    for attribute in ("", "sex"):
        check_groups(tmp_path, frame, "verdict", attribute)
    # every row is there once, with its line in the source
    source = pandas.read_csv(path, keep_default_na=False)
    assert sorted(frame["row"]) == list(range(len(source)))
    placed = source.iloc[frame["row"]].reset_index(drop=True)
    np.testing.assert_array_equal(frame["line"], frame["row"] + 2)
    np.testing.assert_array_equal(frame["sex"], placed["sex"])
    np.testing.assert_array_equal(frame["weight"], placed["mass"])
    is_denied = {"": "", "approved": "0.0", "denied": "1.0"}
    assert frame["verdict label (1: denied)"].tolist() == placed["verdict"].map(is_denied).tolist()
    test = frame["split"] == "test"
    np.testing.assert_allclose(frame["paid label"], placed["paid"], rtol=1e-5)
    square = sklearn.metrics.mean_squared_error(
        frame["paid label"][test], frame["paid"][test], sample_weight=frame["weight"][test]
    )
    key = Metric("error", "paid", split="test")
    assert row[key] == pytest.approx(np.sqrt(square), rel=1e-5)
    # and a repair reads it
    done = fairjax(
        "repair", "m/predictions.csv", "--score", "verdict", "--sensitive", "sex", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_compas(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("FAIRJAX_DATA", str(data_dir))
    frame, row, _ = run_of(tmp_path, "--data", "compas", "--smallest-group", "0")
    attributes = [name for name in frame if name in ("sex", "race", "age_cat")]
    assert attributes
    for task in ("two_year_recid", "is_violent_recid"):
        check_binary(frame, row, task, attributes)
        for attribute in ("", *attributes):
            check_groups(tmp_path, frame, task, attribute)
