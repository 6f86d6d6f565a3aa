"""From the runs of several methods to one tidy table, with ARE, ARFG and gains."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fairjax.core.keys import HParam, Key, Metric
from fairjax.core.tables import TEXTS, Table
from fairjax.core.types import Attribute, Range, Spec, Task
from fairjax.metrics import (
    GAPS,
    ara,
    are,
    arfg,
    denominator,
    discrimination_gain,
    gap_metric,
    knowledge_gain,
)
from fairjax.notions import CLASSES
from fairjax.study.constraints import verdicts_of
from fairjax.study.evaluation import SPLITS
from fairjax.training import Runs

if TYPE_CHECKING:
    from fairjax.study.run import Study

DECISION_TEXTS = {
    "half": "A binary task decides 1 where its probability is one half or more.",
    "least_error": "A binary task decides 1 from the probability on that gives the fewest errors "
    "on validation rows.",
    "base_rate": "A binary task decides 1 from the probability on that selects the training base "
    "rate of the validation rows.",
    "transductive": "A binary task selects the training base rate of the very rows that are "
    "measured, as published tables do. No model can decide one new row like that: a saved model "
    "has the threshold of the validation rows.",
}
SEVERAL = "gap"  # the name of the gap where tasks or attributes have different ones
# violations of equal opportunity and of equalized odds: the conditions whose differences they add
VIOLATIONS: dict[str, tuple[str, ...]] = {"ep": ("tpr",), "eo": ("tpr", "fpr")}


def assemble(
    study: Study, runs: Mapping[str, Runs], reference: str
) -> tuple[Table, dict[str, Any]]:
    """One table of the runs of several methods, the reference among them, and ``info``.

    Args:
      study: the study that was run.
      runs: by method.
      reference: the method whose runs are single-task networks.
    """
    parts = []
    references = []
    estimators = []
    for method, method_runs in runs.items():
        blocks = _blocks(study, method, method_runs, reference)
        parts += blocks
        if method == reference:
            references = [str(block["method"][0]) for block in blocks]
        if method in study.estimators:
            estimators += [str(block["method"][0]) for block in blocks]
    table = _join(parts)
    gap = _gap_name(study)
    if gap == SEVERAL:
        _add_gap(table, study)
    single_task = _add_relative(table, gap, study.spec, reference)
    info = {
        "tasks": [task.name for task in study.spec.tasks],
        "attributes": [attribute.name for attribute in study.spec.attributes],
        "gap": gap,
        "condition": study.condition,
        "notion": study.notion,
        "decision": {
            "rule": study.config.decision,
            "text": DECISION_TEXTS[study.config.decision],
        },
        "label_1": {task.name: task.positive for task in study.spec.tasks if task.positive},
        "reference_methods": references,
        "estimator_methods": estimators,
        "single_task": single_task,
        "study": study.names.to_json() if study.names else None,
        "config": dataclasses.asdict(study.config),
        "compilations": {name: method_runs.compilations for name, method_runs in runs.items()},
        "chunk": {name: method_runs.chunk for name, method_runs in runs.items()},
        "seeds": {
            "draw": study.config.seed,
            "members": study.config.seeds,
            "single_task": study.config.reference_seeds,
        },
        "versions": _versions(),
        "environment": _environment(),
    }
    return table, info


def gap_of(study: Study, task: Task, attribute: Attribute) -> str:
    """The metric that shows the gap of a task between the groups of an attribute."""
    return gap_metric(study.condition, task.kind, attribute.continuous)


def repaired_name(method: str, repair: str) -> str:
    """Name of a method's runs after a repair."""
    return f"{method}+{repair}"


