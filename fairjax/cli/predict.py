"""``fairjax predict``: score new rows with a trained model."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from fairjax.cli.options import FILE, FOLDER, formulas_option, images_option, reading_options
from fairjax.cli.settings import reading_arguments
from fairjax.core.types import DataError
from fairjax.data.raw_table import RawTable


@click.command(name="predict")
@click.argument("model", type=FOLDER)
@click.argument("rows", type=FILE)
@click.option(
    "--id",
    "identifiers",
    multiple=True,
    metavar="COLUMN",
    help="A column of ROWS that goes into the output as it is. May be given several times.",
)
@images_option
@reading_options
@formulas_option
@click.option("--out", type=FILE, default=Path("predictions.csv"), show_default=True)
def predict_command(model: Path, rows: Path, out: Path, **options) -> None:
    """Score new ROWS (a file with the features' columns) with a trained MODEL folder.

    Files are read as the training table was, unless options say otherwise. Every row is scored, in
    the order of the file.
    """
    from fairjax.data.new_rows import remarks
    from fairjax.study import load_model, write_predictions

    trained = load_model(model)
    encoder = trained.encoder
    known_missing = encoder.roles.na_values
    images = options["images"] or ""
    table = encoder.read(rows, images, **reading_arguments(options, known_missing))
    identifiers = {name: _cells(table, name) for name in options["identifiers"]}
    predicted = trained.predict(table)
    taken = [name for name in identifiers if name in predicted]
    if taken:
        raise DataError(
            f"{rows}: {taken[0]!r} is a column of the predictions too, {len(table):,} rows. "
            "Rename it."
        )
    columns = identifiers | predicted
    write_predictions(out, columns, encoder.spec, options["formulas"])
    for sentence in (*table.notes, *remarks(encoder, table)):
        click.echo(sentence, err=True)
    click.echo(f"{len(table)} rows")
    click.echo(trained.describe())
    click.echo(f"  {out}")


def _cells(table: RawTable, name: str) -> np.ndarray:
    """Cells of a column as they are written; whole numbers without a point."""
    return table.cells(name) if table.is_text(name) else table.text(name)
