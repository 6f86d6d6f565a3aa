"""Several methods on one data set: from a plan to one tidy table, a row per run.

Every method gets the same number of points, drawn from its own hparams with the same seed, and the same seeds. Single-task
runs, the denominators of ARE and ARFG, are made first. The table is what the report draws and what a user keeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fairjax import notions
from fairjax.core.types import Array, Range, Recipe, Spec, Splits
from fairjax.methods import RECIPES, Context
from fairjax.metrics import are, arfg, base_rates, denominator
from fairjax.metrics import evaluate as evaluate_scores
from fairjax.models import network
from fairjax.postprocess import cross_fitted, model_barycenter
from fairjax.training import Runs, TrainConfig, draw, grid, mapped, member, start_size, sweep

DISTANCES = {
    "rate_gap": lambda bandwidth: notions.rate_gap,
    "correlation": lambda bandwidth: notions.correlation_ratio,
    "mmd": lambda bandwidth: notions.gaussian_mmd(bandwidth),
    "laplacian_mmd": lambda bandwidth: notions.mmd(notions.laplacian_kernel(bandwidth)),
    "wasserstein": lambda bandwidth: notions.wasserstein,
    "barycenter": lambda bandwidth: notions.barycenter_distance(),
}
# rows a notion looks at, and the metric that measures the same gap on decisions
CONDITIONS = {
    "fpr": ((notions.negatives,), "false_positive_rate_difference"),
    "tpr": ((notions.positives,), "true_positive_rate_difference"),
    "odds": ((notions.negatives, notions.positives), "equalized_odds_difference"),
    "parity": ((notions.everyone,), "demographic_parity_difference"),
}
# the same for an attribute that is a number: where groups are compared by MMD, HSIC, of which that is a special case
DEPENDENCE = {"mmd": notions.hsic, "laplacian_mmd": notions.hsic}  # else the correlation
CORRELATIONS = {
    "fpr": "correlation_given_negative",
    "tpr": "correlation_given_positive",
    "odds": "correlation_given_label",
    "parity": "correlation",
}
SPLITS = ("validation", "test")
REPAIRED = (
    "+repair"  # at the end of a method's name: its runs with their scores repaired after training
)
FOLDS = (
    5  # the validation rows are the pool of a repair, so they are repaired by the others of them
)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What to run. JSON-safe: it is kept beside the results, and any run can be made again from it."""

    methods: tuple[str, ...] = ("single_task", "vanilla", "baseline", "mta_f")
    runs: int = 64  # points per method
    seeds: int = 1  # seeds per point
    reference_seeds: int = 10  # seeds of the single-task runs
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 0.05
    trunk: tuple[int, ...] = (32,)
    head: tuple[int, ...] = (16,)
    embedding: int = 10
    notion: str = "rate_gap"  # a key of DISTANCES
    condition: str = "fpr"  # a key of CONDITIONS
    bandwidth: float = 0.1  # of the MMD kernels
    lam_max: float = 5.0
    r: tuple[float, ...] | None = None  # MTA-F's head-to-shared ratio; None draws it per run
    scale_trunk: bool = True
    reduction: str = "batch"
    repair: tuple[
        float, ...
    ] = ()  # amounts of the barycenter repair with which every run is evaluated once more
    sequence: str = "uniform"  # or sobol
    seed: int = 0  # of the draw, the initialisations and the order of minibatches

    def __post_init__(self):
        for field in ("methods", "trunk", "head", "r", "repair"):
            value = getattr(self, field)
            object.__setattr__(self, field, None if value is None else tuple(value))
        for field, allowed in (("notion", DISTANCES), ("condition", CONDITIONS)):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field} {getattr(self, field)!r} is not one of {', '.join(allowed)}"
                )
        for name in self.methods:
            if name not in RECIPES:
                raise ValueError(f"method {name!r} is not one of {', '.join(RECIPES)}")
        if not all(0 <= amount <= 1 for amount in self.repair):
            raise ValueError(
                f"repair {self.repair} must be amounts from 0 (scores as they are) to 1 (one law for all groups)"
            )

    @property
    def train_config(self) -> TrainConfig:
        """Shapes of a run."""
        return TrainConfig(self.epochs, self.batch_size)


# settings of the MTA-F code per data set, with the paper's fairness loss and embedding width
PAPER = {
    "adult": {
        "epochs": 40,
        "batch_size": 1024,
        "learning_rate": 0.02,
        "trunk": (64,),
        "head": (32,),
        "embedding": 40,
        "notion": "mmd",
    },
    "german": {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.06,
        "embedding": 10,
        "notion": "rate_gap",
    },
    "lsac": {
        "epochs": 60,
        "batch_size": 512,
        "learning_rate": 0.08,
        "embedding": 10,
        "notion": "correlation",
    },
}