def _blocks(study: Study, method: str, runs: Runs, reference: str) -> list[Table]:
    """Rows of a method, and of its runs after each repair.

    After a repair every run has a row per amount, and the rows of a run stand side by side.
    """
    is_reference = method == reference
    space = {} if method in study.estimators else study.recipes[method].space

    def rows(metrics: dict[Metric, np.ndarray], name: str) -> Table:
        if is_reference:
            return _reference_rows(study.spec, runs, metrics, name)
        return _rows(study.spec, space, runs, metrics, name)

    plain = rows(runs.metrics["plain"], method)
    verdicts = verdicts_of(runs)
    if any(verdicts):  # they are about scores before a repair
        plain["verdict"] = np.array(verdicts)
    blocks = [plain]
    amounts = np.asarray(study.amounts, np.float32)
    for post in study.repairs:
        name = repaired_name(method, post.name)
        per_amount = []
        for i, amount in enumerate(amounts):
            all_metrics = runs.metrics[post.name]
            metrics = {key: value[:, i] for key, value in all_metrics.items()}
            block = rows(metrics, name)
            block["point"] = block["point"] * len(amounts) + i
            block[HParam("repair")] = np.full(block.rows, amount)
            per_amount.append(block)
        blocks.append(_interleave(per_amount))
    return blocks


def _rows(
    spec: Spec, space: dict[str, Range], runs: Runs, metrics: dict[Metric, np.ndarray], name: str
) -> Table:
    columns: dict[Key, np.ndarray] = {
        "method": np.full(len(runs.point), name),
        "point": runs.point,
        "seed": runs.seed,
        "diverged": runs.diverged,
    }
    for hparam, values in runs.hparams.items():
        columns |= _hparam_columns(spec, space, hparam, values)
    return Table(columns | metrics)


def _hparam_columns(
    spec: Spec, space: dict[str, Range], name: str, values: np.ndarray
) -> dict[HParam, np.ndarray]:
    """A column for a number, and one per entry of a vector."""
    if values.ndim == 1:
        return {HParam(name): values}
    labels = space[name].labels
    if not labels:
        labels = tuple(task.name for task in spec.tasks)
    flat = values.reshape(len(values), -1)
    width = flat.shape[1]
    if width != len(labels):
        labels = tuple(str(i) for i in range(width))
    return {HParam(name, label): flat[:, i] for i, label in enumerate(labels)}


def _reference_rows(spec: Spec, runs: Runs, metrics: dict[Metric, np.ndarray], name: str) -> Table:
    """A row per seed, which has each task's metrics from the network of that task alone."""
    index = {task.name: t for t, task in enumerate(spec.tasks)}
    tasks = len(spec.tasks)
    seeds = len(runs.seed) // tasks
    diverged_ts = runs.diverged.reshape(tasks, seeds)
    columns: dict[Key, np.ndarray] = {
        "method": np.full(seeds, name),
        "point": np.zeros(seeds, int),
        "seed": runs.seed[:seeds],
        "diverged": diverged_ts.any(axis=0),
    }
    for key, values in metrics.items():
        values_ts = values.reshape(tasks, seeds)
        columns[key] = values_ts[index[key.task]]
    return Table(columns)


def _interleave(tables: list[Table]) -> Table:
    """Rows of several tables in turn: the first of each, then the second of each."""
    columns = {}
    for key in tables[0]:
        side_by_side = np.stack([table[key] for table in tables], axis=1)
        columns[key] = side_by_side.reshape(-1)
    return Table(columns)


def _join(tables: list[Table]) -> Table:
    """Tables under one another.

    A column that a table lacks is NaN there, or no text. Hyper-parameters stand before metrics.
    """
    unique_keys = dict.fromkeys(key for table in tables for key in table)
    keys = sorted(unique_keys, key=_place)
    total = sum(table.rows for table in tables)
    joined = Table({"run": np.arange(total)})
    for key in keys:
        parts = []
        for table in tables:
            if key in table:
                parts.append(table[key])
            elif key in TEXTS:
                parts.append(np.full(table.rows, ""))
            else:
                parts.append(np.full(table.rows, np.nan, np.float32))
        joined[key] = np.concatenate(parts)
    return joined


def _place(key: Key) -> int:
    if isinstance(key, Metric):
        return 2
    if isinstance(key, HParam):
        return 1
    return 0


def _gap_name(study: Study) -> str:
    names = set()
    for task in study.spec.tasks:
        names |= {gap_of(study, task, attribute) for attribute in study.spec.attributes}
    all_classes = all(task.kind in CLASSES for task in study.spec.tasks)
    if all_classes and len(names) == 1:
        return names.pop()
    return SEVERAL


