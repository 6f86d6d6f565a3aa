"""The experiment on constraints: how its runs are read, and a quick run of one study."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "constraints.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("constraints_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_search_keeps_the_bound_or_comes_nearest(experiment):
    gaps = np.array([0.2, 0.04, 0.05, 0.01])
    errors = np.array([0.1, 0.3, 0.2, 0.4])
    assert experiment.within(gaps, errors, 0.05) == 2
    assert experiment.within(gaps, errors, 0.001) == 3


def test_the_standard_error_is_that_of_two_binomial_rates(experiment):
    label = np.array([1, 1, 1, 1, 0, 0])
    group = np.array([0, 0, 1, 1, 0, 1])
    decision = np.array([1, 0, 1, 1, 1, 0])
    # rates of the positives are 1/2 of two rows and 1 of two rows
    got = experiment.standard_error("equal_opportunity", label, group, decision)
    assert got == pytest.approx((0.25 / 2) ** 0.5)
    # selection rates are 2/3 and 2/3 of three rows each
    got = experiment.standard_error("demographic_parity", label, group, decision)
    assert got == pytest.approx((2 * (2 / 9) / 3) ** 0.5)


@pytest.mark.filterwarnings("ignore:Setting a")  # fairlearn, with the newest pandas
def test_fairlearn_is_held_to_the_difference_between_groups(experiment):
    """The bound on the distance from all rows, reached, is our bound between the groups."""
    rng = np.random.default_rng(0)
    group = (rng.random(1000) < 0.3).astype(int)
    label = (rng.random(1000) < 0.5).astype(int)
    rows = experiment.Rows(None, None, None, label, group)
    decision = (rng.random(1000) < 0.3 + 0.3 * group).astype(int)
    for notion in experiment.NOTIONS:
        bound = experiment.violation(notion, rows, decision)
        moment = experiment.moment(notion, bound, rows)
        moment.load_data(np.zeros((1000, 1)), label, sensitive_features=group)
        signed = moment.gamma(lambda x: decision)
        assert signed.max() == pytest.approx(moment.eps)


@pytest.mark.slow
def test_a_quick_run_leaves_runs_and_tables(tmp_path):
    command = [sys.executable, SCRIPT, "--quick", "--only", "synthetic", "--out", tmp_path]
    environment = dict(os.environ)
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == {}
    rows = (tmp_path / "synthetic_runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2 * 2  # notions, draws, caps
    assert "Synthetic rows" in (tmp_path / "tables.md").read_text()