def _notions(plan: StudyConfig, spec: Spec, kind: str) -> tuple[notions.Notion, ...]:
    """The plan's notion for a task of a kind: on the rows of its condition, of several classes each against the rest; for
    numbers, which have no positives, on everyone.

    One for attributes with levels, one for numbers, where the data has such; of classes that one looks at everyone.
    """
    distance = DISTANCES[plan.notion](plan.bandwidth)
    if kind == "regression" and plan.notion == "mmd":  # its fast form is for probabilities
        distance = notions.mmd(notions.gaussian_kernel(plan.bandwidth))
    dependence = (
        DEPENDENCE[plan.notion](plan.bandwidth) if plan.notion in DEPENDENCE else notions.pearson
    )

    def made(number: bool) -> notions.Notion:
        conditional = kind == "binary" if number else kind in notions.CLASSES
        rows = CONDITIONS[plan.condition][0] if conditional else (notions.everyone,)
        return notions.Notion(dependence if number else distance, rows, continuous=number)

    return tuple(made(number) for number in sorted({a.continuous for a in spec.attributes}))


def recipe(plan: StudyConfig, spec: Spec, method: str) -> Recipe:
    """A method of a plan, with the plan's bounds on its hparams."""
    notion = tuple(_notions(plan, spec, task.kind) for task in spec.tasks)
    model = network(spec, plan.trunk, plan.head, plan.embedding)
    context = Context.paper(spec, model, notion, plan.learning_rate, plan.batch_size)._replace(
        reduction=plan.reduction
    )
    options = {"scale_trunk": plan.scale_trunk} if method == "mta_f" else {}
    made = RECIPES[method](context, **options)
    space = dict(made.space)
    if "lam" in space:
        space["lam"] = space["lam"]._replace(high=plan.lam_max)
    if "r" in space and plan.r is not None:
        space["r"] = Range(np.broadcast_to(np.float32(plan.r), len(spec.tasks)))
    return made._replace(space=space)


def points(
    plan: StudyConfig, spec: Spec, method: str
) -> tuple[Recipe, dict[str, np.ndarray], list[int]]:
    """Recipe, hparams ``[L, ...]`` and seeds of a method."""
    made = recipe(plan, spec, method)
    if method == "single_task":
        return (
            made,
            grid(made.space, {"weight": np.eye(len(spec.tasks))}),
            list(range(plan.reference_seeds)),
        )
    return (
        made,
        draw(made.space, plan.runs, plan.seed, sequence=plan.sequence),
        list(range(plan.seeds)),
    )


def origin(plan: StudyConfig, method: str, point: int) -> tuple[str, int, float | None]:
    """Method and point that were trained, and the amount of repair, of a row of the table."""
    if not method.endswith(REPAIRED):
        return method, point, None
    return (
        method.removesuffix(REPAIRED),
        point // len(plan.repair),
        plan.repair[point % len(plan.repair)],
    )


def evaluator(
    spec: Spec, repair: tuple[float, ...] = ()
) -> Callable[[dict[str, Array], Splits], dict[str, Array]]:
    """Metrics of both splits, named ``split.metric[...]``, with the base rates of the training labels.

    With amounts of ``repair`` the same of repaired scores beside them, named ``repaired.split.metric[...]``, one per amount.
    """

    def evaluate(scores: dict[str, Array], splits: Splits) -> dict[str, Array]:
        rates = base_rates(spec, splits.train)

        def metrics(scores: dict[str, Array]) -> dict[str, Array]:
            return {
                f"{split}.{name}": value
                for split in SPLITS
                for name, value in evaluate_scores(
                    spec, scores[split], getattr(splits, split), rates
                ).items()
            }

        if not repair:
            return metrics(scores)
        after = jax.vmap(lambda amount: repaired(spec, scores, splits, amount))(jnp.asarray(repair))
        every = jax.vmap(metrics)(
            jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), scores, after)
        )
        return {name: v[0] for name, v in every.items()} | {
            f"repaired.{name}": v[1:] for name, v in every.items()
        }

    return evaluate


def repaired(
    spec: Spec, scores: dict[str, Array], splits: Splits, amount: Array | float
) -> dict[str, Array]:
    """Scores of the validation and test rows after a repair whose pool are the validation rows.

    These are repaired by a fit on the others of them: on its own rows a repair is better than it is.
    """
    post, pool = model_barycenter(spec), splits.validation
    rows = scores["validation"], pool.groups, pool.weight
    # a random fold of equal size per row, the same in every run
    fold = jnp.argsort(jax.random.uniform(jax.random.key(0), pool.weight.shape)) % FOLDS
    return {
        "validation": cross_fitted(post, *rows, fold, FOLDS, amount=amount),
        "test": post.apply(post.fit(*rows), scores["test"], splits.test.groups, amount=amount),
    }


