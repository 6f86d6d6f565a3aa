"""Which threshold a binary task should decide at: one half, least error, or the base rate.

Every run of two methods decides on test rows at one half, at the threshold of least error on
validation rows, and at the one that selects the training base rate of the validation rows. A line
per data set, method and task: the mean test error of the runs by rule, and that of selecting
nobody.

    python experiments/thresholds.py                      # all data sets, twelve minutes on two cores
    python experiments/thresholds.py --data german rare
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from fairjax.core.keys import Metric
from fairjax.data import Prepared, Roles, from_table, load
from fairjax.data.files import roots
from fairjax.metrics import RULES, evaluate
from fairjax.study import (
    constants,
    from_names,
    named_study,
    run_study,
    scores_of,
    thresholds_of,
)

METHODS = ("vanilla", "baseline")
RUNS = 8


def bank() -> Prepared:
    """Bank marketing; the duration of a call is known only after its outcome."""
    roles = Roles(
        tasks=("y", "loan"),
        sensitive=("age > 60",),
        drop=("duration",),
        delimiter=";",
    )
    return from_table(_file("bank_marketing/bank-full.csv.gz"), roles)


def credit() -> Prepared:
    """Default of credit card clients."""
    roles = Roles(tasks=("default payment",), sensitive=("SEX",))
    return from_table(_file("credit_default/credit-card-clients.csv.gz"), roles)


def rare() -> Prepared:
    """A label that 5 % of the rows have and that a feature tells weakly."""
    rng = np.random.default_rng(0)
    skill = rng.normal(size=10_000)
    score = 0.36 * skill + rng.normal(size=10_000)
    columns = {
        "skill": skill,
        "sex": rng.choice(["f", "m"], 10_000),
        "label": (score > np.quantile(score, 0.95)).astype(int),
    }
    return from_table(columns, Roles(tasks=("label",), sensitive=("sex",)))


SETS: dict[str, Callable[[], Prepared]] = {
    "adult": lambda: load("adult"),
    "compas": lambda: load("compas"),
    "german": lambda: load("german"),
    "lsac": lambda: load("lsac"),
    "bank": bank,
    "credit": credit,
    "rare": rare,
}


def _file(name: str) -> Path:
    """A file below one of the folders of raw data."""
    folders = roots()
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    looked = ", ".join(map(str, folders))
    raise SystemExit(f"no file {name} in {looked}: set $FAIRJAX_DATA to its folder")


def errors_by_rule(data: Prepared) -> dict[str, np.ndarray]:
    """Test errors ``[methods, runs, tasks]`` by rule."""
    names = named_study(methods=METHODS, runs=RUNS, reference_seeds=1, epochs=10)
    study = from_names(data, names)
    results = run_study(data, study=study)

    @jax.jit
    def errors(scores, splits):
        found = {}
        for rule in RULES:
            thresholds = thresholds_of(data.spec, rule, scores, splits)
            values = evaluate(data.spec, scores["test"], splits.test, thresholds["test"])
            found[rule] = [values[Metric("error", task.name)] for task in data.spec.tasks]
        return found

    by_rule = {rule: np.zeros((len(METHODS), RUNS, len(data.spec.tasks))) for rule in RULES}
    for m, method in enumerate(METHODS):
        recipe = study.recipes[method]
        hparams, _ = study.points(method)
        model = recipe.build({name: values[0] for name, values in hparams.items()}).model
        for run in range(RUNS):
            params = jax.tree.map(lambda leaf, i=run: leaf[i], results.params[method])
            found = errors(scores_of(data, study, model, params), data.splits)
            for rule in RULES:
                by_rule[rule][m, run] = found[rule]
    return by_rule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    print(f"{'data':8} {'method':9} {'task':28} {'  '.join(f'{r:>11}' for r in RULES)}   nobody")
    means = []
    for name in options.data:
        data = SETS[name]()
        nobody = constants(data)["test"]
        by_rule = errors_by_rule(data)
        for m, method in enumerate(METHODS):
            for t, task in enumerate(data.spec.tasks):
                values = [by_rule[rule][m, :, t].mean() for rule in RULES]
                means.append(values)
                cells = "  ".join(f"{value:11.4f}" for value in values)
                print(
                    f"{name:8} {method:9} {task.name:28} {cells}   "
                    f"{nobody[task.name]['nobody']['error']:.4f}",
                    flush=True,
                )
    half, *others = np.array(means).T
    for rule, values in zip(RULES[1:], others, strict=True):
        more = values - half
        print(
            f"{rule} less half: mean {more.mean():+.4f}, from {more.min():+.4f} to {more.max():+.4f}"
        )


if __name__ == "__main__":
    main()
