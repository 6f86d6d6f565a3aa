"""``fairjax repair``: repair the scores of any model, from a file to a file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fairjax.cli.console import echoed_warnings
from fairjax.cli.options import FILE, FOLDER, formulas_option, reading_options, together
from fairjax.cli.settings import reading_arguments
from fairjax.core.disk import whole_folder
from fairjax.core.types import DataError
from fairjax.data.raw_table import RawTable
from fairjax.data.read import as_table
from fairjax.postprocess import SCALES, Repair
from fairjax.postprocess.summary import repair_summary
from fairjax.postprocess.tables import (
    RepairedTable,
    repair_table,
    warn_of_training_rows,
    write_repaired,
)

ONLY_NEW = ("calibration", "training", "scale", "share", "small", "minimum")
PARAMETERS = ("scale", "share", "small", "minimum", "outside")

column_options: Callable[..., Any] = together(
    click.option(
        "--score", "names", multiple=True, metavar="COLUMN", help="Column of scores, once per task."
    ),
    click.option(
        "--sensitive",
        multiple=True,
        metavar="COLUMN",
        help="Column of groups, once per attribute; several are crossed. An empty cell is an "
        "unknown group.",
    ),
    click.option(
        "--calibration",
        type=FILE,
        help="CSV file of other rows with these columns, which the model was not trained on. "
        "Without it, rows are repaired fold by fold, each by the others.",
    ),
    click.option(
        "--training",
        type=FILE,
        help="CSV file of the rows that the model was trained on: warns of those that the repair "
        "is fitted on.",
    ),
    click.option(
        "--state", type=FOLDER, help="Folder of an earlier repair, in place of --calibration."
    ),
    click.option(
        "--folds",
        type=click.IntRange(2),
        default=5,
        show_default=True,
        help="Without --calibration.",
    ),
)

repair_options: Callable[..., Any] = together(
    click.option(
        "--amount",
        "amounts",
        multiple=True,
        type=click.FloatRange(0, 1),
        help="How far scores go, from 0 to 1; once, or once per attribute. Default: 1.",
    ),
    click.option(
        "--scale",
        type=click.Choice(list(SCALES)),
        help="On which scores are averaged: as they are (default), log-odds of probabilities, "
        "logarithms.",
    ),
    click.option(
        "--share",
        type=click.Choice(["frequency", "uniform"]),
        help="Weight of a group in what all become: its frequency (default; scores change least), "
        "or the same for all.",
    ),
    click.option(
        "--small",
        type=click.Choice(["raise", "pool", "shrink"]),
        help="Groups of less than --minimum rows: refuse (default), rank among all rows, lean on "
        "all rows. The first also refuses groups that the calibration rows do not have.",
    ),
    click.option("--minimum", type=click.IntRange(1), help="Rows. Default: 2 to refuse, else 100."),
    click.option(
        "--outside",
        type=click.Choice(["clamp", "shift"]),
        help="Scores beyond those of the calibration rows stay at their end (default), or keep "
        "their distance.",
    ),
    click.option(
        "--weight-column", help="Column of row weights, of the calibration rows and of the report."
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="COLUMN",
        help="Column of labels, one per --score: only to report the risk.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        help="Take equal scores apart at random. Default: they stay together.",
    ),
)


@click.command(name="repair")
@click.argument("scores", type=FILE)
@column_options
@repair_options
@reading_options
@formulas_option
@click.option(
    "--out",
    type=FOLDER,
    default=Path("fairjax-repair"),
    show_default=True,
    help="Folder for repaired.csv, the state (repair.json, repair.npz) and the report.",
)
def repair_command(scores: Path, **options: Any) -> None:
    """Repair the SCORES of any model (a CSV file), so that they do not tell the group of a row.

    \b
    fairjax repair new.csv --score pd --score income --sensitive sex --calibration old.csv
    fairjax repair newer.csv --state fairjax-repair --out newer
    """
    from fairjax.report.repair import write_repair

    out = options["out"]
    is_new = options["state"] is None
    if is_new and (out / "repair.json").exists():
        raise DataError(
            f"{out}: holds a repair already. Use it with --state, or choose another folder with "
            "--out."
        )
    read = partial(as_table, **reading_arguments(options))
    table = read(scores)
    for note in table.notes:
        click.echo(note, err=True)
    repair = _repair_of_options(options)
    with echoed_warnings():
        repaired = _repair_rows(table, repair, options, read)
    command = shlex.join(["fairjax", *sys.argv[1:]])
    with whole_folder(out, "repair.json") as folder:
        write_repaired(
            folder / "repaired.csv", table, repaired.columns, formulas=options["formulas"]
        )
        if is_new:
            repair.save(folder)
        write_repair(folder, repaired.audit, title=scores.name, command=command)
        names = sorted(path.name for path in folder.iterdir())
    click.echo(repair_summary(repair, repaired.audit))
    for name in names:
        click.echo(f"  {out / name}")


def _repair_rows(
    table: RawTable, repair: Repair, options: dict[str, Any], read: Callable[[Path], RawTable]
) -> RepairedTable:
    """Fit the repair where it is new, and repair the table."""
    pool = None
    if options["calibration"]:
        pool = read(options["calibration"])
    elif options["state"] is None:
        click.echo(
            f"Warning: no --calibration, so that {len(table):,} rows are repaired in "
            f"{options['folds']} folds, each by the others. The state is of all of them.",
            err=True,
        )
    names = options["names"]
    sensitive = options["sensitive"]
    repaired = repair_table(
        table,
        repair,
        names,
        sensitive,
        pool=pool,
        weight=options["weight_column"],
        labels=options["labels"],
        folds=options["folds"],
        seed=options["seed"],
    )
    if options["training"]:
        training = read(options["training"])
        fitted_rows = table if pool is None else pool
        warn_of_training_rows(fitted_rows, training, names, sensitive)
    return repaired


def _repair_of_options(options: dict[str, Any]) -> Repair:
    """A new repair with the parameters of the options, or an earlier one."""
    state = options["state"]
    if state is None:
        if not (options["names"] and options["sensitive"]):
            raise DataError(
                "say which columns hold the scores and which the groups: --score COLUMN "
                "--sensitive COLUMN; both may be given several times."
            )
        repair = Repair()
    else:
        repair = Repair.load(state)
        superfluous = [f"--{name}" for name in ONLY_NEW if options[name] is not None]
        if superfluous:
            raise DataError(
                f"{state}: was fitted already; leave out {', '.join(superfluous)}, or leave out "
                "--state."
            )
    parameters = {name: options[name] for name in PARAMETERS if options[name] is not None}
    amounts = options["amounts"]
    if amounts:
        parameters["amount"] = amounts[0] if len(amounts) == 1 else list(amounts)
    return repair.set_params(**parameters)
