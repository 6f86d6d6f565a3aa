"""The command line: ``fairjax frontier | train | predict | repair | report | data``.

Exit codes: 0 done, 2 a complaint about what was given (one message, no traceback), 130 stopped by the user.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
import warnings
from pathlib import Path

try:
    import click
except ImportError:  # pragma: no cover
    sys.exit("fairjax: the command line needs click; install it with: pip install 'fairjax[cli]'")

from fairjax.core.types import DataError

PLAIN = ("single_task", "vanilla", "baseline", "mta_f")
# a link sees one row per task, with _split one for its accuracy and one for its fairness
LINKS = (
    "aligned_mtl",
    "cagrad",
    "conflict_free",
    "dualproj",
    "dwa",
    "famo",
    "graddrop",
    "gradnorm",
    "gradvac",
    "imtl_g",
    "imtl_l",
    "mgda",
    "mgda_ub",
    "nash_mtl",
    "pcgrad",
    "random_weighting",
    "uncertainty",
    "upgrad",
)
METHODS = (
    *PLAIN,
    "differential",
    *sorted(("fairness_surgery", *LINKS, *(f"{name}_split" for name in LINKS))),
)


class Commands(click.Group):
    """Turns complaints into one message and exit code 2."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except (DataError, ImportError) as complaint:
            click.echo(f"Error: {complaint}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nStopped. Finished chunks are kept; go on with --resume.", err=True)
            ctx.exit(130)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fairjax")
def main() -> None:
    """Fair multi-task learning: the whole fairness-accuracy frontier of a table.

    \b
    fairjax frontier                                   a first picture, on made-up data
    fairjax frontier --data adult                      a known data set
    fairjax frontier --data my.csv --task "income > 50000" --task defaulted --sensitive sex
    """


def _several(text: str | None, kind=str) -> tuple | None:
    return (
        None
        if text is None
        else tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    )


