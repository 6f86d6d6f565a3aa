"""The command line: a first picture, one run again, new rows, and one message for bad input."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("click")
from cases import fairjax  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from fairjax import data, methods, models, notions, postprocess, study  # noqa: E402
from fairjax.cli import main  # noqa: E402
from fairjax.core.keys import Metric  # noqa: E402
from fairjax.core.tables import read_csv  # noqa: E402

ROLES = ["--task", "rich: income > 50", "--task", "loan", "--sensitive", "sex"]
SMALL = [
    "--runs",
    "3",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--trunk",
    "4",
    "--head",
    "3",
    "--devices",
    "1",
]


def table(rows: int = 240) -> dict[str, list]:
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], rows)
    income = np.round(50 + 20 * rng.normal(size=rows) + 5 * (sex == "m"), 2)
    return {
        "age": rng.integers(18, 80, rows).tolist(),
        "job": rng.choice(["<b>x</b>", 'a "quoted" one', "y"], rows).tolist(),
        "sex": sex.tolist(),
        "income": income.tolist(),
        "loan": (rng.random(rows) < 0.4).astype(int).tolist(),
    }


def write(path, columns: dict[str, list], *, header=None, encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream)
        writer.writerow(header or columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A small sweep on a table of one's own, made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    path = write(folder / "people.csv", table())
    done = fairjax("frontier", "--data", path, *ROLES, *SMALL, "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, path


@pytest.mark.slow
def test_frontier_leaves_table_figures_page_and_summary(swept):
    folder, _ = swept
    names = {p.name for p in (folder / "out").iterdir()}
    assert {
        "table.csv",
        "report.html",
        "summary.json",
        "study.json",
        "groups.csv",
        "frontier_tasks.png",
        "frontier_relative.png",
        "tradeoff.png",
    } <= names
    with open(folder / "out" / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["method"] for r in rows] == ["single_task"] * 10 + ["vanilla"] * 3 + [
        "baseline"
    ] * 3 + ["mta_f"] * 3
    assert all(0 <= float(r["test.error[rich]"]) <= 1 for r in rows)
    assert json.loads((folder / "out" / "study.json").read_text())["compilations"] == {
        "single_task": 1,
        "vanilla": 1,
        "baseline": 1,
        "mta_f": 1,
    }


@pytest.mark.slow
def test_a_run_is_trained_again_and_scores_new_rows(swept):
    folder, path = swept
    chosen = json.loads((folder / "out" / "study.json").read_text())["groups"]
    again = fairjax("train", "--like", "out", "--run", chosen["run"], "--out", "model", cwd=folder)
    assert again.returncode == 0, again.stderr
    with open(folder / "out" / "table.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[chosen["run"]]
    assert row["method"] == chosen["method"] != "single_task"
    assert (folder / "model" / "groups.csv").read_bytes() == (
        folder / "out" / "groups.csv"
    ).read_bytes()
    metrics = json.loads((folder / "model" / "model.json").read_text())["metrics"]
    for name in ("test.error[rich]", "test.loss[loan]", "test.auc[rich]"):
        assert metrics[name] == pytest.approx(float(row[name]), abs=1e-5)
    columns = {"age": [20, "", 99], "job": ["y", "never seen", "<b>x</b>"], "id": ["07", "b", "c"]}
    new = write(folder / "new.csv", columns)
    scored = fairjax(
        "predict", "model", new, "--id", "id", "--out", "new-predictions.csv", cwd=folder
    )
    assert scored.returncode == 0, scored.stderr
    assert "age: 1 of 3 cells are missing" in scored.stderr
    assert "age: 1 of 3 cells are outside" in scored.stderr
    assert "job: 1 of 3 cells have a level that no training row has: 'never seen'" in scored.stderr
    with open(folder / "new-predictions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == ["07", "b", "c"] and all(
        0 < float(r["rich"]) < 1 and r["loan decision (1: 1)"] in "01" for r in rows
    )


@pytest.mark.slow
def test_a_second_command_finds_its_programs_compiled(tmp_path):
    path = write(tmp_path / "people.csv", table())
    environment = {name: value for name, value in os.environ.items() if "JAX_" not in name}

    def run(out: str, *options: str) -> bytes:
        command = [sys.executable, "-m", "fairjax", *options, "frontier", "--data", path, *ROLES]
        small = [*SMALL, "--methods", "vanilla", "--out", out]
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        process = subprocess.run(
            [*command, *small], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert process.returncode == 0, process.stderr
        assert "cache" not in process.stderr
        return (tmp_path / out / "table.csv").read_bytes()

    folder = tmp_path / "cache" / "fairjax" / "programs"
    without = run("none", "--no-cache")
    assert not folder.exists()
    assert run("first") == without

    def programs() -> dict[str, int]:
        """Those of training, which take long enough to be kept; others may be kept or not."""
        return {file.name: file.stat().st_mtime_ns for file in folder.glob("jit_run-*")}

    kept = programs()
    assert kept and run("second") == without
    assert programs() == kept


REPAIR = ["--score", "pd", "--score", "wage", "--sensitive", "sex", "--sensitive", "race"]


def scored(rows: int, seed: int) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["f", "m"], rows), rng.choice(["a", "b", ""], rows, p=[0.5, 0.4, 0.1])
    value = rng.normal(size=rows) + (sex == "m") + 0.5 * (race == "b")
    return {
        "id": [f"r{i}" for i in range(rows)],
        "sex": sex.tolist(),
        "race": race.tolist(),
        "pd": (1 / (1 + np.exp(-value))).tolist(),
        "wage": (30_000 + 5_000 * value).tolist(),
        "paid": (value + rng.normal(size=rows) > 0).astype(int).tolist(),
        "w": rng.integers(1, 4, rows).tolist(),
    }


@pytest.fixture
def repairs(tmp_path, monkeypatch):
    """The command in a folder with calibration and new rows, and the audits to be drawn."""
    drawn = []
    monkeypatch.setattr(
        "fairjax.report.repair.write_repair", lambda out, audit, **words: drawn.append(audit) or []
    )
    monkeypatch.chdir(tmp_path)
    write("old.csv", scored(2400, 0))
    write("new.csv", scored(600, 1))

    def call(*arguments: str):
        return CliRunner().invoke(main, ["repair", *arguments], catch_exceptions=False), drawn

    return call


def test_repair_of_scores_from_a_file_and_again_from_its_state(repairs):
    options = [
        "--label",
        "paid",
        "--label",
        "wage",
        "--weight-column",
        "w",
        "--amount",
        "1",
        "--amount",
        "0.5",
    ]
    done, drawn = repairs("new.csv", *REPAIR, "--calibration", "old.csv", *options, "--out", "out")
    assert done.exit_code == 0, done.output
    with open("out/repaired.csv", newline="") as stream, open("new.csv", newline="") as given:
        found, rows = list(csv.DictReader(stream)), list(csv.DictReader(given))
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    from fairjax import Repair

    columns, new = scored(2400, 0), scored(600, 1)
    gaps = {name: [level or None for level in columns[name]] for name in ("sex", "race")}
    repair = Repair([1, 0.5]).fit(
        {n: columns[n] for n in ("pd", "wage")}, sensitive_features=gaps, sample_weight=columns["w"]
    )
    expected = repair.transform(
        {n: new[n] for n in ("pd", "wage")},
        sensitive_features={n: [level or None for level in new[n]] for n in ("sex", "race")},
    )
    np.testing.assert_array_equal(
        [[float(row["pd repaired"]), float(row["wage repaired"])] for row in found], expected
    )
    assert drawn[0].tasks == ("pd", "wage") and drawn[0].risk_name == (
        "1 - AUC",
        "mean squared error",
    )
    assert drawn[0].weight.tolist() == new["w"]
    line = next(line for line in done.output.splitlines() if line.startswith("wage by sex x race"))
    before, after, floor = (float(word) for word in line.split()[5:8])
    assert before > 0.4 and floor < after < 0.3 and "(unknown)" in done.output
    again, _ = repairs("new.csv", "--state", "out", "--out", "again")
    assert again.exit_code == 0, again.output
    with open("again/repaired.csv", "rb") as one, open("out/repaired.csv", "rb") as two:
        assert one.read() == two.read()


def test_repair_without_calibration_goes_fold_by_fold_and_says_so(repairs):
    done, drawn = repairs("old.csv", *REPAIR, "--folds", "3", "--out", "out")
    assert (
        done.exit_code == 0
        and "no --calibration, so that 2,400 rows are repaired in 3 folds" in done.output
    )
    assert np.all(drawn[0].reached["kolmogorov_smirnov"] > 0.01)
    same, _ = repairs("old.csv", "--state", "out", "--out", "again")
    assert same.exit_code == 0 and same.output.count("2,400 rows are those of the pool") == 1


def test_repair_warns_of_rows_that_the_model_was_trained_on(repairs):
    done, _ = repairs(
        "new.csv", *REPAIR, "--calibration", "old.csv", "--training", "old.csv", "--out", "one"
    )
    assert (
        done.exit_code == 0
        and "2,400 of 2,400 rows that the repair is fitted on are rows of old.csv" in done.output
    )
    others = scored(500, 2)
    write("trained.csv", others | {"id": [f"t{i}" for i in range(500)]})
    done, _ = repairs(
        "new.csv", *REPAIR, "--calibration", "old.csv", "--training", "trained.csv", "--out", "two"
    )
    assert done.exit_code == 0 and "fitted on are rows" not in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["new.csv", *REPAIR, "--calibration", "old.csv", "--training", "strange.csv"],
            "too few to tell rows by",
        ),
        (["new.csv", "--score", "pd"], "--sensitive COLUMN"),
        (["nowhere.csv", *REPAIR], "nowhere.csv: no such file"),
        (
            ["new.csv", *REPAIR, "--score", "id"],
            "column 'id': 600 of 600 cells are not numbers, line 2 ('r0')",
        ),
        (["new.csv", "--score", "race", "--sensitive", "sex"], "600 cells are not numbers"),
        (["gap.csv", *REPAIR], "column 'pd': 1 of 3 scores are missing, line 3"),
        (["new.csv", "--score", "sexx", "--sensitive", "sex"], "Did you mean 'sex'?"),
        (["new.csv", *REPAIR, "--calibration", "gap.csv"], "1 of 3 scores are missing"),
        (
            ["new.csv", *REPAIR, "--calibration", "old.csv", "--minimum", "5000"],
            "4 of 4 groups have fewer than 5000 rows",
        ),
        (
            ["new.csv", *REPAIR, "--calibration", "old.csv", "--scale", "logit"],
            "2,400 of 2,400 scores are not between 0 and 1",
        ),
        (["strange.csv", *REPAIR, "--calibration", "old.csv"], "'x' 1"),
        (["new.csv", *REPAIR, "--label", "paid"], "1 columns for 2 scores"),
        (["new.csv", "--state", "nowhere"], "no repair here"),
        (["new.csv", *REPAIR, "--score", "pd"], "name every column once"),
        (
            ["new.csv", *REPAIR, "--calibration", "old.csv", *["--amount", "1"] * 3],
            "amount [1.0, 1.0, 1.0]",
        ),
    ],
)
def test_repair_refuses_in_one_message(repairs, arguments, words):
    write(
        "gap.csv",
        {"sex": ["f", "m", "f"], "race": ["a", "b", "a"], "pd": [0.5, "", 0.1], "wage": [1, 2, 3]},
    )
    write("strange.csv", {"sex": ["f", "x"], "race": ["a", "b"], "pd": [0.5, 0.1], "wage": [1, 2]})
    done, _ = repairs(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert words in done.output and done.output.count("Error: ") == 1


REGISTRIES = (methods.REGISTRY, notions.REGISTRY, notions.CONDITIONS, models.REGISTRY)
SHOWN = {
    "frontier": (*REGISTRIES, postprocess.REGISTRY, data.REGISTRY, study.ESTIMATORS),
    "train": (*REGISTRIES, postprocess.REGISTRY, data.REGISTRY),
    "repair": (postprocess.SCALES,),
}


@pytest.mark.parametrize("command", SHOWN)
def test_the_help_names_every_key_of_the_registries(command):
    done = CliRunner().invoke(main, [command, "--help"])
    words = set(re.findall(r"\w+", done.output))
    missing = [key for registry in SHOWN[command] for key in registry if key not in words]
    assert done.exit_code == 0 and not missing


def test_a_new_entry_of_a_registry_is_in_the_help():
    program = """
