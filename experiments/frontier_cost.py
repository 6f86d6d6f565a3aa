"""What a frontier costs: volumes and CPU seconds of 64 draws and of cheaper ways, on two data sets.

    python experiments/frontier_cost.py                       # half an hour of one core
    python experiments/frontier_cost.py --quick               # a few minutes; a look at the machinery
    python experiments/frontier_cost.py --only adult --seeds 3

Protocol. Adult with the published settings and the survey with those of every study; the method is
``baseline``, whose fairness weight and task weights are drawn, the gap is that of false positive
rates. A frontier is what no run dominates on validation rows in (ARE, ARFG); the volume that it
dominates on test rows, up to (1.25, 1), is shown, as share of that of 64 independent draws. A seed
deals the rows, draws the points and the parameters. Single-task references are the same for all.

- ``draws``: 64 independent draws, all epochs.
- ``short``: 40 points of a Sobol sequence, a quarter of the epochs.
- ``few``: 12 points of a Sobol sequence, all epochs.
- ``moved``: 8 points of a Sobol sequence, all epochs; each stands there once more with thresholds
  per group for a quarter, half, three quarters and all of the way to equal rates. They read the
  group of a new row, which the others do not.

CPU seconds are of training and evaluation on one device, without compilation, which is one for any
number of runs. Intervals are Student's, of 95 %. Results go to experiments/results/tables.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import benchmark_tables as tables
import jax
import numpy as np

if TYPE_CHECKING:
    from fairjax.data import Prepared
    from fairjax.study import Study
    from fairjax.training import Runs

DATA = ("adult", "acs")
METHOD, CONDITION = "baseline", "fpr"
DRAWS = "draws"
SOBOL = {"sequence": "sobol"}
MOVED = {"repairs": (f"{CONDITION}_thresholds",), "amounts": (0.25, 0.5, 0.75, 1.0)}
# settings, and the share of the epochs
WAYS = {
    DRAWS: ({"runs": 64}, 1.0),
    "short": ({"runs": 40, **SOBOL}, 0.25),
    "few": ({"runs": 12, **SOBOL}, 1.0),
    "moved": ({"runs": 8, **SOBOL, **MOVED}, 1.0),
}


def study_of(data: Prepared, way: str, seed: int, epochs: int | None) -> Study:
    """The study of one way."""
    from fairjax.study import PAPER, from_names, named_study

    settings = dict(PAPER.get(data.name, {}))
    if epochs is not None:
        settings["epochs"] = epochs
    whole = named_study(**settings).config.epochs
    of_way, share = WAYS[way]
    fixed = {"methods": (METHOD,), "condition": CONDITION, "seed": seed, "reference_seeds": 3}
    fixed["epochs"] = max(1, round(share * whole))
    return from_names(data, named_study(**settings | of_way | fixed))


class Sweeps:
    """Sweeps of one data set, whose programs are compiled once for all seeds."""

    def __init__(self):
        self.devices = jax.local_devices()[:1]
        self.programs = {}

    def run(self, data: Prepared, study: Study, way: str, method: str) -> tuple[Runs, float]:
        """The runs of a method, and their CPU seconds without compilation."""
        from fairjax.training import Program, sweep

        recipe = study.recipes[method]
        points, seeds = study.points(method)
        is_new = (way, method) not in self.programs
        if is_new:
            self.programs[way, method] = Program(
                recipe, study.config.train_config, study.evaluate, devices=self.devices
            )

        def once() -> tuple[Runs, float]:
            begin = time.process_time()
            runs = sweep(
                recipe,
                study.config.train_config,
                points,
                seeds,
                data.splits,
                study.evaluate,
                root=study.config.seed,
                devices=self.devices,
                program=self.programs[way, method],
            )
            return runs, time.process_time() - begin

        if is_new:
            once()  # to compile
        return once()


def volume_of(study: Study, runs: dict[str, Runs]) -> float:
    """The volume on test rows of what no run of the method dominates on validation rows."""
    from fairjax.metrics.frontier import nondominated
    from fairjax.report import lay_out
    from fairjax.study import REFERENCE
    from fairjax.study.table import assemble

    layout = lay_out(*assemble(study, runs, REFERENCE))
    is_own = [method.split("+")[0] == METHOD for method in layout.table["method"]]
    rows = np.flatnonzero(is_own & layout.overall.usable)
    best = rows[nondominated(layout.overall.selection[rows])]
    return layout.volume(best)


def measured(name: str, seeds: int, epochs: int | None) -> list[dict]:
    """All ways on one data set."""
    from fairjax import load
    from fairjax.study import REFERENCE

    sweeps = Sweeps()
    found = []
    for seed in range(seeds):
        data = load(name, seed=seed)
        whole = study_of(data, DRAWS, seed, epochs)
        plain, _ = sweeps.run(data, whole, DRAWS, REFERENCE)
        for way in WAYS:
            study = study_of(data, way, seed, epochs)
            reference = plain
            if study.repairs:  # its table needs the repaired runs of the references too
                study_of_all = study_of(data, way, seed, whole.config.epochs)
                reference, _ = sweeps.run(data, study_of_all, way, REFERENCE)
            runs, seconds = sweeps.run(data, study, way, METHOD)
            volume = volume_of(study, {REFERENCE: reference, METHOD: runs})
            found.append(
                {
                    "data": name,
                    "seed": seed,
                    "way": way,
                    "volume": f"{volume:.5f}",
                    "seconds": f"{seconds:.2f}",
                }
            )
            print(name, seed, way, f"{volume:.4f} in {seconds:.1f} s", flush=True)
    return found


def summary(rows: list[dict]) -> str:
    """A Markdown table: a line per data set and way."""
    lines = [
        "| data | way | volume | share of draws' | CPU seconds | share of draws' |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["data"] for row in rows):
        of_data = {
            way: np.array(
                [
                    (float(row["volume"]), float(row["seconds"]))
                    for row in rows
                    if row["data"] == name and row["way"] == way
                ]
            )
            for way in WAYS
        }
        for way, values in of_data.items():
            volume, seconds = values.mean(axis=0)
            shares = values / of_data[DRAWS]
            share = tables.student(shares[:, 0]).removeprefix("+")
            lines.append(
                f"| {name} | {way} | {volume:.4f} | {share} | {seconds:.1f} "
                f"| {shares[:, 1].mean():.3f} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the data sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(DATA), help="data sets, with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    seeds, epochs = (1, 2) if options.quick else (options.seeds, None)
    folder = Path(tempfile.mkdtemp()) if options.quick else tables.RESULTS
    path = folder / "cost.csv"
    rows = []
    if path.exists():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))  # those of other data sets stay
    for name in options.only.split(","):
        rows = [row for row in rows if row["data"] != name]
        rows += measured(name, seeds, epochs)
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "cost.md").write_text(summary(rows))
    print((folder / "cost.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
