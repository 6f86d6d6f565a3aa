"""What keeps a report honest: constant predictors, and groups too small for a rate.

All of it follows from the data alone. Values are JSON-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.core.keys import Metric
from fairjax.core.masked import keep
from fairjax.core.tables import Table
from fairjax.core.types import Dataset, Spec
from fairjax.data import Prepared
from fairjax.losses import against_rest
from fairjax.metrics import are
from fairjax.metrics.frontier import nondominated
from fairjax.notions import CONDITIONS
from fairjax.study.evaluation import SPLITS

if TYPE_CHECKING:
    from fairjax.study.run import Study

CONSTANT_TEXTS = {
    "nobody": "nobody",
    "everybody": "everybody",
    "at random": "the base rate at random",
    "most frequent": "the most frequent class",
    "mean": "the mean of the training rows",
}
ROUNDING = 1e-5  # of an ARE
CURE = " Where label 1 is rare, --decision base_rate selects as many rows as have it."


def references_of(
    data: Prepared, study: Study, table: Table, info: dict[str, Any]
) -> dict[str, Any]:
    """Entries of a study's info that say how far its numbers can be trusted.

    They are ``rules``, ``constants``, ``constant_are``, ``labelled``, ``minimum``, ``left_out`` and
    ``warnings``.
    """
    entries = {
        "rules": rules_of(data),
        "constants": constants(data),
        "labelled": labelled_rows(data),
        "minimum": study.config.smallest_group,
        "left_out": left_out(data, study),
    }
    entries["constant_are"] = {split: constant_are(info | entries, split) for split in SPLITS}
    return entries | {"warnings": warnings_of(table, info | entries)}


def constants(data: Prepared) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Errors of predictors that do not look at a row, by split, task and predictor.

    Their gaps are 0. Of a binary or multilabel task: ``nobody``, ``everybody``, and ``at random``,
    which selects the training base rate. Of a multiclass task: ``most frequent``, the class that
    most training rows have. Of a regression: ``mean`` of the training rows, of several outputs with
    the error that :func:`fairjax.metrics.evaluate` has for them.
    """
    errors: dict[str, Any] = {}
    for split in SPLITS:
        errors[split] = {}
        for t, task in enumerate(data.spec.tasks):
            rows = getattr(data.splits, split)
            found = _CONSTANTS[task.kind](data.spec, t, data.splits.train, rows)
            errors[split][task.name] = {name: {"error": value} for name, value in found.items()}
    return errors


def best_constant(predictors: dict[str, dict[str, float]]) -> tuple[str, float]:
    """Name and error of the constant predictor of a task with the least error."""
    name = min(predictors, key=lambda key: predictors[key]["error"])
    return name, predictors[name]["error"]


def warnings_of(table: Table, info: dict[str, Any]) -> list[str]:
    """Sentences about constant predictors that are as good as the runs.

    The best constant predictors of all tasks have gap 0: they beat every run whose ARE is not
    lower. Runs on the frontier of all methods on validation rows that they beat are not to be read.
    A task is named where no run has an error that is a standard error below that of its best
    constant, ``sqrt(e (1 - e) / n)`` of n rows, and where the gap that ARFG divides by is noisy.
    """
    is_reference = np.isin(table["method"], info["reference_methods"])
    is_model = ~is_reference & ~table["diverged"]
    return [
        *_frontier_warning(table, info, is_model),
        *_task_warnings(table, info, is_model),
        *_noise_warning(info),
    ]


def _noise_warning(info: dict[str, Any]) -> Iterator[str]:
    """Tasks whose single-task gap, which ARFG divides by, is known to more than a tenth."""
    parts = []
    for task, means in info["single_task"]["test"].items():
        if means["gap_is_noisy"] and np.isfinite(means["gap"]):
            deviation = means["gap_deviation"]
            parts.append(f"{task} ({means['gap']:.4f}, deviation {deviation:.4f})")
    if parts:
        runs = max(means["runs"] for means in info["single_task"]["test"].values())
        yield (
            f"ARFG divides by a noisy number: the mean gap of single-task models over {runs} seeds "
            f"is known to no better than a tenth for {', '.join(parts)}."
        )


