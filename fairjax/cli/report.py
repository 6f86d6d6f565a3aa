"""``fairjax report``: draw the report of a finished sweep again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairjax.core.tables import Table, read_csv, read_table
from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit, load_audit
from fairjax.study import read_study


@click.command(name="report")
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report_command(out: Path) -> None:
    """Draw the report of a finished sweep again, from its tables."""
    info = read_study(out)
    groups = None
    audit = None
    if "groups" in info and (out / "groups.csv").exists():
        groups = GroupTable(read_csv(out / "groups.csv"), info["groups"]["left_out"])
    if "repair" in info and (out / "audit.npz").exists():
        audit = load_audit(out / "audit.npz")
    write_report(out, read_table(out), info, groups, audit)


def write_report(
    out: Path,
    table: Table,
    info: dict[str, Any],
    groups: GroupTable | None = None,
    audit: Audit | None = None,
) -> None:
    """Write the report, and print how many runs it has and where it is."""
    from fairjax import report

    paths = report.write(out, table, info, groups, audit)
    diverged = int(table["diverged"].sum())
    click.echo(f"{table.rows} runs" + (f", {diverged} diverged" if diverged else ""))
    for path in paths:
        click.echo(f"  {path}")
