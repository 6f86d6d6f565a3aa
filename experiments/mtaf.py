"""MTA-F on Adult, German Credit and LSAC: Tables 1b, 3 and 4 and Figures 2, 5 and 6 of Wang et al.,
KDD 2021.

    python experiments/mtaf.py                 # about half an hour on two cores
    python experiments/mtaf.py --quick         # a minute; for a look at the machinery

Protocol. Fairness losses as in the paper: MMD (Adult), soft false positive gap (German; the
published loss has no gradient), correlation (LSAC). 20 % of the published training rows are kept
for validation, statistics come from training rows. Every method is tuned with the same number of
runs: learning rate, and for MTA-F also r per task, by the validation hypervolume in (ARE, ARFG).
Then every method gets the same draws of lam in [0, 5] and w on the simplex with the same seeds.
Single-task denominators come from 20 seeds. "validation" selects on validation rows and reports
test rows, per seed, with a 95 % bootstrap interval over seeds; "published" selects on the test rows
from all runs together, as the paper does. Results go to experiments/results/mtaf.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.tables import Table
    from fairjax.core.types import Recipe, Spec
    from fairjax.data import Prepared
    from fairjax.study import Study
    from fairjax.training import Runs

RESULTS = Path(__file__).parent / "results" / "mtaf"
CORNER = np.array([1.25, 1.0])  # reference point of the hypervolume, in (ARE, ARFG)
GAP = "false_positive_rate_difference"
METHODS = ("vanilla", "baseline", "mta_f")
PUBLISHED_3 = {  # ARFG, ARE
    "adult": {"vanilla": (0.3444, 1.1040), "baseline": (0.0871, 1.1032), "mta_f": (0.0437, 1.0820)},
    "german": {
        "vanilla": (0.1336, 0.8367),
        "baseline": (0.0999, 0.8356),
        "mta_f": (0.0364, 0.8264),
    },
    "lsac": {"vanilla": (0.3497, 0.9778), "baseline": (0.1126, 0.9864), "mta_f": (0.0310, 0.9731)},
}
PUBLISHED_4 = {  # error 1, gap 1, error 2, gap 2
    "adult": {
        "vanilla": (0.1911, 0.0715, 0.1359, 0.0091),
        "baseline": (0.1938, 0.0186, 0.1336, 0.0020),
        "mta_f": (0.1891, 0.0083, 0.1319, 0.0016),
    },
    "german": {
        "vanilla": (0.205, 0.0150, 0.220, 0.0084),
        "baseline": (0.255, 0.0879, 0.180, 0.0069),
        "mta_f": (0.200, 0.0033, 0.220, 0.0034),
    },
    "lsac": {
        "vanilla": (0.1555, 0.0503, 0.1565, 0.0004),
        "baseline": (0.1568, 0.0119, 0.1580, 0.0006),
        "mta_f": (0.1540, 0.0015, 0.1565, 0.0004),
    },
}
# Table 1b (Adult, 100 runs); for LSAC three seeds of the released code, no table was published
PUBLISHED_1 = {
    "adult": {
        "single_task": (0.1659, 0.1200, 0.1313, 0.0661),
        "vanilla": (0.1656, 0.1205, 0.1299, 0.0738),
    },
    "lsac": {
        "single_task": (0.1562, 0.0508, 0.1523, 0.0133),
        "vanilla": (0.1530, 0.0513, 0.1536, 0.0070),
    },
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How many runs.

    ``configurations`` of learning rate (and r) are tuned with ``probes`` points each. The
    comparison has ``points`` x ``seeds`` runs. Single-task runs and Table 1 have ``reference``
    seeds.
    """

    configurations: int = 8
    probes: int = 12
    points: int = 32
    seeds: int = 6
    reference: int = 20


class Sweeps:
    """Sweeps on one data set. Recipes of one name share a program, and all sweeps a chunk size."""

    def __init__(self, study: Study, prepared: Prepared):
        self.study = study
        self.splits = prepared.splits
        self._programs = {}
        self._chunk = None

    def run(self, recipe: Recipe, hparams: dict[str, np.ndarray], seeds: Sequence[int]) -> Runs:
        """Train and evaluate every point with every seed."""
        from fairjax.training import Program, sweep

        config = self.study.config.train_config
        evaluate = self.study.evaluate
        if recipe.name not in self._programs:
            self._programs[recipe.name] = Program(recipe, config, evaluate)
        runs = sweep(
            recipe,
            config,
            hparams,
            seeds,
            self.splits,
            evaluate,
            root=self.study.config.seed,
            chunk=self._chunk,
            program=self._programs[recipe.name],
        )
        self._chunk = runs.chunk
        return runs


