"""What became of the constraints of a sweep: verdicts, and traces of violation and multiplier.

Values are JSON-safe, for the record of a study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairjax.methods import ConstraintRecord, verdict
from fairjax.training import Runs

DIGITS = 4
MOST_TRACES = 6  # runs of a method whose traces are kept, spread over tolerances
VERDICTS = ("met", "not met", "infeasible")


def constraints_of(runs: Mapping[str, Runs]) -> dict[str, dict[str, Any]]:
    """Per method with constraints, of its runs that did not diverge.

    ``text``: a sentence or two.
    ``verdicts``: how many runs have which verdict, see :func:`fairjax.methods.verdict`.
    ``traces``: of some runs ``tolerance``, ``cap``, ``verdict``, ``epoch``, whose model the run
    delivers, and per epoch the violation and multiplier of the constraint that is furthest above
    the tolerance then.

    An epoch is a block of training.
    """
    found = {}
    for method, method_runs in runs.items():
        if isinstance(method_runs.record, ConstraintRecord):
            kept = np.flatnonzero(~method_runs.diverged)
            if kept.size:
                summary = _summary(method_runs, kept)
                found[method] = {"text": _text(method, summary["verdicts"]), **summary}
    return found


def verdicts_of(runs: Runs) -> list[str]:
    """The verdict of every run of a method with constraints; of another method none, ``""``."""
    if not isinstance(runs.record, ConstraintRecord):
        return [""] * len(runs.diverged)
    found = zip(
        np.asarray(runs.record.violation),
        np.asarray(runs.record.multiplier),
        np.asarray(runs.hparams["tolerance"], float),
        np.asarray(runs.hparams["cap"], float),
        runs.block,
        strict=True,
    )
    return [verdict(*of_run) for of_run in found]


def _summary(runs: Runs, kept: np.ndarray) -> dict[str, Any]:
    tolerances = np.asarray(runs.hparams["tolerance"], float)
    caps = np.asarray(runs.hparams["cap"], float)
    all_verdicts = verdicts_of(runs)
    verdicts = {int(run): all_verdicts[run] for run in kept}
    counts = Counter(verdicts.values())
    ordered = kept[np.argsort(tolerances[kept], kind="stable")]
    places = np.unique(np.linspace(0, len(ordered) - 1, MOST_TRACES).round().astype(int))
    traces = []
    for run in ordered[places]:
        violation = np.asarray(runs.record.violation[run], float)
        block = int(runs.block[run])
        furthest = int(np.argmax(np.nan_to_num(violation[block], nan=-np.inf)))
        traces.append(
            {
                "tolerance": round(float(tolerances[run]), DIGITS),
                "cap": round(float(caps[run]), DIGITS),
                "verdict": verdicts[int(run)],
                "epoch": block + 1,
                "violation": _plain(violation[:, furthest]),
                "multiplier": _plain(np.asarray(runs.record.multiplier[run], float)[:, furthest]),
            }
        )
    return {"verdicts": {name: counts[name] for name in VERDICTS}, "traces": traces}


def _text(method: str, counts: Mapping[str, int]) -> str:
    """How many runs met their tolerance, and what to do where none could."""
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    text = f"{method}: of {sum(counts.values())} runs {', '.join(parts)}, on validation rows."
    if counts["infeasible"]:
        text += (
            " Infeasible: the multiplier reached its cap, and the gap stays above the"
            " tolerance. A larger cap or a larger tolerance may help."
        )
    return text


def _plain(values: np.ndarray) -> list[Any]:
    """Rounded numbers, None where there is none."""
    rounded = np.round(values, DIGITS)
    return np.where(np.isnan(rounded), None, rounded).tolist()