def data_options(command):
    """Options that say what the data are and what its columns are for."""
    options = [
        click.option(
            "--data",
            default="synthetic",
            show_default=True,
            help="A named data set (see 'fairjax data list') or a CSV file, .gz too.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            help="Where raw files of named data sets lie.",
        ),
        click.option(
            "--form",
            default="corrected",
            show_default=True,
            type=click.Choice(["corrected", "paper"]),
            help="Named data sets: statistics from training rows only, or exactly as the paper's code.",
        ),
        click.option(
            "--task",
            "tasks",
            multiple=True,
            metavar="RULE",
            help="What to predict, once per task: a column, 'income > 50000', 'income == >50K', "
            "'rich: income > 50000', 'job :multiclass'.",
        ),
        click.option(
            "--sensitive",
            multiple=True,
            metavar="RULE",
            help="Sensitive attribute, once per attribute: a column, a rule such as 'age > 25', or 'age :number' "
            "for the number itself.",
        ),
        click.option(
            "--features",
            metavar="A,B",
            help="Only these columns are features. Default: all that are left.",
        ),
        click.option(
            "--drop", metavar="A,B", help="Columns that are never features (leaks, identifiers)."
        ),
        click.option("--numeric", metavar="A,B", help="Features that must be numbers."),
        click.option(
            "--categorical",
            metavar="A,B",
            help="Features that are levels even if they look like numbers.",
        ),
        click.option(
            "--text",
            metavar="COLUMN",
            help="A column of tokens with blanks between them; the only feature then.",
        ),
        click.option(
            "--language",
            metavar="COLUMN",
            help="With --text: every one of its levels has a vocabulary of its own.",
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
            help="A token that training rows hold less often is unknown.",
        ),
        click.option("--use-sensitive", is_flag=True, help="Sensitive columns are features too."),
        click.option("--weight-column", help="Column of row weights."),
        click.option(
            "--split-column",
            help="Column with train, validation, test. Default: a seeded 60/20/20 split.",
        ),
        click.option(
            "--missing",
            default="error",
            type=click.Choice(["error", "impute"]),
            show_default=True,
            help="Empty or non-finite numeric features: refuse, or take the training mean.",
        ),
        click.option("--delimiter", default=",", show_default=True, help="Of the CSV file."),
        click.option("--encoding", default="utf-8", show_default=True, help="Of the CSV file."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def plan_options(command):
    """Options that shape a run."""
    options = [
        click.option("--epochs", type=click.IntRange(1), help="Passes over the training rows."),
        click.option("--batch-size", type=click.IntRange(1)),
        click.option(
            "--learning-rate", type=click.FloatRange(0, min_open=True), help="Of Adagrad."
        ),
        click.option(
            "--trunk",
            metavar="W,W",
            help="Widths of the shared layers; of a text, of its convolutions.",
        ),
        click.option("--head", metavar="W,W", help="Widths of each task's own layers."),
        click.option(
            "--embedding",
            type=click.IntRange(1),
            help="Width of the embeddings of categories or words.",
        ),
        click.option(
            "--notion",
            type=click.Choice(
                ["rate_gap", "correlation", "mmd", "laplacian_mmd", "wasserstein", "barycenter"]
            ),
            help="Fairness loss: distance between the groups' scores.",
        ),
        click.option(
            "--condition",
            type=click.Choice(["fpr", "tpr", "odds", "parity"]),
            help="On which rows: negatives (fpr), positives (tpr), both (odds), everyone (parity).",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Of the split, the draw of hparams, initialisations and batches.",
        ),
        click.option(
            "--devices",
            type=click.IntRange(1),
            help="Virtual devices on a CPU. Default: one per core.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@data_options
@click.option(
    "--methods",
    default=",".join(PLAIN),
    show_default=True,
    metavar="M,M",
    help="Methods to compare: those of the default, fairness_surgery, or any gradient link - "
    f"{', '.join(LINKS)} - which sees one row per task, or, with _split at its name, accuracy and fairness "
    "as rows of their own. 'links' stands for all links. Single-task runs are always made: they are "
    "what ARE and ARFG divide by.",
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Points (draws of hparams) per method.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Seeds per point."
)
@plan_options
@click.option(
    "--lam-max",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Fairness weights are drawn from [0, this].",
)
@click.option(
    "--r",
    "ratio",
    metavar="R,R",
    help="MTA-F's head-to-shared ratio per task. Default: drawn per run.",
)
@click.option(
    "--repair",
    metavar="A,A",
    help="Evaluate every run once more with its scores repaired after training by these "
    "amounts, 0 (as they are) to 1 (the same distribution in every group); rows METHOD+repair.",
)
@click.option(
    "--sequence", type=click.Choice(["uniform", "sobol"]), default="uniform", show_default=True
)
@click.option(
    "--keep",
    type=click.Choice(["metrics", "scores", "params"]),
    default="metrics",
    show_default=True,
    help="What each run leaves behind, in the chunk files under OUT/sweeps.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for everything. Default: fairjax-runs/NAME, numbered when taken.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the sweep in OUT (or in the newest default folder)."
)
def frontier(**options) -> None:
    """Train every method over draws of its hparams and draw the frontier: PNG, HTML, CSV, JSON."""
    prepared = prepare(options)
    plan = make_plan(
        options,
        prepared.name,
        runs=options["runs"],
        seeds=options["seeds"],
        lam_max=options["lam_max"],
        methods=_methods(options["methods"]),
        r=_several(options["ratio"], float),
        sequence=options["sequence"],
        repair=_amounts(options["repair"]),
    )
    out = choose_out(options["out"], prepared.name, options["resume"])
    use_devices(options["devices"], out)
    from fairjax.study import study

    keep = () if options["keep"] == "metrics" else (options["keep"],)
    click.echo(prepared.describe(), err=True)
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        table, info = study(
            plan, prepared.spec, prepared.splits, out=out, keep=keep, progress=progress
        )
    from fairjax.core.disk import write_json

    info |= {
        "title": prepared.name,
        "source": prepared.source,
        "command": f"fairjax train --like {out} --run {{run}}",
    }
    shown = knee_shown(out, prepared, plan, table, info)
    write_json(out / "study.json", info)
    finish(out, table, info, *shown)


def knee_shown(out: Path, prepared, plan, table: dict, info: dict):
    """The group table of the run at the frontier's knee, and its repair where the plan has one (kept as ``audit.npz``).

    From scores that were kept, or by training the run again. ``info["groups"]`` and ``info["repair"]`` then say which run
    that is. None, and nothing there, where no run is on a frontier.
    """
    from fairjax.postprocess import audit_model, save_audit
    from fairjax.report import knee_run
    from fairjax.study.saved import MINIMUM, groups_of, kept_scores, repaired_scores, train_one

    run = knee_run(table, info)
    if run is None:
        return None, None
    method, hparams, seed, amount = point_in(plan, prepared.spec, table, run)
    click.echo(
        f"groups of run {run} ({table['method'][run]}), at the knee of the frontier", err=True
    )
    member = int((table["method"][:run] == table["method"][run]).sum()) // (
        1 if amount is None else len(plan.repair)
    )
    scores = (
        kept_scores(out / "sweeps" / method, member)
        or train_one(prepared, plan, method, hparams, seed)[1]
    )
    groups = groups_of(
        prepared, plan, scores if amount is None else repaired_scores(prepared, scores, amount)
    )
    about = {"run": run, "method": str(table["method"][run])}
    info["groups"] = about | {"minimum": MINIMUM, "left_out": groups.left_out}
    if not plan.repair:
        return groups, None
    audit = audit_model(prepared, scores, max(plan.repair) if amount is None else amount)
    info["repair"] = about
    save_audit(out / "audit.npz", audit)
    return groups, audit


def finish(out: Path, table: dict, info: dict, groups=None, audit=None) -> None:
    """Write the report and say where it is and what it shows."""
    from fairjax import report

    paths = report.write(out, table, info, groups, audit)
    lost = int(table["diverged"].sum())
    click.echo(f"{len(table['run'])} runs" + (f", {lost} diverged" if lost else ""))
    for path in paths:
        click.echo(f"  {path}")


@main.command(name="report")
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
def draw_report(out: Path) -> None:
    """Draw the report of a finished sweep again, from its tables."""
    from fairjax.core.tables import read_csv
    from fairjax.metrics import GroupTable
    from fairjax.postprocess import load_audit

    if not (out / "table.csv").exists():
        raise DataError(
            f"{out}: no table.csv here. Finish the sweep first: fairjax frontier --out {out} --resume"
        )
    info, groups = json.loads((out / "study.json").read_text()), None
    if "groups" in info and (out / "groups.csv").exists():
        groups = GroupTable(read_csv(out / "groups.csv"), info["groups"]["left_out"])
    audit = (
        load_audit(out / "audit.npz") if "repair" in info and (out / "audit.npz").exists() else None
    )
    finish(out, read_csv(out / "table.csv"), info, groups, audit)


@main.command()
@data_options
@click.option(
    "--like",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a sweep to take a run from.",
)
@click.option(
    "--run", "run_index", type=click.IntRange(0), help="With --like: the run's number in table.csv."
)
@click.option(
    "--method",
    type=click.Choice(METHODS[1:]),
    default="mta_f",
    show_default=True,
    metavar="METHOD",
    help="As in 'fairjax frontier --methods'.",
)
@click.option("--weight", metavar="W,W", help="Task weights. Default: equal.")
@click.option("--lam", metavar="L,L", help="Fairness weights per task. Default: 1.")
@click.option(
    "--r", "ratio", metavar="R,R", help="MTA-F's head-to-shared ratio per task. Default: 1."
)
@click.option(
    "--repair",
    type=click.FloatRange(0, 1),
    help="Repair the scores after training by this amount; its pool are the validation rows.",
)
@plan_options
@click.option("--member-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fairjax-model"),
    show_default=True,
    help="Folder for model.json, params.npz, predictions.csv and groups.csv.",
)
@click.option(
    "--conflicts",
    is_flag=True,
    help="Train once more and draw how much the method's rows of gradients were in "
    "each other's way: conflicts.png.",
)
def train(**options) -> None:
    """Train one point and keep its parameters and predictions."""
    if (options["out"] / "model.json").exists():
        raise DataError(
            f"{options['out']}: holds a trained model already. Choose another folder with --out."
        )
    if options["like"]:
        prepared, plan, method, hparams, seed, amount = point_of(
            options["like"], options["run_index"]
        )
    else:
        prepared = prepare(options)
        plan, method, seed = (
            make_plan(options, prepared.name),
            options["method"],
            options["member_seed"],
        )
        amount = options["repair"]
        hparams = given_knobs(plan, prepared.spec, method, options)
    from fairjax.core.tables import write_csv
    from fairjax.study.saved import columns, conflicts_of, groups_of, save, train_one

    seen = conflicts_of(prepared, plan, method, hparams, seed) if options["conflicts"] else None
    saved, scores = train_one(prepared, plan, method, hparams, seed, amount)
    save(options["out"], saved)
    write_columns(
        options["out"] / "predictions.csv", columns(prepared.spec, scores["test"], saved.thresholds)
    )
    table = groups_of(prepared, plan, scores)
    write_csv(options["out"] / "groups.csv", table.columns)
    for name, value in saved.metrics.items():
        if name.startswith(("test.error[", "test.auc[", "test.correlation")) or (
            name.startswith("test.") and "_difference[" in name
        ):
            click.echo(f"{name:60s} {value:.4f}")
    click.echo(
        f"  {options['out'] / 'model.json'}\n  {options['out'] / 'params.npz'}\n"
        f"  {options['out'] / 'predictions.csv'} (test rows)\n"
        f"  {options['out'] / 'groups.csv'} (every statistic in every group, with 95 % intervals)"
    )
    for group, count in table.left_out.items():
        click.echo(f"{group} is left out of groups.csv: {count:g} test rows")
    if seen:
        from fairjax.report import write_conflicts

        click.echo(
            f"  {write_conflicts(options['out'] / 'conflicts.png', *seen, epochs=plan.epochs)}"
        )


@main.command()
@click.argument("model", type=click.Path(path_type=Path, file_okay=False))
@click.argument("rows", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("predictions.csv"),
    show_default=True,
)
def predict(model: Path, rows: Path, out: Path) -> None:
    """Score new ROWS (a CSV with the features' columns) with a trained MODEL folder."""
    from fairjax.study.saved import load_saved

    predictions = load_saved(model).predict(rows)
    write_columns(out, predictions)
    click.echo(f"{len(next(iter(predictions.values())))} rows\n  {out}")


@main.command()
@click.argument("scores", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--score", "names", multiple=True, metavar="COLUMN", help="Column of scores, once per task."
)
@click.option(
    "--sensitive",
    multiple=True,
    metavar="COLUMN",
    help="Column of groups, once per attribute; several are crossed. An empty cell is an unknown group.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of other rows with these columns, which the model was not trained on. Without it, rows are "
    "repaired fold by fold, each by the others.",
)
@click.option(
    "--training",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of the rows that the model was trained on: warns of those that the repair is fitted on.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of an earlier repair, in place of --calibration.",
)
@click.option(
    "--folds", type=click.IntRange(2), default=5, show_default=True, help="Without --calibration."
)
@click.option(
    "--amount",
    "amounts",
    multiple=True,
    type=click.FloatRange(0, 1),
    help="How far scores go, from 0 to 1; once, or once per attribute. Default: 1.",
)
@click.option(
    "--scale",
    type=click.Choice(["identity", "logit", "log"]),
    help="On which scores are averaged: as they are (default), log-odds of probabilities, logarithms.",
)
@click.option(
    "--share",
    type=click.Choice(["frequency", "uniform"]),
    help="Weight of a group in what all become: its frequency (default; scores change least), or the same for all.",
)
@click.option(
    "--small",
    type=click.Choice(["raise", "pool", "shrink"]),
    help="Groups of less than --minimum rows: refuse (default), rank among all rows, lean on all rows. The first "
    "also refuses groups that the calibration rows do not have.",
)
@click.option("--minimum", type=click.IntRange(1), help="Rows. Default: 2 to refuse, else 100.")
@click.option(
    "--outside",
    type=click.Choice(["clamp", "shift"]),
    help="Scores beyond those of the calibration rows stay at their end (default), or keep their distance.",
)
@click.option(
    "--weight-column", help="Column of row weights, of the calibration rows and of the report."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="COLUMN",
    help="Column of labels, one per --score: only to report the risk.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Take equal scores apart at random. Default: they stay together.",
)
@click.option("--delimiter", default=",", show_default=True, help="Of the CSV files.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of the CSV files.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fairjax-repair"),
    show_default=True,
    help="Folder for repaired.csv, the state (repair.json, repair.npz) and the report.",
)
def repair(scores: Path, **options) -> None:
    """Repair the SCORES of any model (a CSV file), so that they do not tell the group of a row.

    \b
    fairjax repair new.csv --score pd --score income --sensitive sex --sensitive race --calibration old.csv
    fairjax repair newer.csv --state fairjax-repair --out newer
    """
    from fairjax.data.read import read_csv
    from fairjax.postprocess.summary import repair_summary
    from fairjax.postprocess.tables import repair_table, warn_of_training_rows, write_repaired
    from fairjax.report.repair import write_repair

    out = options["out"]
    is_new = options["state"] is None
    if is_new and (out / "repair.json").exists():
        raise DataError(
            f"{out}: holds a repair already. Use it with --state, or choose another folder with --out."
        )
    form = {"delimiter": options["delimiter"], "encoding": options["encoding"]}
    table = read_csv(scores, **form)
    fitted = repair_of(options)
    pool = read_csv(options["calibration"], **form) if options["calibration"] else None
    if is_new and pool is None:
        click.echo(
            f"Warning: no --calibration, so that {len(table):,} rows are repaired in {options['folds']} folds, each by "
            "the others. The state is of all of them.",
            err=True,
        )
    with spoken_warnings():
        repaired = repair_table(
            table,
            fitted,
            options["names"],
            options["sensitive"],
            pool=pool,
            weight=options["weight_column"],
            labels=options["labels"],
            folds=options["folds"],
            seed=options["seed"],
        )
        if options["training"]:
            training = read_csv(options["training"], **form)
            fitted_rows = table if pool is None else pool
            warn_of_training_rows(fitted_rows, training, options["names"], options["sensitive"])
    paths = [write_repaired(out / "repaired.csv", table, repaired.columns, **form)]
    if is_new:
        fitted.save(out)
        paths += [out / "repair.json", out / "repair.npz"]
    click.echo(repair_summary(fitted, repaired.audit))
    command = shlex.join(["fairjax", *sys.argv[1:]])
    paths += write_repair(out, repaired.audit, title=scores.name, command=command)
    for path in paths:
        click.echo(f"  {path}")


@main.group()
def data() -> None:
    """Named data sets."""


@data.command(name="list")
@click.option("--data-dir", type=click.Path(path_type=Path))
def list_data(data_dir: Path | None) -> None:
    """What there is, and whether its raw files are found."""
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


@data.command(name="prepare")
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path))
def prepare_data(name: str, data_dir: Path | None) -> None:
    """Find the raw files of a data set, or fetch them into the cache where there is a network."""
    from fairjax.data import load
    from fairjax.data.registry import entry_of

    for path in entry_of(name, "corrected").obtain(data_dir):
        click.echo(f"  {path}")
    click.echo(load(name, data_dir=data_dir).describe())


