"""A bound on a gap: its text, what is refused, what the sentences say, and one run end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cases import fairjax as command
from click.testing import CliRunner

import fairjax
from fairjax.cli import main
from fairjax.core.disk import read_json, write_json
from fairjax.core.keys import Metric
from fairjax.core.types import Attribute, DataError, Spec, Task
from fairjax.metrics import Interval
from fairjax.notions import REGISTRY
from fairjax.study import ConstrainedModel, Constraint, check_constraint, named_study
from fairjax.study import parse_constraint as parse
from fairjax.study._constrain import Measured

SEX = Attribute("sex", ("f", "m"))
HIRED = Task("hired")
WAGE = Task("wage", "regression")

# ---------------------------------------------------------------------------------------- the text


@pytest.mark.parametrize(
    "text, want",
    [
        ("equal_opportunity <= 0.05", ("equal_opportunity", 0.05)),
        ("equal_opportunity<0.05", ("equal_opportunity", 0.05)),
        ("  rate_gap  <=  1e-2 ", ("rate_gap", 0.01)),
        ("accuracy_parity <= 0", ("accuracy_parity", 0.0)),
    ],
)
def test_a_text_is_a_notion_and_a_number(text, want):
    constraint = parse(text)
    assert constraint == want
    assert parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    "text, words",
    [
        ("equal_opportunity", ["NOTION <= NUMBER", "equal_opportunity <= 0.05"]),
        ("", ["NOTION <= NUMBER"]),
        ("equal_opportunity >= 0.05", ["NOTION <= NUMBER"]),
        ("0 <= equal_opportunity <= 0.05", ["NOTION <= NUMBER"]),
        (
            "equal-oportunity <= 0.05",
            [f"none of {len(REGISTRY)}", "Did you mean equal_opportunity"],
        ),
        ("tpr <= 0.05", [f"none of {len(REGISTRY)} notions is called 'tpr'", "demographic_parity"]),
        ("robust_log <= 0.05", ["robust_log is no gap", f"one of {len(REGISTRY) - 1} gaps"]),
        ("rate_gap <= -0.05", ["cannot be at most -0.05", "0 or a larger number"]),
        ("rate_gap <= small", ["'small' is no number", "0.05 for five percent"]),
        ("rate_gap <= 5%", ["'5%' is no number"]),
        ("rate_gap <= nan", ["'nan' is no number"]),
        ("rate_gap <=", ["'' is no number"]),
    ],
)
def test_another_text_is_refused_with_a_cure(text, words):
    with pytest.raises(DataError) as complaint:
        parse(text)
    for word in [repr(text), *words]:
        assert word in str(complaint.value)


@pytest.mark.parametrize(
    "spec, name, words",
    [
        (Spec((HIRED,), ()), "rate_gap", ["0 sensitive attributes", "--sensitive"]),
        (
            Spec((HIRED, WAGE), (SEX,)),
            "f_score_parity",
            ["does not fit 1 of 2 tasks", "wage (regression)", "rate_gap"],
        ),
        (
            Spec((HIRED,), (SEX, Attribute("age", ("age",), continuous=True))),
            "equal_opportunity",
            ["1 of 2 attributes are numbers, 'age'", "age > 25", "rate_gap"],
        ),
    ],
)
def test_a_bound_that_does_not_fit_the_data_is_refused(spec, name, words):
    with pytest.raises(DataError) as complaint:
        check_constraint(spec, Constraint(name, 0.1))
    for word in words:
        assert word in str(complaint.value)
    check_constraint(Spec((HIRED,), (SEX,)), Constraint(name, 0.1))


def test_settings_that_do_not_fit_are_refused():
    data = fairjax.load("synthetic")
    with pytest.raises(DataError, match="cap 0: .* above 0"):
        fairjax.constrain(data, "rate_gap <= 0.1", cap=0)
    with pytest.raises(DataError, match="1 repairs by 2 amounts"):
        fairjax.constrain(data, "rate_gap <= 0.1", amounts=(0.5, 1.0))
    with pytest.raises(DataError, match="does not fit 2 of 2 tasks"):
        fairjax.constrain(data, "concordance_parity <= 0.1")


@pytest.mark.parametrize(
    "options, word",
    [
        (["--lam", "1"], "--lam"),
        (["--r", "1"], "--r"),
        (["--tau", "0.5"], "--tau"),
        (["--notion", "mmd"], "--notion"),
        (["--like", "runs"], "--like"),
        (["--method", "mta_f"], "--method mta_f"),
    ],
)
def test_what_a_bound_replaces_is_refused(options, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--constrain", "equal_opportunity <= 0.05", *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert f"takes the place of {word}. Leave out 1 options" in done.output
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------- the sentences


def result_of(verdict="met", *, notion="equal_opportunity", tasks=(HIRED,), last=0.04, **fields):
    """A result with made-up numbers; ``fields`` are those of its model."""
    count = len(tasks)
    model = SimpleNamespace(
        encoder=SimpleNamespace(spec=Spec(tasks, (SEX,))),
        names=named_study(methods=("constrained",), notion=notion),
        thresholds=tuple(0.0 if task.kind == "binary" else None for task in tasks),
        decision="half",
        repair=None,
    )
    vars(model).update(fields)
    gap = {name: np.full(count, 0.03) for name in ("train", "validation", "test")}
    measured = Measured(gap, np.full(count, 0.01), np.full(count, 0.06), np.full(count, 0.25))
    without = measured._replace(error=np.full(count, 0.2))
    return ConstrainedModel(
        Constraint(notion, 0.05),
        5.0,
        verdict,
        np.array([0.1, last]),
        np.array([0.3, 4.99]),
        1,
        model,
        model,
        measured,
        without,
        Interval(np.full(count, 0.05), np.full(count, 0.02), np.full(count, 0.08)),
        scores={},
        smallest_group=10,
    )


def test_a_bound_that_is_met_says_which_gap_and_at_what_cost():
    result = result_of()
    text = str(result)
    assert text.startswith("equal_opportunity <= 0.05: met.\n")
    assert "The largest gap of validation rows is 0.04, at most 0.05." in text
    assert "The gap of hired is true_positive_rate_difference, of rows with label 1" in text
    assert "decided from probability 0.5 on, by sex." in text
    assert "0.03 [0.01, 0.06]" in text
    assert "of hired from 0.2 to 0.25 (+0.05 [+0.02, +0.08])" in text
    assert "saw" not in text and "above" not in text
    html = result._repr_html_()
    assert "equal_opportunity &lt;= 0.05" in html and html.count("<tr>") == 4


def test_an_infeasible_bound_names_the_cures_that_exist():
    text = str(result_of("infeasible", last=0.2))
    assert "reached its cap of 5 and the gap stays above, at 0.2" in text
    assert "this training cannot meet the bound, which another one still might" in text
    assert "--cap 50" in text and "a looser bound" in text and "--repair 1" in text
    repair = SimpleNamespace(post=SimpleNamespace(name="barycenter"))
    again = str(result_of("infeasible", last=0.2, repair=repair))
    assert "--repair 1" not in again
    assert "saw scores before the repair (barycenter)" in again


def test_a_bound_that_is_not_met_or_not_measured_is_said():
    text = str(result_of("not met", last=0.07))
    assert "is 0.07, above 0.05" in text and "of at most 5: train longer" in text
    unknown = str(result_of("not met", last=np.nan))
    assert "could not be measured: fewer than two groups have 10 rows" in unknown


def test_what_the_multiplier_did_not_see_is_said():
    text = str(result_of(decision="least_error", thresholds=(1.0,)))
    assert "saw decisions at probability one half" in text and "(least error)" in text
    assert "decided from probability 0.731 on" in text
    result = result_of()
    assert "groups of 10 rows and more, and the table those of 3" in str(
        replace(result, smallest_group=3)
    )
    wide = result.measured._replace(gap={**result.measured.gap, "test": np.array([0.08])})
    assert "above the bound in 1 of 1 tasks, hired (0.08)" in str(replace(result, measured=wide))


@pytest.mark.parametrize(
    "notion, task, words",
    [
        ("rate_gap", HIRED, "false_positive_rate_difference, of rows with label 0"),
        ("accuracy_parity", HIRED, "accuracy_parity itself, of rows whose label is known, decided"),
        ("calibration", HIRED, "calibration itself, of rows whose label is known, by sex"),
        ("mean_prediction_parity", WAGE, "mean_prediction_difference, of all rows, in units of"),
        ("squared_loss_parity", WAGE, "known, in training deviations, by sex"),
    ],
)
def test_every_kind_of_gap_has_its_words(notion, task, words):
    assert words in str(result_of(notion=notion, tasks=(task,)))


# --------------------------------------------------------------------------------------- end to end


def gap_by_hand(scores, rows, t, threshold, weight=1.0):
    """Difference of true positive rates of a binary task, in float64."""
    decided = np.asarray(scores, float)[:, t] >= threshold
    positive = (np.asarray(rows.labels)[:, t] == 1) & (np.asarray(rows.label_mask)[:, t] > 0)
    mass = positive * np.asarray(rows.weight, float) * weight
    rates = [np.sum(mass * g * decided) / np.sum(mass * g) for g in np.asarray(rows.groups).T]
    return max(rates) - min(rates)


def unbound_scores(data, result):
    """Scores of the test rows by the unconstrained model."""
    model = result.unconstrained
    return fairjax.models.scores(model.model, model.params, data.splits.test.x)


@pytest.mark.slow
def test_a_bound_from_the_text_to_the_saved_model(tmp_path):
    """Gaps, intervals and errors are those of the deployed thresholds, counted by hand."""
    data = fairjax.load("synthetic")
    settings = {"epochs": 4, "trunk": (4,), "head": (3,), "decision": "least_error"}
    result = fairjax.constrain(data, "equal_opportunity < 0.05", seed=1, **settings)
    tasks = range(len(data.spec.tasks))
    for split, rows in zip(("train", "validation", "test"), data.splits, strict=True):
        want = [
            gap_by_hand(result.scores[split], rows, t, result.model.thresholds[t]) for t in tasks
        ]
        np.testing.assert_allclose(result.measured.gap[split], want, atol=1e-5)
    # what the multiplier follows is the largest gap at one half
    at_half = [
        gap_by_hand(result.scores["validation"], data.splits.validation, t, 0.0) for t in tasks
    ]
    np.testing.assert_allclose(result.violation[result.block], max(at_half), atol=1e-5)
    assert result.block >= 2  # one of the last half
    assert result.violation.shape == result.multiplier.shape == (4,)
    assert result.verdict == ("met" if max(at_half) <= 0.05 else "not met")
    rng = np.random.default_rng(0)
    test = data.splits.test
    for t in tasks:
        draws = [
            gap_by_hand(
                result.scores["test"],
                test,
                t,
                result.model.thresholds[t],
                rng.poisson(1.0, len(test.weight)),
            )
            for _ in range(400)
        ]
        ends = [result.measured.low[t], result.measured.high[t]]
        np.testing.assert_allclose(ends, np.quantile(draws, [0.025, 0.975]), atol=0.04)
    # the cost is paired: rows that both models get right, or wrong, say nothing
    both = [result.scores["test"], unbound_scores(data, result)]
    for t in tasks:
        wrong = [
            (np.asarray(scores)[:, t] >= model.thresholds[t]) != (test.labels[:, t] == 1)
            for scores, model in zip(both, (result.model, result.unconstrained), strict=True)
        ]
        more = wrong[0].astype(float) - wrong[1]
        np.testing.assert_allclose(result.cost.estimate[t], more.mean(), atol=1e-5)
        half = 1.96 * more.std() / np.sqrt(len(more))
        ends = [result.cost.low[t], result.cost.high[t]]
        np.testing.assert_allclose(ends, [more.mean() - half, more.mean() + half], atol=0.006)
    # the same network and seed without a constraint is what vanilla gives alone
    names = named_study(methods=("vanilla",), seed=1, **settings)
    study = fairjax.study.from_names(data, names)
    hparams = fairjax.study.point_hparams(study.recipes["vanilla"], data.spec, {})
    point = fairjax.study.Point("vanilla", hparams, 0, None)
    alone, _ = fairjax.study.train_one(data, study, point)
    assert alone.metrics == result.unconstrained.metrics
    error = [alone.metrics[Metric("error", task.name, split="test")] for task in data.spec.tasks]
    np.testing.assert_array_equal(result.without.error, error)
    assert result.unconstrained.constraint is None
    # the bound and its verdict stay with the model; an older file has none
    result.model.save(tmp_path)
    loaded = fairjax.load_model(tmp_path)
    assert loaded.constraint == ("equal_opportunity <= 0.05", result.verdict)
    said = f"trained under equal_opportunity <= 0.05 on validation rows: {result.verdict}"
    assert said in loaded.describe()
    description = read_json(tmp_path / "model.json")
    del description["constraint"]
    write_json(tmp_path / "model.json", description)
    older = fairjax.load_model(tmp_path)
    assert older.constraint is None and "trained under" not in older.describe()


@pytest.mark.slow
def test_the_command_line_takes_a_bound(tmp_path):
    small = ["--epochs", "2", "--trunk", "4", "--head", "3", "--weight", "0.3,0.7"]
    bound = ["--constrain", "demographic_parity <= 0.4", "--cap", "2"]
    done = command("train", *bound, *small, "--conflicts", "--out", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demographic_parity <= 0.4: met.\n")
    assert "demographic_parity_difference, of all rows" in done.stdout
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.json", "params.npz", "predictions.csv", "groups.csv"} <= names
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["constraint"] == {"text": "demographic_parity <= 0.4", "verdict": "met"}
    assert description["method"] == "constrained"
    hparams = description["hparams"]
    assert hparams["cap"] == 2 and hparams["tolerance"] == pytest.approx(0.4)
    assert hparams["weight"] == pytest.approx([0.3, 0.7])
