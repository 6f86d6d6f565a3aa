"""fairjax's networks for tables beside boosted trees and logistic regression, on eight tables.

    python experiments/benchmark_tables.py            # eight minutes of one core
    python experiments/benchmark_tables.py --quick    # five minutes; a look at the machinery
    python experiments/benchmark_tables.py --only lsac,compas --networks table

scikit-learn is needed, ``pip install 'fairjax[test]'``; the trees are LightGBM's where it is
installed (``pip install 'fairjax[bench]'`` has it), else scikit-learn's.

Protocol. Of each table at most 12,000 rows are taken once, and dealt anew for every seed: 60 % to
train, 20 % to validate, 20 % to test. A network learns all tasks of a table at once; trees and
logistic regression learn each alone. ``paper`` is the network of the MTA-F code, by its settings
with which every study begins, ``paper 64-32`` with the widths of ``table``, whose settings are
those of ``fairjax.study.table_settings``. Trees get 1,000 rounds at rate .05 at most, ended by 50
rounds without a better loss on validation rows; levels are categories to them. Logistic regression
(C = 1) has a column per level.

Shown are areas under the ROC curve on test rows, means over tasks, and the difference to the trees
with 95 % Student intervals, paired by seed; errors of decisions at one half; CPU seconds of one fit
of all tasks, and of a run of a network in a sweep of eight, both without compilation, which stands
apart (that of the fit). Results go to experiments/results/tables.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.types import Dataset, Spec, Splits
    from fairjax.data import Prepared

RESULTS = Path(__file__).parent / "results" / "tables"
MOST_ROWS = 12_000
TREES, LINEAR = "boosted trees", "logistic regression"

NETWORKS = ("paper", "paper 64-32", "table")
RUNS = 8  # of a sweep


class File(NamedTuple):
    """A table that is read from its file."""

    folder: str
    name: str
    page: str
    tasks: tuple[str, ...]
    sensitive: tuple[str, ...]
    roles: dict


UCI = "https://archive.ics.uci.edu/dataset"
FILES = {
    "bank_marketing": File(
        "bank_marketing",
        "bank-full.csv.gz",
        f"{UCI}/222/bank+marketing",
        ("subscribed: y == yes", "housing"),
        ("marital",),
        {"drop": ("duration",)},
    ),
    "credit_default": File(
        "credit_default",
        "credit-card-clients.csv.gz",
        f"{UCI}/350/default+of+credit+card+clients",
        ("default: default payment == 1", "limit: LIMIT_BAL > 140000"),
        ("SEX",),
        {"categorical": ("EDUCATION", "MARRIAGE")},
    ),
    "student": File(
        "student",
        "student-por.csv",
        f"{UCI}/320/student+performance",
        ("passed: G3 >= 10", "higher"),
        ("sex",),
        {"drop": ("G1", "G2")},
    ),
}
TABLES = ("adult", "acs", "lsac", "compas", "bank_marketing", "credit_default", "student", "german")


class Fit(NamedTuple):
    """Test results of one fit of all tasks, and CPU seconds."""

    area_t: np.ndarray  # [T]
    error_t: np.ndarray  # [T]
    seconds: float
    compilation: float = 0.0
    swept: float = np.nan  # of a run among eight


# ------------------------------------------------------------------------------------------ the data


def read(name: str) -> tuple[Prepared, Dataset]:
    """A table, and its rows, all splits together."""
    from fairjax import load
    from fairjax.data import Roles, from_table
    from fairjax.data.files import RawFile, find_file

    if name in FILES:
        file = FILES[name]
        path = find_file(file.folder, RawFile(file.name, file.page))
        roles = Roles(tasks=file.tasks, sensitive=file.sensitive, **file.roles)
        prepared = from_table(path, roles)
    else:
        prepared = load(name)
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *prepared.splits)
    chosen = np.random.default_rng(0).permutation(len(rows.weight))[:MOST_ROWS]
    return prepared, jax.tree.map(lambda leaf: leaf[chosen], rows)


def dealt(rows: Dataset, seed: int) -> Splits:
    """Rows dealt at random."""
    from fairjax.core.types import Splits

    count = len(rows.weight)
    order = np.random.default_rng(seed).permutation(count)
    parts = np.split(order, [count * 6 // 10, count * 8 // 10])
    return Splits(*(jax.tree.map(lambda leaf, part=part: leaf[part], rows) for part in parts))


# ------------------------------------------------------------------------------------------ the fits


def settings_of(network: str, rows: int) -> dict:
    """Settings of a study for one of ``NETWORKS``, by the number of training rows."""
    from fairjax.study import table_settings

    table = table_settings(rows)
    widths = {name: table[name] for name in ("trunk", "head")}
    return {"paper": {}, "paper 64-32": widths, "table": table}[network]


def network_fits(
    data: Prepared, rows: Dataset, network: str, seeds: int, settings: dict
) -> list[Fit]:
    """One network for all tasks, per seed."""
    from fairjax import metrics
    from fairjax.metrics import Metric
    from fairjax.study import REFERENCE, from_names, named_study
    from fairjax.training import Program, grid, sweep

    spec = data.spec
    data = dataclasses.replace(data, splits=dealt(rows, 0))
    chosen = settings_of(network, len(data.splits.train.weight)) | settings
    study = from_names(data, named_study(methods=(), **chosen))
    recipe = study.recipes[REFERENCE]
    config = study.config.train_config
    half = np.full(len(spec.tasks), metrics.fixed(0.5), np.float32)

    def evaluate(scores: dict, splits: Splits) -> dict:
        measured = metrics.evaluate(spec, scores["test"], splits.test, half)
        return {
            name: jnp.stack([measured[Metric(name, task.name)] for task in spec.tasks])
            for name in ("auc", "error")
        }

    devices = jax.local_devices()[:1]
    program = Program(recipe, config, evaluate, devices=devices)
    points = grid(recipe.space, {})

    def runs_of(members: Sequence[int], deal: int) -> tuple[dict, float]:
        splits = dealt(rows, deal)
        begin = time.process_time()
        runs = sweep(
            recipe,
            config,
            points,
            members,
            splits,
            evaluate,
            root=deal,
            program=program,
            devices=devices,
            chunk=len(members),
        )
        return runs.metrics, time.process_time() - begin

    _, with_compilation = runs_of([0], 0)
    runs_of(range(RUNS), 0)  # to compile
    found = [runs_of([seed], seed) for seed in range(seeds)]
    swept = [runs_of(range(RUNS), seed)[1] / RUNS for seed in range(seeds)]
    compilation = with_compilation - found[0][1]
    return [
        Fit(np.asarray(m["auc"][0]), np.asarray(m["error"][0]), seconds, compilation, of_run)
        for (m, seconds), of_run in zip(found, swept, strict=True)
    ]


def trees_fit(spec: Spec, splits: Splits, seed: int) -> Fit:
    """Boosted trees of every task, ended by validation rows."""
    inputs = [_codes(part) for part in splits]
    numbers = len(spec.numeric)
    levels = list(range(numbers, inputs[0].shape[1]))

    def fit(known: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
        train, validation, test = (x[k] for x, k in zip(inputs, known, strict=True))
        try:
            import lightgbm
        except ImportError:
            from sklearn.ensemble import HistGradientBoostingClassifier

            model = HistGradientBoostingClassifier(
                max_iter=1000,
                learning_rate=0.05,
                early_stopping=True,
                n_iter_no_change=50,
                random_state=seed,
            )
            # it deals its own rows to end it, here as many as the others have
            both = np.concatenate([train, validation])
            model.validation_fraction = len(validation) / len(both)
            model.fit(both, np.concatenate(labels[:2]))
            return model.predict_proba(test)[:, 1]
        model = lightgbm.LGBMClassifier(
            n_estimators=1000, learning_rate=0.05, n_jobs=1, random_state=seed, verbose=-1
        )
        model.fit(
            train,
            labels[0],
            eval_set=[(validation, labels[1])],
            categorical_feature=levels,
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )
        return model.predict_proba(test)[:, 1]

    return _fit_of_tasks(spec, splits, fit)


def linear_fit(spec: Spec, splits: Splits, seed: int) -> Fit:
    """Logistic regression of every task."""
    from sklearn.linear_model import LogisticRegression

    del seed
    inputs = [_design(spec, part) for part in splits]

    def fit(known: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
        train, _, test = (x[k] for x, k in zip(inputs, known, strict=True))
        model = LogisticRegression(max_iter=500).fit(train, labels[0])
        return model.predict_proba(test)[:, 1]

    return _fit_of_tasks(spec, splits, fit)


def _fit_of_tasks(spec: Spec, splits: Splits, fit: Callable) -> Fit:
    from sklearn.metrics import roc_auc_score

    areas, errors = [], []
    begin = time.process_time()
    for t, _ in enumerate(spec.tasks):
        known = [part.label_mask[:, t] > 0 for part in splits]
        labels = [part.labels[k, t] for part, k in zip(splits, known, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prob = fit(known, labels)
        areas.append(roc_auc_score(labels[2], prob))
        errors.append(np.mean((prob > 0.5) != labels[2]))
    return Fit(np.array(areas), np.array(errors), time.process_time() - begin)


def _codes(part: Dataset) -> np.ndarray:
    return np.concatenate([part.x.numeric, part.x.codes], axis=1, dtype=np.float32)


def _design(spec: Spec, part: Dataset) -> np.ndarray:
    one_hot = [
        part.x.codes[:, [j]] == np.arange(count) for j, (_, count) in enumerate(spec.categorical)
    ]
    return np.concatenate([part.x.numeric, *one_hot], axis=1, dtype=np.float32)


# ---------------------------------------------------------------------------------------- the tables


def student(values: np.ndarray) -> str:
    """Mean and half width of its 95 % Student interval."""
    from scipy import stats

    count = len(values)
    if count < 2:
        return f"{values.mean():+.4f}"
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return f"{values.mean():+.4f} ± {half:.4f}"


def summary(rows: list[dict]) -> str:
    """A Markdown table: a line per table and model."""
    lines = [
        f"| table | model | AUC | less {TREES} | error | less {TREES} | CPU seconds "
        "| in a sweep | compilation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    gains: dict[str, list[float]] = {}
    for table in dict.fromkeys(row["table"] for row in rows):
        of_table = [row for row in rows if row["table"] == table]
        trees = {name: _by_seed(of_table, TREES, name) for name in ("auc", "error")}
        for model in dict.fromkeys(row["model"] for row in of_table):
            area, error = (_by_seed(of_table, model, name) for name in ("auc", "error"))
            seconds, swept, compilation = (
                _by_seed(of_table, model, name).mean()
                for name in ("seconds", "swept", "compilation")
            )
            in_a_sweep = "" if np.isnan(swept) else f"{swept:.3f}"
            less = [student(area - trees["auc"]), student(error - trees["error"])]
            gains.setdefault(model, []).append((area - trees["auc"]).mean())
            lines.append(
                f"| {table} | {model} | {area.mean():.4f} | {less[0]} | {error.mean():.4f} "
                f"| {less[1]} | {seconds:.3f} | {in_a_sweep} | {compilation:.1f} |"
            )
    means = ", ".join(f"{model} {np.mean(gain):+.4f}" for model, gain in gains.items())
    text = "\n".join(lines) + f"\n\nMean AUC over tables, less that of {TREES}: {means}.\n"
    return text + _ratios(rows)


def _ratios(rows: list[dict]) -> str:
    """CPU seconds of the chosen network over those of a plain one of its widths."""
    if not {"table", "paper 64-32"} <= {row["model"] for row in rows}:
        return ""
    names = list(dict.fromkeys(row["table"] for row in rows))

    def total(model: str, seconds: str) -> float:
        of_tables = [[row for row in rows if row["table"] == name] for name in names]
        return sum(_by_seed(of_table, model, seconds).mean() for of_table in of_tables)

    fit = total("table", "seconds") / total("paper 64-32", "seconds")
    run = total("table", "swept") / total("paper 64-32", "swept")
    return (
        f"CPU seconds of table over those of paper 64-32, all tables together: {fit:.2f} of a fit, "
        f"{run:.2f} of a run in a sweep.\n"
    )


def _by_seed(rows: list[dict], model: str, name: str) -> np.ndarray:
    """The mean over tasks of a number, per seed."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["model"] == model:
            values.setdefault(row["seed"], []).append(float(row[name]))
    return np.array([np.mean(of_seed) for of_seed in values.values()])


