"""Fairness transfer between tasks: "Transferring fairness using multi-task learning with limited demographic information"
(Aguirre, Dredze, 2023) on tables and on tweets, and the questions it leaves open.

    python experiments/transfer.py                 # half an hour on two cores
    python experiments/transfer.py --quick         # five minutes; for a look at the machinery

Protocol. Every row knows the label of one task only: the rows of a table are dealt to its tasks at random, anew for every
seed; of the tweets each language is a task. mtl_fair trains the target with an auxiliary task and penalises epsilon-DEO on
the auxiliary task alone; no demographics of the target are used in training. "reach 0" is the same with the penalty's
gradient stopped before the heads. Strengths are chosen per seed on validation rows, by the target's macro F1 ("utility"), by
it and the auxiliary task's epsilon ("pareto_aux"), or by it and the target's own epsilon ("pareto_target", which needs
demographics of the target's validation rows). Reported are test rows: macro F1 and epsilon-DEO of decisions at the base rate
of the training labels; columns with @0.5 have those at probability one half. Differences are paired by seed, with 95 %
Student intervals. All runs of a table but sequential and BLIND, which are programs of their own, are one sweep per seed, with
one compilation. Results go to experiments/results/transfer.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results" / "transfer"
RULES = ("utility", "pareto_aux", "pareto_target")
EPSILON, F1 = "differential_equalized_odds", "macro_f1"


@dataclasses.dataclass(frozen=True)
class Table:
    """One data set and what is asked of it. ``axes``: the attributes whose product is reported; with two, the
    intersectional question."""

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


TWEETS = {"lams": (1.0, 10.0), "seeds": 5, "epochs": 2, "batch": 48, "chunk": 2, "together": 2}
MANY = {"lams": (1.0, 10.0), "seeds": 5}
TABLES = {
    t.name: t
    for t in (
        Table("adult", "adult", ("sex",)),
        Table("lsac", "lsac", ("race",)),
        Table("acs", "acs", ("race",), **MANY),
        Table("text", "multilingual_hate", ("gender",), **TWEETS),
        Table("adult_cross", "adult", ("sex", "race == White"), (0, 1), extras=False),
        Table(
            "acs_cross",
            "acs",
            ("sex", "race"),
            (0, 1),
            ("income", "employed", "coverage"),
            **MANY,
            extras=False,
        ),
        Table("text_cross", "multilingual_hate", ("gender", "age"), (0, 1), **TWEETS, extras=False),
        Table("adult_race", "adult", ("race",), extras=False),
    )
}
AGE = Table("adult_age", "adult", ("older: age > 38", "years: age :number"))
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
        return self.variant + (
            ", reach 0" if self.head_penalty_scale == 0 else ", one attribute" if self.alone else ""
        )

    @property
    def views(self) -> list[Point]:
        """What this run says something of: without a penalty, each of both tasks with the other as its auxiliary."""
        turned = dataclasses.replace(self, target=self.auxiliary, auxiliary=self.target)
        return [self, turned] if self.variant == "mtl_base" else [self]


# ------------------------------------------------------------------------------------------------------- training


def prepared(table: Table):
    """Spec and splits of a table, with the chosen tasks only."""
    from fairjax import load

    made = load(table.data, sensitive=table.sensitive)
    if table.tasks is None:
        return made.spec, made.splits
    keep = [i for i, t in enumerate(made.spec.tasks) if t.name in table.tasks]

    def chosen(rows):
        some = np.asarray(rows.label_mask)[:, keep].max(axis=1) > 0
        less = rows._replace(labels=rows.labels[:, keep], label_mask=rows.label_mask[:, keep])
        return jax.tree.map(lambda a: np.asarray(a)[some], less)

    spec = dataclasses.replace(made.spec, tasks=tuple(made.spec.tasks[i] for i in keep))
    return spec, type(made.splits)(*(chosen(s) for s in made.splits))


def dealt_rows(table: Table, spec, splits, seed: int):
    """Every training and validation row knows one task: dealt at random, or, of tweets, as it is."""
    from fairjax.data import Part, mask_supervision

    if spec.vocab_size:
        return splits
    return mask_supervision(
        splits,
        spec,
        [Part((t.name,), tuple(a.name for a in spec.attributes)) for t in spec.tasks],
        seed,
    )


def evaluator(spec, cross: tuple[tuple[int, ...], ...]) -> Callable:
    """Metrics of validation and test rows."""
    from fairjax.metrics import base_rates, evaluate_differential
    from fairjax.metrics import evaluate as evaluate_all

    def evaluate(scores, splits):
        rates, out = base_rates(spec, splits.train), {}
        for split in ("validation", "test"):
            found = evaluate_differential(spec, scores[split], getattr(splits, split), rates, cross)
            if any(a.continuous for a in spec.attributes):
                found |= evaluate_all(spec, scores[split], getattr(splits, split), rates)
            out |= {f"{split}.{name}": value for name, value in found.items()}
        return out

    return evaluate


class Bench:
    """A table's data and programs; one compilation per program, whatever the seed."""

    def __init__(self, table: Table, quick: bool):
        from fairjax import TrainConfig
        from fairjax.methods import Context
        from fairjax.models import network

        self.table, (self.spec, self.splits) = table, prepared(table)
        self.quick = quick
        if self.spec.vocab_size:
            self.splits = type(self.splits)(
                *(s._replace(x=s.x._replace(tokens=s.x.tokens[:, :TOKENS])) for s in self.splits)
            )
        if quick:
            self.splits = type(self.splits)(
                *(jax.tree.map(lambda a: np.asarray(a)[:1500], s) for s in self.splits)
            )
        tasks = table.together or len(self.spec.tasks)
        self.train_config = TrainConfig(2 if quick else table.epochs, table.batch * tasks)
        model = network(self.spec, table.trunk, table.head, 10)
        self.context = Context.paper(
            self.spec, model, None, table.learning_rate, self.train_config.batch_size
        )._replace(reduction="mean")
        self.attribute = " & ".join(self.spec.attributes[a].name for a in table.axes)
        self.devices = jax.local_devices()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Target and auxiliary task, in every order."""
        every = list(itertools.permutations(range(len(self.spec.tasks)), 2))
        return [(0, 1), (1, 0)] if self.quick else every

    def steps(self) -> int:
        """Of a run."""
        return self.train_config.epochs * -(
            -len(self.splits.train.weight) // self.train_config.batch_size
        )

    def run(self, recipe, points: list[Point], hparams: list[dict], seeds: int) -> list[dict]:
        """All points with all seeds: one sweep per seed, since each has its own deal of the rows. A row per run."""
        from fairjax.training import mapped, member, sweep

        begin = time.perf_counter()
        levels = [i for i, a in enumerate(self.spec.attributes) if not a.continuous]
        cross = tuple((a,) for a in levels) + (
            (self.table.axes,) if len(self.table.axes) > 1 else ()
        )
        evaluate = evaluator(self.spec, cross)
        program = mapped(member(recipe, self.train_config, evaluate), self.devices)
        stacked = {name: np.stack([k[name] for k in hparams]) for name in hparams[0]}
        stacked["learning_rate"] = np.full(len(points), self.table.learning_rate, np.float32)
        chunk = min(self.table.chunk, -(-len(points) // len(self.devices)))
        rows = []
        for seed in range(seeds):
            data = dealt_rows(self.table, self.spec, self.splits, seed)
            runs = sweep(
                recipe,
                self.train_config,
                stacked,
                [seed],
                data,
                evaluate,
                root=seed,
                program=program,
                devices=self.devices,
                chunk=chunk,
            )
            found = {name: v for name, v in runs.metrics.items() if v.ndim == 1}
            found["diverged"] = runs.diverged
            rows += [
                self.row(seen, seed, {name: v[i] for name, v in found.items()})
                for i, point in enumerate(points)
                for seen in point.views
            ]
        assert runs.compilations == 1
        print(
            f"  {recipe.name}: {len(points) * seeds} runs, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
        return rows

    def row(self, point: Point, seed: int, found: dict[str, np.ndarray]) -> dict:
        """One line of the results: names, and metrics of the target and of the auxiliary task."""
        names = {"target": self.spec.tasks[point.target].name}
        if point.auxiliary is not None:
            names["auxiliary"] = self.spec.tasks[point.auxiliary].name
        out = {
            "table": self.table.name,
            "variant": point.label,
            "target": names["target"],
            "auxiliary": names.get("auxiliary", ""),
            "lam": point.lam,
            "seed": seed,
            "diverged": bool(found["diverged"]),
        }
        for whose, task in names.items():
            for split, suffix in itertools.product(("validation", "test"), ("", "@0.5")):
                out[f"{split}.{whose}.f1{suffix}"] = float(found[f"{split}.{F1}{suffix}[{task}]"])
                for axis in dict.fromkeys(
                    (self.attribute, *(a.name for a in self.spec.attributes if not a.continuous))
                ):
                    mark = "" if axis == self.attribute else f" {axis}"
                    out[f"{split}.{whose}.epsilon{suffix}{mark}"] = float(
                        found[f"{split}.{EPSILON}{suffix}[{task}|{axis}]"]
                    )
                for a in self.spec.attributes:
                    if a.continuous:
                        name = f"{split}.correlation_given_label{suffix}[{task}|{a.name}]"
                        out[f"{split}.{whose}.correlation{suffix}"] = float(found[name])
        return out


def penalties(bench: Bench, axes: list[tuple[int, ...]], rates=None) -> list:
    """One penalty per task and set of attributes, after a burn-in of a tenth of the steps."""
    from fairjax.notions import differential
    from fairjax.objectives import Differential

    return [
        Differential(t, a, rates or differential.odds, burn_in=bench.steps() // 10)
        for t in range(len(bench.spec.tasks))
        for a in axes
    ]


def main_points(bench: Bench) -> list[Point]:
    """Every variant of the one-sweep family."""
    crossed = len(bench.table.axes) > 1
    stl, mtl = ("stl_inter", "mtl_inter") if crossed else ("stl_fair", "mtl_fair")
    tasks = range(len(bench.spec.tasks))
    lams = bench.table.lams
    points = [Point("stl_base", t, None) for t in tasks] + [
        Point(stl, t, None, lam) for t in tasks for lam in lams
    ]
    points += [Point("stl_fair", t, None, lam, alone=True) for t in tasks for lam in lams] * crossed
    points += [Point("mtl_base", a, b) for a, b in bench.pairs if a < b]
    return points + [
        Point(mtl, a, b, lam, head_penalty_scale)
        for a, b in bench.pairs
        for lam in lams
        for head_penalty_scale in (1.0, 0.0)
    ]


def transfer_table(bench: Bench, seeds: int) -> list[dict]:
    """All variants on all ordered pairs of tasks."""
    from fairjax.methods import blind, sequential, settings, transfer

    axes = bench.table.axes
    made = penalties(bench, [axes] + ([axes[:1], axes[1:]] if len(axes) > 1 else []))
    points = main_points(bench)
    hparams = [
        settings(
            p.variant,
            bench.spec,
            made,
            p.target,
            p.auxiliary,
            lam=p.lam,
            head_penalty_scale=p.head_penalty_scale,
            attributes=axes[:1] if p.alone else axes,
        )
        for p in points
    ]
    rows = bench.run(transfer(bench.context, made, bench.table.together), points, hparams, seeds)
    if not bench.table.extras:
        return rows
    one_hot = np.eye(len(bench.spec.tasks), dtype=np.float32)
    points = [Point("sequential", a, b, bench.table.lams[-1]) for a, b in bench.pairs]
    hparams = [
        settings("stl_fair", bench.spec, made, p.auxiliary, lam=p.lam, attributes=axes)
        | {"then": one_hot[p.target], "until": np.float32(bench.train_config.epochs // 2)}
        for p in points
    ]
    rows += bench.run(sequential(bench.context, made, bench.table.together), points, hparams, seeds)
    points = [
        Point("blind", t, None, gamma) for t in range(len(bench.spec.tasks)) for gamma in (1.0, 4.0)
    ]
    hparams = [{"weight": one_hot[p.target], "gamma": np.float32(p.lam)} for p in points]
    return rows + bench.run(
        blind(bench.context, bench.table.trunk[-1], bench.table.together), points, hparams, seeds
    )


def notion_study(bench: Bench, seeds: int) -> list[dict]:
    """The auxiliary task penalised by one notion, the target measured by epsilon-DEO: does the choice matter?"""
    from fairjax.methods import settings, transfer
    from fairjax.notions import differential

    points = [
        Point("mtl_fair", a, b, bench.table.lams[-1], head_penalty_scale)
        for a, b in bench.pairs
        for head_penalty_scale in (1.0, 0.0)
    ]
    points = [Point("stl_base", t, None) for t in range(len(bench.spec.tasks))] + points
    rows = []
    for name in ("odds", "opportunity", "parity"):
        made = penalties(bench, [bench.table.axes], getattr(differential, name))
        hparams = [
            settings(
                p.variant,
                bench.spec,
                made,
                p.target,
                p.auxiliary,
                lam=p.lam,
                head_penalty_scale=p.head_penalty_scale,
            )
            for p in points
        ]
        rows += [
            row | {"penalty": name}
            for row in bench.run(transfer(bench.context, made), points, hparams, seeds)
        ]
    return rows


def rows_study(bench: Bench, seeds: int) -> list[dict]:
    """Fewer training rows: does a network with less to learn from share more?"""
    from fairjax.methods import settings, transfer

    every, epochs, found = bench.splits, bench.train_config.epochs, []
    tasks = range(len(bench.spec.tasks))
    for count in sorted({min(n, len(every.train.weight)) for n in (1_000, 4_000, 26_048)}):
        bench.splits = every._replace(
            train=jax.tree.map(lambda a, n=count: np.asarray(a)[:n], every.train)
        )
        # as many steps as rows allow, and not fewer than for four thousand
        bench.train_config = dataclasses.replace(
            bench.train_config, epochs=epochs * max(1, 4_000 // count)
        )
        made = penalties(bench, [bench.table.axes])
        points = [Point("stl_base", t, None) for t in tasks] + [Point("mtl_base", 0, 1)]
        points += [
            Point("mtl_fair", a, b, bench.table.lams[-1], head_penalty_scale)
            for a, b in bench.pairs
            for head_penalty_scale in (1.0, 0.0)
        ]
        hparams = [
            settings(
                p.variant,
                bench.spec,
                made,
                p.target,
                p.auxiliary,
                lam=p.lam,
                head_penalty_scale=p.head_penalty_scale,
            )
            for p in points
        ]
        found += [
            row | {"rows": count}
            for row in bench.run(transfer(bench.context, made), points, hparams, seeds)
        ]
    return found


def age_study(bench: Bench, seeds: int) -> list[dict]:
    """Age as two groups, penalised by epsilon-DEO, against age as a number, penalised by its correlation given the label."""
    from fairjax import notions, objectives
    from fairjax.methods import penalised, settings, transfer

    tasks = range(len(bench.spec.tasks))
    points = [Point("stl_base", t, None) for t in tasks] + [
        Point("stl_fair", t, None, lam) for t in tasks for lam in bench.table.lams
    ]
    points += [
        Point("mtl_fair", a, b, lam, head_penalty_scale)
        for a, b in bench.pairs
        for lam in bench.table.lams
        for head_penalty_scale in (1.0, 0.0)
    ]
    made = penalties(bench, [(0,)])
    hparams = [
        settings(
            p.variant,
            bench.spec,
            made,
            p.target,
            p.auxiliary,
            lam=p.lam,
            head_penalty_scale=p.head_penalty_scale,
        )
        for p in points
    ]
    rows = [
        r | {"penalty": "two groups"}
        for r in bench.run(transfer(bench.context, made), points, hparams, seeds)
    ]
    notion = notions.Notion(
        notions.pearson, (notions.positives, notions.negatives), continuous=True
    )

    def by_number(lam):
        return objectives.per_task(
            bench.context.model, bench.spec, notion=notion, lam=lam, reduction="mean"
        )

    return rows + [
        r | {"penalty": "a number"}
        for r in bench.run(penalised(bench.context, by_number, len(tasks)), points, hparams, seeds)
    ]


STUDIES = {"notions": notion_study, "rows": rows_study, "age": age_study}


def label_similarity(bench: Bench) -> dict[tuple[str, str], float]:
    """Absolute correlation of two tasks' labels on the training rows that know both; nothing for tweets."""
    data, found = bench.splits.train, {}
    for a, b in bench.pairs:
        both = (data.label_mask[:, a] * data.label_mask[:, b]) > 0
        one, other = data.labels[both, a], data.labels[both, b]
        if both.sum() > 100 and np.ptp(one) and np.ptp(other):
            found[bench.spec.tasks[a].name, bench.spec.tasks[b].name] = float(
                abs(np.corrcoef(one, other)[0, 1])
            )
    return found