def _add_gap(table: Table, study: Study) -> None:
    """A ``gap`` column per task and attribute, which repeats the metric that fits them."""
    for split in SPLITS:
        for task in study.spec.tasks:
            for attribute in study.spec.attributes:
                subject = Metric(SEVERAL, task.name, attribute=attribute.name, split=split)
                fitting = subject._replace(metric=gap_of(study, task, attribute))
                table[subject] = table[fitting]


def _add_relative(table: Table, gap: str, spec: Spec, reference: str) -> dict[str, Any]:
    """Add ARE, ARFG and gains per split, and return the single-task denominators with their spread.

    A task in whose rows no demographics are known has no gap. ARFG is then the mean over the other
    tasks.
    """
    summary = {}
    is_reference = (table["method"] == reference) & ~table["diverged"]
    for split in SPLITS:
        error_columns = [table[Metric("error", task.name, split=split)] for task in spec.tasks]
        gap_columns = [_worst_gap(table, gap, spec, task, split) for task in spec.tasks]
        errors = np.stack(error_columns, axis=1)
        gaps = np.stack(gap_columns, axis=1)
        error = denominator(errors[is_reference])
        fairness = denominator(gaps[is_reference])
        table[Metric("are", split=split)] = are(errors, error.mean)
        table[Metric("arfg", split=split)] = _over_tasks(arfg, gap_columns, is_reference)
        _add_gains(table, spec, split, is_reference)
        summary[split] = {
            task.name: {
                "error": float(error.mean[i]),
                "error_deviation": float(error.deviation[i]),
                "gap": float(fairness.mean[i]),
                "gap_deviation": float(fairness.deviation[i]),
                "gap_is_noisy": bool(fairness.noisy[i]),
                "runs": error.runs,
            }
            for i, task in enumerate(spec.tasks)
        }
    return summary


def _add_gains(table: Table, spec: Spec, split: str, is_reference: np.ndarray) -> None:
    """Add knowledge gain, discrimination gains, and the ratios of accuracies and of violations.

    A regression has neither an accuracy nor rates: the means leave it out. An attribute that is a
    number has no rates. The one scale of all kinds is ARE.
    """
    classifications = [task for task in spec.tasks if task.kind in CLASSES]
    errors = [table[Metric("error", task.name, split=split)] for task in classifications]
    for name, of in (("knowledge_gain", knowledge_gain), ("ara", ara)):
        table[Metric(name, split=split)] = _over_tasks(of, errors, is_reference)
    for name, conditions in VIOLATIONS.items():
        violations = [
            _worst_violation(table, conditions, spec, task, split) for task in classifications
        ]
        for prefix, of in (("discrimination_gain", discrimination_gain), ("arf", arfg)):
            key = Metric(f"{prefix}_{name}", split=split)
            table[key] = _over_tasks(of, violations, is_reference)


def _over_tasks(
    of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    columns: list[np.ndarray],
    is_reference: np.ndarray,
) -> np.ndarray:
    """``of(values [N, T], single_task [T])`` of the tasks that have values; NaN without one."""
    known = [column for column in columns if not np.isnan(column).all()]
    if not known:
        return np.full(len(is_reference), np.nan)
    values = np.stack(known, axis=1)
    return of(values, denominator(values[is_reference]).mean)


def _worst_violation(
    table: Table, conditions: tuple[str, ...], spec: Spec, task: Task, split: str
) -> np.ndarray:
    """``max_a sum_c difference_ac`` of a task; NaN without an attribute that has levels."""
    violations = []
    for attribute in spec.attributes:
        subject = Metric("", task.name, attribute=attribute.name, split=split)
        keys = [subject._replace(metric=GAPS[condition].difference) for condition in conditions]
        if all(key in table for key in keys):
            violations.append(np.sum([table[key] for key in keys], axis=0))
    if not violations:
        return np.full(table.rows, np.nan)
    return np.max(violations, axis=0)


def _worst_gap(table: Table, gap: str, spec: Spec, task: Task, split: str) -> np.ndarray:
    columns = [
        table[Metric(gap, task.name, attribute=attribute.name, split=split)]
        for attribute in spec.attributes
    ]
    return np.max(columns, axis=0)


def _versions() -> dict[str, str]:
    packages = ("fairjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def _environment() -> dict[str, Any]:
    devices = jax.local_devices()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "devices": len(devices),
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
    }