def measured(name: str, networks: Sequence[str], seeds: int, settings: dict) -> list[dict]:
    """All fits of one table."""
    data, rows = read(name)
    spec = data.spec
    found: dict[str, list[Fit]] = {
        model: [fit(spec, dealt(rows, seed), seed) for seed in range(seeds)]
        for model, fit in ((TREES, trees_fit), (LINEAR, linear_fit))
    }
    for network in networks:
        found[network] = network_fits(data, rows, network, seeds, settings)
    return [
        {
            "table": name,
            "model": model,
            "seed": seed,
            "task": task.name,
            "auc": f"{fit.area_t[t]:.5f}",
            "error": f"{fit.error_t[t]:.5f}",
            "seconds": f"{fit.seconds:.3f}",
            "swept": f"{fit.swept:.3f}",
            "compilation": f"{fit.compilation:.2f}",
        }
        for model, fits in found.items()
        for seed, fit in enumerate(fits)
        for t, task in enumerate(spec.tasks)
    ]


def write(folder: Path, rows: list[dict]) -> None:
    """Fits as CSV and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "accuracy.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "accuracy.md").write_text(summary(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(TABLES), help="tables, with commas")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    seeds = 2 if options.quick else options.seeds
    settings = {"epochs": 10} if options.quick else {}
    folder = Path(tempfile.mkdtemp()) if options.quick else RESULTS
    rows = []
    for name in options.only.split(","):
        begin = time.perf_counter()
        rows += measured(name, options.networks.split(","), seeds, settings)
        write(folder, rows)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    print((folder / "accuracy.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
