"""The method ``constrained`` against fairlearn's reductions at the same bound, on Adult, and what
its verdicts are worth on synthetic rows.

    python experiments/constraints.py                    # half an hour or more on two cores
    python experiments/constraints.py --quick            # three minutes; for a look at the machinery
    python experiments/constraints.py --only synthetic   # one of the studies

fairlearn and scikit-learn are needed: ``pip install 'fairjax[test]'``.

Protocol. Adult is loaded once; its 48,842 rows are dealt anew for every seed: 10,000 to train, 5,000
to validate, the others to test. Each task is learned alone, with sex as attribute and not as
feature. Violations are fairlearn's differences between groups, of decisions: of selection rates
(demographic parity) or of true positive rates (equal opportunity). fairlearn bounds the distance of
each group from all rows, which for two groups is the larger group's share of their difference: its
bound is that share of ours, so that all methods are held to the same difference. Nothing is chosen
on test rows, and all methods see the same others: a multiplier follows validation rows, and
fairlearn's methods, which have no use for them, train on training and validation rows. Of
GridSearch's ten classifiers that of least error is taken among those that keep the bound on these
rows, or else that of least violation. One search stands for all bounds, and its time is
that of the search. ExponentiatedGradient draws its decisions, here with random state 0. The trees are
LightGBM's where it is installed, else scikit-learn's. Bound 1 is no constraint.

Every pair of a method and a model is one process with one thread. CPU seconds are those of fitting
alone; a compilation stands apart, and serves all fits of a notion. Wall-clock seconds mean little
where others compute too. The synthetic study draws the rows anew for every seed; a gap is met if it
is at most the tolerance plus 1.96 standard errors. The study of rates is on validation rows. Results
go to experiments/results/constraints.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "constraints"
NOTIONS = ("demographic_parity", "equal_opportunity")
TASKS = ("income", "capital_gain")
BOUNDS = (1.0, 0.05, 0.02)
PAIRS = (
    ("constrained", "linear"),
    ("constrained", "network"),
    ("constrained", "network_1024"),
    ("exponentiated_gradient", "linear"),
    ("grid_search", "linear"),
    ("exponentiated_gradient", "trees"),
    ("grid_search", "trees"),
)
STUDIES = ("adult", "synthetic", "rates")
RATES = (30.0, 10.0, 3.0)
RATE_CASES = tuple(itertools.product(("adult", "synthetic"), NOTIONS, ("network", "network_1024")))
SMALL_CAP = 0.02
BATCHES = {"linear": 256, "network": 256, "network_1024": 1024}  # rows of a batch; 256 by default
GRID = 10  # classifiers of a search, fairlearn's default
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
} | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: int = 3
    train: int = 10_000
    validation: int = 5_000
    epochs: int = 30
    trees: int = 30
    draws: int = 10  # of synthetic rows
    rows: int = 6_000  # of each draw


QUICK = Size(1, 2_000, 1_000, 4, 5, 2, 1_500)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one task of Adult, as each side takes them."""

    dataset: object  # fairjax Dataset with one task
    design: np.ndarray  # [N, F] numbers and one column per level
    codes: np.ndarray  # [N, F'] numbers and codes of levels
    label: np.ndarray  # [N], 0 and 1
    group: np.ndarray  # [N], 0 and 1

    def features(self, model: str) -> np.ndarray:
        """Those of a model of scikit-learn."""
        return self.codes if model == "trees" else self.design


# --------------------------------------------------------------------------------------------- data


def one_task_spec(spec, name: str = "label"):
    """The spec with one task of a fixed name, so that one program serves all tasks."""
    task = dataclasses.replace(spec.tasks[0], name=name)
    return dataclasses.replace(spec, tasks=(task,))


@functools.cache
def adult():
    """Spec and all rows of Adult."""
    import jax

    from fairjax import load

    prepared = load("adult")
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *prepared.splits)
    return prepared.spec, rows


