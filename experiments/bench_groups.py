"""A disaggregated table with bootstrap intervals, against fairlearn's MetricFrame on the same rows
in the same run.

    python experiments/bench_groups.py

Ours has thirteen statistics, MetricFrame six of them. MetricFrame's time is linear in its resamples
(two numbers of them are measured, and the rest is drawn on that line), since two hundred would take
most of an hour.
"""

from __future__ import annotations

import argparse
import time

import fairlearn.metrics as fairlearn
import numpy as np
import sklearn.metrics as sk

from fairjax.core.types import Attribute, Dataset, Spec, Task
from fairjax.metrics import group_table

METRICS = {
    "selection_rate": fairlearn.selection_rate,
    "true_positive_rate": fairlearn.true_positive_rate,
    "false_positive_rate": fairlearn.false_positive_rate,
    "precision": sk.precision_score,
    "accuracy": sk.accuracy_score,
    "f_score": sk.f1_score,
}


def made_up(rows: int, groups: int, tasks: int, seed: int = 0) -> tuple[Spec, np.ndarray, Dataset]:
    """Random scores that know something of the labels."""
    rng = np.random.default_rng(seed)
    spec = Spec(
        tuple(Task(f"task{t}") for t in range(tasks)),
        (Attribute("a", tuple(f"{g:02}" for g in range(groups))),),
    )
    labels = (rng.random((rows, tasks)) < 0.4).astype(np.float32)
    member = np.eye(groups, dtype=np.float32)[rng.integers(0, groups, rows)]
    data = Dataset((), labels, np.ones_like(labels), member, np.ones(rows, np.float32))
    return spec, (rng.normal(size=(rows, tasks)) + labels).astype(np.float32), data


def by_fairlearn(
    scores: np.ndarray, data: Dataset, draws: int
) -> tuple[float, fairlearn.MetricFrame]:
    """Seconds and the last frame: one per task, each with its intervals and differences."""
    begin = time.perf_counter()
    for t in range(scores.shape[1]):
        frame = fairlearn.MetricFrame(
            metrics=METRICS,
            y_true=data.labels[:, t],
            y_pred=scores[:, t] >= 0,
            sensitive_features=data.groups.argmax(1),
            n_boot=draws,
            ci_quantiles=[0.025, 0.975],
            random_state=0,
        )
        frame.difference_ci()
    return time.perf_counter() - begin, frame


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 100_000), ("groups", 10), ("tasks", 3), ("draws", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    spec, scores, data = made_up(args.rows, args.groups, args.tasks)
    ours = []
    for _ in range(2):
        begin = time.perf_counter()
        table = group_table(spec, scores, data, np.random.default_rng(0), draws=args.draws)
        ours.append(time.perf_counter() - begin)
    few, _ = by_fairlearn(scores, data, 1)
    more, frame = by_fairlearn(scores, data, 3)
    theirs = few + (args.draws - 1) * (more - few) / 2
    last, columns = f"task{args.tasks - 1}", table.columns
    off = max(
        abs(float(v) - frame.by_group.iloc[int(g)][s])
        for t, g, s, v in zip(
            columns["task"], columns["group"], columns["statistic"], columns["value"], strict=True
        )
        if t == last and g.isdigit() and s in METRICS
    )
    print(
        f"{args.rows:,} rows, {args.groups} groups, {args.tasks} tasks, {args.draws} resamples: "
        f"ours {ours[0]:.1f} s the "
        f"first time, {ours[1]:.1f} s after; MetricFrame {theirs:.0f} s (from {few:.1f} s for 1 "
        f"and {more:.1f} s for 3): "
        f"{theirs / ours[0]:.0f} times as long; largest difference of a value {off:.1e}"
    )


if __name__ == "__main__":
    main()