def _frontier_warning(table: Table, info: dict[str, Any], is_model: np.ndarray) -> Iterator[str]:
    relative = info["constant_are"]["validation"]
    relative_errors = table[Metric("are", split="validation")]
    arfg = table[Metric("arfg", split="validation")]
    # a gap of 0 of single-task models makes 0/0 or infinity
    arfg = np.nan_to_num(arfg, nan=0.0, posinf=np.finfo(np.float32).max)
    points = np.stack([relative_errors, arfg], axis=1)
    points = points[is_model & np.isfinite(relative_errors)]
    front = points[nondominated(points)]
    beaten = int((front[:, 0] >= relative - ROUNDING).sum())
    if not beaten:
        return
    names = []
    for task, predictors in info["constants"]["validation"].items():
        name, _ = best_constant(predictors)
        names.append(f"{CONSTANT_TEXTS[name]} for {task}")
    where = "" if beaten == len(front) else f" beyond ARE {relative:.3f}"
    yield (
        f"Do not read this frontier{where}: predictors that look at no row ({'; '.join(names)}) "
        f"beat {beaten} of its {len(front)} runs on validation rows. Their ARE is {relative:.3f} "
        "and their gap 0."
    )


def _task_warnings(table: Table, info: dict[str, Any], is_model: np.ndarray) -> Iterator[str]:
    for task, predictors in info["constants"]["validation"].items():
        name, constant = best_constant(predictors)
        errors = table[Metric("error", task, split="validation")][is_model]
        errors = errors[np.isfinite(errors)]
        if not len(errors):
            continue
        best = float(errors.min())
        rows = info["labelled"]["validation"][task]
        # an error beyond 1 is no share of rows: it is in the units of a regression
        variance = max(constant * (1.0 - constant), 0.0)
        if best < constant - np.sqrt(variance / rows):
            continue
        yield (
            f"Of {task} no run is clearly better than a constant: {CONSTANT_TEXTS[name]} has error "
            f"{constant:.4f} on validation rows, the best of {len(errors)} runs {best:.4f}. Small "
            "gaps may be those of decisions that hardly differ between rows."
            + (CURE if info["decision"]["rule"] != "base_rate" else "")
        )


def constant_are(info: dict[str, Any], split: str) -> float:
    """ARE of the best constant predictor of every task; their ARFG is 0."""
    errors = []
    single_task_errors = []
    for task, predictors in info["constants"][split].items():
        _, error = best_constant(predictors)
        errors.append(error)
        single_task_errors.append(info["single_task"][split][task]["error"])
    return float(are(errors, single_task_errors))


def labelled_rows(data: Prepared) -> dict[str, dict[str, int]]:
    """Rows with a known label, by split and task; of several labels or outputs of the first."""
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        rows = getattr(data.splits, split)
        counts[split] = {}
        for t, task in enumerate(data.spec.tasks):
            _, weight = _known(rows, data.spec.label_slice(t).start)
            counts[split][task.name] = len(weight)
    return counts


def left_out(data: Prepared, study: Study) -> dict[str, list[dict[str, Any]]]:
    """Groups with too few rows for the gap that is shown, by split.

    An entry has ``attribute``, ``group``, ``task``, ``rows`` of the group, and ``rows_that_count``:
    those that its rate rests on.
    """
    smallest = study.config.smallest_group
    entries: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        rows = getattr(data.splits, split)
        entries[split] = []
        for t, task in enumerate(data.spec.tasks):
            counted_nk = _rows_of_rates(data.spec, t, study.condition, rows)
            for attribute, group, member_n in _groups(data.spec, rows):
                count = int(counted_nk[member_n].sum(axis=0).min())
                if count < smallest:
                    entry = {
                        "attribute": attribute,
                        "group": group,
                        "task": task.name,
                        "rows": int(member_n.sum()),
                        "rows_that_count": count,
                    }
                    entries[split].append(entry)
    return entries