def study(
    plan: StudyConfig,
    spec: Spec,
    splits: Splits,
    *,
    out: Path | None = None,
    keep: tuple[str, ...] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict]:
    """Run a plan.

    Args:
      plan: what to run.
      spec: what the columns mean.
      splits: the data.
      out: folder for finished chunks (under ``sweeps/``); a study found there goes on.
      keep: ``"scores"`` or ``"params"``, kept in the chunk files.
      progress: called with method, members done, members in all.

    Returns:
      The tidy table (columns ``[N]``) and ``info``, what a report needs to know of it.

    Raises:
      ValueError: when ``out`` holds another study.
    """
    # the reference comes first: an interrupted study then lacks only points
    methods = ("single_task", *(m for m in plan.methods if m != "single_task"))
    todo = {method: points(plan, spec, method) for method in methods}
    members = {
        method: len(seeds) * len(next(iter(hparams.values())))
        for method, (_, hparams, seeds) in todo.items()
    }
    done, programs, chunks, devices = {}, {}, {}, jax.local_devices()
    evaluate = evaluator(spec, plan.repair)
    for method, (made, hparams, seeds) in todo.items():
        kind = "vanilla" if method == "single_task" else method  # the same program, other hparams
        folder = out / "sweeps" / method if out else None
        if kind not in programs:
            programs[kind] = mapped(member(made, plan.train_config, evaluate, keep), devices)
        if method == "single_task" and kind in members:  # one size for the program of both
            chunks[kind] = start_size(max(members[method], members[kind]), devices)
        done[method] = sweep(
            made,
            plan.train_config,
            hparams,
            seeds,
            splits,
            evaluate,
            root=plan.seed,
            keep=keep,
            out=folder,
            progress=_counter(progress, method, members[method]),
            program=programs[kind],
            devices=devices,
            chunk=chunks.get(kind),
        )
        chunks[kind] = done[method].chunk
    return assemble(plan, spec, done)


def _counter(progress: Callable | None, method: str, total: int) -> Callable[[int], None]:
    """From counts of finished members to calls of ``progress`` with their sum; the first call says 0."""
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished
        finished += count
        if progress:
            progress(method, finished, total)

    advance(0)
    return advance


def assemble(
    plan: StudyConfig, spec: Spec, runs: dict[str, Runs]
) -> tuple[dict[str, np.ndarray], dict]:
    """One tidy table of several methods' runs, ``single_task`` among them, and ``info``; see :func:`study`."""
    table = _join(
        [
            rows
            for method, r in runs.items()
            for rows in _with_repaired(method, r, spec, plan.repair)
        ]
    )
    gap = gap_metric(plan, spec)
    _add_gap(table, gap, spec, plan)
    reference = _relative(table, gap, spec)
    return table, {
        "tasks": [t.name for t in spec.tasks],
        "attributes": [a.name for a in spec.attributes],
        "gap": gap,
        "plan": dataclasses.asdict(plan),
        "single_task": reference,
        "compilations": {method: r.compilations for method, r in runs.items()},
        "chunk": {method: r.chunk for method, r in runs.items()},
        "seeds": {"draw": plan.seed, "members": plan.seeds, "single_task": plan.reference_seeds},
        "versions": _versions(),
        "environment": _environment(),
    }


def gap_metric(plan: StudyConfig, spec: Spec) -> str:
    """The hard metric of the plan's condition; ``gap`` when a regression or attributes of two sorts have their own."""
    every = {_gap_metric(plan, t.kind, a.continuous) for t in spec.tasks for a in spec.attributes}
    return (
        every.pop()
        if len(every) == 1 and all(t.kind in notions.CLASSES for t in spec.tasks)
        else "gap"
    )


def _gap_metric(plan: StudyConfig, kind: str, number: bool) -> str:
    """The hard metric of a task of a kind and an attribute with levels or that is a number."""
    if number:
        return CORRELATIONS[plan.condition] if kind == "binary" else "correlation"
    return (
        CONDITIONS[plan.condition][1] if kind in notions.CLASSES else "mean_prediction_difference"
    )


def _with_repaired(
    method: str, runs: Runs, spec: Spec, repair: tuple[float, ...]
) -> list[dict[str, np.ndarray]]:
    """Columns of a method, and of its repaired runs: every run once per amount, those of a run beside one another."""
    found = [_rows(method, runs, spec)]
    for a, amount in enumerate(repair):
        metrics = {
            name.removeprefix("repaired."): v[:, a]
            for name, v in runs.metrics.items()
            if name.startswith("repaired.")
        }
        rows = _rows(method, runs._replace(metrics=runs.metrics | metrics), spec)
        found.append(
            rows
            | {
                "point": rows["point"] * len(repair) + a,
                "hparam.repair": np.full(len(rows["point"]), amount, np.float32),
            }
        )
    if repair:
        after = {
            name: np.stack([rows[name] for rows in found[1:]], axis=1).reshape(-1)
            for name in found[1]
        }
        found = [found[0], after | {"method": np.full(len(after["point"]), method + REPAIRED)}]
    return found