# ------------------------------------------------------------------------------------------ from options to values


def prepare(options: dict):
    """The data the options speak of."""
    from fairjax.data import REGISTRY, Roles, from_table, load

    name = options["data"]
    if name in REGISTRY:
        given = [
            f"--{option}"
            for option in ("task", "features", "drop", "numeric", "categorical", "text", "language")
            if options["tasks" if option == "task" else option]
        ]
        if given:
            raise DataError(
                f"{name} has roles of its own; leave out {', '.join(given)}, or give a CSV file with --data."
            )
        return load(
            name,
            data_dir=options["data_dir"],
            form=options["form"],
            seed=options["seed"],
            sensitive=options["sensitive"] or None,
        )
    if not (options["tasks"] and options["sensitive"]):
        if not Path(name).exists():
            raise DataError(
                f"{name}: neither a file nor one of the named data sets ({', '.join(REGISTRY)})."
            )
        raise DataError(
            f"{name}: say what to predict and for whom it should be fair, for example "
            f"--task COLUMN --sensitive COLUMN; both may be given several times."
        )
    listed = {key: _several(options[key]) or () for key in ("drop", "numeric", "categorical")}
    roles = Roles(
        tasks=options["tasks"],
        sensitive=options["sensitive"],
        features=_several(options["features"]),
        weight=options["weight_column"],
        split=options["split_column"],
        missing=options["missing"],
        use_sensitive=options["use_sensitive"],
        delimiter=options["delimiter"],
        encoding=options["encoding"],
        **{key: options[key] for key in ("text", "language", "length", "minimum")},
        **listed,
    )
    return from_table(name, roles, seed=options["seed"])


