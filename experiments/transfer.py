"""Fairness transfer between tasks: "Transferring fairness using multi-task learning with limited
demographic information" (Aguirre, Dredze, 2023) on tables and on texts, and the questions it
leaves open.

    python experiments/transfer.py                 # half an hour on two cores
    python experiments/transfer.py --quick         # five minutes; for a look at the machinery

Protocol. Every row knows the label of one task only: the rows of a table are dealt to its tasks at
random, anew for every seed; of texts each language is a task. The tweets are token ids, so that a
network learns them from nothing; HateCheck's texts are read in two ways, by a pretrained network
("hatecheck_use") and from nothing ("hatecheck_scratch"), on the same rows. mtl_fair trains the target with
an auxiliary task and penalises epsilon-DEO on the auxiliary task alone; no demographics of the
target are used in training. "reach 0" is the same with the penalty's gradient stopped before the
heads. Strengths are chosen per seed on validation rows, by the target's macro F1 ("utility"), by it
and the auxiliary task's epsilon ("pareto_aux"), or by it and the target's own epsilon
("pareto_target", which needs demographics of the target's validation rows). Reported are test rows:
macro F1 and epsilon-DEO of decisions at the base rate of the training labels; columns with @0.5
have those at probability one half. Differences are paired by seed, with 95 % Student intervals. All
runs of a table but sequential and BLIND, which are programs of their own, are one sweep per seed,
with one compilation. Results go to experiments/results/transfer.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.types import Array, Spec, Splits
    from fairjax.methods import Method
    from fairjax.metrics import Metric
    from fairjax.objectives import Penalty
    from fairjax.study import Study

RESULTS = Path(__file__).parent / "results" / "transfer"
RULES = ("utility", "pareto_aux", "pareto_target")
EPSILON = "differential_equalized_odds"
F1 = "macro_f1"
SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Setup:
    """One data set and its settings.

    ``axes`` are the attributes whose product is reported; two of them are an intersection.
    """

    name: str
    data: str
    sensitive: tuple[str, ...]
    axes: tuple[int, ...] = (0,)
    tasks: tuple[str, ...] | None = None  # None for all
    lams: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    seeds: int = 10
    epochs: int = 10
    batch: int = 256  # rows of each task in a batch
    learning_rate: float = 0.05
    trunk: tuple[int, ...] = (64,)
    head: tuple[int, ...] = (32,)
    chunk: int = 8  # members per device
    together: int | None = None  # tasks in a batch; None for all
    extras: bool = True  # sequential and BLIND too
    form: str = "corrected"
    encoder: str | None = None  # a pretrained network that reads the texts

    @property
    def title(self) -> str:
        """The data set and its attributes."""
        names = [rule.partition(":")[0] for rule in self.sensitive]
        read = f"{self.data} by {self.encoder}" if self.encoder else self.data
        return f"{read}, {' x '.join(names)}"


GENDER = "about_gender: target in women, gay people, trans people"
HATECHECK = {"lams": (1.0, 10.0), "seeds": 5, "batch": 64, "together": 2, "form": "languages"}
TWEETS = {"lams": (1.0, 10.0), "seeds": 5, "epochs": 2, "batch": 48, "chunk": 2, "together": 2}
MANY = {"lams": (1.0, 10.0), "seeds": 5}
TABLES = {
    setup.name: setup
    for setup in (
        Setup("adult", "adult", ("sex",)),
        Setup("lsac", "lsac", ("race",)),
        Setup("acs", "acs", ("race",), **MANY),
        Setup("text", "multilingual_hate", ("gender",), **TWEETS),
        Setup("hatecheck_use", "hatecheck", (GENDER,), **HATECHECK, encoder="use"),
        Setup("hatecheck_scratch", "hatecheck", (GENDER,), **HATECHECK, chunk=2, extras=False),
        Setup("adult_cross", "adult", ("sex", "race == White"), (0, 1), extras=False),
        Setup(
            "acs_cross",
            "acs",
            ("sex", "race"),
            (0, 1),
            ("income", "employed", "coverage"),
            **MANY,
            extras=False,
        ),
        Setup("text_cross", "multilingual_hate", ("gender", "age"), (0, 1), **TWEETS, extras=False),
        Setup("adult_race", "adult", ("race",), extras=False),
    )
}
AGE = Setup("adult_age", "adult", ("older: age > 38", "years: age :number"))
TOKENS = 24  # of a tweet; one in seventeen has more


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting: a variant, for a pair of tasks, with its strength."""

    variant: str
    target: int
    auxiliary: int | None
    lam: float = 0.0
    head_penalty_scale: float = 1.0
    alone: bool = False  # the first attribute of two, as a control

    @property
    def label(self) -> str:
        """The variant's name in tables."""
        if self.head_penalty_scale == 0:
            return f"{self.variant}, reach 0"
        return f"{self.variant}, one attribute" if self.alone else self.variant

    @property
    def views(self) -> list[Point]:
        """The points that a run stands for.

        Without a penalty each of the two tasks is the target, with the other as its auxiliary.
        """
        if self.variant != "mtl_base":
            return [self]
        return [self, dataclasses.replace(self, target=self.auxiliary, auxiliary=self.target)]


