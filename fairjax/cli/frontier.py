"""``fairjax frontier``: train every method over draws of its hyper-parameters, and report."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click

from fairjax import methods
from fairjax.cli.lists import DRAW, ESTIMATOR_NAMES, METHODS, NUMBERS, PART
from fairjax.cli.options import (
    FOLDER,
    POSITIVE,
    data_options,
    postprocess_option,
    study_options,
    together,
)
from fairjax.cli.report import write_report
from fairjax.cli.settings import (
    chosen_preset,
    read_data,
    study_settings,
    sweep_folder,
    use_devices,
)
from fairjax.core.disk import file_checksums, locked, write_json
from fairjax.core.tables import TABLE_FILES
from fairjax.core.types import DataError
from fairjax.data import REGISTRY, Prepared
from fairjax.data.table import table_name
from fairjax.study import (
    ESTIMATORS,
    STUDY_FORMAT,
    Explanation,
    NamedStudy,
    Results,
    candidate_sentence,
    candidates,
    explain_run,
    from_names,
    left_out_sentences,
    named_study,
    run_on_ray,
    run_part,
    run_study,
)
from fairjax.study.config import SEQUENCES
from fairjax.study.progress import ProgressBars
from fairjax.training import Part

sweep_options: Callable[..., Any] = together(
    click.option(
        "--methods",
        type=METHODS,
        default=",".join(NamedStudy().methods),
        show_default=True,
        metavar="M,M",
        help="Methods to compare. 'links' stands for every gradient link: it sees one row per "
        "task, or, with _split at its name, accuracy and fairness as rows of their own. Runs of "
        "single_task are always made, for ARE and ARFG divide by them; the name is accepted and "
        f"ignored. Methods: {', '.join(methods.REGISTRY)}.",
    ),
    click.option(
        "--estimators",
        type=ESTIMATOR_NAMES,
        default=(),
        metavar="E,E",
        help="Models from outside that stand beside the methods, one fitted per task: boosted "
        "trees (LightGBM, ended by validation rows) and linear models (scikit-learn). Their "
        "scores are measured and repaired as those of networks, and are always kept; they need "
        f"fairjax[trees]. Estimators: {', '.join(ESTIMATORS)}.",
    ),
    click.option(
        "--runs",
        type=click.IntRange(1),
        default=64,
        show_default=True,
        help="Points (draws of hyper-parameters) per method.",
    ),
    click.option(
        "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Seeds per point."
    ),
)

draw_options: Callable[..., Any] = together(
    click.option(
        "--lam-max",
        type=POSITIVE,
        default=5.0,
        show_default=True,
        help="Fairness weights are drawn from [0, this].",
    ),
    click.option(
        "--r",
        type=NUMBERS,
        metavar="R,R",
        help="MTA-F's head-to-shared ratio per task. Default: drawn per run.",
    ),
    click.option(
        "--tau",
        type=click.FloatRange(0, 1, min_open=True),
        help="FairBranch: least likeness of tasks that stay together. Default: drawn per run.",
    ),
    click.option(
        "--draw",
        type=DRAW,
        multiple=True,
        metavar="NAME=LOW:HIGH",
        help="Draw a hyper-parameter per run, uniformly, or with ':log' behind it log-uniformly: "
        "learning_rate=1e-3:1e-1:log, weight_decay, dropout, label_smoothing, class_balance, or "
        "one of a method. May be given several times. Single-task runs have the setting itself.",
    ),
    click.option(
        "--repair",
        "amounts",
        type=NUMBERS,
        default=(),
        metavar="A,A",
        help="Evaluate every run once more with its scores repaired after training by these "
        "amounts, 0 (as they are) to 1 (no difference between groups); the rows are "
        "called METHOD+POSTPROCESSOR.",
    ),
    postprocess_option(("barycenter",), multiple=True),
    click.option(
        "--sequence",
        type=click.Choice(SEQUENCES),
        default=SEQUENCES[0],
        show_default=True,
        help="Independent draws of hyper-parameters, or a Sobol sequence.",
    ),
)

folder_options: Callable[..., Any] = together(
    click.option(
        "--keep",
        type=click.Choice(["metrics", "scores", "params"]),
        default="params",
        show_default=True,
        help="What each run leaves behind, in the chunk files under OUT/sweeps. With its "
        "parameters 'fairjax train --like' delivers the very model that was evaluated; without "
        "them it trains the run again.",
    ),
    click.option(
        "--out",
        type=FOLDER,
        help="Folder for everything. Default: fairjax-runs/NAME, numbered when taken.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with the sweep in OUT (or in the newest default folder).",
    ),
    click.option(
        "--chunks",
        type=PART,
        metavar="I/N",
        help="Train the I-th of N parts of the sweep in OUT, and stop. Other processes, on other "
        "machines too, train the other parts at the same time; the same command with --resume in "
        "place of --chunks then reports, and trains what is missing.",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Train on a Ray cluster, whose machines all see OUT: its address, 'auto' for the one "
        "that this machine belongs to, or 'local' for this machine alone. An actor has --devices "
        "CPU devices, by default one, or one accelerator. Needs fairjax[ray].",
    ),
    click.option(
        "--row-devices",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Devices that share the rows of a run, for data that one device cannot hold; runs go "
        "over the others. A divisor of the number of devices.",
    ),
)


@click.command(name="frontier")
@data_options
@sweep_options
@study_options
@draw_options
@folder_options
def frontier_command(**options: Any) -> None:
    """Train every method over draws of its hyper-parameters and draw the frontier: PNG, HTML, CSV,
    JSON."""
    source = options["data"]
    part = options["chunks"]
    name = source if source in REGISTRY else table_name(source)
    if part is not None and options["out"] is None:
        raise DataError("--chunks: the parts of a sweep meet in one folder. Name it with --out.")
    out = sweep_folder(options["out"], name, options["resume"] or part is not None)
    address = options["ray"]
    if part is not None and address is not None:
        raise DataError("--chunks and --ray: a Ray cluster deals the parts itself. Leave one out.")
    row_devices = options["row_devices"]
    if row_devices > 1 and address is not None:
        raise DataError("--row-devices and --ray: an actor has whole rows. Leave one out.")
    devices = options["devices"] or (None if address is None else 1)
    encodes = options["encoder"] is not None  # features are computed while the data are read
    if encodes:
        use_devices(devices, out)
    data = read_data(options)
    options["preset"] = chosen_preset(options, data)
    names = _named_study(options, data)
    if not encodes:
        use_devices(devices, out)
    kept = () if options["keep"] == "metrics" else (options["keep"],)
    with locked(out, "a sweep", shared=part is not None):
        if part is not None:
            _run_part(part, data, names, out, kept, row_devices)
            return
        if address is not None:
            with contextlib.closing(ProgressBars()) as bars:
                run_on_ray(
                    data,
                    names,
                    out=out,
                    keep=kept,
                    address=address,
                    devices=devices,
                    progress=partial(bars.advance, "parts", unit="part"),
                )
        _run(data, names, out, kept, row_devices)


def _run_part(
    part: Part,
    data: Prepared,
    names: NamedStudy,
    out: Path,
    keep: tuple[str, ...],
    row_devices: int,
) -> None:
    """Train and evaluate a part, in a folder that processes of other parts use."""
    study = from_names(data, names)
    runs = run_part(part, data, study, out=out, keep=keep, progress=True, row_devices=row_devices)
    click.echo(
        f"{out}: part {part.number + 1} of {part.of} is done, {runs} runs. When all parts are, the "
        "same command with --resume in place of --chunks reports."
    )


def _run(
    data: Prepared, names: NamedStudy, out: Path, keep: tuple[str, ...], row_devices: int
) -> None:
    """Train, evaluate, choose and report, in a folder that no other process uses."""
    study = from_names(data, names)
    click.echo(data.describe(), err=True)
    with ThreadPoolExecutor(1) as ahead:  # beside the networks, whose programs leave cores idle
        ahead.submit(study.compile_resampled, data.splits.test)
        results = run_study(
            data, study=study, out=out, keep=keep, progress=True, row_devices=row_devices
        )
    info = results.info | {
        "format": STUDY_FORMAT,
        "title": data.name,
        "source": data.source,
        "data": data.details(),
        "command": "fairjax train --like . --run {run}",  # in the folder of the page
    }
    results = dataclasses.replace(results, info=info)
    write_json(out / "study.json", info)
    info["candidates"] = _candidates(data, results)
    explanation = _explain_knee(data, results, out)
    groups = audit = None
    if explanation is not None:
        info |= explanation.info
        groups, audit = explanation.groups, explanation.audit
    write_json(out / "study.json", info)
    _print_findings(results)
    write_report(out, results.table, info, groups, audit)
    # what 'report' and 'train --like' read
    info["checksums"] = file_checksums(out, (*TABLE_FILES, "groups.csv"))
    write_json(out / "study.json", info)


def _candidates(data: Prepared, results: Results) -> list[dict[str, Any]]:
    from fairjax.report import candidate_runs

    runs = candidate_runs(results.table, results.info)
    if runs:
        numbers = ", ".join(map(str, runs))
        click.echo(f"intervals of the runs to choose from: {numbers}", err=True)
    return candidates(data, results, runs)


def _print_findings(results: Results) -> None:
    """What was trained and shown, warnings, and the runs to choose from."""
    info = results.info
    trained = info["notion"] or "no notion"
    gap = info["gap"].replace("_", " ")
    click.echo(
        f"Trained for {trained}. Shown is the gap {gap} ({info['condition']}); --notion and "
        f"--condition choose others. {info['decision']['text']}"
    )
    constraints = [found["text"] for found in info.get("constraints", {}).values()]
    for sentence in (*info["warnings"], *left_out_sentences(info), *constraints):
        click.echo(sentence)
    seeds = info["seeds"]["members"]
    click.echo(f"Seeds per point: {seeds}. Chosen on validation rows, before -> after:")
    for candidate in info["candidates"]:
        click.echo(candidate_sentence(candidate))


def _named_study(options: dict[str, Any], data: Prepared) -> NamedStudy:
    return named_study(
        **study_settings(options, data),
        methods=options["methods"],
        estimators=options["estimators"],
        runs=options["runs"],
        seeds=options["seeds"],
        sequence=options["sequence"],
        draw=dict(options["draw"]),
        lam_max=options["lam_max"],
        fixed={key: options[key] for key in ("r", "tau") if options[key] is not None},
        repairs=tuple(dict.fromkeys(options["postprocess"])),
        amounts=options["amounts"],
    )


def _explain_knee(data: Prepared, results: Results, out: Path) -> Explanation | None:
    """A closer look at the run at the frontier's knee; None where no run is on a frontier."""
    from fairjax.postprocess import save_audit
    from fairjax.report import knee_run

    run = knee_run(results.table, results.info)
    if run is None:
        return None
    method = results.table["method"][run]
    click.echo(f"groups of run {run} ({method}), at the knee of the frontier", err=True)
    explanation = explain_run(data, results, run)
    if explanation.audit is not None:
        save_audit(out / "audit.npz", explanation.audit)
    return explanation
