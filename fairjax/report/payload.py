"""What the script of the page draws: runs, panels and methods as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fairjax.core.keys import Metric
from fairjax.report.columns import (
    column,
    error_key,
    gain_keys,
    gap_keys,
    hparam_keys,
    hparam_label,
    relative_keys,
)
from fairjax.report.drawing import COLOURS, SIZES, look
from fairjax.report.group_columns import group_columns
from fairjax.report.layout import Layout
from fairjax.report.names import RELATIVE, attribute_label, task_label
from fairjax.report.panel import Front, Panel
from fairjax.report.summary import plain
from fairjax.report.text import literal, rounded

SYMBOLS = ("circle", "square", "diamond", "triangle", "wedge", "plus", "cross", "pentagon")
# the same shapes as text
GLYPHS = ("\u25cf", "\u25a0", "\u25c6", "\u25b2", "\u25bc", "\u271a", "\u2716", "\u2b1f")


def payload(layout: Layout, rows: np.ndarray, command: str = "") -> dict[str, Any]:
    """What the script draws: columns of the runs, panels, looks of the methods.

    Args:
      layout: of the sweep.
      rows: ``[M]`` rows of the table; every position in the result counts within them.
      command: that trains a run again, with ``{run}`` in it.
    """
    table = layout.table
    info = layout.info
    runs = {name: table[name][rows] for name in ("run", "point", "seed")}
    runs["method"] = layout.method_index[rows]
    runs["diverged"] = layout.diverged[rows]
    if "verdict" in table:
        runs["verdict"] = table["verdict"][rows]
    methods = range(len(layout.methods))
    panels = (layout.overall, *layout.task_panels)
    fronts = layout.overall.fronts.values()
    return {
        "tasks": [task_label(info, task) for task in info["tasks"]],
        "attributes": [attribute_label(info, name) for name in info["attributes"]],
        "methods": [_method(layout, index) for index in methods],
        "runs": runs,
        "metrics": _metrics(layout, rows),
        "relative": _relative(),
        "hparams": _hparams(layout, rows),
        "groups": group_columns(layout, rows),
        "is_sample": len(rows) < table.rows,
        "frontiers": {
            "validation": _positions(rows, [front.validation for front in fronts]),
            "test": _positions(rows, [front.test for front in fronts]),
        },
        "intervals": _intervals(layout, rows),
        "single_task": _single_task(info),
        "panels": [_panel(layout, panel, rows) for panel in panels],
        "command": command,
    }


def embedded(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(
        plain(value),
        ensure_ascii=True,
        allow_nan=False,
        separators=(",", ":"),
    )
    text = text.replace("<", "\\u003c")
    text = text.replace(">", "\\u003e")
    return text.replace("&", "\\u0026")


def _hparams(layout: Layout, rows: np.ndarray) -> list[tuple[str, list[float]]]:
    """Labels and columns of the hyper-parameters."""
    columns = []
    for key in hparam_keys(layout.table):
        values = column(layout.table, key)
        columns.append((hparam_label(key), rounded(values[rows])))
    return columns


def _metrics(layout: Layout, rows: np.ndarray) -> list[dict[str, Any]]:
    """Columns of the metrics on the page, test before validation; the table has the others.

    ``task`` and ``attribute`` are positions; None where a metric is of no single one.
    """
    columns = []
    for split in ("test", "validation"):
        columns += [_column(layout, rows, key) for key in _metric_keys(layout, split)]
    for task in layout.info["tasks"]:
        key = Metric("threshold", task, split="validation")
        if key in layout.table:
            columns.append(_column(layout, rows, key))
    return columns


def _metric_keys(layout: Layout, split: str) -> list[Metric]:
    keys = []
    for task in layout.info["tasks"]:
        keys.append(error_key(task, split))
        keys += gap_keys(layout.info, task, split)
    keys += relative_keys(split)
    keys += gain_keys(split)
    return [key for key in keys if key in layout.table]


def _relative() -> list[tuple[str, str, float]]:
    """Metrics over all tasks: kind, name, and the value of single-task models."""
    ratios = [key.metric for key in relative_keys("test")]
    return [(kind, name, 1.0 if kind in ratios else 0.0) for kind, name in RELATIVE.items()]


def _column(layout: Layout, rows: np.ndarray, key: Metric) -> dict[str, Any]:
    info = layout.info
    kind = "gap" if key.metric == info["gap"] else key.metric
    values = column(layout.table, key)
    if kind == "gap":
        values = np.abs(values)
    return {
        "label": _metric_label(info, kind, key),
        "kind": kind,
        "task": info["tasks"].index(key.task) if key.task else None,
        "attribute": info["attributes"].index(key.attribute) if key.attribute else None,
        "split": key.split,
        "values": rounded(values[rows]),
    }


def _metric_label(info: dict[str, Any], kind: str, key: Metric) -> str:
    if kind == "threshold":
        return f"decides at, {task_label(info, key.task)}"
    if not key.task:
        return f"{RELATIVE[kind]} ({key.split})"
    parts = [kind, task_label(info, key.task)]
    if key.attribute:
        parts.append(attribute_label(info, key.attribute))
    return f"{', '.join(parts)} ({key.split})"


def _intervals(layout: Layout, rows: np.ndarray) -> list[dict[str, Any]]:
    """Intervals of the test metrics of candidates; None where an end is not known."""
    info = layout.info
    positions = {run: position for position, run in enumerate(layout.table["run"][rows].tolist())}
    found = []
    for candidate in info.get("candidates") or ():
        for task, measured in candidate["tasks"].items():
            subject = {"position": positions.get(candidate["run"])}
            subject["task"] = info["tasks"].index(task)
            found.append(subject | {"kind": "error", "attribute": None} | _ends(measured["error"]))
            for name, gap in (measured.get("gaps") or {}).items():
                attribute = info["attributes"].index(name)
                found.append(subject | {"kind": "gap", "attribute": attribute} | _ends(gap))
    return found


def _ends(measured: dict[str, Any]) -> dict[str, Any]:
    return {"low": measured.get("low"), "high": measured.get("high")}


def _single_task(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Error and gap of the single-task models per task, on test."""
    means = (info.get("single_task") or {}).get("test", {})
    names = ("error", "gap")
    return [{name: means.get(task, {}).get(name) for name in names} for task in info["tasks"]]