def deal(task: str, seed: int, size: Size):
    """Train, validation and test :class:`Rows` of a task."""
    import jax

    spec, rows = adult()
    column = [known.name for known in spec.tasks].index(task)
    order = np.random.default_rng(seed).permutation(len(rows.weight))
    ends = (size.train, size.train + size.validation)
    parts = []
    for index in np.split(order, ends):
        part = jax.tree.map(lambda leaf, index=index: leaf[index], rows)
        part = part._replace(
            labels=part.labels[:, [column]], label_mask=part.label_mask[:, [column]]
        )
        parts.append(_both_forms(spec, part))
    return parts


def _both_forms(spec, part) -> Rows:
    blocks = [part.x.numeric]
    for j, (_, levels) in enumerate(spec.categorical):
        blocks.append(part.x.codes[:, [j]] == np.arange(levels))
    design = np.concatenate(blocks, axis=1, dtype=np.float64)
    codes = np.concatenate([part.x.numeric, part.x.codes], axis=1, dtype=np.float64)
    label = part.labels[:, 0].astype(int)
    return Rows(part, design, codes, label, part.groups.argmax(axis=1))


def seen(parts: Sequence[Rows]) -> Rows:
    """Training and validation rows."""
    import jax

    train, validation, _ = parts
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), train.dataset, validation.dataset)
    fields = ("design", "codes", "label", "group")
    arrays = [np.concatenate([getattr(p, name) for p in (train, validation)]) for name in fields]
    return Rows(joined, *arrays)


def splits_of(parts: Sequence[Rows]):
    """The rows as fairjax takes them."""
    from fairjax.core.types import Splits

    return Splits(*[rows.dataset for rows in parts])


# -------------------------------------------------------------------------------------- measurement


def violation(notion: str, rows: Rows, decision: np.ndarray) -> float:
    """fairlearn's difference between the groups."""
    from fairlearn import metrics

    names = {
        "demographic_parity": "demographic_parity_difference",
        "equal_opportunity": "true_positive_rate_difference",
    }
    difference = getattr(metrics, names[notion])
    return float(difference(rows.label, decision, sensitive_features=rows.group))


def standard_error(notion: str, label: np.ndarray, group: np.ndarray, decision: np.ndarray):
    """Of the difference of two groups' rates: ``sqrt(sum_g p_g (1 - p_g) / n_g)``."""
    counted = np.ones(len(label), bool) if notion == "demographic_parity" else label > 0
    variance = 0.0
    for g in (0, 1):
        of_group = decision[counted & (group == g)]
        rate = of_group.mean()
        variance += rate * (1 - rate) / len(of_group)
    return float(np.sqrt(variance))


def measured(notion: str, parts: Sequence[Rows], decide: Callable) -> dict[str, float]:
    """Violations and errors of all splits."""
    row = {}
    for split, rows in zip(("train", "validation", "test"), parts, strict=True):
        decision = np.asarray(decide(rows)).astype(int)
        row[f"{split} violation"] = violation(notion, rows, decision)
        row[f"{split} error"] = float(np.mean(decision != rows.label))
        if split != "train":
            error = standard_error(notion, rows.label, rows.group, decision)
            row[f"{split} standard error"] = error
    return row


def measured_model(notion: str, parts: Sequence[Rows], model, params) -> dict[str, float]:
    """The same for a network's decisions at probability one half."""
    from fairjax.models import scores

    return measured(notion, parts, lambda rows: scores(model, params, rows.dataset.x)[:, 0] >= 0)


class Clock:
    """CPU and wall-clock seconds of a block."""

    def __enter__(self) -> Clock:
        self.begin = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *failure) -> None:
        self.cpu = time.process_time() - self.begin[0]
        self.wall = time.perf_counter() - self.begin[1]


# ----------------------------------------------------------------------------------------- fairlearn


def estimator(model: str, size: Size, rows: Rows):
    """A classifier of scikit-learn's kind."""
    if model == "linear":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(solver="newton-cholesky")
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier

        levels = rows.dataset.x.codes.shape[1]
        first = rows.codes.shape[1] - levels
        return HistGradientBoostingClassifier(
            max_iter=size.trees,
            early_stopping=False,
            categorical_features=range(first, first + levels),
        )
    return LGBMClassifier(n_estimators=size.trees, n_jobs=1, verbose=-1)