# ----------------------------------------------------------------------------------------- training


def load_setup(setup: Setup) -> tuple[Spec, Splits]:
    """Spec and splits with the chosen tasks only."""
    from fairjax import load

    prepared = load(setup.data, form=setup.form, sensitive=setup.sensitive, encoder=setup.encoder)
    spec = prepared.spec
    splits = prepared.splits
    if setup.tasks is None:
        return spec, splits
    columns = [i for i, task in enumerate(spec.tasks) if task.name in setup.tasks]

    def with_columns(rows):
        rows = rows._replace(labels=rows.labels[:, columns], label_mask=rows.label_mask[:, columns])
        labelled = np.asarray(rows.label_mask).max(axis=1) > 0
        return jax.tree.map(lambda leaf: np.asarray(leaf)[labelled], rows)

    spec = dataclasses.replace(spec, tasks=tuple(spec.tasks[i] for i in columns))
    return spec, type(splits)(*map(with_columns, splits))


def deal_rows(spec: Spec, splits: Splits, seed: int) -> Splits:
    """Let every training and validation row know one task: at random, or, of texts, as it is."""
    from fairjax.data import Part, mask_supervision

    if splits.train.label_mask.sum(axis=1).max() <= 1:
        return splits
    attributes = tuple(attribute.name for attribute in spec.attributes)
    parts = [Part((task.name,), attributes) for task in spec.tasks]
    return mask_supervision(splits, spec, parts, seed)


def evaluator(study: Study, axes: tuple[int, ...]) -> Callable:
    """Differential fairness of every attribute with levels, and of the product of ``axes``.

    The metrics of the study are added where an attribute is a number.
    """
    from fairjax.metrics import base_rates, evaluate_differential
    from fairjax.study import evaluator as study_evaluator

    spec = study.spec
    attributes = spec.attributes
    crossings = [(i,) for i, attribute in enumerate(attributes) if not attribute.continuous]
    if len(axes) > 1:
        crossings.append(axes)
    has_numbers = any(attribute.continuous for attribute in attributes)

    def correlations(scores: dict[str, Array], splits: Splits) -> dict[Metric, Array]:
        found = {}
        for threshold, decision in (("", "transductive"), ("0.5", "half")):
            config = dataclasses.replace(study.config, decision=decision)
            measured = study_evaluator(spec, config)(scores, splits)["plain"]
            for key, value in measured.items():
                found[key._replace(threshold=threshold)] = value
        return found

    def evaluate(scores: dict[str, Array], splits: Splits) -> dict[Metric, Array]:
        metrics = correlations(scores, splits) if has_numbers else {}
        rates = base_rates(spec, splits.train)
        for split in SPLITS:
            rows = getattr(splits, split)
            measured = evaluate_differential(spec, scores[split], rows, rates, crossings)
            metrics |= {key._replace(split=split): value for key, value in measured.items()}
        return metrics

    return evaluate


