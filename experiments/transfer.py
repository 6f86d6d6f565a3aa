"""Fairness transfer between tasks: "Transferring fairness using multi-task learning with limited demographic information"
(Aguirre, Dredze, 2023) on tables and on tweets, and the questions it leaves open.

    python experiments/transfer.py                 # about an hour on two cores
    python experiments/transfer.py --quick         # two minutes; for a look at the machinery

Protocol. Every row knows the label of one task only: the rows of a table are dealt to its tasks at random, anew for every
seed; of the tweets each language is a task. mtl_fair trains the target with an auxiliary task and penalises epsilon-DEO on
the auxiliary task alone; no demographics of the target are used in training. "reach 0" is the same with the penalty's
gradient stopped before the heads. Strengths are chosen per seed on validation rows, by the target's macro F1 ("utility"), by
it and the auxiliary task's epsilon ("pareto_aux"), or by it and the target's own epsilon ("pareto_target", which needs
demographics of the target's validation rows). Reported are test rows: macro F1 and epsilon-DEO of decisions at the base rate
of the training labels; columns with @0.5 have those at probability one half. Differences are paired by seed, with 95 %
Student intervals. All runs of a table but sequential and BLIND, which are programs of their own, are one sweep per seed, with one
compilation. Results go to experiments/results/transfer.
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
LAMS = (0.3, 1.0, 3.0)
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
    epochs: int = 10
    batch: int = 256  # rows of each task in a batch
    learning_rate: float = 0.05
    trunk: tuple[int, ...] = (64,)
    head: tuple[int, ...] = (32,)


TABLES = {t.name: t for t in (
    Table("adult", "adult", ("sex",)),
    Table("lsac", "lsac", ("race",)),
    Table("acs", "acs", ("race",)),
    Table("text", "multilingual_hate", ("gender",), epochs=5, batch=64),
    Table("adult_cross", "adult", ("sex", "race == White"), (0, 1)),
    Table("acs_cross", "acs", ("sex", "race"), (0, 1), ("income", "employed", "coverage")),
    Table("text_cross", "multilingual_hate", ("gender", "age"), (0, 1), epochs=5, batch=64),
)}


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting: a variant, for a pair of tasks, with its strength."""

    variant: str
    target: int
    auxiliary: int | None
    lam: float = 0.0
    reach: float = 1.0

    @property
    def label(self) -> str:
        """The variant's name in tables."""
        return self.variant + (", reach 0" if self.reach == 0 else "")


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
    from fairjax.data import Part, dealt
    if spec.words:
        return splits
    return dealt(splits, spec, [Part((t.name,), tuple(a.name for a in spec.attributes)) for t in spec.tasks], seed)


def evaluator(spec, cross: tuple[tuple[int, ...], ...]) -> Callable:
    """Metrics of validation and test rows."""
    from fairjax.metrics import base_rates, evaluate_differential

    def evaluate(scores, splits):
        rates = base_rates(spec, splits.train)
        return {f"{split}.{name}": value for split in ("validation", "test") for name, value in
                evaluate_differential(spec, scores[split], getattr(splits, split), rates, cross).items()}
    return evaluate