def left_out_sentences(info: dict[str, Any]) -> list[str]:
    """A sentence per split about groups that are too small for the gap that is shown."""
    sentences = []
    for split, entries in info["left_out"].items():
        if not entries:
            continue
        names = [
            f"{entry['attribute']}={entry['group']} for {entry['task']} "
            f"({entry['rows_that_count']} of {entry['rows']} rows count)"
            for entry in entries
        ]
        sentences.append(
            f"Groups of fewer than {info['minimum']} {split} rows are in no gap: "
            f"{', '.join(names)}."
        )
    return sentences


def _groups(spec: Spec, rows: Dataset) -> Iterator[tuple[str, str, np.ndarray]]:
    """Attribute, level and members ``[N]`` of every group of rows with weight."""
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        block = np.asarray(rows.groups)[:, spec.group_slice(i)]
        for g, level in enumerate(attribute.levels):
            yield attribute.name, level, (block[:, g] > 0) & (np.asarray(rows.weight) > 0)


def _rows_of_rates(spec: Spec, t: int, condition: str, rows: Dataset) -> np.ndarray:
    """Rows that the rates of a condition rest on ``[N, K]``, a column per class and rate."""
    if spec.tasks[t].kind == "regression":
        return np.ones((len(rows.weight), 1), bool)
    labels, masks = against_rest(spec, t, rows.labels, rows.label_mask)
    columns = []
    for rows_of in CONDITIONS[condition]:
        for label, mask in zip(np.asarray(labels).T, np.asarray(masks).T, strict=True):
            counted = rows_of(keep(label, mask), mask)
            columns.append(np.asarray(counted) > 0)
    return np.stack(columns, axis=1)


def rules_of(data: Prepared) -> dict[str, dict[str, str]]:
    """Tasks and attributes that a rule makes, by name: the rule of label 1, or of level ``yes``."""
    parts = {"tasks": data.encoder.tasks, "attributes": data.encoder.attributes}
    return {
        part: {rule.name: rule.text for rule in rules if rule.op} for part, rules in parts.items()
    }


def _of_labels(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    """Errors of a binary or multilabel task, the mean over its labels."""
    block = spec.label_slice(t)
    errors = {"nobody": [], "everybody": [], "at random": []}
    for column in range(block.start, block.stop):
        base_rate = _share(train, column)
        share = _share(rows, column)
        errors["nobody"].append(share)
        errors["everybody"].append(1.0 - share)
        errors["at random"].append(base_rate * (1.0 - share) + (1.0 - base_rate) * share)
    return {name: float(np.nanmean(values)) for name, values in errors.items()}


def _of_classes(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    column = spec.label_slice(t).start
    label, weight = _known(train, column)
    mass = np.bincount(label.astype(int), weight, len(spec.tasks[t].levels))
    frequent = np.argmax(mass)
    label, weight = _known(rows, column)
    return {"most frequent": _average(label != frequent, weight)}


def _of_numbers(spec: Spec, t: int, train: Dataset, rows: Dataset) -> dict[str, float]:
    task = spec.tasks[t]
    block = spec.label_slice(t)
    errors = []
    for column in range(block.start, block.stop):
        label, weight = _known(train, column)
        mean = _average(label, weight)
        label, weight = _known(rows, column)
        square = _average((label - mean) ** 2, weight)
        errors.append(np.sqrt(square))
    unit = 1.0 if task.is_vector else task.deviation
    return {"mean": float(unit * np.nanmean(errors))}


def _share(rows: Dataset, column: int) -> float:
    """Share of label 1 among the known labels; NaN where none is known."""
    return _average(*_known(rows, column))


def _average(values: np.ndarray, weight: np.ndarray) -> float:
    """Weighted mean; NaN without a row."""
    return float(np.average(values, weights=weight)) if len(weight) else np.nan


def _known(rows: Dataset, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Known labels and their weights."""
    weight = np.asarray(rows.weight) * np.asarray(rows.label_mask)[:, column]
    is_known = weight > 0
    return np.asarray(rows.labels, float)[is_known, column], weight[is_known]


_CONSTANTS = {
    "binary": _of_labels,
    "multilabel": _of_labels,
    "multiclass": _of_classes,
    "regression": _of_numbers,
}
