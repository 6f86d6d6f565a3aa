"""``fairjax predict``: score new rows with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairjax.cli.console import echoed_rows
from fairjax.cli.options import (
    FILE,
    FOLDER,
    encoder_option,
    formulas_option,
    images_option,
    reading_options,
)
from fairjax.cli.settings import reading_arguments
from fairjax.core.types import DataError


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
@encoder_option("if its folder is elsewhere than in training; of another one no row is scored.")
@reading_options
@formulas_option
@click.option("--out", type=FILE, default=Path("predictions.csv"), show_default=True)
def predict_command(model: Path, rows: Path, out: Path, **options: Any) -> None:
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
    reading = reading_arguments(options, known_missing)
    with echoed_rows() as progress:
        table = encoder.read(
            rows, images, encoder=options["encoder"] or "", progress=progress, **reading
        )
    identifiers = {name: table.written(name) for name in options["identifiers"]}
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
