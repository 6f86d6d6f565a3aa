"""``fairjax predict``: score new rows with a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from fairjax.cli.options import FILE, FOLDER


@click.command(name="predict")
@click.argument("model", type=FOLDER)
@click.argument("rows", type=FILE)
@click.option("--out", type=FILE, default=Path("predictions.csv"), show_default=True)
def predict_command(model: Path, rows: Path, out: Path) -> None:
    """Score new ROWS (a CSV with the features' columns) with a trained MODEL folder."""
    from fairjax.study import load_model, write_predictions

    trained = load_model(model)
    columns = trained.predict(rows)
    write_predictions(out, columns, trained.encoder.spec)
    count = len(next(iter(columns.values())))
    click.echo(f"{count} rows")
    click.echo(trained.describe())
    click.echo(f"  {out}")