def moment(notion: str, bound: float, rows: Rows):
    """fairlearn's constraint for a bound of the difference between two groups."""
    from fairlearn.reductions import DemographicParity, TruePositiveRateParity

    kinds = {"demographic_parity": DemographicParity, "equal_opportunity": TruePositiveRateParity}
    counted = rows.group if notion == "demographic_parity" else rows.group[rows.label > 0]
    share = counted.mean()
    return kinds[notion](difference_bound=bound * max(share, 1 - share))


def plain_fit(model: str, notion: str, parts: Sequence[Rows], size: Size) -> dict:
    """The classifier without a constraint."""
    train = seen(parts)
    classifier = estimator(model, size, train)
    with Clock() as clock:
        classifier.fit(train.features(model), train.label)
    row = measured(notion, parts, lambda rows: classifier.predict(rows.features(model)))
    return row | {"cpu": clock.cpu, "wall": clock.wall, "fits": 1}


def exponentiated_gradient(model: str, size: Size) -> Iterator[dict]:
    """Runs of the randomised reduction."""
    from fairlearn.reductions import ExponentiatedGradient

    for key, parts in settings(size):
        for bound in BOUNDS:
            found = {"bound": bound}
            if bound == 1:
                yield key | found | plain_fit(model, key["notion"], parts, size)
                continue
            train = seen(parts)
            base = estimator(model, size, train)
            reduction = ExponentiatedGradient(base, moment(key["notion"], bound, train))
            with Clock() as clock:
                reduction.fit(train.features(model), train.label, sensitive_features=train.group)
            row = measured(
                key["notion"],
                parts,
                lambda rows, r=reduction: r.predict(rows.features(model), random_state=0),
            )
            found |= {"cpu": clock.cpu, "wall": clock.wall, "fits": reduction.n_oracle_calls_}
            yield key | found | row


def grid_search(model: str, size: Size) -> Iterator[dict]:
    """Runs of the deterministic reduction, one search per notion."""
    from fairlearn.reductions import GridSearch

    for key, parts in settings(size):
        train = seen(parts)
        notion = key["notion"]
        search = GridSearch(
            estimator(model, size, train), moment(notion, BOUNDS[-1], train), grid_size=GRID
        )
        with Clock() as clock:
            search.fit(train.features(model), train.label, sensitive_features=train.group)
        decisions = [found.predict(train.features(model)) for found in search.predictors_]
        gaps = np.array([violation(notion, train, decision) for decision in decisions])
        errors = np.array([np.mean(decision != train.label) for decision in decisions])
        for bound in BOUNDS[1:]:
            best = search.predictors_[within(gaps, errors, bound)]
            row = measured(notion, parts, lambda rows, b=best: b.predict(rows.features(model)))
            found = {"bound": bound, "cpu": clock.cpu, "wall": clock.wall, "fits": GRID}
            yield key | found | row


def within(gaps: np.ndarray, errors: np.ndarray, bound: float) -> int:
    """Index of the least error among gaps up to the bound, or else of the least gap."""
    allowed = gaps <= bound
    if not allowed.any():
        return int(np.argmin(gaps))
    return int(np.argmin(np.where(allowed, errors, np.inf)))


# ------------------------------------------------------------------------------------------- fairjax


def linear(spec):
    """Logistic regression on numbers and one column per level, as a model."""
    import jax
    import jax.numpy as jnp

    from fairjax.core.types import Model

    levels = [count for _, count in spec.categorical]
    width = len(spec.numeric) + sum(levels)
    name = spec.tasks[0].name

    def init(key):
        del key
        return {"trunk": {}, "heads": {name: {"kernel": jnp.zeros((width, 1))}}}

    def represent(trunk, x, condition=None):
        del trunk, condition
        blocks = [x.numeric]
        blocks += [jax.nn.one_hot(x.codes[:, j], count) for j, count in enumerate(levels)]
        return jnp.concatenate(blocks, axis=1)

    # every row has a level of every column, so that no bias is needed
    def predict(heads, z):
        return z @ heads[name]["kernel"]

    return Model(init, represent, predict)


def recipe_of(spec, notion: str, model: str, size: Size):
    """The method on a network or a linear model, the model, and the shapes of a run."""
    from fairjax import methods, models, notions
    from fairjax.study import StudyConfig

    config = StudyConfig(epochs=size.epochs, batch_size=BATCHES[model])

    built = linear(spec) if model == "linear" else models.network(spec, (32,), (16,), 10)
    context = methods.Context.paper(spec, built, config.learning_rate, config.batch_size)
    return methods.constrained(notions.get(notion))(context), built, config.train_config


