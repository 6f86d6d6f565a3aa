"""The runs that a person would choose from, with intervals.

Validation chooses, test reports. A candidate's errors and gaps stand beside those of single-task
models, which are what one would have without any of the methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fairjax.core.keys import Metric
from fairjax.data import Prepared
from fairjax.metrics import Interval, interval_over_seeds
from fairjax.study._resampled import headline
from fairjax.study.explain import point_of, scores_of_run
from fairjax.study.run import REFERENCE, Results
from fairjax.study.saved import decisions_of

DIGITS = 5


def candidates(data: Prepared, results: Results, runs: Sequence[int]) -> list[dict[str, Any]]:
    """Errors and gaps of runs on test rows, with 95 % intervals.

    The intervals of a run come from resampling the test rows, those of the single-task models from
    resampling their seeds. The interval of a gap lies above 0 even where there is none.

    Args:
      data: the data.
      results: of a study.
      runs: rows of its table.

    Returns:
      Per run ``run``, ``method`` and ``tasks``: by task ``error``, and ``gaps`` by attribute, each
      with ``value``, ``low``, ``high``, ``before``, ``before_low`` and ``before_high``. JSON-safe.
    """
    study = results.study
    found = []
    for run in runs:
        unrepaired = scores_of_run(data, results, run)
        decisions = decisions_of(data, study, point_of(results, run), unrepaired)
        thresholds = [np.nan if t is None else t for t in decisions.thresholds]
        thresholds = jnp.asarray(thresholds, jnp.float32)
        interval = study.resampled(decisions.scores["test"], thresholds, data.splits.test)
        entry = {
            "run": int(run),
            "method": str(results.table["method"][run]),
            "tasks": {},
        }
        for task, error, gaps in headline(study):
            entry["tasks"][task] = {
                "error": _figures(results, interval, error),
                "gaps": {key.attribute: _figures(results, interval, key) for key in gaps},
            }
        found.append(entry)
    return found


def _figures(results: Results, interval: Interval, key: Metric) -> dict[str, float]:
    """A metric of a run, and of the single-task models before."""
    table = results.table
    is_reference = (table["method"] == REFERENCE) & ~table["diverged"]
    values = table[key._replace(split="test")][is_reference]
    before = interval_over_seeds(np.random.default_rng(0), values)
    figures = {
        "value": interval.estimate[key],
        "low": interval.low[key],
        "high": interval.high[key],
        "before": before.estimate,
        "before_low": before.low,
        "before_high": before.high,
    }
    # rows of next to no weight leave a trace beyond these digits
    return {name: round(float(value), DIGITS) for name, value in figures.items()}


def candidate_sentence(candidate: dict[str, Any]) -> str:
    """A candidate in one sentence: every error and gap, before and after, with intervals."""
    parts = []
    for task, figures in candidate["tasks"].items():
        parts.append(f"{task}: error {_change(figures['error'])}")
        for attribute, gap in figures["gaps"].items():
            parts.append(f"gap between groups of {attribute} {_change(gap)}")
    listed = "; ".join(parts)
    return f"Run {candidate['run']} ({candidate['method']}), on test rows, {listed}."


def _change(figures: dict[str, float]) -> str:
    after = f"{figures['value']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]"
    return f"{figures['before']:.4f} -> {after}"