class Bench:
    """A table's data and programs; one compilation per program, whatever the seed."""

    def __init__(self, table: Table, quick: bool):
        from fairjax import Static
        from fairjax.models import network
        from fairjax.recipes import Setup
        self.table, (self.spec, self.splits) = table, prepared(table)
        if quick:
            self.splits = type(self.splits)(*(jax.tree.map(lambda a: np.asarray(a)[:4000], s) for s in self.splits))
        tasks = len(self.spec.tasks)
        self.static = Static(2 if quick else table.epochs, table.batch * tasks)
        model = network(self.spec, table.trunk, table.head, 10)
        self.setup = Setup.paper(self.spec, model, None, table.learning_rate, self.static.batch_size)._replace(reduction="mean")
        self.attribute = " & ".join(self.spec.attributes[a].name for a in table.axes)
        self.devices, self.programs, self.seconds = jax.local_devices(), {}, 0.0

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Target and auxiliary task, in every order."""
        return list(itertools.permutations(range(len(self.spec.tasks)), 2))

    def steps(self) -> int:
        """Of one epoch."""
        return -(-len(self.splits.train.weight) // self.static.batch_size)

    def run(self, recipe, points: list[Point], knobs: list[dict], seeds: int) -> list[dict]:
        """All points with all seeds: one sweep per seed, since each has its own deal of the rows. A row per run."""
        from fairjax.sweep import mapped, member, sweep
        begin = time.perf_counter()
        cross = tuple((a,) for a in range(len(self.spec.attributes))) + ((self.table.axes,) if len(self.table.axes) > 1 else ())
        evaluate = evaluator(self.spec, cross)
        program = mapped(member(recipe, self.static, evaluate), self.devices)
        stacked = {name: np.stack([k[name] for k in knobs]) for name in knobs[0]}
        stacked["learning_rate"] = np.full(len(points), self.table.learning_rate, np.float32)
        chunk = min(8, -(-len(points) // len(self.devices)))
        rows = []
        for seed in range(seeds):
            data = dealt_rows(self.table, self.spec, self.splits, seed)
            runs = sweep(recipe, self.static, stacked, [seed], data, evaluate, root=seed, program=program, devices=self.devices,
                         chunk=chunk)
            rows += [self.row(point, seed, {name: v[i] for name, v in runs.results.items() if v.ndim == 1})
                     for i, point in enumerate(points)]
        assert runs.compilations == 1
        self.seconds += time.perf_counter() - begin
        print(f"  {recipe.name}: {len(rows)} runs, {time.perf_counter() - begin:.0f} s", flush=True)
        return rows

    def row(self, point: Point, seed: int, found: dict[str, np.ndarray]) -> dict:
        """One line of the results: names, and metrics of the target and of the auxiliary task."""
        names = {"target": self.spec.tasks[point.target].name}
        if point.auxiliary is not None:
            names["auxiliary"] = self.spec.tasks[point.auxiliary].name
        out = {"table": self.table.name, "variant": point.label, "target": names["target"], "auxiliary": names.get("auxiliary", ""),
               "lam": point.lam, "seed": seed, "diverged": bool(found["diverged"])}
        for whose, task in names.items():
            for split, suffix in itertools.product(("validation", "test"), ("", "@0.5")):
                out[f"{split}.{whose}.f1{suffix}"] = float(found[f"{split}.{F1}{suffix}[{task}]"])
                for axis in {self.attribute, *(a.name for a in self.spec.attributes)}:
                    mark = "" if axis == self.attribute else f" {axis}"
                    out[f"{split}.{whose}.epsilon{suffix}{mark}"] = float(found[f"{split}.{EPSILON}{suffix}[{task}|{axis}]"])
        return out


def penalties(bench: Bench, axes: list[tuple[int, ...]], rates=None) -> list:
    """One penalty per task and set of attributes, after a burn-in of one epoch."""
    from fairjax.notions import differential
    from fairjax.objectives import Differential
    return [Differential(t, a, rates or differential.odds, burn_in=bench.steps())
            for t in range(len(bench.spec.tasks)) for a in axes]


def main_points(bench: Bench) -> list[Point]:
    """Every variant of the one-sweep family."""
    crossed = len(bench.table.axes) > 1
    stl, mtl = ("stl_inter", "mtl_inter") if crossed else ("stl_fair", "mtl_fair")
    tasks = range(len(bench.spec.tasks))
    points = [Point("stl_base", t, None) for t in tasks] + [Point(stl, t, None, lam) for t in tasks for lam in LAMS]
    points += [Point("mtl_base", a, b) for a, b in bench.pairs]
    return points + [Point(mtl, a, b, lam, reach) for a, b in bench.pairs for lam in LAMS for reach in (1.0, 0.0)]


def transfer_table(bench: Bench, seeds: int, extras: bool = True) -> list[dict]:
    """All variants on all ordered pairs of tasks."""
    from fairjax.recipes import blind, sequential, settings, transfer
    axes = bench.table.axes
    made = penalties(bench, [axes] + ([axes[:1], axes[1:]] if len(axes) > 1 else []))
    points = main_points(bench)
    knobs = [settings(p.variant, bench.spec, made, p.target, p.auxiliary, lam=p.lam, reach=p.reach, attributes=axes)
             for p in points]
    rows = bench.run(transfer(bench.setup, made), points, knobs, seeds)
    if not extras:
        return rows
    points = [Point("sequential", a, b, lam) for a, b in bench.pairs for lam in LAMS[1:]]
    one_hot = np.eye(len(bench.spec.tasks), dtype=np.float32)
    knobs = [settings("stl_fair", bench.spec, made, p.auxiliary, lam=p.lam, attributes=axes)
             | {"then": one_hot[p.target], "until": np.float32(bench.static.epochs // 2)} for p in points]
    rows += bench.run(sequential(bench.setup, made), points, knobs, seeds)
    points = [Point("blind", t, None, gamma) for t in range(len(bench.spec.tasks)) for gamma in (1.0, 2.0, 4.0)]
    knobs = [{"weight": one_hot[p.target], "gamma": np.float32(p.lam)} for p in points]
    return rows + bench.run(blind(bench.setup, bench.table.trunk[-1]), points, knobs, seeds)


def notion_study(bench: Bench, seeds: int) -> list[dict]:
    """The auxiliary task penalised by one notion, the target measured by epsilon-DEO: does the choice matter?"""
    from fairjax.notions import differential
    from fairjax.recipes import settings, transfer
    points = [Point("mtl_fair", a, b, lam, reach) for a, b in bench.pairs for lam in LAMS[1:] for reach in (1.0, 0.0)]
    rows = []
    for name in ("odds", "opportunity", "parity"):
        made = penalties(bench, [bench.table.axes], getattr(differential, name))
        knobs = [settings(p.variant, bench.spec, made, p.target, p.auxiliary, lam=p.lam, reach=p.reach) for p in points]
        rows += [row | {"notion": name} for row in bench.run(transfer(bench.setup, made), points, knobs, seeds)]
    return rows


# ------------------------------------------------------------------------------------------------------- reading


def choose(rows: list[dict], rule: str) -> list[dict]:
    """One row per seed: the strength that the rule picks on validation rows."""
    from fairjax.frontier import select
    picked = []
    for seed in sorted({r["seed"] for r in rows}):
        mine = [r for r in rows if r["seed"] == seed and not r["diverged"]]
        if mine:
            error = np.array([1 - r["validation.target.f1"] for r in mine])
            fair = {name: np.array([r.get(f"validation.{name}.epsilon", np.nan) for r in mine]) for name in ("auxiliary", "target")}
            picked.append(mine[select(rule, error, **fair)])
    return picked


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % Student interval over seeds."""
    from scipy.stats import t
    values = np.asarray(values, float)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def summary(rows: list[dict]) -> list[dict]:
    """Per target, auxiliary task, variant and rule: F1 and epsilon on test rows, and their paired difference from stl_base."""
    out = []
    base = {(r["target"], r["seed"]): r for r in rows if r["variant"] == "stl_base"}
    kinds = dict.fromkeys((r["target"], r["auxiliary"], r["variant"]) for r in rows)
    for target, auxiliary, variant in kinds:
        mine = [r for r in rows if (r["target"], r["auxiliary"], r["variant"]) == (target, auxiliary, variant)]
        rules = ("",) if len({r["lam"] for r in mine}) == 1 else RULES if auxiliary else ("utility", "pareto_target")
        for rule in rules:
            picked = choose(mine, rule or "utility")
            line = {"table": mine[0]["table"], "target": target, "auxiliary": auxiliary, "variant": variant, "rule": rule,
                    "lam": float(np.median([r["lam"] for r in picked]))}
            for name in ("f1", "epsilon", "f1@0.5", "epsilon@0.5"):
                value = np.array([r[f"test.target.{name}"] for r in picked])
                line[name], line[f"{name} low"], line[f"{name} high"] = interval(value)
                change = value - np.array([base[target, r["seed"]][f"test.target.{name}"] for r in picked])
                line[f"change of {name}"], line[f"change of {name} low"], line[f"change of {name} high"] = interval(change)
            out.append(line)
    return out


