"""``fairjax train``: train one point and keep the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fairjax import methods
from fairjax.cli.lists import NUMBERS
from fairjax.cli.options import (
    FOLDER,
    POSITIVE,
    data_options,
    formulas_option,
    key_option,
    postprocess_option,
    study_options,
    together,
)
from fairjax.cli.settings import chosen_preset, read_data, study_settings
from fairjax.core.disk import whole_folder
from fairjax.core.keys import Key, Metric
from fairjax.core.tables import table_file, write_csv
from fairjax.core.types import DataError
from fairjax.data import Prepared
from fairjax.metrics import GroupTable
from fairjax.study import (
    ConstrainedModel,
    Point,
    Results,
    SavedModel,
    Study,
    all_predictions,
    conflicts_of,
    constrained_study,
    different_metrics,
    from_names,
    groups_of,
    load_results,
    model_of_run,
    named_study,
    parse_constraint,
    point_hparams,
    point_of,
    train_constrained,
    train_one,
    write_predictions,
)

UNBOUNDED = ("like", "lam", "r", "tau", "notion")  # options that a constraint replaces

point_options: Callable[..., Any] = together(
    click.option("--like", type=FOLDER, help="Folder of a sweep to take a run from."),
    click.option(
        "--run",
        "run_index",
        type=click.IntRange(0),
        help="With --like: the run's number in the table of runs.",
    ),
    key_option(
        "--method",
        keys=methods.REGISTRY,
        default="mta_f",
        show_default=True,
        text="As in 'fairjax frontier --methods'. One of",
    ),
    click.option("--weight", type=NUMBERS, metavar="W,W", help="Task weights. Default: equal."),
    click.option(
        "--lam", type=NUMBERS, metavar="L,L", help="Fairness weights per task. Default: 1."
    ),
    click.option(
        "--r",
        type=NUMBERS,
        metavar="R,R",
        help="MTA-F's head-to-shared ratio per task. Default: 1.",
    ),
    click.option(
        "--constrain",
        "constraint",
        metavar="TEXT",
        help="Ask for a gap of at most a number in place of fairness weights: 'equal_opportunity "
        "<= 0.05', a notion as of --notion and a bound. Trains the method constrained, and vanilla "
        "beside it to say what the bound costs.",
    ),
    click.option(
        "--cap",
        type=POSITIVE,
        help="Of the multiplier of --constrain, or of --method constrained. Default: 5.",
    ),
    click.option(
        "--tau",
        type=click.FloatRange(0, 1, min_open=True),
        help="FairBranch: least likeness of tasks that stay together. Default: 0.7.",
    ),
    click.option(
        "--repair",
        "amount",
        type=click.FloatRange(0, 1),
        help="Repair the scores after training by this amount; its pool are the validation rows.",
    ),
    postprocess_option("barycenter"),
)


@click.command(name="train")
@data_options
@point_options
@study_options
@formulas_option
@click.option(
    "--member-seed", type=click.IntRange(0), default=0, show_default=True, help="Of the run."
)
@click.option(
    "--out",
    type=FOLDER,
    default=Path("fairjax-model"),
    show_default=True,
    help="Folder for model.json, params.npz, predictions.csv and groups.csv.",
)
@click.option(
    "--conflicts",
    is_flag=True,
    help="Train once more and draw how much the method's rows of gradients were in each other's "
    "way: conflicts.png.",
)
def train_command(**options: Any) -> None:
    """Train one point and keep its parameters and predictions."""
    out = options["out"]
    if (out / "model.json").exists():
        raise DataError(f"{out}: holds a trained model already. Choose another folder with --out.")
    differences = []
    constrained = None
    if options["constraint"] is not None:
        data, study, constrained = _constrained_of_options(options)
        model, scores = constrained.model, constrained.scores
        point = Point(model.method, model.hparams, options["member_seed"], None)
    elif options["like"]:
        data, results = load_results(options["like"])
        run = _run_of_options(options, results)
        _print_warnings(data)
        study = results.study
        point = point_of(results, run)
        model, scores = model_of_run(data, results, run)
        differences = different_metrics(model, results, run)
    else:
        data, study, point = _point_of_options(options)
        _print_warnings(data)
        model, scores = train_one(data, study, point)
    conflicts = conflicts_of(data, study, point) if options["conflicts"] else None
    columns = all_predictions(data, scores, model.thresholds)
    groups = groups_of(data, study, model, scores)
    with whole_folder(out, "model.json") as folder:
        model.save(folder)
        write_predictions(folder / "predictions.csv", columns, data.spec, options["formulas"])
        write_csv(folder / "groups.csv", groups.columns, formulas=options["formulas"])
        if conflicts is not None:
            from fairjax.report import write_conflicts

            epochs = study.config.epochs
            write_conflicts(folder / "conflicts.png", *conflicts, epochs=epochs)
    if constrained is not None:
        click.echo(f"{constrained}\n")
    _print_results(out, model, groups)
    if options["like"]:
        _print_differences(model, differences, results, options["like"], run)
    if conflicts is not None:
        click.echo(f"  {out / 'conflicts.png'}")


def _print_warnings(data: Prepared) -> None:
    for warning in data.warnings:
        click.echo(f"Warning: {warning}", err=True)


def _run_of_options(options: dict[str, Any], results: Results) -> int:
    run = options["run_index"]
    if run is None:
        raise DataError(
            f"--run: give a number from 0 to {results.table.rows - 1}, a row of the table."
        )
    return run


def _point_of_options(options: dict[str, Any]) -> tuple[Prepared, Study, Point]:
    data = read_data(options)
    options["preset"] = chosen_preset(options, data)
    method = options["method"]
    amount = options["amount"]
    name = options["postprocess"]
    names = named_study(
        **study_settings(options, data),
        methods=(method,),
        repairs=(name,),
        amounts=() if amount is None else (amount,),
    )
    study = from_names(data, names)
    values = {
        key: options[key]
        for key in ("weight", "lam", "r", "tau", "cap")
        if options[key] is not None
    }
    hparams = point_hparams(study.recipes[method], data.spec, values)
    repair = None if amount is None else (name, amount)
    return data, study, Point(method, hparams, options["member_seed"], repair)


def _constrained_of_options(options: dict[str, Any]) -> tuple[Prepared, Study, ConstrainedModel]:
    """The model under a constraint, once all options and data agree with it."""
    text = options["constraint"]
    constraint = parse_constraint(text)
    superfluous = [f"--{name}" for name in UNBOUNDED if options[name] is not None]
    source = click.get_current_context().get_parameter_source("method")
    if source is not ParameterSource.DEFAULT and options["method"] != "constrained":
        superfluous.append(f"--method {options['method']}")
    if superfluous:
        raise DataError(
            f"--constrain {text!r}: a bound takes the place of {', '.join(superfluous)}. Leave out "
            f"{len(superfluous)} options, or --constrain."
        )
    data = read_data(options)
    amount = options["amount"]
    name = options["postprocess"]
    settings = study_settings(options, data) | {
        "repairs": (name,),
        "amounts": () if amount is None else (amount,),
    }
    settings.pop("notion", None)  # the published one of a data set
    study = constrained_study(data, constraint, **settings)
    _print_warnings(data)
    constrained = train_constrained(
        data,
        study,
        constraint,
        cap=options["cap"],
        weight=options["weight"],
        member_seed=options["member_seed"],
        repair=None if amount is None else (name, amount),
    )
    return data, study, constrained


def _print_results(out: Path, model: SavedModel, groups: GroupTable) -> None:
    for key, value in model.metrics.items():
        if _is_printed(key):
            click.echo(f"{key!s:60s} {value:.4f}")
    click.echo(model.describe())
    click.echo(f"  {out / 'model.json'}")
    click.echo(f"  {out / 'params.npz'}")
    click.echo(f"  {out / 'predictions.csv'} (rows of all splits)")
    click.echo(f"  {out / 'groups.csv'} (every statistic in every group, with 95 % intervals)")
    for group, count in groups.left_out.items():
        click.echo(f"{group} is left out of groups.csv: {count:g} test rows")


def _print_differences(
    model: SavedModel, differences: list[Metric], results: Results, folder: Path, run: int
) -> None:
    """Say whether the model's metrics are those of its run in the table."""
    count = len(model.metrics)
    table = folder / table_file(results.table.rows)
    if not differences:
        click.echo(f"All {count} metrics are those of run {run} in {table}.")
        return
    key = differences[0]
    reason = (
        "The run was trained again, here or on another machine, and rounding differs. A sweep with "
        "--keep params delivers the model that it evaluated."
    )
    if results.study.config.decision == "transductive":
        reason = (
            "The table decides transductively, which no model can do for one new row: this model "
            "decides at the base rate of the validation rows."
        )
    click.echo(
        f"{len(differences)} of {count} metrics are not those of run {run} in {table}, such as "
        f"{key!s}: {model.metrics[key]:.4f} here. {reason}"
    )


def _is_printed(key: Key) -> bool:
    """Errors, AUC, correlations and differences between groups of the test rows."""
    if not isinstance(key, Metric) or key.split != "test":
        return False
    if key.metric.startswith("correlation"):
        return True
    is_difference = key.metric.endswith("_difference")
    return is_difference or key.metric in ("error", "auc")
