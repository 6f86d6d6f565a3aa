"""Networks that branch while they train: "FairBranch: Mitigating bias transfer in fair multi-task
learning" (Roy, Koutlis, Papadopoulos, Ntoutsi, IJCNN 2024) and the systems of its Table II, on the
American Community Survey and on faces.

    python experiments/fairbranch.py                    # hours on two cores
    python experiments/fairbranch.py --only small       # the small network alone
    python experiments/fairbranch.py --quick            # a look at the machinery
    python experiments/fairbranch.py --data psam_p06.csv --only small   # another state

Protocol. The survey's five tasks are the paper's: employment, income above 50,000, health
insurance, more than 20 minutes to work, income below two and a half times the poverty line, among
the people that its filter keeps. The attribute is sex. The paper trains on 27 states of one year
and tests on the next year. The file here is one state of one year, so that rows are dealt anew at
random for every seed: 60 % to train, 20 % to validate, 20 % to test. It lacks HINS2 (insurance that
one bought oneself), and PRIVCOV (private insurance) takes its place; a file that has HINS2 is read
as in the paper. A label is unknown where its column is empty; the paper calls it negative.

KG, knowledge gain, is the mean over tasks of accuracy less that of single-task networks of the same
shape on the same rows; DG, discrimination gain, that of the violation of equal opportunity (EP) and
of equalized odds (EO, the sum of both rates' gaps). Both are paired by seed, with 95 % Student
intervals over seeds. All decide at probability one half and all numbers are of test rows. The
single-task networks learn accuracy alone, as do the methods at lam 0; at lam 1 every loss is
L_t + F_t with the paper's fairness loss. The paper's own single-task networks learn L_t + F_t, in
the released code on one state of 27: its numbers stand beside gains over single-task networks at
lam 1. All settings of a method are one sweep, and all seeds of a
method are one compilation. Results go to experiments/results/fairbranch.

Faces are 4,000 of FairFace at 32 x 32 (at 64 x 64 the runs take four times as long), gender and
three race groups by whether one is over 40; a small residual network learns them from scratch in
eight epochs. "faces_pretrained" has dense layers on the features of a pretrained network, computed
once, of the same faces at 224 x 224. The paper has the 202,599 faces of CelebA and features of a
network trained before.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.types import Dataset, Spec, Splits
    from fairjax.methods import Method
    from fairjax.metrics import Metric
    from fairjax.training import Runs

RESULTS = Path(__file__).parent / "results" / "fairbranch"
SINGLE = "single tasks"
TAUS = (0.4, 0.5, 0.6, 0.7, 0.8)

TASKS = (
    "employment: ESR == 1",
    "income: PINCP > 50000",
    "insurance: {insurance} == 1",
    "commute: JWMNP > 20",
    "poverty: POVPIP < 250",
)
NUMBERS = ("AGEP", "SCHL")
CODES = (
    "MAR",
    "DIS",
    "CIT",
    "MIL",
    "NATIVITY",
    "DEAR",
    "DEYE",
    "DREM",
    "SEX",
    "RAC1P",
    "PUMA",
    "JWTRNS",
)
# KG; DG by equal opportunity and by equalized odds, of 18-19, 19-21, CelebA gen and CelebA age
TABLE_2 = {
    "fafs": ((0.028, 0.009, 0.013), (0.012, 0.019, 0.020), (-0.011, 0.015, 0.019)),
    "tag": ((0.022, 0.008, 0.014), (0.064, 0.015, 0.022), (-0.012, 0.015, 0.010)),
    "pcgrad": ((0.015, 0.004, 0.006), (0.025, 0.006, 0.006), (0.035, 0.007, 0.008)),
    "recon": ((0.025, 0.015, 0.040), (0.017, 0.014, 0.036), (0.026, -0.001, 0.001)),
    "l2t_fmt": ((0.024, 0.001, 0.002), (-0.005, 0.001, 0.003), (-0.022, -0.002, 0.001)),
    "wb_fair": ((-0.016, 0.001, 0.002), (0.002, 0.004, 0.006), (-0.051, 0.001, 0.003)),
    "fairbranch": ((0.036, -0.001, 0.000), (0.032, 0.000, 0.000), (0.036, -0.004, -0.003)),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """One data set, one network and its training."""

    name: str
    data: str
    trunk: tuple[int, ...]
    head: tuple[int, ...] = ()
    seeds: int = 5
    epochs: int = 20
    batch: int = 512
    learning_rate: float = 0.05
    every: int = 3  # epochs between two branchings
    search: int = 5  # epochs of a search, of Recon, FAFS and TAG
    teacher: tuple[int, ...] = (64, 64)  # widths of the Q-network of L2T-FMT
    tau: float = 0.7
    taus: tuple[float, ...] = TAUS
    chunk: int = 8
    encoder: str | None = None  # a pretrained network that reads the faces
    ablations: bool = True  # every method at both lam, and FairBranch without its parts


SETUPS = {
    setup.name: setup
    for setup in (
        Setup("small", "acs", (64, 32, 32), seeds=10),
        Setup(
            "paper",
            "acs",
            (1024, 128, 256, 512, 128),
            epochs=12,
            every=2,
            search=4,
            batch=2048,
            taus=(0.7,),
            chunk=1,
            ablations=False,
        ),
        Setup(
            "faces",
            "fairface_subset",
            (8, 16, 32),
            epochs=8,
            every=2,
            search=3,
            batch=128,
            tau=0.8,
            taus=(0.8,),
            chunk=1,
            ablations=False,
        ),
        Setup(
            "faces_pretrained",
            "fairface_subset",
            (128, 64, 32),
            epochs=15,
            search=4,
            batch=128,
            learning_rate=0.02,
            tau=0.8,
            taus=(0.8,),
            encoder="efficientnet_lite0",
        ),
    )
}


class System(NamedTuple):
    """A method with the settings of its sweep."""

    method: Method
    values: dict[str, Sequence[float]]  # of the grid


# ------------------------------------------------------------------------------------------- the data


def survey(path: str | None, quick: bool) -> tuple[Spec, Dataset]:
    """The paper's tasks on a persons file of the survey: spec and all its rows."""
    from fairjax.data import Roles, from_table
    from fairjax.data.files import find_file
    from fairjax.data.read import read_csv
    from fairjax.data.sets.acs import FILES

    table = read_csv(path or find_file("acs", FILES[0]))
    number = {name: table.numbers(name)[0] for name in ("AGEP", "PINCP", "WKHP", "PWGTP")}
    kept = (
        (number["AGEP"] > 16)
        & (number["PINCP"] > 100)
        & (number["WKHP"] > 0)
        & (number["PWGTP"] >= 1)
    )
    insurance = "HINS2" if table.find("HINS2") else "PRIVCOV"
    tasks = tuple(task.format(insurance=insurance) for task in TASKS)
    asked = ("ESR", "PINCP", insurance, "JWMNP", "POVPIP")
    names = [name for name in (*NUMBERS, *CODES) if table.find(name)]
    columns = {name: table.cells(name)[kept] for name in dict.fromkeys((*names, *asked))}
    rows = np.arange(kept.sum())
    if quick:
        rows = rows[:3000]
    roles = Roles(
        tasks=tasks,
        sensitive=("SEX",),
        features=tuple(names),
        numeric=NUMBERS,
        categorical=tuple(name for name in CODES if name in names),
        use_sensitive=True,
        levels={"SEX": ("1", "2")},
    )
    prepared = from_table({name: column[rows] for name, column in columns.items()}, roles)
    return prepared.spec, _joined(prepared.splits)


