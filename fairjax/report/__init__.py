"""What a sweep leaves behind: figures, one offline HTML page, a tidy table and a summary.

In: the tidy table (``dict`` of columns ``[N]``, one row per run) and ``info``, a JSON-safe description of the sweep.
Out: files. Nothing is computed here that a later room could need; drawing libraries load when they draw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit
from fairjax.report.conflicts import conflict_shares, write_conflicts
from fairjax.report.figures import write_figures
from fairjax.report.page import write_page
from fairjax.report.repair import repair_section, write_repair
from fairjax.report.summary import summarize, write_summary
from fairjax.report.table import read_table, write_table
from fairjax.report.view import knee_run, study

__all__ = [
    "conflict_shares",
    "knee_run",
    "read_table",
    "repair_section",
    "summarize",
    "write",
    "write_conflicts",
    "write_figures",
    "write_page",
    "write_repair",
    "write_summary",
    "write_table",
]


def write(
    out: Path,
    table: dict[str, np.ndarray],
    info: dict,
    groups: GroupTable | None = None,
    repair: Audit | None = None,
) -> list[Path]:
    """Write the whole report of a sweep into a folder; every file appears complete or not at all.

    Args:
      out: folder, made when absent.
      table: columns ``[N]`` in order: ``run``, ``point``, ``seed`` (int), ``method`` (str), ``diverged`` (bool), hparams
        ``hparam.<name>``, metrics ``<split>.<metric>[<task>]`` and ``<split>.<metric>[<task>|<attribute>]`` for the
        splits ``validation`` and ``test``, and ``<split>.are``, ``<split>.arfg``.
      info: ``tasks``, ``attributes`` (lists of names) and ``gap`` (the metric on the fairness axis) are needed.
        ``command`` (text with ``{run}`` in it), ``title``, ``environment``, ``versions``, ``seeds``, ``single_task``,
        ``selection``, ``units`` (metric name -> unit) and ``reference`` (the two coordinates of the hypervolume's
        reference point), ``groups`` (which ``run`` and ``method`` the groups are of, and the ``minimum`` of a group) and
        ``repair`` (whose scores were repaired, ``run`` and ``method``) are used where present; whatever else is there is
        kept in ``summary.json``.
      groups: every statistic in every group of one run.
      repair: of one run's scores.
    Returns:
      Paths written: ``table.csv``, ``summary.json``, ``groups.csv`` with groups, the PNG figures, ``report.html``.
    Raises:
      ValueError: a column or an entry of ``info`` that the report cannot do without is missing.
      ImportError: matplotlib or plotly is missing; the table and the summary are written all the same.
    """
    seen = study(table, info)
    out.mkdir(parents=True, exist_ok=True)
    paths = [write_table(out / "table.csv", table), write_summary(out / "summary.json", seen)]
    if groups is not None:
        paths.append(write_table(out / "groups.csv", groups.columns))
    return (
        paths + write_figures(out, seen) + [write_page(out / "report.html", seen, groups, repair)]
    )
