"""fairjax's frontiers of networks and trees beside LightGBM with fairlearn, on eight tables.

    python experiments/benchmark_frontiers.py            # three hours, most of them fairlearn's
    python experiments/benchmark_frontiers.py --quick    # a few minutes; a look at the machinery
    python experiments/benchmark_frontiers.py --only lsac,compas --seeds 3

LightGBM and fairlearn are needed, ``pip install 'fairjax[bench]'``.

Protocol. Tables, rows and splits are those of ``benchmark_tables.py``; groups are those of a
table's first sensitive attribute. For each task and each of three conditions (parity of selection
rates, equal true positive rates, equal odds) a frontier is points of (error over that of LightGBM,
gap over .15). Its points are those that no other one dominates on validation rows; the volume that
they dominate on test rows, up to (1.25, 1), is shown. Gaps are fairlearn's differences.

- ``network``: four networks of all tasks by ``fairjax.study.table_settings``; each leaves out a
  quarter of the training and validation rows, on which it is stopped. New rows get the mean of
  their scores. Thresholds per group are fitted on the scores of the rows that a network has left
  out, and trace a path of nine amounts; no network is trained for a task or a condition alone.
- ``trees``: the same with LightGBM.
- ``fairjax``: both, and the mean of both.
- ``fairlearn``: LightGBM as it is, ThresholdOptimizer, ExponentiatedGradient with four bounds, and
  the predictors of a GridSearch of five points; the trees of both reductions have as many rounds as
  validation rows gave LightGBM.

ThresholdOptimizer and ours know the group of a new row, the reductions do not need it. CPU seconds
are those of a task and condition: what several share is divided among them. Compilation, which is
one for all seeds, is left out. Results go to experiments/results/tables.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import benchmark_tables as tables
import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Splits

if TYPE_CHECKING:
    from fairjax.core.types import Dataset, Spec
    from fairjax.data import Prepared

GAP = 0.15
REFERENCE = (1.25, 1.0)
AMOUNTS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
BOUNDS = (0.01, 0.03, 0.06, 0.1)
GRID = 5
FOLDS = 4
FAIRLEARN, NETWORK, TREES, OURS = "fairlearn", "network", "trees", "fairjax"
SYSTEMS = (FAIRLEARN, NETWORK, TREES, OURS)
CONDITIONS = ("parity", "tpr", "odds")


class Part(NamedTuple):
    """Rows of one split whose label of a task and whose group are known."""

    x: np.ndarray  # [n, F]
    label: np.ndarray  # [n]
    group: np.ndarray  # [n]


class Front(NamedTuple):
    """Decisions ``[P, n]`` of validation and test rows, and the CPU seconds of all points."""

    validation: np.ndarray
    test: np.ndarray
    seconds: float


def with_one_attribute(spec: Spec, rows: Dataset) -> tuple[Spec, Dataset]:
    """Spec and rows with the first sensitive attribute alone."""
    block = spec.group_slice(0)
    spec = dataclasses.replace(spec, attributes=spec.attributes[:1])
    return spec, rows._replace(groups=rows.groups[:, block])


def parts_of(splits: Splits, task: int) -> tuple[list[Part], list[np.ndarray]]:
    """Known rows of every split, and which rows these are."""
    parts, known = zip(*(known_rows(rows, task) for rows in splits), strict=True)
    return list(parts), list(known)


def known_rows(rows: Dataset, task: int) -> tuple[Part, np.ndarray]:
    """Known rows, and which these are."""
    is_known = (rows.label_mask[:, task] > 0) & (rows.groups.sum(axis=1) > 0)
    x = np.concatenate([rows.x.numeric, rows.x.codes], axis=1, dtype=np.float32)
    group = rows.groups.argmax(axis=1)
    return Part(x[is_known], rows.labels[is_known, task], group[is_known]), is_known


# ------------------------------------------------------------------------------------------ ours


class Ours:
    """Scores of networks of all tasks, and thresholds of any scores; compiled once per table."""

    def __init__(self, data: Prepared, settings: dict):
        from fairjax.postprocess import REGISTRY
        from fairjax.study import REFERENCE as SINGLE
        from fairjax.study import from_names, named_study, table_settings
        from fairjax.study.evaluation import repair_scores
        from fairjax.training import Program, grid

        chosen = table_settings(len(data.splits.train.weight)) | settings
        study = from_names(data, named_study(methods=(), **chosen))
        self.recipe = study.recipes[SINGLE]
        self.config = study.config.train_config
        self.points = grid(self.recipe.space, {})
        self.devices = jax.local_devices()[:1]
        self.program = Program(
            self.recipe, self.config, _nothing, keep=("scores",), devices=self.devices
        )
        amounts = jnp.asarray(AMOUNTS)

        def paths(scores: dict, splits: Splits) -> dict:
            found = {}
            for condition in CONDITIONS:
                post = REGISTRY[f"{condition}_thresholds"](data.spec)
                repair = jax.vmap(lambda a, p=post: repair_scores(p, scores, splits, a))
                found[condition] = repair(amounts)
            return found

        self.paths = jax.jit(paths)

    def path(self, scores: dict[str, np.ndarray], splits: Splits) -> dict:
        """Scores ``[A, N, T]`` of both splits along the path of every condition."""
        return jax.block_until_ready(self.paths(scores, splits))

    def scores(self, splits: Splits, seed: int) -> dict[str, np.ndarray]:
        """Scores ``[N, T]`` of validation and test rows."""
        from fairjax.training import sweep

        runs = sweep(
            self.recipe,
            self.config,
            self.points,
            [seed],
            splits,
            _nothing,
            root=seed,
            keep=("scores",),
            program=self.program,
            devices=self.devices,
            chunk=1,
        )
        return {split: scores[0] for split, scores in runs.scores.items()}


def pooled(splits: Splits) -> Dataset:
    """Training and validation rows, as many as fill the folds."""
    pool = jax.tree.map(lambda *parts: np.concatenate(parts), splits.train, splits.validation)
    count = len(pool.weight)
    return chosen(pool, np.arange(count - count % FOLDS))


def chosen(rows: Dataset, index: np.ndarray) -> Dataset:
    """Some of the rows."""
    return jax.tree.map(lambda leaf: leaf[index], rows)


def fold_of(pool: Dataset, test: Dataset, k: int) -> Splits:
    """The pool's rows without those of fold k, and with them alone."""
    is_left_out = np.arange(len(pool.weight)) % FOLDS == k
    return Splits(chosen(pool, ~is_left_out), chosen(pool, is_left_out), test)