def faces(encoder: str | None, quick: bool) -> tuple[Spec, Dataset]:
    """FairFace's subset with an attribute of two groups, all rows together: 32 x 32 pixels, or the
    features of a pretrained network.
    """
    from fairjax import load
    from fairjax.core.types import Images

    prepared = load("fairface_subset", form="age", encoder=encoder)
    rows = _joined(prepared.splits)
    if encoder is None:
        rows = rows._replace(x=Images(halved(rows.x.pixels)))
    if quick:
        rows = jax.tree.map(lambda leaf: leaf[:300], rows)
    return prepared.spec, rows


def halved(pixels: np.ndarray) -> np.ndarray:
    """Images of half the height and width: means of 2 x 2 pixels."""
    count, height, width, channels = pixels.shape
    blocks = pixels.reshape(count, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def _joined(splits: Splits) -> Dataset:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *splits)


def dealt(rows: Dataset, seed: int) -> Splits:
    """Rows dealt at random: 60 % to train, 20 % to validate, 20 % to test."""
    from fairjax.core.types import Splits

    count = len(rows.weight)
    order = np.random.default_rng(seed).permutation(count)
    ends = [count * 6 // 10, count * 8 // 10]
    parts = np.split(order, ends)
    return Splits(*(jax.tree.map(lambda leaf, part=part: leaf[part], rows) for part in parts))


# ------------------------------------------------------------------------------------------ the systems


def systems(setup: Setup, quick: bool) -> dict[str, System]:
    """Every system of Table II; with ablations, what stands between them too.

    Without, FairBranch and the methods that choose losses learn fairness, and the others do not, as
    in the table.
    """
    from fairjax import methods, notions

    notion = notions.get("robust_log")
    search = 1 if quick else setup.search
    every = 1 if quick else setup.every
    fair = {"lam": (1.0,)}
    lams = {"lam": (0.0, 1.0)} if setup.ablations else {"lam": (0.0,)}
    tau = {"tau": (setup.tau,)}

    def named(name: str, **options) -> Method:
        return methods.get(name, notion, **options)

    def until(method: Method) -> Method:
        from fairjax.core.types import Range

        return methods.with_space(method, until=Range(float(search)))

    found = {
        "vanilla": System(named("vanilla"), {}),
        "baseline": System(named("baseline"), fair),
        "pcgrad": System(named("pcgrad"), lams),
        "fairbranch": System(
            named("fairbranch", every=every),
            {"tau": setup.taus} | (lams if setup.ablations else fair),
        ),
        "recon": System(named("recon", search=search), lams),
        "fafs": System(named("fafs"), lams),
        "tag": System(until(named("tag")), lams),
        "l2t_fmt": System(named("l2t_fmt", widths=setup.teacher), fair),
        "greedy_fmt": System(named("greedy_fmt"), fair),
    }
    if setup.ablations:
        parts = {
            "without gate": {"gate": False},
            "with plain sum": {"gate": False, "surgery": False},
            "on one trunk": {"warmup": setup.epochs},
        }
        for name, options in parts.items():
            method = named("fairbranch", every=every, **options)
            found[f"fairbranch {name}"] = System(method, tau | fair)
    return found


# -------------------------------------------------------------------------------------------- the runs


class Bench:
    """The data of a setup, and the sweeps on it."""

    def __init__(self, setup: Setup, path: str | None, quick: bool):
        from fairjax.study import StudyConfig

        if quick:
            smaller = {"epochs": 3, "taus": setup.taus[-1:], "seeds": 2}
            setup = dataclasses.replace(setup, **smaller)
        self.setup = setup
        self.quick = quick
        is_survey = setup.data == "acs"
        self.spec, self.rows = survey(path, quick) if is_survey else faces(setup.encoder, quick)
        self.config = StudyConfig(
            epochs=setup.epochs,
            batch_size=setup.batch,
            learning_rate=setup.learning_rate,
            reduction="mean",
        )

    def measured(self, name: str, method: Method, values: dict, repaired: bool = False) -> list:
        """Train a method's settings with every seed; a row per setting, seed and repair."""
        from fairjax.models import network
        from fairjax.postprocess import model_barycenter
        from fairjax.study import make_study
        from fairjax.training import Program, grid, sweep

        begin = time.perf_counter()
        setup = self.setup
        model = network(self.spec, setup.trunk, setup.head)
        study = make_study(
            self.spec,
            {name: method},
            model=model,
            config=self.config,
            repairs=(model_barycenter,) if repaired else (),
        )
        recipe = study.recipes[name]
        devices = jax.local_devices()
        evaluate = _only(self.keys(), study.evaluate)
        program = Program(recipe, self.config.train_config, evaluate, devices=devices)
        points = grid(recipe.space, values)
        count = len(points["learning_rate"])
        rows = []
        for seed in range(setup.seeds):
            runs = sweep(
                recipe,
                self.config.train_config,
                points,
                [seed],
                dealt(self.rows, seed),
                evaluate,
                root=seed,
                program=program,
                devices=devices,
                chunk=min(setup.chunk, count),
            )
            assert runs.compilations <= 1
            rows += self.rows_of(name, points, seed, runs)
        seconds = time.perf_counter() - begin
        print(f"  {name}: {count * setup.seeds} runs, {seconds:.0f} s", flush=True)
        return rows

    def rows_of(self, name: str, points: dict, seed: int, runs: Runs) -> list[dict]:
        """One line per member and task."""
        rows = []
        for repair, metrics in runs.metrics.items():
            method = name if repair == "plain" else "wb_fair"
            for i, (task_index, task) in itertools.product(
                range(len(runs.diverged)), enumerate(self.spec.tasks)
            ):
                rows.append(
                    {
                        "setup": self.setup.name,
                        "method": method,
                        "lam": _setting(points, "lam", i),
                        "tau": _setting(points, "tau", i),
                        "alone": _alone(points, i, task_index),
                        "seed": seed,
                        "task": task.name,
                        "diverged": bool(runs.diverged[i]),
                        "branches": _branches(runs, i),
                        **self.qualities(metrics, task.name, i),
                    }
                )
        return rows

    def keys(self) -> list[Metric]:
        """The metrics that are read: three of every task."""
        return [key for task in self.spec.tasks for key in self.keys_of(task.name)]

    def keys_of(self, task: str) -> tuple[Metric, Metric, Metric]:
        """Error, and the gaps of true and false positive rates, of a task on test rows."""
        from fairjax.metrics import Metric

        of_task = Metric("error", task, split="test")
        gap = of_task._replace(attribute=self.spec.attributes[0].name)
        true_positive = gap._replace(metric="true_positive_rate_difference")
        false_positive = gap._replace(metric="false_positive_rate_difference")
        return of_task, true_positive, false_positive

    def qualities(self, metrics: dict, task: str, i: int) -> dict[str, float]:
        """Accuracy and violations of a run on test rows."""
        error, true_positive, false_positive = (
            abs(float(np.ravel(metrics[key][i])[0])) for key in self.keys_of(task)
        )
        return {"accuracy": 1.0 - error, "ep": true_positive, "eo": true_positive + false_positive}


def _only(keys: list[Metric], evaluate: Callable) -> Callable:
    """The evaluation with these metrics alone: the program of the others is left out."""

    def evaluate_only(scores: dict, splits: Splits) -> dict:
        found = evaluate(scores, splits)
        return {name: {key: values[key] for key in keys} for name, values in found.items()}

    return evaluate_only


def _setting(points: dict, name: str, i: int) -> float:
    """A hyper-parameter of a point, equal for all tasks; 0 of a method that has none."""
    return float(np.ravel(points[name][i])[0]) if name in points else 0.0


def _alone(points: dict, i: int, task: int) -> bool:
    """Whether a point trains this task alone."""
    weight = np.asarray(points["weight"][i])
    return bool(weight[task] == weight.sum())


def _branches(runs: Runs, i: int) -> str:
    """Numbers of branches, layer by layer, at the end of a run that branches."""
    labels = getattr(runs.record, "labels", None)
    if labels is None:
        return ""
    return "-".join(str(len(np.unique(layer))) for layer in np.asarray(labels)[i, -1])


def run_setup(
    setup: Setup,
    path: str | None,
    quick: bool,
    only: set[str],
    has_single: bool,
    keep: Callable[[list[dict]], None],
) -> None:
    """All systems of a setup, the single-task networks first; rows are kept after each of them.

    Where some systems are asked for, and single-task networks stand in the results, these stay.
    """
    from fairjax import methods, notions

    bench = Bench(setup, path, quick)
    counts = f"{len(bench.rows.weight)} rows, {len(bench.spec.tasks)} tasks"
    print(f"{setup.name}: {counts}", flush=True)
    corners = np.eye(len(bench.spec.tasks), dtype=np.float32)
    baseline = methods.get("baseline", notions.get("robust_log"))
    alone = {"weight": corners, "lam": (0.0, 1.0)}
    rows = []
    if not (only and has_single):
        rows = _own_tasks(bench.measured(SINGLE, baseline, alone))
        keep(rows)
    for name, system in systems(setup, quick).items():
        if only and name not in only:
            continue
        rows += bench.measured(name, system.method, system.values, repaired=name == "vanilla")
        keep(rows)


def _own_tasks(rows: list[dict]) -> list[dict]:
    """Of single-task networks the rows of the task that each has learned."""
    return [row for row in rows if row["alone"]]


# ------------------------------------------------------------------------------------------- the tables


class Gains(NamedTuple):
    """Gains of one system at one setting, one number per seed."""

    knowledge: np.ndarray
    by_opportunity: np.ndarray
    by_odds: np.ndarray
    accuracy: np.ndarray
    ep: np.ndarray
    branches: str  # as most seeds have them


def gains(rows: list[dict], reference: float = 0.0) -> dict[tuple, Gains]:
    """Gains over the single-task networks at some lam, by ``(setup, method, lam, tau)``."""
    single: dict[tuple, dict] = {}
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["method"] == SINGLE and float(row["lam"]) == reference:
            single[row["setup"], row["seed"], row["task"]] = row
        key = (row["setup"], row["method"], float(row["lam"]), float(row["tau"]))
        groups.setdefault(key, []).append(row)

    def over_tasks(group: list[dict], quality: str, relative: bool) -> np.ndarray:
        by_seed: dict[str, list[float]] = {}
        for row in group:
            value = float(row[quality])
            if relative:
                value -= float(single[row["setup"], row["seed"], row["task"]][quality])
            by_seed.setdefault(row["seed"], []).append(value)
        return np.array([np.mean(values) for values in by_seed.values()])

    found = {}
    for key, group in groups.items():
        shapes = [row["branches"] for row in group]
        found[key] = Gains(
            over_tasks(group, "accuracy", True),
            over_tasks(group, "ep", True),
            over_tasks(group, "eo", True),
            over_tasks(group, "accuracy", False),
            over_tasks(group, "ep", False),
            max(set(shapes), key=shapes.count),
        )
    return found


def student(values: np.ndarray) -> str:
    """Mean and half width of its 95 % Student interval."""
    from scipy import stats

    count = len(values)
    if count < 2:
        return f"{values.mean():+.4f}"
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return f"{values.mean():+.4f} ± {half:.4f}"


def table_of(rows: list[dict], setup: str) -> str:
    """The table of one setup in Markdown, published numbers beside ours."""
    lines = [
        "| system | lam | tau | branches | accuracy | EP | KG | DG, EP | DG, EO | KG over lam 1 "
        "| DG, EP | DG, EO | published 18-19 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    over_fair = gains(rows, reference=1.0)
    is_faces = SETUPS[setup].data == "fairface_subset"
    for key, gain in gains(rows).items():
        of_setup, method, lam, tau = key
        if of_setup != setup:
            continue
        fair = over_fair[key]
        published = TABLE_2.get(method)
        column = 2 if is_faces else 0
        beside = "; ".join(f"{number:+.3f}" for number in published[column]) if published else ""
        lines.append(
            f"| {method} | {lam:g} | {f'{tau:g}' if tau else ''} | {gain.branches} "
            f"| {gain.accuracy.mean():.4f} | {gain.ep.mean():.4f} | {student(gain.knowledge)} "
            f"| {student(gain.by_opportunity)} | {student(gain.by_odds)} "
            f"| {student(fair.knowledge)} | {student(fair.by_opportunity)} "
            f"| {student(fair.by_odds)} | {beside} |"
        )
    if is_faces:
        lines[0] = lines[0].replace("18-19", "CelebA gen")
    return "\n".join(lines)


def write(folder: Path, setup: str, rows: list[dict]) -> None:
    """Runs as CSV, with those of other systems that stand there, and tables.md anew from all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{setup}.csv"
    new = {row["method"] for row in rows}
    kept = [row for row in _read(path) if row["method"] not in new]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in [*rows, *kept]:
            rounded = {k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(rounded)
    parts = []
    for name in SETUPS:
        read = _read(folder / f"{name}.csv")
        if read:
            seeds = len({row["seed"] for row in read})
            parts.append(f"## {name}: {seeds} seeds\n\n{table_of(read, name)}\n")
    (folder / "tables.md").write_text("\n".join(parts))


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the setups that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(SETUPS), help="setups, with commas")
    parser.add_argument("--methods", default="", help="systems, with commas; default all")
    parser.add_argument("--data", default=None, help="persons file of the survey, of any state")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="few rows and epochs; no results kept")
    options = parser.parse_args(arguments)
    only = set(filter(None, options.methods.split(",")))
    for name in options.only.split(","):
        setup = SETUPS[name]
        if options.seeds:
            setup = dataclasses.replace(setup, seeds=options.seeds)
        folder = Path(tempfile.mkdtemp()) if options.quick else RESULTS
        has_single = any(row["method"] == SINGLE for row in _read(folder / f"{name}.csv"))
        keep = partial(write, folder, name)
        run_setup(setup, options.data, options.quick, only, has_single, keep)
        print((folder / "tables.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