def verdict(lines: list[dict]) -> str:
    """Over all pairs of a table: mean change from stl_base, and for how many it is surely (95 %) less or more."""
    text = ["| variant | chosen by | pairs | change of F1 | change of epsilon | fairer, surely | less fair, surely |", "|" + "---|" * 7]
    for variant, rule in dict.fromkeys((line["variant"], line["rule"]) for line in lines):
        mine = [line for line in lines if (line["variant"], line["rule"]) == (variant, rule)]
        if variant == "stl_base":
            continue
        text.append(f"| {variant} | {rule or '-'} | {len(mine)} | {np.mean([m['change of f1'] for m in mine]):+.4f} | "
                    f"{np.mean([m['change of epsilon'] for m in mine]):+.3f} | "
                    f"{sum(m['change of epsilon'] < 0 for m in mine)}, {sum(m['change of epsilon high'] < 0 for m in mine)} | "
                    f"{sum(m['change of epsilon'] > 0 for m in mine)}, {sum(m['change of epsilon low'] > 0 for m in mine)} |")
    return "\n".join(text)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as CSV; a column that a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="very few steps and rows")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    import os
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.tables:
        print(name, flush=True)
        bench = Bench(TABLES[name], args.quick)
        rows = transfer_table(bench, 2 if args.quick else args.seeds, extras=len(bench.table.axes) == 1)
        write_rows(args.out / f"{name}_runs.csv", rows)
        lines = summary(rows)
        write_rows(args.out / f"{name}.csv", lines)
        print(verdict(lines), flush=True)


if __name__ == "__main__":
    main()
