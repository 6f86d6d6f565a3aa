"""What a sweep leaves behind: figures, one offline HTML page, a tidy table and a summary.

In: the tidy table (``dict`` of columns ``[N]``, one row per run) and ``info``, a JSON-safe description of the sweep.
Out: files. Nothing is computed here that a later room could need; drawing libraries load when they draw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.report.conflicts import conflict_shares, write_conflicts
from fairjax.report.figures import write_figures
from fairjax.report.page import write_page
from fairjax.report.summary import summarize, write_summary
from fairjax.report.table import read_table, write_table
from fairjax.report.view import study

__all__ = ["conflict_shares", "read_table", "summarize", "write", "write_conflicts", "write_figures", "write_page",
           "write_summary", "write_table"]


def write(out: Path, table: dict[str, np.ndarray], info: dict) -> list[Path]:
    """Write the whole report of a sweep into a folder; every file appears complete or not at all.

    Args:
      out: folder, made when absent.
      table: columns ``[N]`` in order: ``run``, ``point``, ``seed`` (int), ``method`` (str), ``diverged`` (bool), knobs
        ``knob.<name>``, metrics ``<split>.<metric>[<task>]`` and ``<split>.<metric>[<task>|<attribute>]`` for the
        splits ``validation`` and ``test``, and ``<split>.are``, ``<split>.arfg``.
      info: ``tasks``, ``attributes`` (lists of names) and ``gap`` (the metric on the fairness axis) are needed.
        ``command`` (text with ``{run}`` in it), ``title``, ``environment``, ``versions``, ``seeds``, ``single_task``,
        ``selection``, ``units`` (metric name -> unit) and ``reference`` (the two coordinates of the hypervolume's
        reference point) are used where present; whatever else is there is kept in ``summary.json``.
    Returns:
      Paths written: ``table.csv``, ``summary.json``, the PNG figures, ``report.html``.
    Raises:
      ValueError: a column or an entry of ``info`` that the report cannot do without is missing.
      ImportError: matplotlib or plotly is missing; the table and the summary are written all the same.
    """
    seen = study(table, info)
    out.mkdir(parents=True, exist_ok=True)
    paths = [write_table(out / "table.csv", table), write_summary(out / "summary.json", seen)]
    return paths + write_figures(out, seen) + [write_page(out / "report.html", seen)]
