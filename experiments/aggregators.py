"""Which rules help fairness at all? Every aggregator beside the weighted sum, on four data sets.

    python experiments/aggregators.py                       # 90 minutes of one core, most of it compiles
    python experiments/aggregators.py --quick               # minutes; a look at the machinery
    python experiments/aggregators.py --only adult,lsac
    python experiments/aggregators.py --only ""             # tables and figure of what is there

Protocol. Methods are all links, on a row ``w_t (L_t + lam F_t)`` per task (``NAME``) and on rows of
accuracy and of fairness (``NAME_split``), the three methods that put accuracy or fairness first,
``baseline`` (the plain sum of these rows), ``mta_f`` and ``vanilla`` (no fairness). Constants are
those of the links, the network, the learning rate of Adagrad and the loss (a soft gap of false
positive rates) those with which every study begins. Adagrad does not see the scale of a rule.

- Data: Adult, the survey with five tasks, LSAC, and synthetic rows of three unrelated tasks, two of
  which disfavour one group and one the other, with four units to share (``synthetic``).
- A block is a data set and a seed. A seed draws 24,000 rows of the data set and deals them (6,000
  to train, 6,000 to validate, 12,000 to test), and draws the parameters and the minibatches. All
  methods of a block have the same rows, batches, initial parameters, epochs and number of runs: one
  per fairness weight ``lam`` of one grid, the same for all tasks. ``vanilla``, which has no such
  weight, has as many initial parameters instead.
- Objectives are ARE and ARFG: errors, and gaps of false positive rates of the worst attribute,
  divided by the mean of single-task networks over all seeds, in the mean over tasks. A threshold
  selects the training base rate of validation rows, so that no gap closes because nobody is
  selected. What no run of a method dominates on validation rows is its frontier; the volume that
  it dominates on test rows, up to (1.25, 1), is its score: all errors a quarter above, all gaps as
  large as those of single-task networks score 0.
- ``single task``, and two predictors that look at no row and have no gap, stand beside them and have
  no rank: ``constant``, the better of nobody and everybody, and ``at random``, which selects the
  base rate as the methods have to.

Statistics (Demsar, JMLR 2006). Ranks of volumes in every block, Friedman's test, and Nemenyi's
critical difference. Seeds of one data set are not independent data sets: blocks tell what holds on
these four, and the ranks of the means of each say how little four data sets tell of a fifth.
Differences to ``baseline`` are means over the data sets, with 95 % Student intervals over seeds,
and intervals that hold for all methods at once (Bonferroni). Half of the width of these is the
difference that could have been seen. CPU seconds are those of a method's runs in a block, the
median over seeds, without compilation.

Results go to experiments/results/aggregators, a file of runs per data set. A method that is in it
is not measured again: remove the file to do so.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from benchmark_tables import student

if TYPE_CHECKING:
    from fairjax.core.types import Dataset, Splits
    from fairjax.data import Prepared
    from fairjax.study import Study
    from fairjax.training import Runs

RESULTS = Path(__file__).parent / "results" / "aggregators"
SYNTHETIC = "synthetic"
CONFLICTS = {"tasks": 3, "relatedness": 0.0, "bias": (1.0, -1.0, 0.6)}
SETTINGS = {"adult": {}, "acs": {}, "lsac": {}, SYNTHETIC: {"trunk": (4,)}}
COMMON = {"condition": "fpr", "decision": "base_rate", "batch_size": 256}
LAMS = (0.0, 0.1, 0.3, 1.0, 2.0, 5.0)
CORNER = np.array([1.25, 1.0])  # reference point of the hypervolume, in (ARE, ARFG)
CONTROL, PLAIN = "baseline", "vanilla"
FIRST = ("fairness_surgery", "pcd_accuracy_first", "pcd_fairness_first")
SINGLE, CONSTANT, RANDOM = "single task", "constant", "at random"
SPLITS = ("validation", "test")
LEVEL = 0.05
MOST_PROGRAMS = 20  # of one compiler, which keeps them: Linux lets a process map so many sections
COLUMNS = ("method", "seed", "lam", *(f"{v}_{s}" for s in SPLITS for v in ("are", "arfg")))


class Size(NamedTuple):
    """How much is trained."""

    seeds: int = 10
    epochs: int = 8
    rows: tuple[int, int, int] = (6_000, 6_000, 12_000)  # to train, validate and test
    lams: tuple[float, ...] = LAMS


QUICK = Size(seeds=2, epochs=1, rows=(600, 300, 300), lams=(0.0, 1.0))


def all_methods() -> tuple[str, ...]:
    """Names of the methods, the control among them."""
    from fairjax import methods

    forms = [(name, f"{name}_split") for name in methods.REGISTRY]
    links = [name for pair in forms if pair[1] in methods.REGISTRY for name in pair]
    return (CONTROL, PLAIN, "mta_f", *FIRST, *links)


# ----------------------------------------------------------------------------------------- the runs


class Bench:
    """One data set: its rows, the methods' programs, and the denominators of ARE and ARFG."""

    def __init__(self, name: str, methods: Sequence[str], size: Size):
        from fairjax.study import from_names, named_study
        from fairjax.training import Compiler

        self.size = size
        self.data = read(name, size)
        self.rows = jax.tree.map(lambda *parts: np.concatenate(parts), *self.data.splits)
        settings = {**COMMON, **SETTINGS[name], "methods": methods, "epochs": size.epochs}
        self.study: Study = from_names(self.data.spec, named_study(**settings))
        self.devices = jax.local_devices()[:1]
        self._compiler = Compiler()
        self._programs = {}
        self._forgotten = 0

    def dealt(self, seed: int) -> Splits:
        """The rows of a seed."""
        from fairjax.core.types import Splits

        order = np.random.default_rng(seed).permutation(len(self.rows.weight))
        ends = np.cumsum(self.size.rows)
        parts = np.split(order[: ends[-1]], ends[:-1])
        return Splits(*(jax.tree.map(lambda leaf, p=part: leaf[p], self.rows) for part in parts))

    def sweep(self, method: str, points: dict, members: Sequence[int], seed: int) -> Runs:
        """All points with all members, which are seeds of initial parameters."""
        from fairjax.training import Program, sweep

        study = self.study
        config = study.config.train_config
        if method not in self._programs:
            self._programs[method] = Program(
                study.recipes[method],
                config,
                study.evaluate,
                devices=self.devices,
                compiler=self._compiler,
                measured=len(self.size.lams),
            )
        return sweep(
            study.recipes[method],
            config,
            points,
            members,
            self.dealt(seed),
            study.evaluate,
            root=seed,
            devices=self.devices,
            program=self._programs[method],
            chunk=len(points["weight"]) * len(members),
        )

    def forget(self, method: str) -> None:
        """Let go of a method's program, and of all that was compiled before a process is full."""
        from fairjax.training import Compiler

        del self._programs[method]
        self._forgotten += 1
        if self._forgotten % MOST_PROGRAMS == 0:
            self._compiler = Compiler()

    def errors_and_gaps(self, runs: Runs, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Errors and worst gaps ``[M, T]``."""
        from fairjax.metrics import Metric

        spec, metrics = self.study.spec, runs.metrics["plain"]
        gap = "false_positive_rate_difference"
        errors = [metrics[Metric("error", task.name, split=split)] for task in spec.tasks]
        gaps = [
            np.max(
                [
                    np.abs(metrics[Metric(gap, task.name, attribute=a.name, split=split)])
                    for a in spec.attributes
                ],
                axis=0,
            )
            for task in spec.tasks
        ]
        return np.stack(errors, axis=1), np.stack(gaps, axis=1)

    @cached_property
    def single(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Errors and gaps ``[seeds, T]`` of single-task networks, by split."""
        from fairjax.study import REFERENCE
        from fairjax.training import grid

        tasks = np.arange(len(self.study.spec.tasks))
        points = grid(self.study.recipes[REFERENCE].space, {"weight": np.eye(len(tasks))})
        found = [self.sweep(REFERENCE, points, [0], seed) for seed in range(self.size.seeds)]
        own = {}
        for split in SPLITS:
            pairs = [self.errors_and_gaps(runs, split) for runs in found]
            error, gap = (np.stack(values)[:, tasks, tasks] for values in zip(*pairs, strict=True))
            own[split] = error, gap
        self.forget(REFERENCE)
        return own

    def relative(self, errors: np.ndarray, gaps: np.ndarray, split: str) -> np.ndarray:
        """ARE and ARFG ``[M, 2]``."""
        from fairjax.metrics import are, arfg, denominator

        error, gap = (denominator(values).mean for values in self.single[split])
        return np.stack([are(errors, error), arfg(gaps, gap)], axis=1)

    def references(self) -> Iterator[dict]:
        """Single-task networks, and predictors that look at no row."""
        for seed in range(self.size.seeds):
            splits = self.dealt(seed)
            selected = shares(splits.train)
            found: dict[str, dict] = {SINGLE: {}, CONSTANT: {}, RANDOM: {}}
            for split in SPLITS:
                errors, gaps = self.single[split]
                found[SINGLE][split] = self.relative(errors[[seed]], gaps[[seed]], split)
                for name, blind in blind_errors(selected, shares(getattr(splits, split))).items():
                    point = self.relative(blind[None], np.zeros_like(blind)[None], split)
                    found[name][split] = point
            for name, points in found.items():
                yield from lines(name, seed, (np.nan,), points, 0.0)

    def runs_of(self, method: str) -> Iterator[dict]:
        """All blocks of a method."""
        from fairjax.training import grid

        space = self.study.recipes[method].space
        lams = self.size.lams
        for seed in range(self.size.seeds):
            begin = time.process_time()
            if "lam" in space:
                runs = self.sweep(method, grid(space, {"lam": lams}), [0], seed)
            else:
                runs = self.sweep(method, grid(space, {}), range(len(lams)), seed)
            seconds = time.process_time() - begin
            points = {
                split: np.where(
                    runs.diverged[:, None],
                    np.nan,
                    self.relative(*self.errors_and_gaps(runs, split), split),
                )
                for split in SPLITS
            }
            shown = lams if "lam" in space else (np.nan,) * len(lams)
            yield from lines(method, seed, shown, points, seconds)
        self.forget(method)


def read(name: str, size: Size) -> Prepared:
    """All rows of a data set."""
    from fairjax import load
    from fairjax.data.sets.synthetic import synthetic

    if name == SYNTHETIC:
        return synthetic(2 * sum(size.rows), seed=0, **CONFLICTS)
    return load(name, seed=0)


def shares(rows: Dataset) -> np.ndarray:
    """Share ``[T]`` of label 1 among known labels."""
    pairs = zip(rows.labels.T, rows.label_mask.T, strict=True)
    return np.array([np.mean(label[mask > 0]) for label, mask in pairs])


def blind_errors(selected: np.ndarray, share: np.ndarray) -> dict[str, np.ndarray]:
    """Errors ``[T]`` of the best constant, and of a share that is selected at random."""
    return {
        CONSTANT: np.minimum(share, 1 - share),
        RANDOM: selected * (1 - share) + (1 - selected) * share,
    }


def lines(
    method: str, seed: int, lams: Sequence[float], points: dict[str, np.ndarray], seconds: float
) -> Iterator[dict]:
    """A row of the file per run; the seconds are those of all of them."""
    for i, lam in enumerate(lams):
        values = [value for split in SPLITS for value in points[split][i]]
        numbers = [f"{value:.4f}" for value in values]
        entry = dict(zip(COLUMNS, (method, str(seed), f"{lam:g}", *numbers), strict=True))
        yield entry | {"seconds": f"{seconds:.2f}"}


def measure(name: str, path: Path, methods: Sequence[str], size: Size) -> None:
    """Add the methods that a data set's file lacks."""
    bench = Bench(name, methods, size)
    there = {row["method"] for row in read_runs(path)}
    if SINGLE not in there:
        append(path, bench.references())
    for method in methods:
        if method in there:
            continue
        begin = time.process_time()
        append(path, bench.runs_of(method))
        print(f"{name} {method}: {time.process_time() - begin:.1f} CPU s", flush=True)


def append(path: Path, entries: Iterator[dict]) -> None:
    """Write rows behind those of the file, all or none."""
    rows = read_runs(path) + list(entries)
    part = path.with_suffix(".part")
    with open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "seconds"))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def read_runs(path: Path) -> list[dict]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def conflicts(name: str, size: Size) -> dict[str, float]:
    """Share of steps in which two rows of the trunk are in conflict, by kind of pair.

    Steps are those of ``pcgrad_split`` at ``lam`` 1, shares are means over pairs and layers.
    """
    from fairjax.report import conflict_shares
    from fairjax.study import Point, conflicts_of

    method = "pcgrad_split"
    bench = Bench(name, (method,), size)
    space = bench.study.recipes[method].space
    hparams = {key: np.float32(interval.default) for key, interval in space.items()}
    data = dataclasses.replace(bench.data, splits=bench.dealt(0))
    cosines, rows, layers = conflicts_of(data, bench.study, Point(method, hparams, 0, None))
    is_trunk = np.array([layer.startswith("trunk") for layer in layers])
    share = np.nanmean(conflict_shares(cosines[:, is_trunk]), axis=0)
    tasks = len(rows) // 2
    first, second = np.triu_indices(tasks, 1)
    return {
        "two accuracies": float(np.nanmean(share[first, second])),
        "two fairness losses": float(np.nanmean(share[tasks + first, tasks + second])),
        "accuracy and fairness of a task": float(np.nanmean(np.diag(share[:tasks, tasks:]))),
    }