def make_plan(options: dict, name: str, **more):
    """A plan from the options; what is not given comes from the data set's published settings, or the defaults."""
    from fairjax.study import PAPER, StudyConfig

    given = {
        key: options[key]
        for key in ("epochs", "batch_size", "learning_rate", "embedding", "notion", "condition")
    }
    given |= {key: _several(options[key], int) for key in ("trunk", "head")}
    chosen = {key: value for key, value in given.items() if value is not None}
    return StudyConfig(**{**PAPER.get(name, {}), **chosen, **more, "seed": options["seed"]})


def _methods(text: str) -> tuple[str, ...]:
    methods = tuple(
        dict.fromkeys(
            name for given in _several(text) for name in (LINKS if given == "links" else (given,))
        )
    )
    for name in methods:
        if name not in METHODS:
            raise DataError(f"--methods: {name!r} is not one of {', '.join(METHODS)}.")
    return methods


def _amounts(text: str | None) -> tuple[float, ...]:
    try:
        amounts = _several(text, float) or ()
    except ValueError as error:
        raise DataError(f"--repair: {text!r} is not a list of numbers such as 0.5,1.") from error
    if not all(0 <= amount <= 1 for amount in amounts):
        raise DataError(
            f"--repair: {text!r} must be amounts from 0 (scores as they are) to 1 (the same in every group)."
        )
    return amounts