def constrained(model: str, size: Size) -> Iterator[dict]:
    """Runs of the method with its defaults; one compilation per notion."""
    import jax
    import jax.numpy as jnp

    from fairjax.methods import verdict
    from fairjax.training import grid, keys, make_train

    spec = one_task_spec(adult()[0])
    programs = {}
    for key, parts in settings(size):
        notion = key["notion"]
        data = splits_of(parts)
        recipe, built, shapes = recipe_of(spec, notion, model, size)
        (member_key,), order_key = keys(key["seed"], np.array([key["seed"]]))
        for bound in BOUNDS:
            points = grid(recipe.space, {"tolerance": [bound]})
            hparams = {name: jnp.asarray(value[0]) for name, value in points.items()}
            arguments = (member_key, order_key, hparams, data)
            if notion not in programs:
                with Clock() as compilation:
                    train = jax.jit(make_train(shapes, recipe))
                    program = train.lower(*arguments).compile()
                programs[notion] = program, compilation.cpu
            program, compile_cpu = programs[notion]
            with Clock() as clock:
                trained = jax.block_until_ready(program(*arguments))
            params = trained.params
            row = measured_model(notion, parts, built, params)
            record = trained.record
            cap = float(hparams["cap"])
            said = verdict(record.violation, record.multiplier, bound, cap, trained.block)
            found = {"bound": bound, "cpu": clock.cpu, "wall": clock.wall, "fits": 1}
            found |= {"compile": compile_cpu, "verdict": said}
            yield key | found | row


def settings(size: Size) -> Iterator[tuple[dict, list[Rows]]]:
    """Task, notion and seed, and the rows that are dealt."""
    for task in TASKS:
        for seed in range(size.seeds):
            parts = deal(task, seed, size)
            for notion in NOTIONS:
                yield {"task": task, "notion": notion, "seed": seed}, parts


METHODS = {
    "constrained": constrained,
    "exponentiated_gradient": exponentiated_gradient,
    "grid_search": grid_search,
}


# ------------------------------------------------------------------------------------------- studies


def adult_worker(pair: str, size: Size) -> list[dict]:
    """All runs of one method with one model, in this process."""
    method, model = pair.split(":")
    names = {"method": method, "model": model}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the solvers' convergence
        return [names | row for row in METHODS[method](model, size)]


def rates_worker(argument: str, size: Size) -> list[dict]:
    """Rates of the multiplier on the validation rows of one deal or draw."""
    import jax

    from fairjax.data import synthetic
    from fairjax.training import grid, keys, make_train

    name, notion, model = argument.split(":")
    if name == "adult":
        spec = one_task_spec(adult()[0])
        parts = deal("income", 0, size)
    else:
        data = synthetic(size.rows, seed=100, tasks=1)  # none of the draws of the other study
        spec = data.spec
        parts = [_both_forms(spec, part) for part in data.splits]
    recipe, built, shapes = recipe_of(spec, notion, model, size)
    points = grid(recipe.space, {"tolerance": BOUNDS[1:], "rate": RATES})
    train = make_train(shapes, recipe)
    many = jax.jit(jax.vmap(train, in_axes=(None, None, 0, None)))
    (member_key,), order_key = keys(0, np.array([0]))
    trained = many(member_key, order_key, points, splits_of(parts))
    rows = []
    for i in range(len(points["rate"])):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], trained.params)
        row = measured_model(notion, parts, built, params)
        key = {"data": name, "notion": notion, "batch": BATCHES[model]}
        key |= {column: float(points[column][i]) for column in ("tolerance", "rate")}
        lam = float(trained.record.multiplier[i, -1, 0])
        rows.append(key | row | {"multiplier": lam})
    return rows


