"""What became of constraints: verdicts and traces by hand, the figure and the page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairjax.methods import ConstraintRecord
from fairjax.report.constraints_figure import constraints_view, write_constraints
from fairjax.study.constraints import MOST_TRACES, constraints_of


class Record(NamedTuple):
    """What is read of the runs of a method."""

    record: ConstraintRecord | tuple
    block: np.ndarray
    diverged: np.ndarray
    hparams: dict


def made_up() -> Record:
    """Four runs of three blocks and two constraints: met, not met, infeasible, diverged."""
    violation = np.zeros((4, 3, 2))
    violation[:, -1, 0] = [0.04, 0.06, 0.2, np.nan]
    violation[2, 1, 0] = 0.3  # as in all of the last half
    violation[:, 0] = np.nan  # not measured yet
    multiplier = np.zeros((4, 3, 2))
    multiplier[:, -1, 0] = [1.0, 3.0, 4.99, 5.0]
    hparams = {"tolerance": np.array([0.1, 0.05, 0.02, 0.3]), "cap": np.full(4, 5.0)}
    record = ConstraintRecord(violation, multiplier)
    return Record(record, np.array([2, 2, 2, 0]), np.arange(4) == 3, hparams)


def test_verdicts_are_counted_and_traces_are_those_of_the_furthest_constraint():
    others = Record((), np.ones(2, int), np.zeros(2, bool), {})
    found = constraints_of({"constrained": made_up(), "baseline": others})
    assert list(found) == ["constrained"]
    found = found["constrained"]
    assert found["verdicts"] == {"met": 1, "not met": 1, "infeasible": 1}
    assert found["text"].startswith(
        "constrained: of 3 runs 1 met, 1 not met, 1 infeasible, on validation rows. Infeasible"
    )
    verdicts = [(trace["tolerance"], trace["verdict"]) for trace in found["traces"]]
    assert verdicts == [(0.02, "infeasible"), (0.05, "not met"), (0.1, "met")]
    assert found["traces"][0]["violation"] == [None, 0.3, 0.2]
    assert [trace["epoch"] for trace in found["traces"]] == [3, 3, 3]
    assert found["traces"][0]["multiplier"] == [0.0, 0.0, 4.99]


def test_runs_that_are_all_met_need_no_cure_and_traces_are_few():
    count = 40
    record = ConstraintRecord(np.zeros((count, 2, 1)), np.zeros((count, 2, 1)))
    hparams = {"tolerance": np.linspace(0.4, 0.01, count), "cap": np.ones(count)}
    runs = Record(record, np.ones(count, int), np.zeros(count, bool), hparams)
    found = constraints_of({"fairmt": runs})["fairmt"]
    assert found["text"] == "fairmt: of 40 runs 40 met, on validation rows."
    tolerances = [trace["tolerance"] for trace in found["traces"]]
    assert len(tolerances) == MOST_TRACES and tolerances == sorted(tolerances)
    assert (tolerances[0], tolerances[-1]) == (0.01, 0.4)


def test_runs_that_all_diverged_are_not_there():
    runs = made_up()._replace(diverged=np.ones(4, bool))
    assert constraints_of({"constrained": runs}) == {}


def test_a_figure_per_method_and_on_the_page(tmp_path):
    info = {"constraints": constraints_of({"constrained": made_up(), "fairmt": made_up()})}
    written = write_constraints(tmp_path, info)
    names = [path.name for path in written]
    assert names == ["constraints_constrained.png", "constraints_fairmt.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    views = constraints_view(info)
    assert views[0]["heading"] == "What became of the constraints of constrained"
    assert "Infeasible: the multiplier reached its cap" in views[0]["caption"]
    assert write_constraints(tmp_path, {}) == [] == constraints_view({})