def given_knobs(plan, spec, method: str, options: dict) -> dict:
    """Knobs of one point: the recipe's defaults with what was given."""
    import numpy as np

    from fairjax.study import recipe

    hparams = {name: np.float32(r.default) for name, r in recipe(plan, spec, method).space.items()}
    for name, option in (("weight", "weight"), ("lam", "lam"), ("r", "ratio")):
        values = _several(options[option], float)
        if values is None:
            continue
        if name not in hparams or len(values) not in (1, len(spec.tasks)):
            raise DataError(
                f"--{'r' if option == 'ratio' else option}: {method} takes "
                f"{len(spec.tasks)} numbers for it, one per task"
                if name in hparams
                else f"--{'r' if option == 'ratio' else option}: {method} has no such hparam"
            )
        hparams[name] = np.broadcast_to(np.float32(values), len(spec.tasks))
    return hparams


def repair_of(options: dict):
    """A repair as the options say, or that of an earlier run."""
    from fairjax.postprocess import Repair

    if options["state"] is None:
        if not (options["names"] and options["sensitive"]):
            raise DataError(
                "say which columns hold the scores and which the groups: --score COLUMN --sensitive COLUMN; both "
                "may be given several times."
            )
        fitted = Repair()
    else:
        fitted = Repair.load(options["state"])
        only_new = ("calibration", "training", "scale", "share", "small", "minimum")
        given = [f"--{name}" for name in only_new if options[name] is not None]
        if given:
            raise DataError(
                f"{options['state']}: was fitted already; leave out {', '.join(given)}, or leave out --state."
            )
    names = ("scale", "share", "small", "minimum", "outside")
    params = {name: options[name] for name in names if options[name] is not None}
    amounts = options["amounts"]
    if amounts:
        params["amount"] = amounts[0] if len(amounts) == 1 else list(amounts)
    return fitted.set_params(**params)


