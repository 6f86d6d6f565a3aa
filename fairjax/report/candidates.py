"""Sentences about the runs that somebody may want to take: gaps and errors before and after.

In: a :class:`~fairjax.report.layout.Layout`, whose ``info["candidates"]`` were chosen on validation
and are reported on test. Out: what the template shows. "Before" is the model that nobody made
fairer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fairjax.core.keys import Metric
from fairjax.report.columns import column
from fairjax.report.layout import Layout, counts_errors
from fairjax.report.names import attribute_label, task_label
from fairjax.report.text import MINUS, number

PER = 1000  # rows of which a sentence counts the errors
MOST_NAMED = 4  # metrics that a sentence names
WIDER = 2**0.5  # how much wider the interval of a difference of two samples is


def candidates_of(layout: Layout, rows: np.ndarray) -> list[dict[str, Any]]:
    """``heading``, ``text``, ``lead``, ``sentences``, ``doubts``, ``position`` of every candidate.

    The lead is one sentence over all tasks, ``sentences`` has one per task. The position counts
    within the rows of the page; None where the page does not hold the run.

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
            "lead": _lead(layout, candidate),
            "sentences": list(_sentences(layout, candidate)),
            "doubts": list(_doubts(layout, candidate)),
            "position": runs.index(run) if run in runs else None,
        }
        candidates.append(view)
    return candidates


def seeds_sentence(info: dict[str, Any]) -> str:
    """What one seed does not show; empty with more seeds, or where nobody knows how many."""
    seeds = info.get("seeds")
    members = seeds.get("members") if isinstance(seeds, dict) else None
    if members != 1:
        return ""
    return (
        "Every setting was trained with one seed: intervals say how the rows vary, not how"
        " training does."
    )


def _sentences(layout: Layout, candidate: dict[str, Any]) -> Iterator[str]:
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


def _lead(layout: Layout, candidate: dict[str, Any]) -> str:
    """One sentence: the largest gap before and after, and the errors that it costs."""
    info = layout.info
    gaps = list(_gaps(info, candidate))
    clauses = []
    if gaps:
        name, gap = max(gaps, key=lambda named: _size(named[1], "before"))
        clauses.append(f"the largest gap, {name}, {_movement(gap)}")
        last, largest = max(gaps, key=lambda named: _size(named[1], "value"))
        if last != name:
            after = _with_interval(largest, "value", "low", "high")
            clauses.append(f"the largest is now {last}, {after}")
    cost = _cost(layout, candidate)
    if cost:
        clauses.append(cost)
    sentence = "; ".join(clauses)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _gaps(info: dict[str, Any], candidate: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gaps with the names of their task and attribute."""
    for task, measured in candidate["tasks"].items():
        for attribute, gap in (measured.get("gaps") or {}).items():
            yield f"{task_label(info, task)} by {attribute_label(info, attribute)}", gap


def _size(gap: dict[str, Any], name: str) -> float:
    """A value of a gap for comparisons; the gap itself where it is not known before."""
    for entry in (name, "value"):
        if _is_known(gap, entry):
            return gap[entry]
    return -1.0


def _cost(layout: Layout, candidate: dict[str, Any]) -> str:
    """The least and the largest change of errors over the tasks."""
    changes = []
    for task, measured in candidate["tasks"].items():
        error = measured["error"]
        if _is_known(error, "value", "before") and counts_errors(layout.info, task):
            changes.append((_more(error), task_label(layout.info, task)))
    if not changes:
        return ""
    least, best = min(changes)
    most, worst = max(changes)
    if len(changes) == 1 or least == most:
        return f"it costs {_signed(most)} errors in {PER:,} rows"
    return f"it costs {_signed(least)} ({best}) to {_signed(most)} ({worst}) errors in {PER:,} rows"


def _signed(change: int) -> str:
    return f"{change:+d}".replace("-", MINUS)


def _more(error: dict[str, Any]) -> int:
    """How many errors more a thousand rows have."""
    return round(PER * (error["value"] - error["before"]))


def _doubts(layout: Layout, candidate: dict[str, Any]) -> Iterator[str]:
    """A sentence on the metrics that differ by more than noise on validation and on test."""
    named = list(_disagreeing(layout, candidate))
    if not named:
        return
    listed = ", ".join(named[:MOST_NAMED])
    if len(named) > MOST_NAMED:
        listed += f" and {len(named) - MOST_NAMED} more"
    yield f"Validation and test disagree by more than their noise: {listed}."


def _disagreeing(layout: Layout, candidate: dict[str, Any]) -> Iterator[str]:
    """Names of metrics, with their values on validation and on test."""
    info = layout.info
    is_candidate = layout.table["run"] == candidate["run"]
    for task, measured in candidate["tasks"].items():
        key = Metric("error", task, split="validation")
        yield from _named(layout, is_candidate, key, measured["error"])
        for attribute, gap in (measured.get("gaps") or {}).items():
            key = Metric(info["gap"], task, attribute=attribute, split="validation")
            yield from _named(layout, is_candidate, key, gap)


def _named(
    layout: Layout, is_candidate: np.ndarray, key: Metric, measured: dict[str, Any]
) -> Iterator[str]:
    info = layout.info
    chosen = np.abs(column(layout.table, key)[is_candidate])
    if not len(chosen) or not _disagree(float(chosen[0]), measured):
        return
    name = f"error of {task_label(info, key.task)}"
    if key.attribute:
        name = f"gap of {task_label(info, key.task)} by {attribute_label(info, key.attribute)}"
    yield f"{name} (validation {number(float(chosen[0]))}, test {number(measured['value'])})"


def _disagree(chosen: float, measured: dict[str, Any]) -> bool:
    """Whether a validation value is further off than the interval of a difference.

    Both samples are noisy. Validation is taken to be as noisy as test, so the interval of the
    difference is sqrt(2) times as wide as that of the test value.
    """
    if not _is_known(measured, "value", "low", "high"):
        return False
    seen = measured["value"]
    low = measured["low"]
    high = measured["high"]
    return chosen < seen - WIDER * (seen - low) or chosen > seen + WIDER * (high - seen)


def _movement(measured: dict[str, Any]) -> str:
    after = _with_interval(measured, "value", "low", "high")
    if not _is_known(measured, "before"):
        return f"is {after}"
    before = _with_interval(measured, "before", "before_low", "before_high")
    return f"went from {before} to {after}"


def _with_interval(measured: dict[str, Any], value: str, low: str, high: str) -> str:
    text = number(measured[value])
    if not _is_known(measured, low, high):
        return text
    return f"{text} [{number(measured[low])}, {number(measured[high])}]"


def _is_known(measured: dict[str, Any], *names: str) -> bool:
    """Whether all these entries are finite numbers."""
    values = [measured.get(name) for name in names]
    return None not in values and bool(np.isfinite(values).all())


def _price(layout: Layout, task: str, error: dict[str, Any]) -> str:
    """What it costs: errors per thousand rows, and whether the intervals overlap."""
    if not _is_known(error, "value", "before") or not counts_errors(layout.info, task):
        return ""
    more = _more(error)
    if not more:
        return "; it costs no errors"
    kind = "more" if more > 0 else "fewer"
    noun = "error" if abs(more) == 1 else "errors"
    price = f"; that is {abs(more)} {kind} {noun} in {PER:,} rows"
    if _overlap(error):
        price += ", within the intervals"
    return price


def _overlap(error: dict[str, Any]) -> bool:
    if not _is_known(error, "low", "high", "before_low", "before_high"):
        return False
    return error["low"] <= error["before_high"] and error["before_low"] <= error["high"]