def paper_study(name: str, prepared: Prepared, **settings) -> Study:
    """A study with the settings of the MTA-F code for the data set, and its decisions."""
    from fairjax.study import PAPER, from_names, named_study

    protocol = {"decision": "transductive", "smallest_group": 0}
    return from_names(prepared, named_study(**PAPER[name], **protocol, **settings))


def run_data(name: str, size: Size, out: Path) -> dict:
    """All stages on one data set."""
    from fairjax import load
    from fairjax.study import REFERENCE, assemble

    prepared = load(name)
    study = paper_study(
        name,
        prepared,
        methods=METHODS,
        runs=size.points,
        seeds=size.seeds,
        reference_seeds=size.reference,
    )
    sweeps = Sweeps(study, prepared)
    single = sweeps.run(study.recipes[REFERENCE], *study.points(REFERENCE))
    runs = {REFERENCE: single}
    tuned = {}
    for method in METHODS:
        tuned[method] = tune(sweeps, method, single, size)
        hparams, seeds = study.points(method)
        for hparam, value in tuned[method].items():
            hparams[hparam] = np.broadcast_to(np.float32(value), hparams[hparam].shape)
        runs[method] = sweeps.run(study.recipes[method], hparams, seeds)
    table, info = assemble(study, runs, REFERENCE)
    info["title"] = f"MTA-F on {name}: {size.points} points x {size.seeds} seeds per method"
    write_report(out / name, table, info)
    return {
        "tuned": {method: _plain(values) for method, values in tuned.items()},
        "single_task": info["single_task"],
        "table_1": table_1(name, size),
        "table_3_4": {method: operating_point(table, study.spec, method) for method in METHODS},
        "hypervolume": {method: hypervolumes(table, method) for method in METHODS},
        "runs": table.rows,
        "diverged": int(table["diverged"].sum()),
    }


def write_report(folder: Path, table: Table, info: dict) -> None:
    """Write the report without its page: five megabytes of drawing library are not for a
    repository.
    """
    from fairjax import report

    folder.mkdir(parents=True, exist_ok=True)
    for file in report.write(folder, table, info):
        if file.suffix == ".html":
            file.unlink()


def _plain(values: dict[str, np.ndarray]) -> dict:
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def tune(sweeps: Sweeps, method: str, single: Runs, size: Size) -> dict[str, np.ndarray]:
    """Learning rate (and r) with the best validation hypervolume over the same probes.

    The default is among the configurations.
    """
    from fairjax.metrics.frontier import hypervolume
    from fairjax.study import REFERENCE, assemble

    study = sweeps.study
    config = study.config
    probe_config = dataclasses.replace(config, runs=size.probes, seed=config.seed + 1)
    points, _ = dataclasses.replace(study, config=probe_config).points(method)
    rng = np.random.default_rng(config.seed)
    rates = config.learning_rate * 4.0 ** rng.uniform(-1, 1, size.configurations)
    ratios = 10.0 ** rng.uniform(-1, 1, (size.configurations, len(study.spec.tasks)))
    rates[0] = config.learning_rate
    ratios[0] = 1.0
    hparams = {
        name: np.concatenate([values] * size.configurations) for name, values in points.items()
    }
    hparams["learning_rate"] = np.repeat(np.float32(rates), size.probes)
    if "r" in hparams:
        hparams["r"] = np.repeat(np.float32(ratios), size.probes, axis=0)
    probes = sweeps.run(study.recipes[method], hparams, [1_000])
    table, _ = assemble(study, {REFERENCE: single, method: probes}, REFERENCE)
    values = relative(table, table["method"] == method, "validation")
    volumes = []
    for probed in values.reshape(size.configurations, size.probes, 2):
        finite = np.isfinite(probed).all(axis=1)
        volumes.append(hypervolume(probed[finite], CORNER))
    best = int(np.argmax(volumes)) * size.probes
    return {name: hparams[name][best] for name in ("learning_rate", "r") if name in hparams}


def relative(table: Table, rows: np.ndarray, split: str) -> np.ndarray:
    """``[N, 2]``: ARE and ARFG of some rows of the table."""
    from fairjax.metrics import Metric

    are = table[Metric("are", split=split)][rows]
    arfg = table[Metric("arfg", split=split)][rows]
    return np.stack([are, arfg], axis=1)


def errors_and_gaps(spec: Spec) -> list:
    """Keys of the test error and gap of each task in turn, by the first attribute."""
    from fairjax.metrics import Metric

    keys = []
    for task in spec.tasks:
        keys.append(Metric("error", task.name, split="test"))
        attribute = spec.attributes[0].name
        keys.append(Metric(GAP, task.name, attribute=attribute, split="test"))
    return keys


