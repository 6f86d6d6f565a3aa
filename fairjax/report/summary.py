"""``summary.json``: what was run, and each method's frontier, for a program to read.

In: a :class:`~fairjax.report.layout.Layout`. Out: strict JSON (NaN and infinity become null).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.core.disk import write
from fairjax.report.layout import Layout


def plain(value: Any) -> Any:
    """``value`` in JSON's own types.

    Numpy scalars and arrays are unpacked, NaN and infinity become None, other objects text.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def summarize(layout: Layout) -> dict[str, Any]:
    """Everything of a sweep but the runs that lie on no frontier.

    Returns:
      ``info``; ``axes`` (names of the metrics or descriptions, and the hypervolume's reference
      point); ``methods``: per method ``runs``, ``diverged``, and under ``selected_on_validation``
      and ``selected_on_test`` the ``hypervolume`` on test and the ``frontier`` (a list of rows of
      the table, each by the texts of its keys); ``notes``.
    """
    fronts = layout.overall.fronts
    rows = [rows for front in fronts.values() for rows in (front.validation, front.test)]
    runs = _runs(layout, np.unique(np.concatenate(rows))) if rows else {}
    axes = ["are", "arfg"]
    if not layout.relative:
        axes = ["mean error over tasks", f"mean {layout.info['gap']} over tasks"]
    return plain(
        {
            "info": layout.info,
            "axes": {"minimized": axes, "measured_on": "test", "reference": layout.reference},
            "methods": {
                method: _method(layout, index, runs) for index, method in enumerate(layout.methods)
            },
            "notes": layout.notes,
        }
    )


def write_summary(path: Path, layout: Layout) -> Path:
    """Write :func:`summarize` as JSON."""
    text = json.dumps(summarize(layout), indent=1, ensure_ascii=False, allow_nan=False)
    return write(path, (text + "\n").encode("utf-8"))


def _method(layout: Layout, index: int, runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    mine = layout.runs_of(index)
    front = layout.overall.fronts[layout.methods[index]]
    return {
        "runs": int(mine.sum()),
        "diverged": int((mine & layout.diverged).sum()),
        "selected_on_validation": _selection(layout, front.validation, runs),
        "selected_on_test": _selection(layout, front.test, runs),
    }


def _selection(layout: Layout, rows: np.ndarray, runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    return {
        "hypervolume": layout.volume(rows),
        "frontier": [runs[row] for row in rows.tolist()],
    }


def _runs(layout: Layout, rows: np.ndarray) -> dict[int, dict[str, Any]]:
    """By row, every column of the table; each column is looked at once."""
    columns = {str(key): np.asarray(values)[rows] for key, values in layout.table.items()}
    cells = zip(*columns.values(), strict=True)
    return {
        row: dict(zip(columns, run, strict=True))
        for row, run in zip(rows.tolist(), cells, strict=True)
    }
