"""What a sweep leaves behind: figures, one offline HTML page, a table and a summary.

In: a :class:`~fairjax.core.tables.Table` (columns ``[N]`` by key, one row per run) and ``info``, a
JSON-safe description of the sweep. Out: files. Nothing is computed here that a later room could
need; drawing libraries load when they draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairjax.core.tables import Table, write_csv, write_table
from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit
from fairjax.report.branches_figure import draw_branches, write_branches
from fairjax.report.conflict_figure import draw_conflicts, write_conflicts
from fairjax.report.conflicts import conflict_shares
from fairjax.report.constraints_figure import draw_constraints, write_constraints
from fairjax.report.figures import (
    draw_methods,
    draw_overall,
    draw_tasks,
    draw_tradeoff,
    write_figures,
)
from fairjax.report.layout import Layout, candidate_runs, knee_run, lay_out
from fairjax.report.page import write_page
from fairjax.report.repair import repair_section, write_repair
from fairjax.report.summary import summarize, write_summary

__all__ = [
    "Layout",
    "candidate_runs",
    "conflict_shares",
    "draw_branches",
    "draw_constraints",
    "draw_conflicts",
    "draw_methods",
    "draw_overall",
    "draw_tasks",
    "draw_tradeoff",
    "knee_run",
    "lay_out",
    "repair_section",
    "summarize",
    "write",
    "write_branches",
    "write_constraints",
    "write_conflicts",
    "write_figures",
    "write_page",
    "write_repair",
    "write_summary",
]


def write(
    out: str | Path,
    table: Table,
    info: dict[str, Any],
    groups: GroupTable | None = None,
    repair: Audit | None = None,
) -> list[Path]:
    """Write the whole report of a sweep into a folder; every file appears complete or not at all.

    Args:
      out: folder, made when absent.
      table: columns ``[N]`` by key, in order: ``run``, ``point``, ``seed`` (int), ``method`` (str),
        ``diverged`` (bool), hyper-parameters ``HParam(name, task)``, and metrics for the splits
        ``validation`` and ``test``: ``Metric("error", task, split=...)``,
        ``Metric(info["gap"], task, attribute=..., split=...)``, ``Metric("are", split=...)``,
        ``Metric("arfg", split=...)``, gains such as ``Metric("knowledge_gain", split=...)``, and
        any others.
      info: ``tasks``, ``attributes`` (lists of names) and ``gap`` (the metric on the fairness axis)
        are needed. ``command`` (text with ``{run}`` in it), ``title``, ``environment``,
        ``versions``, ``seeds``, ``reference_methods`` (names of methods whose rows are references,
        no candidates), ``estimator_methods`` (names of methods whose rows no command makes a model
        of), ``single_task`` (by split and task the ``error`` and ``gap`` of the
        single-task models), ``selection``, ``units`` (from the name of a metric to its unit),
        ``reference`` (the two coordinates of the hypervolume's reference point), ``groups`` (which
        ``run`` and ``method`` the groups are of, and the ``minimum`` of a group) and ``repair``
        (whose scores were repaired, ``run`` and ``method``) are used where present; so are
        ``warnings`` (sentences that the page begins with), ``candidates`` (runs chosen on
        validation, a dict each: ``run``, ``method``, ``tasks``, by task the ``error`` and by
        attribute the ``gaps``, each with ``value``, ``low``, ``high``, ``before``, ``before_low``,
        ``before_high`` on test, and a ``text``), ``constants`` (by split, task and name of a
        constant predictor its ``error``), ``left_out`` (by split a list of groups too small for
        gaps: ``attribute``, ``group``, ``task``, ``rows``, ``rows_that_count``), ``minimum`` (of
        their rows), ``notion`` (text), ``data`` (what :meth:`fairjax.data.Prepared.details`
        gives), ``decision`` (its ``text`` says how a run decides) and ``rules`` (of ``tasks`` and
        ``attributes`` the text by name; by default those of ``source``), ``branching`` (by method
        how its networks branched), ``constraints`` (by method what became of them).
        Every entry is kept in ``summary.json``.
      groups: every statistic in every group of one run.
      repair: of one run's scores.

    Returns:
      Paths written: ``table.csv``, or of many runs ``table.parquet``, ``summary.json``,
      ``groups.csv`` with groups, the PNG figures, ``report.html``.

    Raises:
      ValueError: a column or an entry of ``info`` that the report cannot do without is missing.
      ImportError: matplotlib or jinja2 is missing; the table and the summary are written all the
        same.
    """
    layout = lay_out(table, info)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = [write_table(out, table), write_summary(out / "summary.json", layout)]
    if groups is not None:
        paths.append(write_csv(out / "groups.csv", groups.columns))
    paths += write_figures(out, layout)
    paths += write_branches(out, info)
    paths += write_constraints(out, info)
    paths.append(write_page(out / "report.html", layout, groups, repair))
    return paths