def operating_point(table: Table, spec: Spec, method: str) -> dict:
    """The frontier's midpoint in ARE: chosen on validation per seed, and on test from all runs as
    published.
    """
    from fairjax.metrics import Metric
    from fairjax.metrics.frontier import midpoint

    rows = np.flatnonzero((table["method"] == method) & ~table["diverged"])
    keys = [Metric("arfg", split="test"), Metric("are", split="test"), *errors_and_gaps(spec)]

    def choose(candidates: np.ndarray, split: str) -> int:
        return int(candidates[midpoint(relative(table, candidates, split))])

    def numbers(row: int) -> list[float]:
        return [float(table[key][row]) for key in keys]

    per_seed = []
    for seed in np.unique(table["seed"][rows]):
        candidates = rows[table["seed"][rows] == seed]
        per_seed.append(numbers(choose(candidates, "validation")))
    return {
        "validation": [interval(column) for column in np.array(per_seed).T],
        "published": numbers(choose(rows, "test")),
    }


def hypervolumes(table: Table, method: str) -> list[float]:
    """Hypervolume per seed on test of the frontier chosen on validation; mean and interval."""
    from fairjax.metrics.frontier import hypervolume, nondominated

    volumes = []
    converged = (table["method"] == method) & ~table["diverged"]
    for seed in np.unique(table["seed"][converged]):
        rows = converged & (table["seed"] == seed)
        frontier = nondominated(relative(table, rows, "validation"))
        volumes.append(hypervolume(relative(table, rows, "test")[frontier], CORNER))
    return [*interval(np.array(volumes)), *map(float, volumes)]


def interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % bootstrap interval over seeds."""
    means = np.random.default_rng(0).choice(values, (2_000, len(values))).mean(axis=1)
    return [float(values.mean()), *map(float, np.quantile(means, [0.025, 0.975]))]


def table_1(name: str, size: Size) -> dict:
    """Single-task and vanilla models with the settings of the code, on its form of the data,
    trained on all its rows.
    """
    from fairjax import load
    from fairjax.study import REFERENCE, run_study

    prepared = load(name, form="paper", validation=0.0)
    study = paper_study(
        name,
        prepared,
        methods=("vanilla",),
        fixed={"weight": 0.5},
        runs=1,
        seeds=size.reference,
        reference_seeds=size.reference,
    )
    table = run_study(prepared, study=study).table
    keys = errors_and_gaps(prepared.spec)
    return {
        method: [interval(table[key][table["method"] == method]) for key in keys]
        for method in (REFERENCE, "vanilla")
    }


# ------------------------------------------------------------------------------------------- tables


HEADER = (
    "table",
    "data",
    "method",
    "quantity",
    "published",
    "ours",
    "low",
    "high",
    "selected on test",
)
COLUMNS = ("e1", "gap1", "e2", "gap2")


def table_rows(name: str, result: dict) -> list[tuple]:
    """Rows of the tables for one data set: published numbers beside ours."""
    rows = []
    for method, values in result["table_1"].items():
        published = PUBLISHED_1.get(name, {}).get(method, (None,) * 4)
        for column, number, value in zip(COLUMNS, published, values, strict=True):
            rows.append(("1b", name, method, column, number, *value, None))
    for method, point in result["table_3_4"].items():
        published = (*PUBLISHED_3[name][method], *PUBLISHED_4[name][method])
        columns = ("ARFG", "ARE", *COLUMNS)
        for i, (column, number) in enumerate(zip(columns, published, strict=True)):
            table = "3" if i < 2 else "4"
            ours = (*point["validation"][i], point["published"][i])
            rows.append((table, name, method, column, number, *ours))
    for method, values in result["hypervolume"].items():
        rows.append(("hypervolume", name, method, "ARE-ARFG", None, *values[:3], None))
    return rows


def write_tables(results: dict, out: Path) -> str:
    """Published numbers beside ours, as Markdown and CSV."""
    rows = [HEADER]
    for name, result in results.items():
        rows += table_rows(name, result)
    with (out / "tables.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        for row in rows:
            writer.writerow([f"{cell:.5f}" if isinstance(cell, float) else cell for cell in row])
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows[1:]]
    text = "\n".join(lines)
    (out / "tables.md").write_text(text + "\n")
    return text


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else value


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", default=["german", "lsac", "adult"], choices=sorted(PUBLISHED_3)
    )
    parser.add_argument("--quick", action="store_true", help="very few runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    size = Size(2, 4, 8, 2, 3) if args.quick else Size()
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in args.data:
        begin = time.perf_counter()
        results[name] = run_data(name, size, args.out)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
        (args.out / f"{name}.json").write_text(json.dumps(results[name], indent=1))
    for file in sorted(args.out.glob("*.json")):
        results.setdefault(file.stem, json.loads(file.read_text()))
    print(write_tables(dict(sorted(results.items())), args.out))


if __name__ == "__main__":
    main()
