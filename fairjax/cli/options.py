"""Options that several commands share. Choices and their help come from the registries."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from fairjax import data, methods, models, notions, postprocess, pretrained
from fairjax.cli.lists import SHARES, WIDTHS, WORDS
from fairjax.core.types import REGRESSION_LOSSES
from fairjax.data.raw_table import NA
from fairjax.study import DECISIONS, LEARNING_RATES, StudyConfig
from fairjax.training import SCHEDULES

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
_FORMS = tuple(dict.fromkeys(form for entry in data.REGISTRY.values() for form in entry.forms))
EITHER = click.Path(path_type=Path)
POSITIVE = click.FloatRange(0, min_open=True)


def together(*options: Callable[..., Any]) -> Callable[..., Any]:
    """One decorator for several options, which the help shows in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def key_option(
    *flags: str, keys: Iterable[str], text: str, **attributes: Any
) -> Callable[..., Any]:
    """An option whose values are the keys of a registry; its help lists them behind ``text``."""
    names = tuple(keys)
    help_text = f"{text}: {', '.join(names)}."
    return click.option(
        *flags, type=click.Choice(names), metavar="NAME", help=help_text, **attributes
    )


# how files are read
reading_options: Callable[..., Any] = together(
    click.option(
        "--delimiter", metavar="C", help="Between the cells of a CSV file. Default: found."
    ),
    click.option(
        "--encoding",
        help="Of a CSV file. Default: as its byte order mark says, or UTF-8.",
    ),
    click.option(
        "--header",
        type=WORDS,
        metavar="A,B",
        help="Column names of a CSV file whose first line is a row.",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="The sign before decimals, where cells such as 1,250 leave it open.",
    ),
    click.option(
        "--unpacked",
        type=POSITIVE,
        metavar="GB",
        help="To which a packed file may unpack. Default: one, or 50 times its packed size.",
    ),
    click.option(
        "--na",
        multiple=True,
        metavar="TEXT",
        help="A cell that means missing, beside the usual spellings, in any case: "
        f"{', '.join(text for text in NA if text)}. May be given several times.",
    ),
    click.option(
        "--na-only",
        multiple=True,
        metavar="TEXT",
        help="As --na, but the usual spellings are then values; only an empty cell stays missing.",
    ),
)

formulas_option: Callable[..., Any] = click.option(
    "--formulas",
    is_flag=True,
    help="Write texts that a spreadsheet would compute (=, +, -, @ at the beginning) as they are. "
    "Otherwise an apostrophe stands before them.",
)

images_option: Callable[..., Any] = click.option(
    "--images",
    type=EITHER,
    metavar="PATH",
    help="Folder or zip of the image files that a column of the table names.",
)


def encoder_option(text: str) -> Callable[..., Any]:
    """The option that names a pretrained network."""
    return click.option("--encoder", metavar="NAME|FOLDER", help=f"A pretrained network, {text}")


def _refuse_extra(
    context: click.Context, argument: click.Parameter, values: tuple[str, ...]
) -> None:
    """Say how data are named, and what spaces need."""
    if values:
        raise click.UsageError(
            f"{values[0]} belongs to no option. A file or a data set by name is given by "
            f"--data {shlex.quote(values[0])}; a value with spaces needs quotes.",
            context,
        )