def _method(layout: Layout, index: int) -> dict[str, Any]:
    colour, marker = look(index)
    method = layout.methods[index]
    return {
        "name": method,
        "label": literal(method),
        "colour": COLOURS[colour],
        "symbol": SYMBOLS[marker],
        "size": SIZES[marker],
        "glyph": GLYPHS[marker],
        "is_reference": method in layout.info.get("reference_methods", []),
        "is_estimator": method in layout.info.get("estimator_methods", []),
    }


def _panel(layout: Layout, panel: Panel, rows: np.ndarray) -> dict[str, Any]:
    is_usable = panel.usable[:, None]
    points = np.where(is_usable, panel.test, np.nan)
    x, y = points[rows].T
    return {
        "key": panel.key,
        "x": rounded(x),
        "y": rounded(y),
        "limits": panel.limits,
        "levels": panel is layout.overall and layout.relative,
        "runs": panel.runs,
        "references": [reference._asdict() for reference in panel.references],
        "fronts": [_front(front, rows) for front in panel.fronts.values()],
    }


def _front(front: Front, rows: np.ndarray) -> dict[str, Any]:
    return {
        "chosen": np.searchsorted(rows, front.validation),
        "line": np.searchsorted(rows, front.line),
    }


def _positions(rows: np.ndarray, fronts: list[np.ndarray]) -> np.ndarray:
    """Positions on the page of the rows of several frontiers."""
    chosen = np.concatenate([np.zeros(0, np.int64), *fronts])
    return np.searchsorted(rows, chosen)
