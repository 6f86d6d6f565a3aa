"""The experiment on fairness transfer: a quick run of it, and the reading of its runs."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "transfer.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("transfer_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_quick_run_leaves_runs_tables_and_figures(experiment, data_dir, tmp_path):
    command = [sys.executable, SCRIPT, "--quick", "--tables", "lsac", "--out", tmp_path]
    environment = os.environ | {"FAIRJAX_DATA": str(data_dir)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    assert "lsac, race" in process.stdout
    rows = experiment.read_rows(tmp_path / "lsac_runs.csv")
    variants = {row["variant"] for row in rows}
    assert variants == {
        "stl_base",
        "stl_fair",
        "mtl_base",
        "mtl_fair",
        "mtl_fair, reach 0",
        "sequential",
        "blind",
    }
    assert all(np.isfinite(row["test.target.f1"]) for row in rows)
    assert all(row["test.target.epsilon"] >= 0 for row in rows)
    pairs = {(row["target"], row["auxiliary"]) for row in rows if row["auxiliary"]}
    assert pairs == {("gpa", "bar"), ("bar", "gpa")}
    twins = [row for row in rows if row["variant"] == "mtl_base" and row["seed"] == 0]
    assert twins[0]["test.target.f1"] == twins[1]["test.auxiliary.f1"]
    for name in ("lsac.csv", "lsac.png", "tables.md", "what_predicts.png"):
        assert (tmp_path / name).stat().st_size > 100
    with (tmp_path / "lsac.csv").open(newline="") as stream:
        assert {row["rule"] for row in csv.DictReader(stream)} == {"", *experiment.RULES}


def made_up(experiment):
    """Two seeds of a target, alone and with a penalty of two strengths.

    The stronger penalty costs more and helps more.
    """
    rows = []
    for seed in (0, 1):
        for variant, lam, f1, aux, own in (
            ("stl_base", 0.0, 0.80, 9.0, 2.0),
            ("mtl_fair", 1.0, 0.79, 0.9, 1.5 + seed),
            ("mtl_fair", 3.0, 0.70, 0.8, 0.5),
        ):
            row = {
                "table": "t",
                "variant": variant,
                "target": "a",
                "auxiliary": "" if variant == "stl_base" else "b",
                "lam": lam,
                "seed": seed,
                "diverged": False,
            }
            for split in ("validation", "test"):
                row |= {
                    f"{split}.target.f1": f1,
                    f"{split}.target.f1@0.5": f1,
                    f"{split}.target.epsilon": own,
                    f"{split}.target.epsilon@0.5": own,
                    f"{split}.auxiliary.epsilon": aux,
                }
            rows.append(row)
    return rows


def test_strengths_are_chosen_on_validation_rows_and_differences_paired(experiment):
    lines = {
        (line["variant"], line["rule"]): line for line in experiment.summary(made_up(experiment))
    }
    assert lines["mtl_fair", "utility"]["lam"] == 1.0
    assert lines["mtl_fair", "pareto_aux"]["lam"] == 1.0
    by_target = lines["mtl_fair", "pareto_target"]
    assert by_target["change of epsilon"] == pytest.approx(by_target["epsilon"] - 2.0)
    line = lines["mtl_fair", "utility"]
    assert line["change of epsilon"] == pytest.approx(0.0)
    assert line["epsilon"] == pytest.approx(2.0)
    half = 12.706204736 * np.std([1.5, 2.5], ddof=1) / 2**0.5  # Student's quantile for two seeds
    assert line["change of epsilon high"] == pytest.approx(half)
    assert experiment.interval([np.nan, np.nan])[0] is np.nan