class Bench:
    """The data of a setup, and the sweeps on it; one compilation per sweep, whatever the seed."""

    def __init__(self, setup: Setup, quick: bool):
        from fairjax.study import StudyConfig

        self.setup = setup
        self.quick = quick
        self.spec, splits = load_setup(setup)
        if self.spec.vocab_size:
            splits = _map_splits(lambda rows: rows._replace(x=_first_tokens(rows.x)), splits)
        self.splits = _map_splits(_spread_rows(1500), splits) if quick else splits
        tasks_per_batch = setup.together or len(self.spec.tasks)
        self.config = StudyConfig(
            epochs=2 if quick else setup.epochs,
            batch_size=setup.batch * tasks_per_batch,
            learning_rate=setup.learning_rate,
            reduction="mean",
        )
        self.attribute = " & ".join(self.spec.attributes[axis].name for axis in setup.axes)

    @property
    def tasks(self) -> range:
        """Indices of the tasks."""
        return range(len(self.spec.tasks))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Target and auxiliary task, in every order."""
        return [(0, 1), (1, 0)] if self.quick else list(itertools.permutations(self.tasks, 2))

    def steps(self) -> int:
        """Steps of a run."""
        return self.config.epochs * -(-len(self.splits.train.weight) // self.config.batch_size)

    def study(self, name: str, method: Method) -> Study:
        """The study of one method."""
        from fairjax.models import network
        from fairjax.study import make_study

        model = network(self.spec, self.setup.trunk, self.setup.head, 10)
        return make_study(self.spec, {name: method}, model=model, config=self.config)

    def run(
        self, name: str, method: Method, points: list[Point], hparams: list[dict], seeds: int
    ) -> list[dict]:
        """Train all points with all seeds; a row per run.

        Each seed is a sweep of its own, since it has its own deal of the rows.
        """
        from fairjax.training import Program, sweep

        begin = time.perf_counter()
        study = self.study(name, method)
        recipe = study.recipes[name]
        train_config = self.config.train_config
        evaluate = evaluator(study, self.setup.axes)
        devices = jax.local_devices()
        program = Program(recipe, train_config, evaluate, devices=devices)
        stacked = {key: np.stack([point[key] for point in hparams]) for key in hparams[0]}
        stacked["learning_rate"] = np.full(len(points), self.config.learning_rate, np.float32)
        rows = []
        for seed in range(seeds):
            runs = sweep(
                recipe,
                train_config,
                stacked,
                [seed],
                deal_rows(self.spec, self.splits, seed),
                evaluate,
                root=seed,
                program=program,
                devices=devices,
                chunk=min(self.setup.chunk, -(-len(points) // len(devices))),
            )
            for i, point in enumerate(points):
                metrics = {key: float(values[i]) for key, values in runs.metrics.items()}
                for view in point.views:
                    rows.append(self.row(view, seed, bool(runs.diverged[i]), metrics))
        assert runs.compilations == 1
        seconds = time.perf_counter() - begin
        print(f"  {name}: {len(points) * seeds} runs, {seconds:.0f} s", flush=True)
        return rows

    def row(self, point: Point, seed: int, diverged: bool, metrics: dict[Metric, float]) -> dict:
        """One line of the results: names, and metrics of the target and of the auxiliary task."""
        names = {"target": self.spec.tasks[point.target].name}
        if point.auxiliary is not None:
            names["auxiliary"] = self.spec.tasks[point.auxiliary].name
        row = {
            "table": self.setup.name,
            "variant": point.label,
            "target": names["target"],
            "auxiliary": names.get("auxiliary", ""),
            "lam": point.lam,
            "seed": seed,
            "diverged": diverged,
        }
        for role, task in names.items():
            for split, threshold in itertools.product(SPLITS, ("", "0.5")):
                suffix = f"@{threshold}" if threshold else ""
                for name, key in self.measures(task, split, threshold).items():
                    row[f"{split}.{role}.{name.format(suffix=suffix)}"] = metrics[key]
        return row

    def measures(self, task: str, split: str, threshold: str) -> dict[str, Metric]:
        """Metrics of a task that are reported, by the name of the column."""
        from fairjax.metrics import Metric

        subject = Metric("", task, threshold=threshold, split=split)
        epsilon = subject._replace(metric=EPSILON)
        measures = {
            "f1{suffix}": subject._replace(metric=F1),
            "epsilon{suffix}": epsilon._replace(attribute=self.attribute),
        }
        for attribute in self.spec.attributes:
            name = attribute.name
            if not attribute.continuous and name != self.attribute:
                measures[f"epsilon{{suffix}} {name}"] = epsilon._replace(attribute=name)
        for attribute in self.spec.attributes:
            if attribute.continuous:
                correlation = subject._replace(metric="correlation_given_label")
                measures["correlation{suffix}"] = correlation._replace(attribute=attribute.name)
        return measures


def _map_splits(change: Callable, splits: Splits) -> Splits:
    return type(splits)(*map(change, splits))


def _first_tokens(sentences):
    return sentences._replace(tokens=sentences.tokens[:, :TOKENS])


def _spread_rows(count: int) -> Callable:
    """Rows from all of the data, where they are in an order, as texts by their language."""

    def chosen(rows):
        places = np.linspace(0, len(rows.weight) - 1, count).astype(int)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[places], rows)

    return chosen


def _first_rows(count: int) -> Callable:
    return lambda rows: jax.tree.map(lambda leaf: np.asarray(leaf)[:count], rows)


# ------------------------------------------------------------------------------------------- points


def penalties_of(bench: Bench, attributes: Sequence[tuple[int, ...]], **options) -> list[Penalty]:
    """One penalty per task and set of attributes, after a burn-in of a tenth of the steps."""
    from fairjax.methods import differential_penalty

    burn_in = bench.steps() // 10
    return [
        differential_penalty(task, crossed, burn_in=burn_in, **options)
        for task in bench.tasks
        for crossed in attributes
    ]


def hparams_of(bench: Bench, points: list[Point], penalties: list[Penalty]) -> list[dict]:
    """Hyper-parameters of the points of a sweep of transfer."""
    from fairjax.methods import settings

    axes = bench.setup.axes
    return [
        settings(
            point.variant,
            bench.spec,
            penalties,
            point.target,
            point.auxiliary,
            lam=point.lam,
            head_penalty_scale=point.head_penalty_scale,
            attributes=axes[:1] if point.alone else axes,
        )
        for point in points
    ]


def base_points(bench: Bench) -> list[Point]:
    """Every task alone, without a penalty."""
    return [Point("stl_base", task, None) for task in bench.tasks]


def single_points(bench: Bench, variant: str, alone: bool = False) -> list[Point]:
    """Every task alone, penalised with every strength."""
    return [
        Point(variant, task, None, lam, alone=alone)
        for task in bench.tasks
        for lam in bench.setup.lams
    ]


def paired_points(bench: Bench, variant: str, lams: Sequence[float]) -> list[Point]:
    """Every ordered pair of tasks with every strength, with and without the heads' reach."""
    return [
        Point(variant, target, auxiliary, lam, scale)
        for target, auxiliary in bench.pairs
        for lam in lams
        for scale in (1.0, 0.0)
    ]


