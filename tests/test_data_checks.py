"""Checks of a table before training, its description, and where both are shown."""

from __future__ import annotations

import dataclasses
import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from fairjax import report
from fairjax.cli import main
from fairjax.core.keys import Metric
from fairjax.core.tables import Table
from fairjax.core.types import Task
from fairjax.data import Roles, from_sentences, from_table, load
from fairjax.data.alone import alone, auc, number_feature
from fairjax.data.summary import column_table, listed_columns

ROLES = Roles(tasks=("y",), sensitive=("sex",))
N = 600


def frame(**columns) -> dict:
    """A table without faults, and other columns."""
    rng = np.random.RandomState(0)
    rows = {
        "y": rng.randint(0, 2, N),
        "sex": np.array(["f", "m"])[np.arange(N) % 2],
        "age": rng.normal(40, 10, N),
        "city": np.array(["rome", "oslo", "lima"])[rng.randint(0, 3, N)],
    }
    return rows | columns


Y = frame()["y"]
RANDOM = np.random.RandomState(1)
NOISE = RANDOM.normal(0, 1, N)
PARTLY = np.where(np.arange(N) % 3 == 0, np.nan, Y)
HALF = np.arange(N) % 2 == 0


def noted(columns: dict, **changes) -> tuple[str, str]:
    """Warnings and notes of a table, each as one text."""
    data = from_table(columns, dataclasses.replace(ROLES, **changes))
    return "\n".join(data.warnings), "\n".join(data.notes)


def test_a_table_without_faults_has_no_warnings_and_no_notes():
    assert noted(frame()) == ("", "")


# ---------------------------------------------------------------- AUC


@pytest.mark.parametrize("distinct", [2, 7, 10_000])
def test_the_auc_is_that_of_scikit_learn(distinct):
    score = RANDOM.randint(0, distinct, 500)
    truth = RANDOM.rand(500) < 0.3 + 0.3 * score / distinct
    assert auc(score, truth) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_alone_predicts_upwards_or_downwards(sign):
    value = sign * (Y + NOISE)
    found = alone(number_feature("x", value), Task("y", "binary"), Y, Y >= 0, ~HALF)
    assert found.score >= roc_auc_score(Y, sign * value) - 1e-12
    assert found.rows == N and not found.is_copy


def test_a_regression_has_a_rank_correlation():
    label = NOISE + RANDOM.normal(0, 0.1, N)
    found = alone(number_feature("x", -NOISE), Task("z", "regression"), label, Y >= 0, ~HALF)
    assert found.score == pytest.approx(-spearmanr(-NOISE, label).statistic)
    assert found.measure == "rank correlation"


def test_a_task_with_few_rows_of_a_class_has_no_auc():
    rare = (np.arange(N) < 4).astype(float)
    found = alone(number_feature("x", NOISE), Task("y", "binary"), rare, Y >= 0, ~HALF)
    assert not found.rows and not found.score


# ---------------------------------------------------------------- leaks