# --------------------------------------------------------------------------------- the statistics


def volumes_of(rows: Sequence[dict]) -> dict[str, np.ndarray]:
    """Volumes ``[seeds]`` of one data set by method: frontier on validation, volume on test."""
    from fairjax.metrics.frontier import hypervolume, nondominated

    blocks: dict[tuple[str, int], list[list[float]]] = {}
    for row in rows:
        point = [float(row[f"{value}_{split}"]) for split in SPLITS for value in ("are", "arfg")]
        blocks.setdefault((row["method"], int(row["seed"])), []).append(point)
    found: dict[str, list[float]] = {}
    for (method, _), points in sorted(blocks.items(), key=lambda entry: entry[0][1]):
        validation, test = np.split(np.array(points), 2, axis=1)
        frontier = nondominated(validation)
        found.setdefault(method, []).append(hypervolume(test[frontier], CORNER))
    return {method: np.array(of_seeds) for method, of_seeds in found.items()}


def ranks(volumes: np.ndarray) -> np.ndarray:
    """Mean ranks ``[k]`` over N blocks of volumes ``[N, k]``; 1 is the largest volume."""
    from scipy.stats import rankdata

    return rankdata(-volumes, axis=1).mean(axis=0)


def friedman(volumes: np.ndarray) -> tuple[float, float]:
    """Friedman's statistic of N blocks ``[N, k]``, corrected for ties, and its p-value."""
    from scipy.stats import friedmanchisquare

    statistic, p = friedmanchisquare(*volumes.T)
    return float(statistic), float(p)


