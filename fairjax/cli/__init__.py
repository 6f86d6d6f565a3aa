"""The command line: ``fairjax frontier | train | predict | repair | report | data``.

Exit codes: 0 done, 2 a complaint about the input (one message), 130 stopped by the user.
"""

from __future__ import annotations

import sys
from typing import Any

try:
    import click
except ImportError:  # pragma: no cover
    sys.exit("fairjax: the command line needs click; install it with: pip install 'fairjax[cli]'")

from fairjax.cli.data import data_group
from fairjax.cli.frontier import frontier_command
from fairjax.cli.predict import predict_command
from fairjax.cli.repair import repair_command
from fairjax.cli.report import report_command
from fairjax.cli.settings import keep_programs
from fairjax.cli.train import train_command
from fairjax.core.types import DataError


class Commands(click.Group):
    """Turns complaints into one message and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (DataError, ImportError) as complaint:
            click.echo(f"Error: {complaint}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            ctx.exit(130)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fairjax")
@click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep compiled programs in the user's cache, so that a like command need not compile "
    "them again. $JAX_COMPILATION_CACHE_DIR names another folder.",
)
def main(cache: bool) -> None:
    """Fair multi-task learning: the whole fairness-accuracy frontier of a table.

    \b
    fairjax frontier                                   a first picture, on made-up data
    fairjax frontier --data adult                      a known data set
    fairjax frontier --data my.csv --task "income > 50000" --task defaulted --sensitive sex
    """
    if cache:
        keep_programs()


main.add_command(frontier_command)
main.add_command(train_command)
main.add_command(predict_command)
main.add_command(repair_command)
main.add_command(report_command)
main.add_command(data_group)