# ------------------------------------------------------------------------------------------------------- reading


def choose(rows: list[dict], rule: str) -> list[dict]:
    """One row per seed: the strength that the rule picks on validation rows, among those where it can be measured."""
    from fairjax.methods import select

    looks = {"utility": "f1", "pareto_aux": "auxiliary.epsilon", "pareto_target": "target.epsilon"}[
        rule
    ]
    picked = []
    for seed in sorted({r["seed"] for r in rows}):
        mine = [
            r
            for r in rows
            if r["seed"] == seed
            and not r["diverged"]
            and np.isfinite(r["validation.target.f1"])
            and (rule == "utility" or np.isfinite(r[f"validation.{looks}"]))
        ]
        if mine:
            error = np.array([1 - r["validation.target.f1"] for r in mine])
            fair = (
                {}
                if rule == "utility"
                else {looks.split(".")[0]: np.array([r[f"validation.{looks}"] for r in mine])}
            )
            picked.append(mine[select(rule, error, **fair)])
    return picked


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % Student interval over seeds."""
    from scipy.stats import t

    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    half = (
        t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        if len(values) > 1
        else np.nan
    )
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def summary(rows: list[dict]) -> list[dict]:
    """Per target, auxiliary task, variant and rule: F1 and epsilon on test rows, and their paired difference from stl_base."""
    out = []
    base = {(r["target"], r["seed"]): r for r in rows if r["variant"] == "stl_base"}
    kinds = dict.fromkeys((r["target"], r["auxiliary"], r["variant"]) for r in rows)
    for target, auxiliary, variant in kinds:
        mine = [
            r
            for r in rows
            if (r["target"], r["auxiliary"], r["variant"]) == (target, auxiliary, variant)
        ]
        rules = (
            ("",)
            if len({r["lam"] for r in mine}) == 1
            else RULES
            if auxiliary
            else ("utility", "pareto_target")
        )
        for rule in rules:
            picked = choose(mine, rule or "utility")
            line = {
                "table": mine[0]["table"],
                "target": target,
                "auxiliary": auxiliary,
                "variant": variant,
                "rule": rule,
                "lam": float(np.median([r["lam"] for r in picked])),
            }
            for name in ("f1", "epsilon", "f1@0.5", "epsilon@0.5"):
                value = np.array([r[f"test.target.{name}"] for r in picked])
                line[name], line[f"{name} low"], line[f"{name} high"] = interval(value)
                change = value - np.array(
                    [base[target, r["seed"]][f"test.target.{name}"] for r in picked]
                )
                (
                    line[f"change of {name}"],
                    line[f"change of {name} low"],
                    line[f"change of {name} high"],
                ) = interval(change)
            out.append(line)
    return out


def verdict(lines: list[dict]) -> str:
    """Over all pairs of a table: mean change from stl_base, and for how many it is surely (95 %) less or more."""
    text = [
        "| variant | chosen by | pairs | change of F1 | change of epsilon | fairer, surely | less fair, surely |",
        "|" + "---|" * 7,
    ]
    for variant, rule in dict.fromkeys((line["variant"], line["rule"]) for line in lines):
        mine = [line for line in lines if (line["variant"], line["rule"]) == (variant, rule)]
        if variant == "stl_base":
            continue
        text.append(
            f"| {variant} | {rule or '-'} | {len(mine)} | {np.nanmean([m['change of f1'] for m in mine]):+.4f} | "
            f"{np.nanmean([m['change of epsilon'] for m in mine]):+.3f} | "
            f"{sum(m['change of epsilon'] < 0 for m in mine)}, {sum(m['change of epsilon high'] < 0 for m in mine)} | "
            f"{sum(m['change of epsilon'] > 0 for m in mine)}, {sum(m['change of epsilon low'] > 0 for m in mine)} |"
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


# ------------------------------------------------------------------------------------------------------- figures

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


def dumbbells(lines: list[dict], path: Path, title: str) -> None:
    """Epsilon-DEO of every target before and after, with macro F1 beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pairs = sorted({(line["target"], line["auxiliary"]) for line in lines if line["auxiliary"]})
    figure, panels = plt.subplots(
        1, 2, figsize=(10, 1.8 + 0.42 * len(pairs)), sharey=True, width_ratios=(2, 1)
    )
    for panel, name, words in zip(
        panels, ("epsilon", "f1"), ("epsilon-DEO on test rows (0: parity)", "macro F1"), strict=True
    ):
        for place, ((variant, rule), (colour, marker, legend)) in enumerate(MARKS.items()):
            shown = [
                next(
                    (
                        line
                        for line in lines
                        if line["target"] == a
                        and line["auxiliary"] in (b, "")
                        and (line["variant"], line["rule"]) == (variant, rule)
                    ),
                    None,
                )
                for a, b in pairs
            ]
            if not any(shown):
                continue
            y = [i + 0.09 * (place % 4 - 1.5) for i, line in enumerate(shown) if line]
            x = [line[name] for line in shown if line]
            spread = [
                [line[name] - line[f"{name} low"] for line in shown if line],
                [line[f"{name} high"] - line[name] for line in shown if line],
            ]
            panel.errorbar(
                x,
                y,
                xerr=np.nan_to_num(spread),
                fmt=marker,
                color=colour,
                ms=5,
                lw=0.8,
                alpha=0.9,
                label=legend,
            )
        for i, (a, b) in enumerate(pairs):
            ends = [
                next(
                    (
                        line[name]
                        for line in lines
                        if line["target"] == a
                        and line["auxiliary"] == w
                        and (line["variant"], line["rule"]) == (v, r)
                    ),
                    None,
                )
                for v, w, r in (("stl_base", "", ""), (lines_variant(lines), b, "pareto_aux"))
            ]
            if None not in ends:
                panel.plot(ends, [i, i], color="#D55E00", lw=2.5, alpha=0.25, zorder=0)
        panel.set_xlabel(words)
        panel.grid(axis="x", color="0.92")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_yticks(range(len(pairs)), [f"{a} \u2190 {b}" for a, b in pairs])
        panel.tick_params(axis="y", length=0)
    panels[0].set_ylim(len(pairs) - 0.5, -0.5)
    panels[0].set_xlim(
        0, 1.15 * max(line["epsilon"] for line in lines if np.isfinite(line["epsilon"]))
    )
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, ncol=3, loc="lower center", frameon=False, fontsize=8.5)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    figure.tight_layout(rect=(0, 0.75 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def lines_variant(lines: list[dict]) -> str:
    """The variant that a table's dumbbells end in."""
    return (
        "mtl_inter, reach 0"
        if any(line["variant"].startswith("mtl_inter") for line in lines)
        else "mtl_fair, reach 0"
    )


def what_predicts(found: dict[str, list[dict]], similar: dict[str, dict], path: Path) -> list[dict]:
    """Transfer per pair (fall of the target's epsilon, strongest penalty) against what could foretell it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.stats import spearmanr

    points = []
    for name, rows in found.items():
        strongest = max(r["lam"] for r in rows if r["variant"] == "mtl_fair")
        alone = {}
        for r in rows:
            if r["variant"] == "stl_base":
                alone.setdefault(r["target"], []).append(
                    (r["test.target.f1"], r["test.target.epsilon"])
                )
        alone = {task: np.nanmean(v, axis=0) for task, v in alone.items()}
        for a, b in dict.fromkeys(
            (r["target"], r["auxiliary"]) for r in rows if r["variant"] == "mtl_fair"
        ):
            for variant in ("mtl_fair", "mtl_fair, reach 0"):
                mine = [
                    r
                    for r in rows
                    if (r["target"], r["auxiliary"], r["variant"], r["lam"])
                    == (a, b, variant, strongest)
                ]
                after, aux = (
                    np.nanmean([r[f"test.{w}.epsilon"] for r in mine])
                    for w in ("target", "auxiliary")
                )
                points.append(
                    {
                        "table": name,
                        "target": a,
                        "auxiliary": b,
                        "variant": variant,
                        "gain": alone[a][1] - after,
                        "auxiliary F1": alone[b][0],
                        "target epsilon": alone[a][1],
                        "fall of auxiliary epsilon": alone[b][1] - aux,
                        "label correlation": similar[name].get((a, b), np.nan),
                    }
                )
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True)
    lines = []
    for panel, cause in zip(
        panels,
        ("auxiliary F1", "fall of auxiliary epsilon", "label correlation", "target epsilon"),
        strict=True,
    ):
        for variant, colour in (("mtl_fair", "#0072B2"), ("mtl_fair, reach 0", "#D55E00")):
            mine = [
                p
                for p in points
                if p["variant"] == variant and np.isfinite(p[cause]) and np.isfinite(p["gain"])
            ]
            x, y = np.array([p[cause] for p in mine]), np.array([p["gain"] for p in mine])
            panel.scatter(x, y, s=22, color=colour, alpha=0.75, label=variant)
            if len(x) > 3:
                rng = np.random.default_rng(0)
                drawn = [
                    spearmanr(x[i], y[i]).statistic
                    for i in rng.integers(0, len(x), (1000, len(x)))
                    if np.ptp(x[i]) > 0
                ]
                low, high = np.nanquantile(drawn, [0.025, 0.975])
                lines.append(
                    {
                        "variant": variant,
                        "what": cause,
                        "pairs": len(x),
                        "spearman": float(spearmanr(x, y).statistic),
                        "low": float(low),
                        "high": float(high),
                    }
                )
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


def means(rows: list[dict], names: tuple[str, ...], by: tuple[str, ...]) -> str:
    """A table of means over seeds with intervals, one line per combination of ``by``."""
    text = ["| " + " | ".join((*by, *names)) + " |", "|" + "---|" * (len(by) + len(names))]
    for key in dict.fromkeys(tuple(r[b] for b in by) for r in rows):
        mine = [r for r in rows if tuple(r[b] for b in by) == key]
        cells = [
            "{:.3f} [{:.3f}, {:.3f}]".format(
                *interval(np.array([r[f"test.target.{n}"] for r in mine]))
            )
            for n in names
        ]
        text.append(
            "| "
            + " | ".join([*(f"{k:g}" if isinstance(k, float) else k for k in key), *cells])
            + " |"
        )
    return "\n".join(text)


def read_rows(path: Path) -> list[dict]:
    """Rows of a CSV that :func:`write_rows` wrote; an empty cell is a text."""

    def value(name: str, cell: str):
        if name in ("table", "variant", "target", "auxiliary", "penalty"):
            return cell
        return cell == "True" if cell in ("True", "False") else float(cell) if cell else np.nan

    with path.open(newline="") as stream:
        return [
            {name: value(name, cell) for name, cell in row.items()}
            for row in csv.DictReader(stream)
        ]


def report(out: Path) -> None:
    """Tables and figures from the runs that there are."""
    found = {
        name: read_rows(out / f"{name}_runs.csv")
        for name in (*TABLES, *STUDIES)
        if (out / f"{name}_runs.csv").exists()
    }
    parts, similar = [], {}
    for name in (n for n in TABLES if n in found):
        lines = summary(found[name])
        write_rows(out / f"{name}.csv", lines)
        table = TABLES[name]
        title = f"{table.data}: {' x '.join(table.sensitive)}; target \u2190 auxiliary task"
        dumbbells(lines, out / f"{name}.png", title)
        parts.append(f"## {name}: {table.data}, {' x '.join(table.sensitive)}\n\n{verdict(lines)}")
        with (out / f"{name}_similarity.csv").open(newline="") as stream:
            similar[name] = {
                (r["target"], r["auxiliary"]): float(r["correlation"])
                for r in csv.DictReader(stream)
            }
    if "notions" in found:
        parts.append(
            "## notions: Adult by sex, the auxiliary task penalised by one notion\n\n"
            + means(found["notions"], ("f1", "epsilon"), ("penalty", "variant", "target"))
        )
    if "rows" in found:
        parts.append(
            "## rows: Adult by sex, fewer training rows\n\n"
            + means(found["rows"], ("f1", "epsilon"), ("rows", "variant", "target"))
        )
    if "age" in found:
        parts.append(
            "## age: Adult, age as two groups and as a number\n\n"
            + means(
                found["age"],
                ("f1", "epsilon", "correlation"),
                ("penalty", "variant", "target", "lam"),
            )
        )
    single = {
        name: rows for name, rows in found.items() if name in TABLES and len(TABLES[name].axes) == 1
    }
    if single:
        lines = what_predicts(single, similar, out / "what_predicts.png")
        head = ["| variant | what | pairs | Spearman | interval |", "|" + "---|" * 5]
        parts.append(
            "## What goes with transfer, over all pairs\n\n"
            + "\n".join(
                head
                + [
                    f"| {r['variant']} | {r['what']} | {r['pairs']} | {r['spearman']:+.2f} | [{r['low']:+.2f}, {r['high']:+.2f}] |"
                    for r in lines
                ]
            )
        )
    text = "\n\n".join(parts) + "\n"
    (out / "tables.md").write_text(text)
    print(text)


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
    import os

    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    for name in args.tables:
        print(name, flush=True)
        bench = Bench(TABLES.get(name, AGE if name == "age" else TABLES["adult"]), args.quick)
        seeds = 2 if args.quick else args.seeds or bench.table.seeds
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