# what the data are, and what their columns are for
data_options: Callable[..., Any] = together(
    click.argument("extra", nargs=-1, metavar="", expose_value=False, callback=_refuse_extra),
    click.option(
        "--data",
        default="synthetic",
        show_default=True,
        help=f"A data set by name ({', '.join(data.REGISTRY)}) or a file: CSV, also packed, "
        "parquet, feather or Excel.",
    ),
    click.option("--data-dir", type=FOLDER, help="Folder of the raw files of data sets by name."),
    click.option(
        "--form",
        default="corrected",
        show_default=True,
        type=click.Choice(_FORMS),
        help="Data sets by name: statistics from training rows only, or as in the paper's code; "
        "some have a form with other tasks and attributes.",
    ),
    click.option(
        "--task",
        "tasks",
        multiple=True,
        metavar="RULE",
        help="What to predict, once per task: a column, 'income > 50000', 'income == >50K', "
        "'race in White, Asian', 'rich: income > 50000', 'job :multiclass', or several columns, "
        "'mood: valence, arousal :regression', 'signs: smiles, cries :multilabel'.",
    ),
    click.option(
        "--regression-loss",
        type=click.Choice(REGRESSION_LOSSES),
        help="Of tasks that are regressions: the squared error (default), or ccc, one minus the "
        "concordance of a batch.",
    ),
    click.option(
        "--sensitive",
        multiple=True,
        metavar="RULE",
        help="Sensitive attribute, once per attribute: a column, a rule such as 'age > 25', or "
        "'age :number' for the number itself.",
    ),
    click.option(
        "--features",
        type=WORDS,
        metavar="A,B",
        help="Only these columns are features. Default: all other columns.",
    ),
    click.option(
        "--drop",
        type=WORDS,
        metavar="A,B",
        help="Columns that are never features (leaks, identifiers).",
    ),
    click.option("--numeric", type=WORDS, metavar="A,B", help="Features that must be numbers."),
    click.option(
        "--categorical",
        type=WORDS,
        metavar="A,B",
        help="Features that are levels even if they look like numbers.",
    ),
    click.option(
        "--text",
        metavar="COLUMN",
        help="A column of tokens with blanks between them, or, with --encoder, of raw texts; it is "
        "then the only feature.",
    ),
    encoder_option(
        f"by name ({', '.join(pretrained.REGISTRY)}), or a folder with a BERT and its "
        "model.safetensors. Its features of --text or --image are numbers of a table, which every "
        "network for tables reads; texts are not split at blanks, and columns that --features "
        "names stand beside them.",
    ),
    click.option(
        "--language",
        metavar="COLUMN",
        help="With --text: every level of this column has its own vocabulary.",
    ),
    click.option(
        "--length",
        type=click.IntRange(1),
        default=40,
        show_default=True,
        help="Tokens of a text that are kept.",
    ),
    click.option(
        "--minimum",
        type=click.IntRange(1),
        default=2,
        show_default=True,
        help="A token that occurs less often in the training rows is unknown.",
    ),
    click.option(
        "--image",
        metavar="COLUMN",
        help="A column of names of image files; the images are then the only feature.",
    ),
    images_option,
    click.option(
        "--image-size",
        type=click.IntRange(1),
        metavar="PIXELS",
        help="With --image: every image is cut to the square at its centre and scaled to this "
        "height and width. Default: as they are; they must then have one size. With --encoder: "
        "224.",
    ),
    click.option(
        "--merge",
        multiple=True,
        metavar="RULE",
        help="Levels that mean one: 'race: Amer-Indian-Eskimo, Other -> other'.",
    ),
    click.option(
        "--levels",
        multiple=True,
        metavar="RULE",
        help="All levels of a column in order: 'education: HS, Bachelors, Masters'; then "
        "'education >= Bachelors' is a rule.",
    ),
    click.option("--use-sensitive", is_flag=True, help="Sensitive columns are features too."),
    click.option("--weight-column", help="Column of row weights."),
    click.option(
        "--split-column",
        help="Column with train, validation, test. Default: a seeded random split.",
    ),
    click.option(
        "--split-by",
        metavar="COLUMN",
        help="Rows with the same cell here (a patient, a household) are in one split.",
    ),
    click.option(
        "--split-at",
        metavar="RULE",
        help="Rows for which this holds train, such as 'year < 2019'; the others are test rows.",
    ),
    click.option(
        "--fractions",
        type=SHARES,
        metavar="A,B,C",
        help="Of training, validation and test rows. Default: 0.6,0.2,0.2.",
    ),
    click.option(
        "--missing",
        default="impute",
        type=click.Choice(["impute", "error"]),
        show_default=True,
        help="Empty cells of numeric features: take the training mean and add a feature that says "
        "where, or refuse.",
    ),
    reading_options,
)