def main_points(bench: Bench) -> list[Point]:
    """Every variant of the one-sweep family."""
    is_crossed = len(bench.setup.axes) > 1
    single = "stl_inter" if is_crossed else "stl_fair"
    paired = "mtl_inter" if is_crossed else "mtl_fair"
    points = base_points(bench) + single_points(bench, single)
    if is_crossed:
        points += single_points(bench, "stl_fair", alone=True)
    points += [Point("mtl_base", first, second) for first, second in bench.pairs if first < second]
    return points + paired_points(bench, paired, bench.setup.lams)


# ------------------------------------------------------------------------------------------ studies


def transfer_table(bench: Bench, seeds: int) -> list[dict]:
    """All variants on all ordered pairs of tasks."""
    from fairjax.methods import blind, sequential, transfer

    axes = bench.setup.axes
    together = bench.setup.together
    separate = [axes[:1], axes[1:]] if len(axes) > 1 else []
    penalties = penalties_of(bench, [axes, *separate])
    points = main_points(bench)
    hparams = hparams_of(bench, points, penalties)
    rows = bench.run("transfer", transfer(penalties, together), points, hparams, seeds)
    if not bench.setup.extras:
        return rows
    points, hparams = sequential_points(bench, penalties)
    rows += bench.run("sequential", sequential(penalties, together), points, hparams, seeds)
    points, hparams = blind_points(bench)
    return rows + bench.run("blind", blind(tasks=together), points, hparams, seeds)


