"""``summary.json``: what was run, and each method's frontier, for a program to read.

In: a :class:`~fairjax.report.view.Study`. Out: strict JSON (NaN and infinity become null).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.report.view import Study


def plain(value):
    """``value`` in JSON's own types: numpy scalars and arrays unpacked, NaN and infinity as None, the rest as text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            plain(v)
            for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)
        ]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def record(study: Study, row: int) -> dict:
    """One run as a dictionary: every column of the table."""
    return {name: plain(np.asarray(values)[row]) for name, values in study.table.items()}


def summarize(study: Study) -> dict:
    """Everything of a study but the runs that lie on no frontier.

    Returns:
      ``info``; ``axes`` (column names or descriptions, and the hypervolume's reference point); ``methods``: per method
      ``runs``, ``diverged``, and under ``selected_on_validation`` and ``selected_on_test`` the ``hypervolume`` on test
      and the ``frontier`` (a list of rows of the table); ``notes``.
    """
    axes = (
        ["are", "arfg"]
        if study.relative
        else ["mean error over tasks", f"mean {study.info['gap']} over tasks"]
    )
    return plain(
        {
            "info": study.info,
            "axes": {"minimized": axes, "measured_on": "test", "reference": study.reference},
            "methods": {name: _method(study, i, name) for i, name in enumerate(study.methods)},
            "notes": study.notes,
        }
    )


def write_summary(path: Path, study: Study) -> Path:
    """Write :func:`summarize` as JSON."""
    text = json.dumps(summarize(study), indent=1, ensure_ascii=False, allow_nan=False)
    return write(path, (text + "\n").encode("utf-8"))


def _method(study: Study, index: int, name: str) -> dict:
    mine = study.method == index
    front = study.overall.fronts[name]
    return {
        "runs": int(mine.sum()),
        "diverged": int((mine & study.diverged).sum()),
        "selected_on_validation": _selection(study, front.validation),
        "selected_on_test": _selection(study, front.test),
    }


def _selection(study: Study, rows: np.ndarray) -> dict:
    return {"hypervolume": study.volume(rows), "frontier": [record(study, row) for row in rows]}