# what shapes a run
study_options: Callable[..., Any] = together(
    click.option(
        "--preset",
        type=click.Choice(["paper", "table"]),
        help="Where settings come from that are not given: the MTA-F paper, or, for tables, what "
        "was measured against boosted trees: an ensemble with cut numbers under AdamW, stopped by "
        "its objective. Default: 'table' for a table of your own with validation rows, else "
        "'paper'. A bound (--constrain) has 'paper'.",
    ),
    key_option("--model", keys=models.REGISTRY, text="Network. Default: network. One of"),
    click.option("--epochs", type=click.IntRange(1), help="Passes over the training rows."),
    click.option("--batch-size", type=click.IntRange(1), help="Rows of a minibatch."),
    click.option(
        "--optimizer",
        type=click.Choice(list(LEARNING_RATES)),
        help="Adagrad on losses summed over the batch, as in the MTA-F code (default), or AdamW.",
    ),
    click.option(
        "--learning-rate",
        type=POSITIVE,
        help="Of the optimizer. Default: "
        f"{', '.join(f'{rate:g} of {name}' for name, rate in LEARNING_RATES.items())}.",
    ),
    click.option("--weight-decay", type=click.FloatRange(0), help="Of AdamW. Default: none."),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        help="Of the learning rate: constant (default), or it falls to 0 at the last of all "
        "epochs, by a half cosine or in equal steps. A run that --patience ends has not come to "
        "the end of it.",
    ),
    click.option(
        "--warm-up",
        type=float,
        metavar="SHARE",
        help="Share of all steps in which the learning rate rises from 0. Default: none.",
    ),
    click.option(
        "--label-smoothing",
        type=float,
        metavar="SHARE",
        help="Share of every label that training spreads over all classes. Default: none.",
    ),
    click.option(
        "--class-balance",
        type=float,
        metavar="POWER",
        help="Training weighs classes by (n / (C n_c))^POWER: 0 not at all (default), 1 alike.",
    ),
    click.option(
        "--stop",
        type=click.Choice(methods.STOPS),
        help="Which epoch's parameters a run delivers: the last one's (default), or those of the "
        "epoch with the least objective (all that is trained, fairness losses too), loss or error "
        "on validation rows. Constraints choose by their tolerance; methods that change their "
        "network while they train deliver the last epoch.",
    ),
    click.option(
        "--patience",
        type=click.IntRange(0),
        help="With --stop: a run ends after so many epochs without a better one. Default: 0, "
        "never.",
    ),
    click.option(
        "--trunk",
        type=WIDTHS,
        metavar="W,W",
        help="Widths of the shared layers; for a text, of its convolutions; for images, of the "
        "stages of a residual network: one entry W stands for W, 2 W, 4 W.",
    ),
    click.option(
        "--head", type=WIDTHS, metavar="W,W", help="Widths of the layers of each task alone."
    ),
    click.option(
        "--embedding",
        type=click.IntRange(1),
        help="Width of the embeddings of categories or words.",
    ),
    click.option(
        "--dropout",
        type=float,
        metavar="RATE",
        help="Share of units that a step of training leaves out, below 1: of every shared layer; "
        "for texts and images, of the last one. Default: none.",
    ),
    key_option(
        "--number-encoding",
        keys=models.NUMBER_ENCODINGS,
        text="Of the numbers of a table. Default: plain. One of",
    ),
    key_option(
        "--notion",
        keys=notions.REGISTRY,
        text="Fairness loss: a distance between the groups' scores, or a difference between the "
        "groups' values of a statistic. One of",
    ),
    click.option(
        "--condition",
        type=click.Choice(list(notions.CONDITIONS)),
        help="On which rows: negatives (fpr), positives (tpr), both (odds), everyone (parity). A "
        "notion with rows of its own ignores this; it then only chooses the gap that is shown.",
    ),
    click.option(
        "--decision",
        type=click.Choice(DECISIONS),
        help="How a binary task decides: at probability one half (default), at the threshold of "
        "least error on validation rows, at the one that selects the training base rate of the "
        "validation rows, or transductive: at the base rate of the very rows that are measured, as "
        "published tables do.",
    ),
    click.option(
        "--smallest-group",
        type=click.IntRange(0),
        help="Rows that a rate of a group needs to be part of a gap. Default: "
        f"{StudyConfig().smallest_group}.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of the split, the draw of hyper-parameters, the initialisations and the batches.",
    ),
    click.option(
        "--devices",
        type=click.IntRange(1),
        help="Virtual devices on a CPU. Default: one per core.",
    ),
)


def postprocess_option(default: str | tuple[str, ...], **attributes: Any) -> Callable[..., Any]:
    """The option that chooses the repair by name."""
    return key_option(
        "--postprocess",
        keys=postprocess.REGISTRY,
        text="With --repair: the post-processor that repairs the scores. One of",
        default=default,
        show_default=True,
        **attributes,
    )