def sequential_points(
    bench: Bench, penalties: list[Penalty]
) -> tuple[list[Point], list[dict[str, np.ndarray]]]:
    """The auxiliary task first, with the largest strength, then the target, half of the epochs
    each.
    """
    from fairjax.methods import settings

    lam = bench.setup.lams[-1]
    one_hot = np.eye(len(bench.spec.tasks), dtype=np.float32)
    until = np.float32(bench.config.epochs // 2)
    points = []
    hparams = []
    for target, auxiliary in bench.pairs:
        first = settings(
            "stl_fair", bench.spec, penalties, auxiliary, lam=lam, attributes=bench.setup.axes
        )
        points.append(Point("sequential", target, auxiliary, lam))
        hparams.append(first | {"then": one_hot[target], "until": until})
    return points, hparams


def blind_points(bench: Bench) -> tuple[list[Point], list[dict[str, np.ndarray]]]:
    """Every task alone, with two values of gamma, which stand in the column of the strength."""
    one_hot = np.eye(len(bench.spec.tasks), dtype=np.float32)
    points = []
    hparams = []
    for task in bench.tasks:
        for gamma in (1.0, 4.0):
            points.append(Point("blind", task, None, gamma))
            hparams.append({"weight": one_hot[task], "gamma": np.float32(gamma)})
    return points, hparams


def notion_study(bench: Bench, seeds: int) -> list[dict]:
    """The auxiliary task penalised by one notion, the target measured by epsilon-DEO."""
    from fairjax.methods import transfer
    from fairjax.notions import differential

    points = base_points(bench) + paired_points(bench, "mtl_fair", bench.setup.lams[-1:])
    rows = []
    for name in ("odds", "opportunity", "parity"):
        rates = getattr(differential, name)
        penalties = penalties_of(bench, [bench.setup.axes], rates=rates)
        hparams = hparams_of(bench, points, penalties)
        swept = bench.run("transfer", transfer(penalties), points, hparams, seeds)
        rows += [row | {"penalty": name} for row in swept]
    return rows


def rows_study(bench: Bench, seeds: int) -> list[dict]:
    """Fewer training rows: does a network with less to learn from share more?"""
    from fairjax.methods import transfer

    splits = bench.splits
    config = bench.config
    available = len(splits.train.weight)
    rows = []
    for count in sorted({min(count, available) for count in (1_000, 4_000, 26_048)}):
        bench.splits = splits._replace(train=_first_rows(count)(splits.train))
        # as many steps as rows allow, and not fewer than for four thousand
        epochs = config.epochs * max(1, 4_000 // count)
        bench.config = dataclasses.replace(config, epochs=epochs)
        penalties = penalties_of(bench, [bench.setup.axes])
        points = [*base_points(bench), Point("mtl_base", 0, 1)]
        points += paired_points(bench, "mtl_fair", bench.setup.lams[-1:])
        hparams = hparams_of(bench, points, penalties)
        swept = bench.run("transfer", transfer(penalties), points, hparams, seeds)
        rows += [row | {"rows": count} for row in swept]
    return rows


def age_study(bench: Bench, seeds: int) -> list[dict]:
    """Age as two groups, penalised by epsilon-DEO, against age as a number.

    The number is penalised by its correlation given the label.
    """
    from fairjax.methods import transfer
    from fairjax.notions import from_distance, negatives, pearson, positives

    points = base_points(bench) + single_points(bench, "stl_fair")
    points += paired_points(bench, "mtl_fair", bench.setup.lams)
    penalties = penalties_of(bench, [(0,)])
    # both methods have one penalty per task
    hparams = hparams_of(bench, points, penalties)
    correlation = from_distance(pearson, (positives, negatives), continuous=True)
    rows = []
    for name, method in (
        ("two groups", transfer(penalties)),
        ("a number", transfer(correlation)),
    ):
        swept = bench.run("transfer", method, points, hparams, seeds)
        rows += [row | {"penalty": name} for row in swept]
    return rows


STUDIES = {"notions": notion_study, "rows": rows_study, "age": age_study}


def label_similarity(bench: Bench) -> dict[tuple[str, str], float]:
    """Absolute correlation of two tasks' labels on the training rows that know both.

    Tweets have no such rows.
    """
    train = bench.splits.train
    similarity = {}
    for first, second in bench.pairs:
        both = (train.label_mask[:, first] * train.label_mask[:, second]) > 0
        first_label = train.labels[both, first]
        second_label = train.labels[both, second]
        if both.sum() > 100 and np.ptp(first_label) and np.ptp(second_label):
            pair = (bench.spec.tasks[first].name, bench.spec.tasks[second].name)
            similarity[pair] = float(abs(np.corrcoef(first_label, second_label)[0, 1]))
    return similarity


# ------------------------------------------------------------------------------------------ reading


COLUMNS = {  # of validation rows, by the rule that reads them
    "pareto_aux": "validation.auxiliary.epsilon",
    "pareto_target": "validation.target.epsilon",
}


def choose(rows: list[dict], rule: str) -> list[dict]:
    """One row per seed: the strength that the rule selects on validation rows.

    Rows that cannot be measured are left out.
    """
    from fairjax.methods import select

    f1 = "validation.target.f1"
    needed = [f1, COLUMNS[rule]] if rule in COLUMNS else [f1]
    chosen = []
    for seed in sorted({row["seed"] for row in rows}):
        candidates = [
            row
            for row in rows
            if row["seed"] == seed
            and not row["diverged"]
            and all(np.isfinite(row[name]) for name in needed)
        ]
        if not candidates:
            continue
        error = 1 - np.array([row[f1] for row in candidates])
        unfairness = {}
        if rule in COLUMNS:
            task = "auxiliary" if rule == "pareto_aux" else "target"
            unfairness[task] = np.array([row[COLUMNS[rule]] for row in candidates])
        chosen.append(candidates[select(rule, error, **unfairness)])
    return chosen


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % Student interval over seeds."""
    from scipy.stats import t

    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    count = len(values)
    if count == 0:
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if count == 1:
        return mean, np.nan, np.nan
    half = float(t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5)
    return mean, mean - half, mean + half


def summary(rows: list[dict]) -> list[dict]:
    """F1 and epsilon on test rows, and their paired difference from stl_base.

    A line per target, auxiliary task, variant and rule.
    """
    base = {(row["target"], row["seed"]): row for row in rows if row["variant"] == "stl_base"}
    names = ("target", "auxiliary", "variant")
    by_kind: dict[tuple, list[dict]] = {}
    for row in rows:
        by_kind.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = []
    for kind, runs in by_kind.items():
        for rule in rules_of(runs):
            chosen = choose(runs, rule or "utility")
            line = {"table": runs[0]["table"], **dict(zip(names, kind, strict=True)), "rule": rule}
            line["lam"] = float(np.median([row["lam"] for row in chosen]))
            lines.append(line | measured_line(chosen, base))
    return lines


def rules_of(rows: list[dict]) -> tuple[str, ...]:
    """Rules by which a strength is chosen; none where there is one strength."""
    if len({row["lam"] for row in rows}) == 1:
        return ("",)
    return RULES if rows[0]["auxiliary"] else ("utility", "pareto_target")


def measured_line(rows: list[dict], base: dict[tuple, dict]) -> dict[str, float]:
    """Means of the chosen runs, and of their differences from the base run of the seed."""
    line = {}
    for name in ("f1", "epsilon", "f1@0.5", "epsilon@0.5"):
        column = f"test.target.{name}"
        value = np.array([row[column] for row in rows])
        change = value - np.array([base[row["target"], row["seed"]][column] for row in rows])
        for label, values in ((name, value), (f"change of {name}", change)):
            mean, low, high = interval(values)
            line |= {label: mean, f"{label} low": low, f"{label} high": high}
    return line


def verdict(lines: list[dict]) -> str:
    """Over all pairs of a table: mean change from stl_base, and for how many it is surely (95 %)
    less or more.
    """
    text = [
        "| variant | chosen by | pairs | change of F1 | change of epsilon | fairer, surely "
        "| less fair, surely |",
        "|" + "---|" * 7,
    ]
    for variant, rule in dict.fromkeys((line["variant"], line["rule"]) for line in lines):
        if variant == "stl_base":
            continue
        pairs = [line for line in lines if (line["variant"], line["rule"]) == (variant, rule)]
        f1 = np.array([line["change of f1"] for line in pairs])
        epsilon = np.array([line["change of epsilon"] for line in pairs])
        low = np.array([line["change of epsilon low"] for line in pairs])
        high = np.array([line["change of epsilon high"] for line in pairs])
        text.append(
            f"| {variant} | {rule or '-'} | {len(pairs)} | {np.nanmean(f1):+.4f} | "
            f"{np.nanmean(epsilon):+.3f} | {np.sum(epsilon < 0)}, {np.sum(high < 0)} | "
            f"{np.sum(epsilon > 0)}, {np.sum(low > 0)} |"
        )
    return "\n".join(text)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as CSV; a column that a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


# ------------------------------------------------------------------------------------------ figures

MARKS = {  # variant, rule -> colour, marker, name in the legend
    ("stl_base", ""): ("0.55", "o", "single task"),
    ("mtl_base", ""): ("0.2", "|", "multi-task"),
    ("mtl_fair", "pareto_aux"): ("#0072B2", "s", "penalty on the auxiliary task"),
    ("mtl_fair, reach 0", "pareto_aux"): ("#D55E00", "D", "the same, out of the heads' reach"),
    ("mtl_inter", "pareto_aux"): ("#0072B2", "s", "one attribute on each task"),
    ("mtl_inter, reach 0", "pareto_aux"): ("#D55E00", "D", "the same, out of the heads' reach"),
    ("stl_fair", "pareto_target"): ("#009E73", "^", "penalty on the target (oracle)"),
    ("stl_fair, one attribute", "pareto_target"): ("#CC79A7", "v", "one attribute, on the target"),
    ("stl_inter", "pareto_target"): ("#009E73", "^", "both attributes on the target (oracle)"),
}


def line_of(
    lines: list[dict], pair: tuple[str, str], variant: str, rule: str, alone: bool = True
) -> dict | None:
    """The line of a pair of tasks; with ``alone`` also one that has no auxiliary task."""
    target, auxiliary = pair
    auxiliaries = (auxiliary, "") if alone else (auxiliary,)
    for line in lines:
        is_pair = line["target"] == target and line["auxiliary"] in auxiliaries
        if is_pair and (line["variant"], line["rule"]) == (variant, rule):
            return line
    return None


def dumbbells(lines: list[dict], path: Path, title: str) -> None:
    """Epsilon-DEO of every target before and after, with macro F1 beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pairs = sorted({(line["target"], line["auxiliary"]) for line in lines if line["auxiliary"]})
    size = (10, 1.8 + 0.42 * len(pairs))
    figure, panels = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(2, 1))
    labels = {"epsilon": "epsilon-DEO on test rows (0: parity)", "f1": "macro F1"}
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        draw_marks(panel, lines, pairs, name)
        draw_changes(panel, lines, pairs, name)
        panel.set_xlabel(label)
        panel.grid(axis="x", color="0.92")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_yticks(range(len(pairs)), [f"{target} \u2190 {aux}" for target, aux in pairs])
        panel.tick_params(axis="y", length=0)
    panels[0].set_ylim(len(pairs) - 0.5, -0.5)
    largest = max(line["epsilon"] for line in lines if np.isfinite(line["epsilon"]))
    panels[0].set_xlim(0, 1.15 * largest)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, ncol=3, loc="lower center", frameon=False, fontsize=8.5)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    figure.tight_layout(rect=(0, 0.75 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_marks(panel, lines: list[dict], pairs: list[tuple[str, str]], name: str) -> None:
    """A mark with its interval for every variant and pair."""
    for place, ((variant, rule), (colour, marker, legend)) in enumerate(MARKS.items()):
        offset = 0.09 * (place % 4 - 1.5)
        y = []
        shown = []
        for i, pair in enumerate(pairs):
            line = line_of(lines, pair, variant, rule)
            if line is not None:
                y.append(i + offset)
                shown.append(line)
        if not shown:
            continue
        x = np.array([line[name] for line in shown])
        low = np.array([line[f"{name} low"] for line in shown])
        high = np.array([line[f"{name} high"] for line in shown])
        panel.errorbar(
            x,
            y,
            xerr=np.nan_to_num([x - low, high - x]),
            fmt=marker,
            color=colour,
            ms=5,
            lw=0.8,
            alpha=0.9,
            label=legend,
        )


def draw_changes(panel, lines: list[dict], pairs: list[tuple[str, str]], name: str) -> None:
    """A bar from the single task to the penalty that cannot reach the heads."""
    last = last_variant(lines)
    for i, pair in enumerate(pairs):
        before = line_of(lines, (pair[0], ""), "stl_base", "")
        after = line_of(lines, pair, last, "pareto_aux", alone=False)
        if before is not None and after is not None:
            ends = [before[name], after[name]]
            panel.plot(ends, [i, i], color="#D55E00", lw=2.5, alpha=0.25, zorder=0)


def last_variant(lines: list[dict]) -> str:
    """The variant that a table's dumbbells end in."""
    is_crossed = any(line["variant"].startswith("mtl_inter") for line in lines)
    return "mtl_inter, reach 0" if is_crossed else "mtl_fair, reach 0"


CAUSES = ("auxiliary F1", "fall of auxiliary epsilon", "label correlation", "target epsilon")
COLOURS = {"mtl_fair": "#0072B2", "mtl_fair, reach 0": "#D55E00"}


def transfer_points(name: str, rows: list[dict], similarity: dict) -> list[dict]:
    """Per pair of a table: the fall of the target's epsilon under the strongest penalty.

    Beside it stands what could foretell it.
    """
    penalised = [row for row in rows if row["variant"] == "mtl_fair"]
    strongest = max(row["lam"] for row in penalised)
    measures = ("test.target.f1", "test.target.epsilon")
    alone: dict[str, list] = {}
    for row in rows:
        if row["variant"] == "stl_base":
            alone.setdefault(row["target"], []).append([row[measure] for measure in measures])
    single = {task: np.nanmean(values, axis=0) for task, values in alone.items()}
    points = []
    for target, auxiliary in dict.fromkeys((row["target"], row["auxiliary"]) for row in penalised):
        _, target_epsilon = single[target]
        auxiliary_f1, auxiliary_epsilon = single[auxiliary]
        for variant in COLOURS:
            setting = (target, auxiliary, variant, strongest)
            names = ("target", "auxiliary", "variant", "lam")
            runs = [row for row in rows if tuple(row[name] for name in names) == setting]
            after = np.nanmean([row["test.target.epsilon"] for row in runs])
            auxiliary_after = np.nanmean([row["test.auxiliary.epsilon"] for row in runs])
            points.append(
                {
                    "table": name,
                    "target": target,
                    "auxiliary": auxiliary,
                    "variant": variant,
                    "gain": target_epsilon - after,
                    "auxiliary F1": auxiliary_f1,
                    "target epsilon": target_epsilon,
                    "fall of auxiliary epsilon": auxiliary_epsilon - auxiliary_after,
                    "label correlation": similarity.get((target, auxiliary), np.nan),
                }
            )
    return points


def what_predicts(
    runs: dict[str, list[dict]], similarity: dict[str, dict], path: Path
) -> list[dict]:
    """Transfer per pair against what could foretell it: a figure, a CSV, and rank correlations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = []
    for name, rows in runs.items():
        points += transfer_points(name, rows, similarity[name])
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True)
    lines = []
    for panel, cause in zip(panels, CAUSES, strict=True):
        for variant, colour in COLOURS.items():
            finite = [
                (point[cause], point["gain"])
                for point in points
                if point["variant"] == variant
                and np.isfinite(point[cause])
                and np.isfinite(point["gain"])
            ]
            x, y = np.array(finite).reshape(-1, 2).T
            panel.scatter(x, y, s=22, color=colour, alpha=0.75, label=variant)
            if len(x) > 3:
                line = {"variant": variant, "what": cause, "pairs": len(x)}
                lines.append(line | rank_correlation(x, y))
        panel.axhline(0, color="0.6", lw=0.8)
        panel.set_xlabel(cause)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("fall of the target's epsilon-DEO")
    panels[0].legend(frameon=False, fontsize=8.5)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    write_rows(path.with_suffix(".csv"), points)
    return lines


def rank_correlation(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Spearman's correlation with a 95 % bootstrap interval over pairs."""
    from scipy.stats import spearmanr

    draws = np.random.default_rng(0).integers(0, len(x), (1000, len(x)))
    drawn = [spearmanr(x[draw], y[draw]).statistic for draw in draws if np.ptp(x[draw]) > 0]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {
        "spearman": float(spearmanr(x, y).statistic),
        "low": float(low),
        "high": float(high),
    }


def means(rows: list[dict], names: tuple[str, ...], by: tuple[str, ...]) -> str:
    """A table of means over seeds with intervals, one line per combination of ``by``."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    lines = ["| " + " | ".join((*by, *names)) + " |", "|" + "---|" * (len(by) + len(names))]
    for key, runs in groups.items():
        cells = [f"{value:g}" if isinstance(value, float) else value for value in key]
        for name in names:
            mean, low, high = interval(np.array([row[f"test.target.{name}"] for row in runs]))
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


TEXTS = ("table", "variant", "target", "auxiliary", "penalty")


def read_rows(path: Path) -> list[dict]:
    """Rows of a CSV that :func:`write_rows` wrote; an empty cell of a number is NaN."""
    with path.open(newline="") as stream:
        return [
            {name: parse_cell(name, cell) for name, cell in row.items()}
            for row in csv.DictReader(stream)
        ]


def parse_cell(name: str, cell: str) -> str | bool | float:
    """Text, truth or number of a cell, by the name of its column."""
    if name in TEXTS:
        return cell
    if name == "diverged":
        return cell == "True"
    return float(cell) if cell else np.nan


def report(out: Path) -> None:
    """Tables and figures from the runs on disk."""
    runs = {
        name: read_rows(out / f"{name}_runs.csv")
        for name in (*TABLES, *STUDIES)
        if (out / f"{name}_runs.csv").exists()
    }
    parts = []
    similarity = {}
    for name in TABLES:
        if name in runs:
            parts.append(report_table(out, TABLES[name], runs[name]))
            similarity[name] = read_similarity(out / f"{name}_similarity.csv")
    for name, (title, names, by) in STUDY_TABLES.items():
        if name in runs:
            parts.append(f"## {name}: {title}\n\n{means(runs[name], names, by)}")
    single = {name: runs[name] for name in similarity if len(TABLES[name].axes) == 1}
    if single:
        lines = what_predicts(single, similarity, out / "what_predicts.png")
        rows = ["| variant | what | pairs | Spearman | interval |", "|" + "---|" * 5]
        for line in lines:
            rows.append(
                f"| {line['variant']} | {line['what']} | {line['pairs']} | "
                f"{line['spearman']:+.2f} | [{line['low']:+.2f}, {line['high']:+.2f}] |"
            )
        parts.append("## What goes with transfer, over all pairs\n\n" + "\n".join(rows))
    text = "\n\n".join(parts) + "\n"
    (out / "tables.md").write_text(text)
    print(text)


STUDY_TABLES = {  # title, measures, and the columns that make a line
    "notions": (
        "Adult by sex, the auxiliary task penalised by one notion",
        ("f1", "epsilon"),
        ("penalty", "variant", "target"),
    ),
    "rows": (
        "Adult by sex, fewer training rows",
        ("f1", "epsilon"),
        ("rows", "variant", "target"),
    ),
    "age": (
        "Adult, age as two groups and as a number",
        ("f1", "epsilon", "correlation"),
        ("penalty", "variant", "target", "lam"),
    ),
}


def report_table(out: Path, setup: Setup, rows: list[dict]) -> str:
    """CSV, figure and text of a table."""
    lines = summary(rows)
    write_rows(out / f"{setup.name}.csv", lines)
    dumbbells(lines, out / f"{setup.name}.png", f"{setup.title}; target \u2190 auxiliary task")
    return f"## {setup.name}: {setup.title}\n\n{verdict(lines)}"


def read_similarity(path: Path) -> dict[tuple[str, str], float]:
    """Correlations of labels by target and auxiliary task."""
    with path.open(newline="") as stream:
        return {
            (row["target"], row["auxiliary"]): float(row["correlation"])
            for row in csv.DictReader(stream)
        }


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tables", nargs="+", default=[*TABLES, *STUDIES], choices=[*TABLES, *STUDIES]
    )
    parser.add_argument("--seeds", type=int, help="default: ten, five for the tables of five tasks")
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, two epochs, 1,500 rows, one pair of tasks"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    for name in args.tables:
        print(name, flush=True)
        default = AGE if name == "age" else TABLES["adult"]
        bench = Bench(TABLES.get(name, default), args.quick)
        seeds = 2 if args.quick else args.seeds or bench.setup.seeds
        if name in TABLES:
            rows = transfer_table(bench, seeds)
            (args.out / f"{name}_similarity.csv").write_text(
                "target,auxiliary,correlation\n"
                + "".join(f"{a},{b},{v:.4f}\n" for (a, b), v in label_similarity(bench).items())
            )
        else:
            rows = STUDIES[name](bench, seeds)
        write_rows(args.out / f"{name}_runs.csv", rows)
    report(args.out)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