def synthetic_worker(notion: str, size: Size) -> list[dict]:
    """Verdicts and test gaps of two caps, with rows drawn anew for every seed."""
    import jax

    from fairjax.data import Population, synthetic
    from fairjax.methods import verdict
    from fairjax.training import grid, keys, make_train

    tolerance = 0.05
    rates = Population(tasks=1).bayes_rates()
    of_groups = rates["selection" if notion == "demographic_parity" else "tpr"][:, 0]
    bayes = {"bayes gap": float(abs(of_groups[0] - of_groups[1]))}
    bayes["bayes error"] = float(rates["error"][0])
    many = None
    rows = []
    for seed in range(size.draws):
        data = synthetic(size.rows, seed=seed, tasks=1)
        recipe, built, shapes = recipe_of(data.spec, notion, "network", size)
        default_cap = float(recipe.space["cap"].default)
        caps = (default_cap, SMALL_CAP)
        points = grid(recipe.space, {"tolerance": [tolerance], "cap": caps})
        (member_key,), order_key = keys(seed, np.array([seed]))
        if many is None:  # all draws have one shape
            train = make_train(shapes, recipe)
            many = jax.jit(jax.vmap(train, in_axes=(None, None, 0, None)))
        trained = many(member_key, order_key, points, data.splits)
        for i, cap in enumerate(caps):
            params = jax.tree.map(lambda leaf, i=i: leaf[i], trained.params)
            parts = [_both_forms(data.spec, part) for part in data.splits]
            row = measured_model(notion, parts, built, params)
            record = jax.tree.map(lambda leaf, i=i: leaf[i], trained.record)
            block = trained.block[i]
            said = verdict(record.violation, record.multiplier, tolerance, cap, block)
            key = {"notion": notion, "seed": seed, "tolerance": tolerance, "cap": cap}
            rows.append(key | {"verdict": said} | bayes | row)
    return rows


WORKERS = {
    "adult": (adult_worker, [":".join(pair) for pair in PAIRS]),
    "synthetic": (synthetic_worker, list(NOTIONS)),
    "rates": (rates_worker, [":".join(case) for case in RATE_CASES]),
}


def run_study(name: str, quick: bool, jobs: int) -> list[dict]:
    """All rows of a study: every worker is a process of its own with one thread."""

    def run(argument: str) -> list[dict]:
        command = [sys.executable, __file__, "--worker", name, argument]
        command += ["--quick"] if quick else []
        process = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | ONE_THREAD
        )
        if process.returncode:
            raise SystemExit(f"{name}, {argument}: {process.stderr}")
        print(f"{name}, {argument}: done", flush=True)
        return json.loads(process.stdout.splitlines()[-1])

    with ThreadPoolExecutor(jobs) as pool:
        return [row for rows in pool.map(run, WORKERS[name][1]) for row in rows]


# ------------------------------------------------------------------------------------------- reading


def mean(rows: Sequence[dict], column: str) -> float:
    """Over rows."""
    return float(np.mean([float(row[column]) for row in rows]))


def is_met(row: dict, bound: str) -> bool:
    """Whether the gap of test rows is at most the bound plus 1.96 standard errors."""
    allowed = float(row[bound]) + 1.96 * float(row["test standard error"])
    return float(row["test violation"]) <= allowed


def grouped(rows: Sequence[dict], names: Sequence[str]) -> dict[tuple, list[dict]]:
    """Rows by the values of some columns, in order."""
    by_key: dict[tuple, list[dict]] = {}
    for row in rows:
        by_key.setdefault(tuple(row[name] for name in names), []).append(row)
    return by_key


def table(header: Sequence[str], lines: Sequence[Sequence]) -> str:
    """Markdown."""
    text = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for line in lines:
        cells = [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in line]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def adult_text(rows: list[dict]) -> str:
    """Means over seeds."""
    lines = []
    names = ("task", "notion", "bound", "model", "method")
    by_key = grouped(sorted(rows, key=lambda row: [str(row[name]) for name in names]), names)
    for (task, notion, bound, model, method), runs in by_key.items():
        met = f"{sum(is_met(row, 'bound') for row in runs)} of {len(runs)}"
        means = [mean(runs, name) for name in ("train violation", "test violation")]
        errors = np.array([float(row["test error"]) for row in runs])
        spread = float(errors.std(ddof=1)) if len(errors) > 1 else float("nan")
        cpu = [f"{mean(runs, name):.2f}" for name in ("cpu", "wall")]
        fits = f"{mean(runs, 'fits'):.0f}"
        lines.append(
            [task, notion, bound, model, method, *means, met]
            + [float(errors.mean()), spread, *cpu, fits]
        )
    header = ["task", "notion", "bound", "model", "method", "violation, training", "test"]
    header += ["met on test rows", "test error", "deviation", "CPU s", "wall s", "fits"]
    compiled = [float(row["compile"]) for row in rows if row.get("compile") not in (None, "")]
    note = f"Compilation of `constrained`: {np.mean(compiled):.1f} CPU s per notion and model."
    return "## Adult\n\n" + table(header, lines) + "\n\n" + note