class spoken_warnings:  # noqa: N801 - used as a function
    """Warnings as messages, each once, whatever happens to them elsewhere."""

    def __enter__(self):
        self.held = warnings.catch_warnings(record=True)
        self.heard = self.held.__enter__()
        warnings.simplefilter("always", UserWarning)

    def __exit__(self, *what) -> None:
        self.held.__exit__(*what)
        for message in dict.fromkeys(str(w.message) for w in self.heard):
            click.echo(f"Warning: {message}.", err=True)


def point_of(folder: Path, run: int | None):
    """Data, plan, method, hparams, seed and amount of repair of a run of a finished sweep."""
    from fairjax.core.tables import read_csv
    from fairjax.data import reload
    from fairjax.study import StudyConfig

    if not (folder / "study.json").exists() or not (folder / "table.csv").exists():
        raise DataError(
            f"{folder}: no finished sweep here (study.json and table.csv). Make one with 'fairjax frontier'."
        )
    info, table = json.loads((folder / "study.json").read_text()), read_csv(folder / "table.csv")
    if run is None or run >= len(table["run"]):
        raise DataError(
            f"--run: give a number from 0 to {len(table['run']) - 1}, a row of {folder / 'table.csv'}."
        )
    if str(table["method"][run]).startswith("single_task"):
        raise DataError(
            f"--run {run} is a single-task reference, one network per task. Choose a run of another method."
        )
    plan, prepared = StudyConfig(**info["plan"]), reload(info["source"])
    return prepared, plan, *point_in(plan, prepared.spec, table, run)