LEAKS = {
    "number": Y + 0.15 * NOISE,
    "falling number": 1 - Y + 0.15 * NOISE,
    "number in the middle": np.where(Y == 1, NOISE / 10, 2 + np.abs(NOISE)) * (-1) ** np.arange(N),
    "copy": Y,
    "copy in words": np.array(["no", "yes"])[Y],
    "levels": np.array(["a", "b", "c", "d"])[Y + 2 * HALF],
    "missing": np.where(Y == 1, NOISE, np.nan),
    "missing text": np.where(Y == 1, np.array(["a", "b"])[HALF.astype(int)], ""),
}
HARMLESS = {
    "number": Y + NOISE,
    "one row each": np.array([f"{i % 300}x" for i in range(N)]),
    "other levels": np.array(["no", "yes"])[np.where(NOISE > 1.2, 1 - Y, Y)],
    "missing": np.where(NOISE > 0, NOISE, np.nan),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_a_warning_and_its_cure_removes_it(name):
    columns = frame(**{"the leak": LEAKS[name]})
    warnings, _ = noted(columns)
    assert "column 'the leak'" in warnings and "task 'y'" in warnings
    option, dropped = shlex.split(warnings)[-2:]
    assert option == "--drop"
    assert noted(columns, drop=tuple(dropped.split(","))) == ("", "")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_predicts_a_little_is_no_leak(name):
    roles = {"categorical": ("x",)} if name == "one row each" else {}
    assert noted(frame(x=HARMLESS[name]), **roles)[0] == ""


def test_messages_of_leaks_name_the_column_the_task_and_the_number():
    warnings, _ = noted(frame(duration=Y + 0.26 * NOISE))
    assert warnings.startswith("column 'duration' alone predicts task 'y' (AUC 0.99")
    assert warnings.endswith("rows): a leak? Leave it out with --drop duration")
    warnings, _ = noted(frame(x=LEAKS["copy"]))
    assert warnings == "column 'x' is a copy of task 'y' (480 rows). Leave it out with --drop x"


def test_a_feature_that_predicts_well_is_a_note():
    warnings, notes = noted(frame(x=Y + 0.4 * NOISE))
    assert not warnings
    assert notes.startswith("features that alone predict a task well: 'x' (0.9")
    assert notes.endswith("if they are not known before the label: --drop x")


def test_columns_that_are_constant_where_known_do_not_repeat_each_other():
    gaps = {"a": np.where(NOISE > 0, 1, np.nan), "b": np.where(NOISE > 1, 1, np.nan)}
    assert noted(frame(**gaps)) == ("", "")


def test_leaks_of_classes():
    x = RANDOM.normal(0, 1, 4000)
    three = np.digitize(x, [-0.4, 0.4])
    rows = {"y": np.array(["low", "middle", "high"])[three], "sex": np.arange(4000) % 2}
    warnings, _ = noted(rows | {"x": x})
    assert "column 'x' alone predicts task 'y' (AUC" in warnings
    # it tells one class of three
    assert noted(rows | {"x": np.array(["a", "b"])[(three == 2).astype(int)]})[0] == ""


def test_leaks_of_a_regression():
    warnings, _ = noted(frame(y=NOISE, x=NOISE**3))
    assert "column 'x' alone predicts task 'y' (rank correlation 1.000" in warnings
    assert noted(frame(y=NOISE, x=NOISE + 0.5 * Y))[0] == ""


def test_columns_known_only_with_a_label():
    known = np.isfinite(PARTLY)
    for x, word in (
        (np.where(known, NOISE, np.nan), "known"),
        (np.where(known, np.nan, 1), "miss"),
    ):
        rows = frame(y=PARTLY, x=x)
        # constant in the rows where it is known
        warnings, _ = noted(rows)
        assert f"column 'x' is known only where task 'y' is {word}" in warnings
    assert noted(frame(y=PARTLY, x=np.where(NOISE > 0, NOISE, np.nan)))[0] == ""


def test_leaks_are_found_in_a_part_of_many_rows():
    rng = np.random.RandomState(0)
    n = 60_000
    y = rng.randint(0, 2, n)
    rows = {"y": y, "sex": y[::-1], "x": y + 0.1 * rng.normal(size=n), "z": rng.normal(size=n)}
    (warning,) = from_table(rows, ROLES).warnings
    assert "column 'x'" in warning and "on 20,000 rows" in warning
    assert from_table(rows, ROLES).warnings == (warning,)


# ---------------------------------------------------------------- identifiers


def test_identifiers_are_warnings():
    number = RANDOM.permutation(N) + 1000
    warnings, _ = noted(frame(id=number))
    assert "column 'id' has 600 different values in 600 rows: an identifier?" in warnings
    assert noted(frame(id=number), numeric=("id",))[0] == ""
    assert noted(frame(id=number), drop=("id",))[0] == ""
    texts = np.array([f"p{i}" for i in number])
    warnings, _ = noted(frame(id=texts), categorical=("id",))
    assert "--drop id" in warnings and "--numeric" not in warnings


def test_fractions_dates_and_repeated_numbers_are_no_identifiers():
    days = np.datetime64("2020-01-01") + np.arange(N)
    assert noted(frame(x=NOISE, day=days, day_text=days.astype(str)))[0] == ""
    assert noted(frame(x=np.arange(N) // 2))[0] == ""
    rows = {name: cells[:40] for name, cells in frame(id=np.arange(N)).items()}
    assert noted(rows)[0] == ""


# ---------------------------------------------------------------- notes


def test_constants_and_repeated_columns_are_notes():
    rows = frame()
    rows |= {"land": np.full(N, "it"), "one": np.ones(N), "years": rows["age"]}
    rows |= {"town": np.array(["R", "O", "L"])[np.unique(rows["city"], return_inverse=True)[1]]}
    warnings, notes = noted(rows)
    assert not warnings
    assert (
        "columns 'one', 'land': one value in all training rows; to leave out: --drop one,land"
        in notes
    )
    assert "'years' (as 'age'), 'town' (as 'city'); to leave out: --drop years,town" in notes
    assert noted(rows, drop=("land", "one", "years", "town")) == ("", "")


def test_whole_numbers_of_few_values_are_one_note():
    codes = {"a": np.arange(N) % 3, "b": np.arange(N) % 10, "c": np.arange(N) % 2}
    codes |= {"d": np.arange(N) % 11, "e": (np.arange(N) % 4) / 2}
    _, notes = noted(frame(**codes))
    assert "2 features of few whole numbers" in notes and notes.endswith("--categorical a,b")
    assert noted(frame(**codes), categorical=("a", "b")) == ("", "")
    assert noted(frame(**codes), numeric=("a", "b")) == ("", "")


def test_how_numbers_were_read_is_a_note(tmp_path):
    price = [f"${1000 + i * 7:,}.50" for i in RANDOM.permutation(N)]
    _, notes = noted(frame(price=np.array(price)))
    assert "column 'price': numbers with ',' between thousands and unit '$'" in notes
    path = tmp_path / "x.csv"
    cells = "".join(f"{y};{x:.3f}\n" for y, x in zip(Y, NOISE, strict=True))
    path.write_text("y;x\n" + cells)
    data = from_table(path, Roles(tasks=("y",), sensitive=("x > 0",), use_sensitive=True))
    assert "delimiter ';'" in data.notes


def test_levels_that_are_alike_are_a_note_with_a_cure():
    rows = frame(job=np.array(["Cook", "cook", "nurse"])[RANDOM.randint(0, 3, N)])
    _, notes = noted(rows)
    assert "'Cook' and 'cook'" in notes or "'cook' and 'Cook'" in notes
    (merge,) = shlex.split(notes.partition("--merge ")[2])
    column, _, meant = merge.partition(": ")
    level, _, target = meant.partition(" -> ")
    assert noted(rows, merge={column: {level: target}}) == ("", "")


def test_repeated_rows_are_counted():
    split = np.array(["train", "validation", "test"])[np.arange(N) % 3]
    rows = frame(split=split)
    for name in ("age", "city", "y"):
        rows[name] = rows[name].copy()
        # the first 5 test rows are as the first training row
        rows[name][2:15:3] = rows[name][0]
    _, notes = noted(rows, split="split")
    assert notes == "5 of 200 test rows equal a training row in all features and labels"
    rows["y"][2] = 1 - rows["y"][0]
    assert noted(rows, split="split")[1].startswith("4 of 200")


def test_texts_are_checked_for_repeated_rows_only():
    texts = [f"word{i % 7} and word{i % 5}" for i in range(N)]
    data = from_sentences(texts, frame(), ROLES)
    assert not data.warnings and "test rows" in data.notes[0]
    roles = {column.name: column.role for column in data.columns}
    assert roles == {
        "y": "task",
        "sex": "sensitive",
        "text": "text",
        "age": "dropped",
        "city": "dropped",
    }


# ---------------------------------------------------------------- description


def test_columns_have_roles_types_ranges_and_gaps():
    rows = frame(w=np.ones(N), code=np.arange(N) % 2, name=np.array([f"n{i}" for i in range(N)]))
    rows["day"] = np.datetime64("2020-01-01") + np.arange(N) % 9
    rows["age"][:7] = np.nan
    data = from_table(rows, dataclasses.replace(ROLES, weight="w", drop=("name",)))
    found = {column.name: column for column in data.columns}
    assert [column.role for column in data.columns] == [
        "task",
        "sensitive",
        "weight",
        "feature",
        "feature",
        "feature",
        "feature",
        "dropped",
    ]
    assert found["age"].missing == 7 and found["age"].type == "number"
    assert found["city"].type == "3 levels" and "oslo" in found["city"].values
    assert found["code"][2:4] == ("whole number", "0 to 1")
    assert found["day"][2:4] == ("dates", "2020-01-01\N{EN DASH}2020-01-09")
    assert found["name"][2:4] == ("text", "")  # cells without a role are nobody's business
    assert 0.5 <= float(found["age"].alone) < 0.7


def test_the_description_fits_a_terminal():
    many = {f"a very long name of a column {i}": NOISE * 1e7 for i in range(80)}
    data = from_table(frame(**many), ROLES)
    lines = data.describe().splitlines()
    assert max(map(len, lines)) <= 100
    assert "... and 22 more feature columns" in lines
    listed, _ = listed_columns(data.columns)
    assert sum(column.role == "feature" for column in listed) == 60
    assert column_table(()) == ""


def test_warnings_and_notes_stand_in_the_description():
    text = from_table(frame(x=LEAKS["number"], k=np.arange(N) % 3), ROLES).describe()
    assert "\nWarning: column 'x'" in text and "\nNote: 1 feature of few" in text
    assert "leak?" in text and "codes?" in text


@pytest.mark.parametrize("name", ["adult", "compas", "german", "lsac"])
def test_known_data_sets_have_no_warnings(name, data_dir):
    data = load(name, data_dir=data_dir)
    assert data.warnings == ()
    assert max(map(len, column_table(data.columns).splitlines())) <= 100


def test_leaks_of_a_known_file_are_found(data_dir):
    roles = Roles(tasks=("pass_bar",), sensitive=("race1",))
    path = data_dir / "lsac" / "bar_pass_prediction.csv.gz"
    data = from_table(path, roles)
    leaks = {column.name for column in data.columns if "leak" in column.noted}
    assert leaks == {"bar", "bar2"}
    assert any("'ID'" in warning for warning in data.warnings)


# ---------------------------------------------------------------- where it is shown


def write(path, columns: dict) -> str:
    lines = [",".join(columns)]
    lines += [",".join(map(str, cells)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_command_describes_a_table(tmp_path):
    path = write(tmp_path / "people.csv", frame(x=LEAKS["number"]))
    arguments = ["data", "describe", "--data", path, "--task", "y", "--sensitive", "sex"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0
    assert "Warning: column 'x'" in done.stdout
    done = CliRunner().invoke(main, [*arguments, "--drop", "x", "--seed", "1"])
    assert done.exit_code == 0 and "Warning" not in done.output


def test_training_prints_warnings(tmp_path, monkeypatch):
    from fairjax.cli import train

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_one", stop)
    path = write(tmp_path / "people.csv", frame(x=LEAKS["number"]))
    out = str(tmp_path / "out")
    arguments = ["train", "--data", path, "--task", "y", "--sensitive", "sex", "--out", out]
    done = CliRunner().invoke(main, arguments)
    assert "Warning: column 'x' alone predicts task 'y'" in done.stderr
    assert "alone:" not in done.output


def test_the_page_shows_the_data(tmp_path):
    data = from_table(frame(**{"<b>x": LEAKS["number"], "k": np.arange(N) % 3}), ROLES)
    gap = "false_positive_rate_difference"
    runs = Table({"run": np.arange(3), "method": np.array(["baseline"] * 3)})
    runs |= {"point": np.arange(3), "seed": np.zeros(3, int), "diverged": np.zeros(3, bool)}
    for split in ("validation", "test"):
        runs[Metric("error", "y", split=split)] = np.arange(3) / 10
        runs[Metric(gap, "y", attribute="sex", split=split)] = np.arange(3)[::-1] / 10
    info = {"tasks": ["y"], "attributes": ["sex"], "gap": gap}
    details = json.loads(json.dumps(data.details()))
    report.write(tmp_path / "with", Table(runs), info | {"data": details})
    page = (tmp_path / "with" / "report.html").read_text()
    section = page.partition("<h2>Data</h2>")[2].partition("</section>")[0]
    outside, _, inside = section.partition("<details>")
    assert "alone predicts task" in outside and "<b>" not in section
    assert "600 rows (360 train, 120 validation, 120 test)" in inside
    assert "1 warning" in inside and "1 note<" in inside
    assert "Columns of the table</caption>" in inside and 'scope="row">age<' in inside
    assert "--categorical k" in inside
    report.write(tmp_path / "without", Table(runs), info)
    assert "<h2>Data</h2>" not in (tmp_path / "without" / "report.html").read_text()
