"""The experiment on what a frontier costs: its ways, and shares of volume and seconds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from fairjax import load

FOLDER = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture(scope="module")
def experiment():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(
            "cost_experiment", FOLDER / "frontier_cost.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_ways_differ_in_points_epochs_and_repairs(experiment):
    data = load("synthetic")
    studies = {way: experiment.study_of(data, way, 3, 8) for way in experiment.WAYS}
    found = {
        way: (study.config.runs, study.config.epochs, len(study.amounts))
        for way, study in studies.items()
    }
    assert found == {
        "draws": (64, 8, 0),
        "short": (40, 2, 0),
        "few": (12, 8, 0),
        "moved": (8, 8, 4),
    }
    assert {study.config.seed for study in studies.values()} == {3}


def test_shares_are_of_the_draws_of_the_same_seed(experiment):
    volumes = {"draws": (2.0, 4.0), "short": (1.0, 6.0), "few": (2.0, 4.0), "moved": (4.0, 8.0)}
    rows = [
        {"data": "one", "seed": seed, "way": way, "volume": volume, "seconds": 10 * volume}
        for way, of_seeds in volumes.items()
        for seed, volume in enumerate(of_seeds)
    ]
    lines = experiment.summary(rows).splitlines()
    assert lines[2] == "| one | draws | 3.0000 | 1.0000 ± 0.0000 | 30.0 | 1.000 |"
    assert lines[3].startswith("| one | short | 3.5000 | 1.0000 ± ")
    assert lines[5] == "| one | moved | 6.0000 | 2.0000 ± 0.0000 | 60.0 | 2.000 |"