def _rows(method: str, runs: Runs, spec: Spec) -> dict[str, np.ndarray]:
    """Columns of one method. A single-task row unites, per seed, each task's metrics from its own network."""
    metrics = {
        name: v for name, v in runs.metrics.items() if name.split(".")[0] in SPLITS and v.ndim == 1
    }
    if method == "single_task":
        tasks, seeds = len(spec.tasks), len(runs.seed) // len(spec.tasks)
        own = {name: v.reshape(tasks, seeds)[_task_of(name, spec)] for name, v in metrics.items()}
        return {
            "method": np.full(seeds, method),
            "point": np.zeros(seeds, int),
            "seed": runs.seed[:seeds],
            "diverged": runs.diverged.reshape(tasks, seeds).any(axis=0),
            **own,
        }
    hparams = {}
    for name, v in runs.hparams.items():
        if v.ndim == 1:
            hparams[f"hparam.{name}"] = v
        else:
            hparams |= {f"hparam.{name}[{t.name}]": v[:, i] for i, t in enumerate(spec.tasks)}
    return {
        "method": np.full(len(runs.point), method),
        "point": runs.point,
        "seed": runs.seed,
        "diverged": runs.diverged,
        **hparams,
        **metrics,
    }


def _task_of(name: str, spec: Spec) -> int:
    """Which task a metric's name speaks of."""
    inside = name[name.index("[") + 1 :]
    return next(
        i
        for i, t in enumerate(spec.tasks)
        if inside.startswith(t.name) and inside[len(t.name)] in "]|="
    )


def _join(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Tables under one another; a hparam that a method lacks is NaN. Knobs stand before metrics."""
    names = list(dict.fromkeys(name for t in tables for name in t))
    names.sort(
        key=lambda name: (
            2 if name.split(".")[0] in SPLITS else 1 if name.startswith("hparam.") else 0
        )
    )
    columns = {
        name: np.concatenate(
            [t.get(name, np.full(len(t["point"]), np.nan, np.float32)) for t in tables]
        )
        for name in names
    }
    return {"run": np.arange(len(columns["point"])), **columns}


def _add_gap(table: dict[str, np.ndarray], gap: str, spec: Spec, plan: StudyConfig) -> None:
    """With tasks or attributes of several sorts, a ``gap`` column per task and attribute that repeats the metric that fits."""
    if gap != "gap":
        return
    for split in SPLITS:
        for t in spec.tasks:
            for a in spec.attributes:
                metric = _gap_metric(plan, t.kind, a.continuous)
                table[f"{split}.gap[{t.name}|{a.name}]"] = table[
                    f"{split}.{metric}[{t.name}|{a.name}]"
                ]


def _relative(table: dict[str, np.ndarray], gap: str, spec: Spec) -> dict:
    """Add ARE and ARFG per split; return the single-task denominators with their spread.

    A task in whose rows no demographics are known has no gap; ARFG is then the mean over the others.
    """
    reference = {}
    single = (table["method"] == "single_task") & ~table["diverged"]
    for split in SPLITS:
        errors = np.stack([table[f"{split}.error[{t.name}]"] for t in spec.tasks], axis=1)
        gaps = np.stack(
            [
                np.max(
                    [table[f"{split}.{gap}[{t.name}|{a.name}]"] for a in spec.attributes], axis=0
                )
                for t in spec.tasks
            ],
            axis=1,
        )
        e, g = denominator(errors[single]), denominator(gaps[single])
        known = ~np.isnan(gaps).all(axis=0)
        table[f"{split}.are"] = are(errors, e.mean)
        table[f"{split}.arfg"] = (
            arfg(gaps[:, known], g.mean[known]) if known.any() else np.full(len(gaps), np.nan)
        )
        reference[split] = {
            t.name: {
                "error": float(e.mean[i]),
                "error_deviation": float(e.deviation[i]),
                "gap": float(g.mean[i]),
                "gap_deviation": float(g.deviation[i]),
                "gap_is_noisy": bool(g.noisy[i]),
                "runs": e.runs,
            }
            for i, t in enumerate(spec.tasks)
        }
    return reference


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {
        name: importlib.metadata.version(name)
        for name in ("fairjax", "jax", "jaxlib", "flax", "optax", "numpy")
    }


def _environment() -> dict:
    import platform

    devices = jax.local_devices()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "devices": len(devices),
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
    }