def critical_value(methods: int) -> float:
    """Nemenyi's ``q`` at 5 %: the studentized range over the root of 2."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / np.sqrt(2)


def critical_difference(methods: int, blocks: int) -> float:
    """Distance of mean ranks of two methods that differ, ``q sqrt(k (k + 1) / (6 N))``."""
    return critical_value(methods) * np.sqrt(methods * (methods + 1) / (6 * blocks))


def interval(values: np.ndarray, comparisons: int = 1) -> tuple[float, float]:
    """Mean over seeds, and half the width of its Student interval, of all comparisons at once."""
    from scipy.stats import t

    count = len(values)
    quantile = t.ppf(1 - LEVEL / (2 * comparisons), count - 1)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(count))


def cliques(mean_ranks: np.ndarray, distance: float) -> list[tuple[float, float]]:
    """Ends of the widest ranges of ranks no wider than a distance, those of one method left out."""
    ordered = np.sort(mean_ranks)
    ends = [ordered[ordered <= low + distance][-1] for low in ordered]
    found = []
    for low, high in zip(ordered, ends, strict=True):
        if high > low and (not found or high > found[-1][1]):
            found.append((float(low), float(high)))
    return found


class Measured(NamedTuple):
    """Volumes of the methods that all data sets have."""

    sets: tuple[str, ...]
    methods: tuple[str, ...]
    volume: np.ndarray  # [D, seeds, k]
    seconds: np.ndarray  # [D, k] of a block
    diverged: np.ndarray  # [D, k] runs
    references: dict[str, np.ndarray]  # [D] mean volumes of what has no rank

    @property
    def blocks(self) -> np.ndarray:
        """Volumes ``[D * seeds, k]``."""
        return self.volume.reshape(-1, len(self.methods))

    @property
    def means(self) -> np.ndarray:
        """Volumes ``[D, k]``, means over seeds."""
        return self.volume.mean(axis=1)

    def less(self, method: str, other: str) -> np.ndarray:
        """Differences ``[D, seeds]`` of two methods' volumes."""
        first, second = (self.methods.index(name) for name in (method, other))
        return self.volume[:, :, first] - self.volume[:, :, second]


