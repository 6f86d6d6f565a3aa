"""Sentences about the runs that somebody may want to take: gaps and errors before and after.

In: a :class:`~fairjax.report.layout.Layout`, whose ``info["candidates"]`` were chosen on validation
and are reported on test. Out: what the template shows. "Before" is the model that nobody made
fairer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fairjax.core.keys import Metric
from fairjax.report.columns import column
from fairjax.report.layout import Layout, counts_errors
from fairjax.report.names import attribute_label, task_label
from fairjax.report.text import number

PER = 1000  # rows of which a sentence counts the errors
WIDER = 2**0.5  # how much wider the interval of a difference of two samples is


def candidates_of(layout: Layout, rows: np.ndarray) -> list[dict]:
    """``heading``, ``text``, ``sentences``, ``doubts`` and ``position`` of every candidate.

    The position counts within the rows of the page; None where the page does not hold the run.

    Args:
      layout: of the sweep.
      rows: ``[M]`` rows of the table that the page holds.
    """
    candidates = []
    runs = layout.table["run"][rows].tolist()
    for candidate in layout.info.get("candidates") or ():
        run = candidate["run"]
        view = {
            "heading": f"Run {run}, {candidate['method']}",
            "text": str(candidate.get("text") or ""),
            "sentences": list(_sentences(layout, candidate)),
            "doubts": list(_doubts(layout, candidate)),
            "position": runs.index(run) if run in runs else None,
        }
        candidates.append(view)
    return candidates


def seeds_sentence(info: dict) -> str:
    """What one seed does not show; empty with more seeds, or where nobody knows how many."""
    seeds = info.get("seeds")
    members = seeds.get("members") if isinstance(seeds, dict) else None
    if members != 1:
        return ""
    return (
        "Every setting was trained with one seed: intervals say how the rows vary, not how"
        " training does."
    )


def _sentences(layout: Layout, candidate: dict) -> Iterator[str]:
    """A sentence per task."""
    info = layout.info
    for task, measured in candidate["tasks"].items():
        clauses = []
        for attribute, gap in (measured.get("gaps") or {}).items():
            over = attribute_label(info, attribute)
            clauses.append(f"the gap by {over} {_movement(gap)}")
        error = measured["error"]
        clauses.append(f"the error {_movement(error)}")
        price = _price(layout, task, error)
        yield f"{task_label(info, task)}: {', '.join(clauses)}{price}."


def _doubts(layout: Layout, candidate: dict) -> Iterator[str]:
    """Metrics whose values on validation and on test lie further apart than noise explains."""
    info = layout.info
    is_candidate = layout.table["run"] == candidate["run"]
    for task, measured in candidate["tasks"].items():
        label = task_label(info, task)
        error = measured["error"]
        yield from _doubt(layout, is_candidate, f"error of {label}", error, task)
        for attribute, gap in (measured.get("gaps") or {}).items():
            name = f"gap of {label} by {attribute_label(info, attribute)}"
            yield from _doubt(layout, is_candidate, name, gap, task, attribute)


def _doubt(
    layout: Layout,
    is_candidate: np.ndarray,
    name: str,
    measured: dict,
    task: str,
    attribute: str = "",
) -> Iterator[str]:
    metric = layout.info["gap"] if attribute else "error"
    key = Metric(metric, task, attribute=attribute, split="validation")
    chosen = np.abs(column(layout.table, key)[is_candidate])
    if not len(chosen) or not _disagree(float(chosen[0]), measured):
        return
    seen = _with_interval(measured, "value", "low", "high")
    yield (
        f"Validation and test disagree by more than their noise: the {name} was"
        f" {number(float(chosen[0]))} on validation and is {seen} on test."
    )


def _disagree(chosen: float, measured: dict) -> bool:
    """Whether a validation value is further off than the interval of a difference.

    Both samples are noisy. Validation is taken to be as noisy as test, so the interval of the
    difference is sqrt(2) times as wide as that of the test value.
    """
    seen = measured["value"]
    ends = (measured.get("low"), measured.get("high"))
    if None in ends:
        return False
    low, high = ends
    return chosen < seen - WIDER * (seen - low) or chosen > seen + WIDER * (high - seen)


def _movement(measured: dict) -> str:
    after = _with_interval(measured, "value", "low", "high")
    if measured.get("before") is None:
        return f"is {after}"
    before = _with_interval(measured, "before", "before_low", "before_high")
    return f"went from {before} to {after}"


def _with_interval(measured: dict, value: str, low: str, high: str) -> str:
    text = number(measured[value])
    ends = (measured.get(low), measured.get(high))
    if None in ends:
        return text
    return f"{text} [{number(ends[0])}, {number(ends[1])}]"


def _price(layout: Layout, task: str, error: dict) -> str:
    """What it costs: errors per thousand rows, and whether the intervals overlap."""
    before = error.get("before")
    if before is None or not counts_errors(layout.info, task):
        return ""
    more = round(PER * (error["value"] - before))
    if not more:
        return "; it costs no errors"
    kind = "more" if more > 0 else "fewer"
    price = f"; that is {abs(more)} {kind} errors in {PER:,} rows"
    if _overlap(error):
        price += ", within the intervals"
    return price


def _overlap(error: dict) -> bool:
    ends = [error.get(name) for name in ("low", "high", "before_low", "before_high")]
    if None in ends:
        return False
    low, high, before_low, before_high = ends
    return low <= before_high and before_low <= high
