"""One table of several methods: what ARE and ARFG divide by, and what they leave out."""

from __future__ import annotations

import numpy as np

from fairjax.core.types import Attribute, Spec, Task
from fairjax.study import StudyConfig, assemble
from fairjax.training import Runs

SPEC = Spec((Task("known"), Task("unknown")), (Attribute("a", ("0", "1")),))
GAP = "false_positive_rate_difference"


def runs(error, gap):
    """Runs of one seed each; ``error`` and ``gap`` are ``[M, T]``."""
    metrics = {}
    for split in ("validation", "test"):
        for t, task in enumerate(SPEC.tasks):
            metrics |= {
                f"{split}.error[{task.name}]": np.float32(error)[:, t],
                f"{split}.{GAP}[{task.name}|a]": np.float32(gap)[:, t],
            }
    at = np.arange(len(error))
    return Runs(
        point=at,
        seed=np.zeros(len(error), int),
        hparams={"weight": np.full((len(error), 2), 0.5)},
        metrics=metrics,
        diverged=np.zeros(len(error), bool),
        values=None,
        scores={},
        params=None,
        record=(),
        compilations=1,
        chunk=1,
    )


def test_a_task_without_demographics_is_in_are_and_not_in_arfg():
    nothing = float("nan")
    single = runs(
        [[0.2, 9.0], [9.0, 0.4]], [[0.1, nothing], [9.0, nothing]]
    )  # each task's network, one seed
    both = runs([[0.1, 0.4], [0.2, 0.8]], [[0.05, nothing], [0.3, nothing]])
    table, info = assemble(
        StudyConfig(methods=("vanilla",)), SPEC, {"single_task": single, "vanilla": both}
    )
    np.testing.assert_allclose(table["test.are"], [1.0, 0.75, 1.5], rtol=1e-6)
    np.testing.assert_allclose(table["test.arfg"], [1.0, 0.5, 3.0], rtol=1e-6)
    assert np.isnan(info["single_task"]["test"]["unknown"]["gap"])


def test_without_any_gap_there_is_no_arfg():
    nothing = float("nan")
    single = runs([[0.2, 9.0], [9.0, 0.4]], [[nothing] * 2] * 2)
    table, _ = assemble(StudyConfig(methods=("vanilla",)), SPEC, {"single_task": single})
    assert np.isnan(table["test.arfg"]).all() and np.isfinite(table["test.are"]).all()