def point_in(plan, spec, table: dict, run: int):
    """Method, hparams and seed of a run of a table, and the amount of its repair, None without."""
    import numpy as np

    from fairjax.study import origin, points

    method, point, amount = origin(plan, str(table["method"][run]), int(table["point"][run]))
    _, hparams, _ = points(plan, spec, method)
    return (
        method,
        {name: np.asarray(v)[point] for name, v in hparams.items()},
        int(table["seed"][run]),
        amount,
    )


def choose_out(out: Path | None, name: str, resume: bool) -> Path:
    """The folder of a sweep; refuses one that is taken unless it is to be resumed."""
    if out is None:
        base = Path("fairjax-runs")
        folders = [base / (name if i == 1 else f"{name}-{i}") for i in range(1, 10_000)]
        free = next(i for i, folder in enumerate(folders) if not folder.exists())
        return folders[max(free - 1, 0)] if resume else folders[free]
    if (out / "sweeps").exists() and not resume:
        raise DataError(
            f"{out}: holds a sweep already. Go on with --resume, or choose another folder with --out."
        )
    return out


def use_devices(count: int | None, out: Path) -> None:
    """One virtual CPU device per core, or as many as the sweep to be resumed had; must come before JAX's first use."""
    import jax

    for manifest in sorted(out.glob("sweeps/*/manifest.json")):
        count = json.loads(manifest.read_text())["devices"]
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count or cores)


class progress_bar:  # noqa: N801 - used as a function
    """A progress bar with rate and time left, one per method."""

    def __enter__(self):
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError(
                "the progress bar needs tqdm; install it with: pip install 'fairjax[cli]'"
            ) from error
        self.make, self.bar, self.method = tqdm, None, None
        return self.advance

    def advance(self, method: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` runs of a method are finished."""
        if method != self.method:
            self.close()
            self.method, self.bar = method, self.make(total=total, desc=method, unit="run")
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Leave the current bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def __exit__(self, *_) -> None:
        self.close()


def write_columns(file: Path, columns: dict) -> None:
    """Columns as CSV, whole or not at all."""
    from fairjax.core.disk import write

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *columns])
    writer.writerows(
        zip(
            range(len(next(iter(columns.values())))),
            *(c.tolist() for c in columns.values()),
            strict=True,
        )
    )
    write(file, text.getvalue().encode())


if __name__ == "__main__":
    main()