def synthetic_text(rows: list[dict]) -> str:
    """Verdicts of each cap, and in how many draws the tolerance was met."""
    lines = []
    for (notion, cap), runs in grouped(rows, ("notion", "cap")).items():
        count = len(runs)
        met = sum(is_met(row, "tolerance") for row in runs)
        said = [sum(row["verdict"] == v for row in runs) for v in ("met", "not met", "infeasible")]
        means = [mean(runs, name) for name in ("train violation", "test violation", "test error")]
        bayes = [mean(runs, name) for name in ("bayes gap", "bayes error")]
        lines.append([notion, cap, *bayes, *means, f"{met} of {count}", *said])
    header = ["notion", "cap", "Bayes gap", "Bayes error", "violation, training", "test"]
    header += ["test error", "met on test rows", "said: met", "not met", "infeasible"]
    return f"## Synthetic rows, tolerance {rows[0]['tolerance']}\n\n" + table(header, lines)


def rates_text(rows: list[dict]) -> str:
    """Validation rows only."""
    columns = ("train violation", "validation violation", "validation error", "multiplier")
    lines = [
        [
            *[row[name] for name in ("data", "notion", "batch", "tolerance", "rate")],
            *[float(row[name]) for name in columns],
        ]
        for row in rows
    ]
    header = ["data", "notion", "batch", "tolerance", "rate", "violation, training", "validation"]
    header += ["validation error", "multiplier"]
    return "## Rates of the multiplier, one task, the network\n\n" + table(header, lines)


def ratios(rows: list[dict]) -> dict[str, float]:
    """CPU seconds and test errors of bounded runs, ours against fairlearn's."""
    bounded = [row for row in rows if float(row["bound"]) < 1]
    by_pair = grouped(bounded, ("method", "model"))
    found = {}
    for ours, theirs in (("linear", "linear"), ("network", "trees"), ("network_1024", "trees")):
        for reduction in ("exponentiated_gradient", "grid_search"):
            own = by_pair["constrained", ours]
            other = by_pair[reduction, theirs]
            name = f"constrained {ours} / {reduction} {theirs}"
            found[f"cpu: {name}"] = round(mean(own, "cpu") / mean(other, "cpu"), 3)
            for task in TASKS:
                own_task = [row for row in own if row["task"] == task]
                other_task = [row for row in other if row["task"] == task]
                less = mean(own_task, "test error") - mean(other_task, "test error")
                found[f"{task} error, less: {name}"] = round(less, 4)
    return found


TEXTS = {"adult": adult_text, "synthetic": synthetic_text, "rates": rates_text}


def read_rows(path: Path) -> list[dict]:
    """Rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as CSV; a column that a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def report(out: Path) -> str:
    """tables.md from all studies that there are; the last line is the ratios as JSON."""
    parts = ["# Constraints"]
    found = {}
    for name in STUDIES:
        path = out / f"{name}_runs.csv"
        if path.exists():
            rows = read_rows(path)
            parts.append(TEXTS[name](rows))
            found |= ratios(rows) if name == "adult" else {}
    text = "\n\n".join([*parts, json.dumps(found)])
    (out / "tables.md").write_text(text + "\n")
    return text


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, few epochs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        study, argument = args.worker
        rows = WORKERS[study][0](argument, QUICK if args.quick else Size())
        print(json.dumps(rows))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    for name in args.only:
        write_rows(args.out / f"{name}_runs.csv", run_study(name, args.quick, args.jobs))
    print(f"{time.perf_counter() - begin:.0f} s")
    print(report(args.out))


if __name__ == "__main__":
    main()
