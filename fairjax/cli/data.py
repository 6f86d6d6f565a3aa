"""``fairjax data``: the data sets by name, and what a table holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairjax.cli.options import data_options
from fairjax.core.types import DataError


@click.group(name="data")
def data_group() -> None:
    """Data sets by name, and what a table holds."""


@data_group.command(name="list")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the raw files.")
def list_command(data_dir: Path | None) -> None:
    """List the data sets, and say whether their raw files are found."""
    from fairjax.data import REGISTRY
    from fairjax.data.files import find_file

    for name, entry in REGISTRY.items():
        try:
            for file in entry.files:
                find_file(name, file, data_dir)
            state = "ready"
        except DataError:
            state = f"absent: fairjax data prepare {name}"
        click.echo(f"{name:18s} {entry.about} ({entry.terms}) - {state}")


@data_group.command(name="prepare")
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the raw files.")
def prepare_command(name: str, data_dir: Path | None) -> None:
    """Find the raw files of a data set, or download them where there is a network."""
    from fairjax.data import load
    from fairjax.data.registry import entry_of

    for path in entry_of(name, "corrected").obtain(data_dir):
        click.echo(f"  {path}")
    click.echo(load(name, data_dir=data_dir).describe())


@data_group.command(name="describe")
@data_options
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random split."
)
def describe_command(**options: Any) -> None:
    """Describe data as 'fairjax frontier' would read it, with warnings, and train nothing."""
    from fairjax.cli.settings import read_data

    click.echo(read_data(options).describe())