def cross_fitted(fit: Callable, pool: Dataset, test: Dataset) -> dict[str, np.ndarray]:
    """Scores ``[N, T]`` of the pool's rows by the fit that left them out, and of test rows by all.

    Args:
      fit: from splits and a fold's number to scores of validation and test rows.
      pool: rows to train on, dealt to the folds in turn.
      test: other rows.
    """
    score = np.zeros_like(pool.labels, np.float32)
    tests = []
    for k in range(FOLDS):
        found = fit(fold_of(pool, test, k), k)
        score[k::FOLDS] = found["validation"]
        tests.append(found["test"])
    return {"validation": score, "test": np.mean(tests, axis=0)}


def _nothing(scores: dict, splits: Splits) -> dict:
    del scores, splits
    return {}


def fronts_of(paths: dict, known: Sequence[np.ndarray], task: int, seconds: float) -> dict:
    """Decisions along the path of every condition."""
    pool, test = known
    return {
        condition: Front(
            np.asarray(path["validation"])[:, pool, task] >= 0,
            np.asarray(path["test"])[:, test, task] >= 0,
            seconds,
        )
        for condition, path in paths.items()
    }


# --------------------------------------------------------------------------------------- fairlearn


def trees_of(spec: Spec, parts: Sequence[Part], seed: int) -> tuple[np.ndarray, np.ndarray, object]:
    """Probabilities of LightGBM on validation and test rows, and the model."""
    import lightgbm

    train, validation, test = parts
    model = lightgbm.LGBMClassifier(
        n_estimators=1000, learning_rate=0.05, n_jobs=1, random_state=seed, verbose=-1
    )
    levels = list(range(len(spec.numeric), train.x.shape[1]))
    model.fit(
        train.x,
        train.label,
        eval_set=[(validation.x, validation.label)],
        categorical_feature=levels,
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    return model.predict_proba(validation.x)[:, 1], model.predict_proba(test.x)[:, 1], model


def tree_scores(spec: Spec, splits: Splits, seed: int) -> dict[str, np.ndarray]:
    """Log-odds ``[N, T]`` of LightGBM, a model per task; 0 where a label or group is unknown."""
    scores = {
        split: np.zeros_like(getattr(splits, split).labels, np.float32)
        for split in ("validation", "test")
    }
    for t, _ in enumerate(spec.tasks):
        parts, known = parts_of(splits, t)
        *fitted, _ = trees_of(spec, parts, seed)
        for prob, score, is_known in zip(fitted, scores.values(), known[1:], strict=True):
            prob = np.clip(prob, 1e-6, 1 - 1e-6)
            score[is_known, t] = np.log(prob / (1 - prob))
    return scores


def fairlearn_front(
    condition: str, spec: Spec, parts: Sequence[Part], model: object, bounds: Sequence[float]
) -> Front:
    """LightGBM as it is, ThresholdOptimizer, and both reductions."""
    from fairlearn import reductions
    from fairlearn.postprocessing import ThresholdOptimizer
    from lightgbm import LGBMClassifier

    train, validation, test = parts
    moment, name = {
        "parity": (reductions.DemographicParity, "demographic_parity"),
        "tpr": (reductions.TruePositiveRateParity, "true_positive_rate_parity"),
        "odds": (reductions.EqualizedOdds, "equalized_odds"),
    }[condition]
    found = [(model.predict(validation.x), model.predict(test.x))]
    optimizer = ThresholdOptimizer(
        estimator=model, constraints=name, prefit=True, predict_method="predict_proba"
    )
    optimizer.fit(validation.x, validation.label, sensitive_features=validation.group)
    found.append(
        tuple(
            optimizer.predict(part.x, sensitive_features=part.group, random_state=0)
            for part in (validation, test)
        )
    )
    rounds = max(model.best_iteration_, 10)
    levels = [f"name:{j}" for j in range(len(spec.numeric), train.x.shape[1])]
    indices = ",".join(level.removeprefix("name:") for level in levels)
    learner = LGBMClassifier(
        n_estimators=rounds,
        learning_rate=0.05,
        n_jobs=1,
        random_state=0,
        verbose=-1,
        **({"categorical_feature": indices} if levels else {}),
    )
    for bound in bounds:
        reduction = reductions.ExponentiatedGradient(
            learner, moment(difference_bound=bound), max_iter=20
        )
        reduction.fit(train.x, train.label, sensitive_features=train.group)
        found.append(
            tuple(reduction.predict(part.x, random_state=0) for part in (validation, test))
        )
    search = reductions.GridSearch(learner, moment(), grid_size=GRID)
    search.fit(train.x, train.label, sensitive_features=train.group)
    for predictor in search.predictors_:
        found.append((predictor.predict(validation.x), predictor.predict(test.x)))
    decisions = [np.stack(rows).astype(bool) for rows in zip(*found, strict=True)]
    return Front(*decisions, 0.0)


# ---------------------------------------------------------------------------------------- volumes


def gap_of(condition: str, part: Part, decision: np.ndarray) -> float:
    """fairlearn's difference between groups of at least ten rows that count; NaN without two."""
    from fairlearn import metrics

    sizes = np.bincount(part.group)
    positives = np.bincount(part.group, part.label, len(sizes))
    least = {"parity": sizes, "tpr": positives, "odds": np.minimum(positives, sizes - positives)}
    is_large = least[condition] >= 10
    if is_large.sum() < 2:
        return np.nan
    counted = is_large[part.group]
    label, group, decision = part.label[counted], part.group[counted], decision[counted]
    if condition == "tpr":
        frame = metrics.MetricFrame(
            metrics=metrics.true_positive_rate,
            y_true=label,
            y_pred=decision,
            sensitive_features=group,
        )
        return float(frame.difference())
    difference = {
        "parity": metrics.demographic_parity_difference,
        "odds": metrics.equalized_odds_difference,
    }[condition]
    return float(difference(label, decision, sensitive_features=group))


def points_of(condition: str, part: Part, decisions: np.ndarray, error: float) -> np.ndarray:
    """(error over that of LightGBM, gap over .15) of every row of decisions."""
    return np.array(
        [
            (np.mean(decision != part.label) / error, gap_of(condition, part, decision) / GAP)
            for decision in decisions
        ]
    )


def volume_of(
    condition: str, validation: Part, test: Part, front: Front, errors: Sequence[float]
) -> float:
    """The volume on test rows of what no point dominates on validation rows."""
    from fairjax.metrics.frontier import hypervolume, nondominated

    best = nondominated(points_of(condition, validation, front.validation, errors[0]))
    return hypervolume(points_of(condition, test, front.test[best], errors[1]), REFERENCE)


def measured(name: str, seeds: int, settings: dict, bounds: Sequence[float]) -> list[dict]:
    """All volumes of one table."""
    data, rows = tables.read(name)
    spec, rows = with_one_attribute(data.spec, rows)
    splits = tables.dealt(rows, 0)
    first = fold_of(pooled(splits), splits.test, 0)
    ours = Ours(dataclasses.replace(data, spec=spec, splits=first), settings)
    found = []
    for seed in range(seeds):
        splits = tables.dealt(rows, seed)
        if seed == 0:  # to compile
            paths_of(spec, ours, splits.test, pooled(splits), seed)
        for task, condition, system, front, volume in of_seed(spec, splits, ours, seed, bounds):
            found.append(
                {
                    "table": name,
                    "task": task,
                    "condition": condition,
                    "seed": seed,
                    "system": system,
                    "volume": f"{volume:.5f}",
                    "seconds": f"{front.seconds:.3f}",
                }
            )
    return found


def of_seed(
    spec: Spec, splits: Splits, ours: Ours, seed: int, bounds: Sequence[float]
) -> Iterator[tuple]:
    """Task, condition, system, front and volume, of one seed."""
    tasks = range(len(spec.tasks))
    parts, known = zip(*(parts_of(splits, t) for t in tasks), strict=True)
    models = [timed(trees_of, spec, parts[t], seed) for t in tasks]
    pool = pooled(splits)
    paths, seconds = paths_of(spec, ours, splits.test, pool, seed)
    share = len(tasks) * len(CONDITIONS)
    for t in tasks:
        pool_part, pool_known = known_rows(pool, t)
        fronts = {
            system: fronts_of(path, (pool_known, known[t][2]), t, seconds[system] / share)
            for system, path in paths.items()
        }
        (_, _, model), tree_seconds = models[t]
        errors = [np.mean(model.predict(part.x) != part.label) for part in parts[t][1:]]
        for condition in CONDITIONS:
            if np.isnan([gap_of(condition, part, part.label > 0) for part in parts[t][1:]]).any():
                continue  # too few rows of a label for a gap
            peer, peer_seconds = timed(fairlearn_front, condition, spec, parts[t], model, bounds)
            found = {
                FAIRLEARN: peer._replace(seconds=peer_seconds + tree_seconds / len(CONDITIONS))
            }
            found |= {system: of_system[condition] for system, of_system in fronts.items()}
            found[OURS] = joined([found[system] for system in fronts])
            for system, front in found.items():
                chosen_on = parts[t][1] if system == FAIRLEARN else pool_part
                volume = volume_of(condition, chosen_on, parts[t][2], front, errors)
                yield spec.tasks[t].name, condition, system, front, volume


def paths_of(spec: Spec, ours: Ours, test: Dataset, pool: Dataset, seed: int) -> tuple[dict, dict]:
    """Scores along the path of every condition, and CPU seconds, of each of our systems."""
    fits = {
        NETWORK: lambda splits, k: ours.scores(splits, FOLDS * seed + k),
        TREES: lambda splits, k: tree_scores(spec, splits, FOLDS * seed + k),
    }
    scores, seconds = {}, {}
    for system, fit in fits.items():
        scores[system], seconds[system] = timed(cross_fitted, fit, pool, test)
    scores[OURS] = jax.tree.map(lambda *pair: np.mean(pair, axis=0), *scores.values())
    seconds[OURS] = 0.0  # both are there
    paths = {}
    for system, score in scores.items():
        paths[system], path_seconds = timed(ours.path, score, Splits(pool, pool, test))
        seconds[system] += path_seconds
    return paths, seconds


def joined(fronts: Sequence[Front]) -> Front:
    """The points of several fronts, and their seconds."""
    validation, test, seconds = zip(*fronts, strict=True)
    return Front(np.concatenate(validation), np.concatenate(test), sum(seconds))


def timed(function: Callable, *arguments: object) -> tuple:
    """What a function gives, and its CPU seconds."""
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function(*arguments)
    return result, time.process_time() - begin


# ---------------------------------------------------------------------------------------- the table


def summary(rows: list[dict]) -> str:
    """A Markdown table: a line per table and condition, means over tasks."""
    ours = SYSTEMS[1:]
    volumes = " | ".join(f"{system} | less {FAIRLEARN}'s" for system in ours)
    lines = [
        f"| table | condition | {FAIRLEARN} | {volumes} | CPU seconds: {' | '.join(SYSTEMS)} |",
        "|" + "---|" * (3 + 2 * len(ours) + len(SYSTEMS)),
    ]
    for name in dict.fromkeys(row["table"] for row in rows):
        for condition in CONDITIONS:
            chosen = [r for r in rows if r["table"] == name and r["condition"] == condition]
            if not chosen:
                continue
            volume = {s: tables._by_seed(_of(chosen, s), s, "volume") for s in SYSTEMS}
            cells = [name, condition, f"{volume[FAIRLEARN].mean():.3f}"]
            for system in ours:
                less = tables.student(volume[system] - volume[FAIRLEARN])
                cells += [f"{volume[system].mean():.3f}", less]
            for system in SYSTEMS:
                seconds = tables._by_seed(_of(chosen, system), system, "seconds")
                cells.append(f"{seconds.mean():.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n" + _totals(rows)


def _totals(rows: list[dict]) -> str:
    """Means over tables, tasks and conditions, and how many of these are below fairlearn's."""
    sentences = []
    cells: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        cell = cells.setdefault((row["table"], row["task"], row["condition"]), {})
        cell.setdefault(row["system"], []).append(float(row["volume"]))
    means = {s: np.array([np.mean(cell[s]) for cell in cells.values()]) for s in SYSTEMS}
    for system in SYSTEMS[1:]:
        ratio = means[system].mean() / means[FAIRLEARN].mean()
        below = int((means[system] < means[FAIRLEARN]).sum())
        sentences.append(
            f"{system}: volume {means[system].mean():.3f} against {means[FAIRLEARN].mean():.3f}, "
            f"{ratio:.2f} times; below in {below} of {len(cells)} tables, tasks and conditions."
        )
    return "\n".join(sentences) + "\n"


def _of(rows: list[dict], system: str) -> list[dict]:
    return [{**row, "model": row["system"]} for row in rows if row["system"] == system]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(tables.TABLES), help="tables, with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    seeds = 1 if options.quick else options.seeds
    settings = {"epochs": 10} if options.quick else {}
    bounds = BOUNDS[1:2] if options.quick else BOUNDS
    folder = Path(tempfile.mkdtemp()) if options.quick else tables.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "frontiers.csv"
    rows = []
    if path.exists():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))  # those of other tables stay
    for name in options.only.split(","):
        begin = time.perf_counter()
        rows = [row for row in rows if row["table"] != name]
        rows += measured(name, seeds, settings, bounds)
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "frontiers.md").write_text(summary(rows))
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    print((folder / "frontiers.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