def read_measured(folder: Path) -> Measured:
    """What the files of a folder tell."""
    rows = {name: read_runs(folder / f"{name}.csv") for name in SETTINGS}
    rows = {name: of_set for name, of_set in rows.items() if of_set}
    volumes = {name: volumes_of(of_set) for name, of_set in rows.items()}
    seconds = {name: seconds_of(of_set) for name, of_set in rows.items()}
    diverged = {
        name: Counter(row["method"] for row in of_set if row["are_test"] == "nan")
        for name, of_set in rows.items()
    }
    methods = [
        method for method in all_methods() if all(method in of_set for of_set in volumes.values())
    ]
    return Measured(
        tuple(volumes),
        tuple(methods),
        np.stack([np.stack([v[m] for m in methods], axis=1) for v in volumes.values()]),
        np.array([[of_set[method] for method in methods] for of_set in seconds.values()]),
        np.array([[of_set[method] for method in methods] for of_set in diverged.values()]),
        {
            name: np.array([of_set[name].mean() for of_set in volumes.values()])
            for name in (SINGLE, CONSTANT, RANDOM)
        },
    )


def seconds_of(rows: Sequence[dict]) -> dict[str, float]:
    """CPU seconds of a block by method, the median over seeds."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["method"], {})[row["seed"]] = float(row["seconds"])
    return {method: float(np.median(list(of_seeds.values()))) for method, of_seeds in found.items()}


# --------------------------------------------------------------------------- the tables and figure


def table(measured: Measured) -> str:
    """A Markdown table: a line per method, the best rank first."""
    sets, means = measured.sets, measured.means
    of_blocks, of_means = ranks(measured.blocks), ranks(means)
    rivals = len(measured.methods) - 1
    columns = [
        "method",
        "rank",
        "rank of means",
        *(f"volume: {name}" for name in sets),
        "mean",
        f"less {CONTROL}'s",
        "of all at once",
        "CPU seconds",
    ]
    found = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for i in np.argsort(of_blocks, kind="stable"):
        method = measured.methods[i]
        cells = [method, f"{of_blocks[i]:.1f}", f"{of_means[i]:.1f}"]
        cells += [f"{volume:.3f}" for volume in (*means[:, i], means[:, i].mean())]
        if method == CONTROL:
            cells += ["", ""]
        else:
            less = measured.less(method, CONTROL).mean(axis=0)
            cells += [student(less), f"± {interval(less, rivals)[1]:.4f}"]
        cells.append(f"{measured.seconds[:, i].mean():.2f}")
        found.append("| " + " | ".join(cells) + " |")
    for name, volume in measured.references.items():
        cells = [name, "", "", *(f"{v:.3f}" for v in (*volume, volume.mean())), "", "", ""]
        found.append("| " + " | ".join(cells) + " |")
    return "\n".join(found) + "\n"


def summary(measured: Measured) -> str:
    """What came out, in sentences."""
    sets, seeds, k = measured.volume.shape
    statistic, p = friedman(measured.blocks)
    blocks = sets * seeds
    of_blocks = ranks(measured.blocks)
    own = of_blocks[measured.methods.index(CONTROL)]
    distance = critical_difference(k, blocks)
    better = [m for m, r in zip(measured.methods, of_blocks, strict=True) if r < own - distance]
    worse = [m for m, r in zip(measured.methods, of_blocks, strict=True) if r > own + distance]
    sentences = [
        f"- {k} methods, {sets} data sets, {seeds} seeds. Friedman over {blocks} blocks: "
        f"chi2 = {statistic:.0f}, p = {p:.1g}. Two methods differ whose ranks are {distance:.1f} "
        f"apart. `{CONTROL}` has rank {own:.1f}. Better by that test: {listing(better)}. "
        f"Worse: {listing(worse)}.",
        f"- With a data set as a block ({sets} blocks) ranks would have to be "
        f"{critical_difference(k, sets):.0f} apart, of at most {k - 1}.",
        _differences(measured),
        *_in_sets(measured),
        *_forms(measured),
    ]
    beaten = np.flatnonzero(measured.references[CONSTANT] > measured.means.max(axis=1))
    sentences.append(
        "- Data sets on which a constant predictor dominates more than any method: "
        f"{listing([measured.sets[d] for d in beaten])}."
    )
    counts = zip(measured.methods, measured.diverged.sum(axis=0), strict=True)
    diverged = [f"`{method}` ({count})" for method, count in counts if count]
    sentences.append(
        f"- Runs that diverged, which count for nothing: {', '.join(diverged) or 'none'}."
    )
    return "\n".join(sentences) + "\n"


def _differences(measured: Measured) -> str:
    """The methods whose intervals of all at once leave out 0."""
    rivals = [method for method in measured.methods if method != CONTROL]
    found = {
        method: interval(measured.less(method, CONTROL).mean(axis=0), len(rivals))
        for method in rivals
    }
    above = [method for method, (mean, half) in found.items() if mean > half]
    below = [method for method, (mean, half) in found.items() if mean < -half]
    halves = [half for _, half in found.values()]
    level = measured.means[:, measured.methods.index(CONTROL)].mean()
    return (
        f"- Mean volume over the data sets, less `{CONTROL}`'s {level:.3f}, by intervals that hold "
        f"for all {len(rivals)} at once: above {listing(above)}; below {listing(below)}. A "
        f"difference of {np.median(halves):.3f} could have been seen (median; from "
        f"{min(halves):.3f} to {max(halves):.3f})."
    )


def _in_sets(measured: Measured) -> Iterator[str]:
    """The same in every data set."""
    rivals = [method for method in measured.methods if method != CONTROL]
    for d, name in enumerate(measured.sets):
        found = {m: interval(measured.less(m, CONTROL)[d], len(rivals)) for m in rivals}
        above = [method for method, (mean, half) in found.items() if mean > half]
        below = [method for method, (mean, half) in found.items() if mean < -half]
        half = np.median([half for _, half in found.values()])
        yield (
            f"- On {name} alone: above {listing(above)}; below {listing(below)}; "
            f"{half:.3f} could have been seen (median)."
        )


def _forms(measured: Measured) -> Iterator[str]:
    """Rows of fairness of their own against one row per task."""
    pairs = [(m, f"{m}_split") for m in measured.methods if f"{m}_split" in measured.methods]
    if not pairs:
        return
    less = np.stack([measured.less(split, own) for own, split in pairs])  # [R, D, seeds]
    sets = ", ".join(
        f"{name} {student(of_set)}"
        for name, of_set in zip(measured.sets, less.mean(axis=0), strict=True)
    )
    higher = int((less.mean(axis=(1, 2)) > 0).sum())
    yield (
        f"- Rows of fairness of their own, less one row per task, in the mean of {len(pairs)} "
        f"rules: {student(less.mean(axis=(0, 1)))} ({sets}); {higher} of {len(pairs)} rules are "
        "better with them."
    )


def listing(names: Sequence[str]) -> str:
    """Names between commas."""
    return ", ".join(f"`{name}`" for name in names) or "none"


def conflict_table(found: dict[str, dict[str, float]]) -> str:
    """A Markdown table: a line per data set."""
    kinds = list(next(iter(found.values())))
    rows = [f"| data | {' | '.join(kinds)} |", "|" + "---|" * (1 + len(kinds))]
    for name, shares in found.items():
        rows.append(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares.values())} |")
    return "\n".join(rows) + "\n"


def draw_ranks(measured: Measured) -> bytes:
    """The critical-difference diagram as PNG."""
    from matplotlib.figure import Figure

    from fairjax.report.drawing import COLOURS, house_style, png

    values = ranks(measured.blocks)
    order = np.argsort(values, kind="stable")
    count = len(values)
    distance = critical_difference(count, len(measured.blocks))
    bars = cliques(values, distance)
    half = (count + 1) // 2
    left, right = order[:half], order[half:][::-1]
    with house_style():
        figure = Figure(figsize=(8.0, 1.6 + 0.155 * half + 0.07 * len(bars)), dpi=150)
        ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        low, high = 1.0, float(count)
        span = high - low
        top = 0.07 * len(bars) / 0.155 + 1.0  # of the names, in lines
        ax.set(xlim=(low - 0.42 * span, high + 0.42 * span), ylim=(half + top, -5.5))
        ax.axis("off")
        own = values[measured.methods.index(CONTROL)]
        band = np.clip((own - distance, own + distance), low, high)
        ax.axvspan(*band, ymin=0, ymax=0.93, color="0.94", lw=0, zorder=-1)
        ax.plot((low, high), (0, 0), color="0.2", lw=1.0, solid_capstyle="butt")
        ticks = [1, *range(10, count, 10), count]
        for tick in ticks:
            ax.plot((tick, tick), (0, -0.4), color="0.2", lw=0.8)
            ax.text(tick, -0.7, str(tick), ha="center", va="bottom", fontsize=7.5)
        ax.plot((low, low + distance), (-3.2, -3.2), color="0.2", lw=1.6)
        ax.text(low + distance / 2, -3.6, f"CD = {distance:.1f}", ha="center", fontsize=8)
        for i, (start, end) in enumerate(bars):
            y = 0.7 + i * 0.45
            ax.plot((start - 0.2, end + 0.2), (y, y), color="0.3", lw=1.8, solid_capstyle="butt")
        for names, side in ((left, -1), (right, 1)):
            edge = (low - 0.03 * span) if side < 0 else (high + 0.03 * span)
            for line, i in enumerate(names):
                y = top + line
                colour = COLOURS[1] if measured.methods[i] == CONTROL else "0.1"
                line_colour = colour if measured.methods[i] == CONTROL else "0.75"
                ax.plot(
                    (values[i], values[i], edge), (0, y, y), color=line_colour, lw=0.6, zorder=0
                )
                ax.text(
                    edge + side * 0.01 * span,
                    y,
                    f"{measured.methods[i]}  {values[i]:.1f}",
                    ha="right" if side < 0 else "left",
                    va="center",
                    fontsize=7,
                    color=colour,
                )
        return png(figure)


def write(folder: Path, found: dict[str, dict[str, float]]) -> str:
    """Tables and figure of a folder; shares of conflicts where they were measured."""
    measured = read_measured(folder)
    text = summary(measured)
    (folder / "summary.md").write_text(text)
    (folder / "aggregators.md").write_text(table(measured))
    (folder / "ranks.png").write_bytes(draw_ranks(measured))
    if found:
        (folder / "conflicts.md").write_text(conflict_table(found))
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the data sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(SETTINGS), help="data sets, with commas")
    parser.add_argument("--methods", default=",".join(all_methods()), help="with commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else Size()
    folder = Path(tempfile.mkdtemp()) if options.quick else options.out
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in options.only.split(",") if name]
    for name in names:
        measure(name, folder / f"{name}.csv", options.methods.split(","), size)
    found = {name: conflicts(name, size) for name in names if len(names) == len(SETTINGS)}
    print(write(folder, found), flush=True)


if __name__ == "__main__":
    main()