from fairjax import data, methods, models, notions, postprocess
for room in (data, methods, models, notions, postprocess):
    name = room.__name__.rpartition(".")[2]
    room.REGISTRY[f"new_{name}"] = next(iter(room.REGISTRY.values()))
from fairjax.cli import main
main(["frontier", "--help"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for name in ("data", "methods", "models", "notions", "postprocess"):
        assert f"new_{name}" in done.stdout


def test_names_of_methods_are_read():
    from fairjax.cli.lists import LINKS, METHODS

    assert METHODS.convert("single_task, vanilla,vanilla", None, None) == ("vanilla",)
    assert METHODS.convert("links", None, None) == LINKS
    split = {name for name in methods.REGISTRY if name.endswith("_split")}
    assert {f"{name}_split" for name in LINKS} == split


def test_options_become_a_study_of_names():
    from fairjax.cli.frontier import _named_study, frontier_command

    arguments = ["--data", "german", "--r", "1,2", "--lam-max", "3", "--repair", "0.5"]
    arguments += ["--notion", "accuracy_parity"]
    arguments += ["--postprocess", "gaussian", "--postprocess", "barycenter", "--trunk", "4,4"]
    options = frontier_command.make_context("frontier", arguments).params
    names = _named_study(options, data.load("synthetic"))
    assert names.fixed == {"r": (1.0, 2.0)} and names.lam_max == 3
    assert names.repairs == ("gaussian", "barycenter") and names.amounts == (0.5,)
    assert names.notion == "accuracy_parity" and names.model_options["trunk"] == (4, 4)
    # published settings hold where an option is not given
    assert names.config.batch_size == 128 and names.config.learning_rate == 0.06
    # but the published learning rate is not that of another optimizer
    options = frontier_command.make_context("frontier", ["--optimizer", "adamw"]).params
    assert _named_study(options, "german").config.learning_rate == 0.002


@pytest.mark.parametrize(("arguments", "epochs"), [([], 10), (["--epochs", "9"], 9)])
def test_the_made_up_data_have_epochs_of_their_own(arguments, epochs):
    from fairjax.cli.frontier import _named_study, frontier_command

    options = frontier_command.make_context("frontier", arguments).params
    assert _named_study(options, data.load("synthetic")).config.epochs == epochs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"optimizer": "adamw", "learning_rate": 0.03, "stop": "objective", "epochs": 22}),
        (["--epochs", "9", "--weight-decay", "0.2"], {"epochs": 9, "weight_decay": 0.2}),
        (["--epochs", "11"], {"epochs": 11, "weight_decay": 0.2}),  # as much in half the steps
        (["--optimizer", "adagrad"], {"learning_rate": 0.05, "weight_decay": 0, "warm_up": 0.1}),
        (["--stop", "last"], {"stop": "last", "optimizer": "adamw"}),
    ],
)
def test_a_preset_is_what_is_not_given(arguments, expected):
    from fairjax.cli.frontier import _named_study, frontier_command

    options = frontier_command.make_context("frontier", ["--preset", "table", *arguments]).params
    names = _named_study(options, data.load("synthetic"))
    assert names.model == "ensemble" and names.model_options["trunk"] == (64, 32)
    assert {key: getattr(names.config, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("fractions", "given", "expected"),
    [
        ((0.6, 0.2, 0.2), None, "table"),
        ((0.8, 0.0, 0.2), None, "paper"),  # no rows to stop on
        ((0.6, 0.2, 0.2), "paper", "paper"),
    ],
)
def test_a_table_of_ones_own_has_the_settings_for_tables(capsys, fractions, given, expected):
    from fairjax.cli.settings import chosen_preset
    from fairjax.data import Roles, from_table

    roles = Roles(tasks=("loan",), sensitive=("sex",))
    data = from_table(table(), roles, fractions=fractions)
    options = {"preset": given, "data": "adult.csv"}
    assert chosen_preset(options, data) == expected
    assert (f"--preset {expected}" in capsys.readouterr().err) == (given is None)
    assert chosen_preset(options | {"data": "adult"}, data) == "paper"  # a data set by name


def test_the_gap_is_that_of_the_condition_unless_a_task_is_a_number():
    from fairjax.core.types import Attribute, Spec, Task
    from fairjax.study import from_names, named_study
    from fairjax.study.table import gap_of

    tasks = (
        Task("b"),
        Task("m", "multiclass", ("u", "v")),
        Task("l", "multilabel", ("p",)),
        Task("r", "regression"),
    )
    spec = Spec(tasks, (Attribute("a", ("x", "y")),))
    for condition, name in (
        ("fpr", "false_positive_rate"),
        ("tpr", "true_positive_rate"),
        ("odds", "equalized_odds"),
        ("parity", "demographic_parity"),
    ):
        study = from_names(spec, named_study(methods=(), condition=condition))
        gaps = [gap_of(study, task, spec.attributes[0]) for task in tasks]
        assert gaps == [f"{name}_difference"] * 3 + ["mean_prediction_difference"]


@pytest.mark.slow
def test_tasks_of_every_kind_with_labels_and_groups_missing(tmp_path):
    """A number, classes and a yes or no, two attributes, the MMD; a wage comes out in the units it
    went in.
    """
    columns, rng = table(), np.random.default_rng(1)
    rows = len(columns["sex"])
    signal = np.array([s == "m" for s in columns["sex"]]) + rng.normal(size=rows)
    columns |= {
        "skill": signal.tolist(),
        "wage": (40_000 + 5_000 * signal).tolist(),
        "grade": np.select([signal < 0, signal < 1], ["low", "middle"], "high").tolist(),
        "race": rng.choice(["a", "b", "c", ""], rows).tolist(),
        "loan": ["" if rng.random() < 0.3 else v for v in columns["loan"]],
    }
    path = write(tmp_path / "kinds.csv", columns)
    done = fairjax(
        "frontier",
        "--data",
        path,
        "--task",
        "loan",
        "--task",
        "wage",
        "--task",
        "grade",
        "--sensitive",
        "sex",
        "--sensitive",
        "race",
        *SMALL,
        "--epochs",
        "30",
        "--notion",
        "mmd",
        "--methods",
        "mta_f",
        "--smallest-group",
        "1",
        "--out",
        "out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "table.csv", newline="") as stream:
        runs = list(csv.DictReader(stream))
    assert not any(int(r["diverged"]) for r in runs)
    deviation = 5_000 * signal.std()
    for r in runs:
        assert deviation / 20 < float(r["test.error[wage]"]) < 1.2 * deviation
        assert 35_000 < float(r["test.mean_prediction[wage|sex=f]"]) < 46_000
        assert all(
            np.isfinite(float(r[f"test.gap[{t}|{a}]"]))
            for t in ("loan", "wage", "grade")
            for a in ("sex", "race")
        )
        for task, metric in (
            ("loan", "false_positive_rate"),
            ("wage", "mean_prediction"),
            ("grade", "false_positive_rate"),
        ):
            assert r[f"test.gap[{task}|race]"] == r[f"test.{metric}_difference[{task}|race]"]
    assert (
        fairjax(
            "train", "--like", "out", "--run", len(runs) - 1, "--out", "model", cwd=tmp_path
        ).returncode
        == 0
    )
    with open(tmp_path / "model" / "predictions.csv", newline="") as stream:
        wages = [float(r["wage"]) for r in csv.DictReader(stream)]
    assert 35_000 < np.mean(wages) < 46_000


def odd_names(second: str) -> dict[str, list]:
    """Two tasks, ``y`` and another, and groups whose names hold the marks of the notation."""
    rng = np.random.default_rng(3)
    rows = 200
    group = rng.choice(["a|b", "c=d", "e]f@g"], rows)
    signal = rng.normal(size=rows) + (group == "c=d")
    return {
        "x": np.round(signal, 3).tolist(),
        "group": group.tolist(),
        "y": (signal + rng.normal(size=rows) > 0).astype(int).tolist(),
        second: (signal + rng.normal(size=rows) > 1).astype(int).tolist(),
        "part": (["train"] * 3 + ["validation", "test"]) * (rows // 5),
    }


@pytest.mark.slow
def test_names_with_marks_of_the_notation_go_through_all_commands(tmp_path):
    """A task ``y=1`` beside ``y`` has the numbers that the same column has under a plain name."""
    tables = {}
    for second in ("y=1", "z"):
        path = write(tmp_path / f"{second}.csv", odd_names(second))
        roles = ["--task", "y", "--task", second, "--sensitive", "group", "--split-column", "part"]
        size = ["--methods", "vanilla", "--runs", "1", "--epochs", "1", "--batch-size", "64"]
        size += ["--trunk", "4", "--head", "2", "--devices", "1"]
        done = fairjax("frontier", "--data", path, *roles, *size, "--out", second, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tables[second] = read_csv(tmp_path / second / "table.csv")
    odd, plain = tables["y=1"], tables["z"]
    keys = [key for key in odd.metrics if key.task == "y=1"]
    assert {key.group for key in keys} >= {"a|b", "c=d", "e]f@g"}
    for key in keys:
        same = key._replace(task="z")
        np.testing.assert_allclose(odd[key], plain[same], rtol=1e-5, atol=1e-6, err_msg=str(key))
    error = Metric("error", "y=1", split="test")
    assert not np.allclose(odd[error], odd[error._replace(task="y")])
    run = str(odd.rows - 1)
    done = fairjax("train", "--like", "y=1", "--run", run, "--out", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "model" / "model.json").read_text())["metrics"]
    assert metrics[str(error)] == pytest.approx(float(odd[error][-1]), abs=1e-5)
    done = fairjax("predict", "model", "y=1.csv", "--out", "new.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    columns = odd_names("y=1")
    is_test = np.asarray(columns["part"]) == "test"
    label = np.asarray(columns["y=1"])[is_test]
    with open(tmp_path / "new.csv", newline="") as stream:
        decisions = [int(row["y=1 decision (1: 1)"]) for row in csv.DictReader(stream)]
    mistakes = np.asarray(decisions)[is_test] != label
    assert mistakes.mean() == pytest.approx(float(odd[error][-1]), abs=1e-5)


@pytest.mark.slow
def test_conflicts_of_a_run_are_drawn(swept):
    folder, path = swept
    common = [
        "train",
        "--data",
        path,
        *ROLES,
        *(a for a in SMALL if a not in ("--runs", "3", "--devices", "1")),
        "3",
    ]
    done = fairjax(*common, "--method", "pcgrad_split", "--conflicts", "--out", "seen", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "conflicts.png" in done.stdout
        and (folder / "seen" / "conflicts.png").read_bytes()[:4] == b"\x89PNG"
    )
    refused = fairjax(*common, "--method", "baseline", "--conflicts", "--out", "unseen", cwd=folder)
    with open(folder / "seen" / "groups.csv", newline="") as stream:
        groups = list(csv.DictReader(stream))
    assert {(r["task"], r["group"]) for r in groups} == {
        (t, g) for t in ("rich", "loan") for g in ("overall", "f", "m", "difference")
    }
    assert all(
        float(r["low"]) <= float(r["value"]) + 1e-6
        for r in groups
        if r["statistic"] == "selection_rate"
    )
    assert (
        refused.returncode == 2
        and "baseline takes one gradient of all its losses" in refused.stderr
    )
    assert not (folder / "unseen").exists()


@pytest.mark.slow
def test_conflicts_by_layer_are_those_of_the_rows(tmp_path):
    """Each layer's cosines stand in the order of its name, and heads that one row alone reaches are
    left out.
    """
    from fairjax.study import Point, conflicts_of, from_names, named_study

    prepared = data.from_table(
        write(tmp_path / "t.csv", table()),
        data.Roles(tasks=("rich: income > 50", "loan"), sensitive=("sex",)),
    )

    def study(epochs: int):
        names = named_study(
            methods=("pcgrad", "pcgrad_split"),
            epochs=epochs,
            batch_size=64,
            trunk=(4,),
            head=(3,),
        )
        return from_names(prepared, names)

    hparams = {
        "weight": np.float32([0.5, 0.5]),
        "lam": np.float32([1.0, 1.0]),
        "learning_rate": np.float32(0.1),
    }
    point = Point("pcgrad", hparams, 0, None)
    cosines, rows, layers = conflicts_of(prepared, study(2), point)
    steps = 2 * -(-len(prepared.splits.train.weight) // 64)
    assert (
        rows == ("rich", "loan") and set(layers) == {"trunk"} and cosines.shape == (steps, 1, 2, 2)
    )
    assert np.allclose(cosines[:, :, 0, 0], 1, atol=1e-5)
    split = point._replace(method="pcgrad_split")
    apart, rows, layers = conflicts_of(prepared, study(1), split)
    assert len(rows) == 4 and len(layers) == 5 and apart.shape == (steps // 2, 5, 4, 4)
    for i, name in enumerate(layers):
        reached = np.abs(np.diagonal(apart[:, i], axis1=1, axis2=2)).max(axis=0) > 0
        assert reached.tolist() == (
            [True] * 4 if name == "trunk" else ["rich" in name, "loan" in name] * 2
        ), name


def test_the_report_is_drawn_again_and_equal(swept):
    folder, _ = swept
    files = [folder / "out" / name for name in ("table.csv", "groups.csv")]
    before = [file.read_bytes() for file in files]
    (folder / "out" / "report.html").unlink()
    assert fairjax("report", "out", cwd=folder).returncode == 0
    assert [file.read_bytes() for file in files] == before
    run = json.loads((folder / "out" / "study.json").read_text())["groups"]["run"]
    assert f"<h2>Groups: run {run} (" in (folder / "out" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_killed_sweeps_go_on_and_end_with_the_same_table(swept):
    """Killed over and over at random moments, a sweep leaves the table of the undisturbed one, byte
    for byte; at first it is two processes that have a part each.
    """
    folder, path = swept
    command = ["frontier", "--data", path, *ROLES, *SMALL, "--out", "killed"]
    parts = [["--chunks", "1/2"], ["--chunks", "2/2"]]
    rng, kills = random.Random(0), 0

    def files():
        return sum(1 for _ in (folder / "killed").rglob("*.npz"))

    for several in (parts, [["--resume"]], [["--resume"]]):
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "fairjax.cli", *command, *options],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for options in several
        ]
        known = files()
        # at least one chunk further, if one is left of the five
        while processes[0].poll() is None and files() == known < 5:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.3))
        for process in processes:
            kills += process.poll() is None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert fairjax(*command, "--resume", cwd=folder).returncode == 0
    assert kills > 0
    for name in ("table.csv", "groups.csv"):
        assert (folder / "killed" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_a_part_of_a_sweep_has_a_number_and_a_folder(tmp_path):
    for options, message in (
        (["--chunks", "0/2", "--out", str(tmp_path)], "'0/2' is not such as 1/8"),
        (["--chunks", "2", "--out", str(tmp_path)], "'2' is not such as 1/8"),
        (["--chunks", "1/2"], "meet in one folder. Name it with --out"),
    ):
        done = CliRunner().invoke(main, ["frontier", *options])
        assert done.exit_code == 2 and message in done.output


def test_a_taken_folder_is_refused(swept):
    folder, path = swept
    done = CliRunner().invoke(
        main, ["frontier", "--data", path, *ROLES, *SMALL, "--out", str(folder / "out")]
    )
    assert done.exit_code == 2 and "--resume" in done.output


# ---------------------------------------------------------------------------------------- bad input


def changed(**columns):
    made = table()
    for name, change in columns.items():
        made[name] = change(made[name])
    return made


def some(value, count=3):
    return lambda column: [value] * count + column[count:]


BAD = {
    "missing file": (None, ROLES, ["people.csv", "no such file"]),
    "empty file": ("", ROLES, ["people.csv", "empty"]),
    "ragged rows": (
        "age,sex,loan\n1,f,0\n2,m\n",
        ["--task", "loan", "--sensitive", "sex"],
        ["people.csv", "3", "2"],
    ),
    "unknown column": (table(), ["--task", "loans", "--sensitive", "sex"], ["loans", "loan"]),
    "duplicate column": (
        "age,sex,age,loan\n1,f,2,0\n2,m,3,1\n",
        ["--task", "loan", "--sensitive", "sex"],
        ["'age'"],
    ),
    "constant label": (changed(loan=lambda c: [1] * len(c)), ROLES, ["loan", "240"]),
    "rule that matches nothing": (
        table(),
        ["--task", "income > 5000", "--sensitive", "sex"],
        ["income > 5000", "240"],
    ),
    "not numeric": (changed(age=some("old", 2)), [*ROLES, "--numeric", "age"], ["age", "2", "old"]),
    "NaN features": (
        changed(age=some("nan", 4)),
        [*ROLES, "--missing", "error"],
        ["age", "4", "--missing impute"],
    ),
    "infinite features": (changed(age=some("inf", 4)), ROLES, ["age", "4", "--na"]),
    "several at once": (
        changed(age=some("inf", 4)),
        [*ROLES, "--task", "lon", "--drop", "nobody"],
        ["'lon'", "'loan'", "'nobody'"],
    ),
    "task without labels": (changed(loan=lambda c: [""] * len(c)), ROLES, ["loan", "240"]),
    "group without rows in a split": (changed(sex=some("rare", 1)), ROLES, ["sex", "rare"]),
    "split column with one value": (
        {**table(), "part": ["train"] * 240},
        [*ROLES, "--split-column", "part"],
        ["part", "train", "240"],
    ),
    "wrong encoding": (
        b"age,sex,loan\n1,f\xff\xfe,0\n2,m,1\n",
        ["--task", "loan", "--sensitive", "sex"],
        ["people.csv", "utf-8", "encoding"],
    ),
    "sensitive column is a task": (table(), ["--task", "loan", "--sensitive", "loan"], ["loan"]),
    "no roles": (table(), [], ["--task", "--sensitive"]),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["frontier", "train"])
def test_bad_input_is_one_message_and_exit_code_2(case, command, tmp_path):
    content, roles, words = BAD[case]
    path = tmp_path / "people.csv"
    if isinstance(content, dict):
        write(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = CliRunner().invoke(
        main, [command, "--data", str(path), *roles, "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2, done.output
    assert done.output.startswith("Error: ") and "Traceback" not in done.output
    for word in words:
        assert word in done.output, done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["frontier", "--methods", "mtaf"], "mta_f"),
        (["frontier", "--data", "adult", "--task", "x"], "--task"),
        (["frontier", "--data", "nowhere.csv"], "nowhere.csv"),
        (["predict", "nomodel", "rows.csv"], "no trained model"),
        (["train", "--like", "nosweep", "--run", "1"], "no finished sweep"),
        (["frontier", "--runs", "0"], "--runs"),
        (["train", "--lam", "1,2,3"], "--lam: mta_f takes 2 numbers"),
        (["train", "--method", "vanilla", "--lam", "1"], "--lam: vanilla has no such"),
        (["train", "--trunk", "4,x"], "not a list of numbers"),
        (["train", "--model", "text_encoder", "--trunk", "4"], "takes no trunk"),
        (["train", "--method", "mtaf"], "mta_f"),
        (["report", "."], "no table.csv"),
        (["frontier", "--repair", "2"], "amounts from 0"),
        (["frontier", "--repair", "all"], "not a list of numbers"),
        (["frontier", "my people.csv"], "--data 'my people.csv'"),
        (["data", "describe", "people.csv"], "--data people.csv"),
        (["train", "--task", "income", "more"], "a value with spaces needs quotes"),
    ],
)
def test_bad_arguments_say_what_is_there(arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and word in done.output, done.output
    assert not list(tmp_path.iterdir())
