"""What the script of the page draws: runs, panels and methods as JSON."""

from __future__ import annotations

import json

import numpy as np

from fairjax.core.keys import Key, Metric
from fairjax.report.columns import (
    column,
    error_key,
    gap_keys,
    hparam_keys,
    hparam_label,
    relative_keys,
)
from fairjax.report.drawing import COLOURS, SIZES, look
from fairjax.report.layout import Layout
from fairjax.report.panel import Front, Panel
from fairjax.report.summary import plain
from fairjax.report.text import literal, wrapped

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon")
# the same shapes as text
GLYPHS = ("\u25cf", "\u25a0", "\u25c6", "\u25b2", "\u25bc", "\u271a", "\u2716", "\u2b1f")
MANY_POINTS = 2000  # points beyond which a browser needs WebGL
MOST_POINTS = 20_000  # points beyond which the page grows too heavy for a browser
DIGITS = 6  # significant digits of a number


def rows_of_page(layout: Layout) -> np.ndarray:
    """Rows that the page holds: all, or every frontier and an even choice of the others."""
    runs = len(layout.method_index)
    if runs <= MOST_POINTS:
        return np.arange(runs)
    even_choice = np.linspace(0, runs - 1, MOST_POINTS)
    rows = [even_choice.astype(np.int64)]
    for panel in (layout.overall, *layout.task_panels):
        for front in panel.fronts.values():
            rows.append(front.validation)
            rows.append(front.test)
    return np.unique(np.concatenate(rows))


def payload(layout: Layout, rows: np.ndarray) -> dict:
    """What the script draws: columns of the runs, panels, looks of the methods.

    Args:
      layout: of the sweep.
      rows: ``[M]`` rows of the table; every position in the result counts within them.
    """
    table = layout.table
    runs = {name: table[name][rows] for name in ("run", "point", "seed")}
    runs["method"] = layout.method_index[rows]
    hparams = [(hparam_label(key), key) for key in hparam_keys(table)]
    methods = range(len(layout.methods))
    panels = (layout.overall, *layout.task_panels)
    command = layout.info.get("command") or ""
    return {
        "methods": [_method(layout, index) for index in methods],
        "runs": runs,
        "hparams": _columns(layout, hparams, rows),
        "metrics": _columns(layout, _metrics(layout), rows),
        "panels": [_panel(layout, panel, rows) for panel in panels],
        "command": str(command),
        "many": MANY_POINTS,
    }


def embedded(value) -> str:
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


def _columns(
    layout: Layout,
    labelled: list[tuple[str, Key]],
    rows: np.ndarray,
) -> list[tuple[str, list[float]]]:
    """Columns of the table by their labels."""
    columns = []
    for label, key in labelled:
        values = column(layout.table, key)
        columns.append((label, _rounded(values[rows])))
    return columns


def _metrics(layout: Layout) -> list[tuple[str, Metric]]:
    """Labels and keys of the metrics on the page; table.csv has the others."""
    info = layout.info
    labelled = []
    for split in ("test", "validation"):
        for key in relative_keys(split):
            label = f"{key.metric.upper()} ({split})"
            labelled.append((label, key))
    for task in info["tasks"]:
        label = f"error, {task} (test)"
        labelled.append((label, error_key(task, "test")))
        for key in gap_keys(info, task, "test"):
            label = f"gap, {task}, {key.attribute} (test)"
            labelled.append((label, key))
    return [(label, key) for label, key in labelled if key in layout.table]


def _method(layout: Layout, index: int) -> dict:
    colour, marker = look(index)
    method = layout.methods[index]
    front = layout.overall.fronts[method]
    return {
        "name": method,
        "label": literal(method),
        "colour": COLOURS[colour],
        "symbol": SYMBOLS[marker],
        "size": SIZES[marker],
        "glyph": GLYPHS[marker],
        "volume": layout.volume(front.validation),
    }


def _panel(layout: Layout, panel: Panel, rows: np.ndarray) -> dict:
    is_usable = panel.usable[:, None]
    points = np.where(is_usable, panel.test, np.nan)
    x, y = points[rows].T
    return {
        "key": panel.key,
        "title": literal(panel.title, 60),
        "labels": [wrapped(label, 46).split("\n") for label in panel.labels],
        "x": _rounded(x),
        "y": _rounded(y),
        "limits": panel.limits,
        "levels": panel is layout.overall and layout.relative,
        "runs": panel.runs,
        "outside": panel.outside,
        "fronts": [_front(front, rows) for front in panel.fronts.values()],
    }


def _front(front: Front, rows: np.ndarray) -> dict:
    return {
        "chosen": np.searchsorted(rows, front.validation),
        "line": np.searchsorted(rows, front.line),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
