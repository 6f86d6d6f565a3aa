"""One network for all loss weights against a grid of networks: hypervolume and cost of YOTO on Adult.

    python experiments/yoto.py                 # about a quarter of an hour on two cores
    python experiments/yoto.py --quick         # about a minute; for a look at the machinery

Protocol. Data, network, fairness loss (MMD on negatives) and optimizer are those of experiments/mtaf.py on Adult, two tasks.
The grid is Baseline, ``sum_t w_t (L_t + lam_t F_t)``, at 256 draws of w on the simplex and lam in [0, 5], a network for each,
five seeds. Its networks train for 10 epochs, not the paper's 40, after which its hypervolume is no smaller (last table): the
cheap grid is the one to beat. A conditioned network is trained once per seed and answers at the same 256 draws.

Hypervolumes are in (ARE, ARFG) with reference (1.25, 1): the frontier is chosen on validation rows and measured on test rows,
per seed; a share is the ratio of means over seeds, with a 95 % bootstrap interval over seeds, which are the same for both.
Variants are compared on validation rows alone, with other seeds and fewer draws; the best one of each length of training goes
into the comparison. Cost is training alone: model-epochs, and seconds of both programs timed in turn in the same process.
Results go to experiments/results/yoto.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results" / "yoto"
REFERENCE = np.array([1.25, 1.0])  # of the hypervolume, in (ARE, ARFG)
GAP = "false_positive_rate_difference"


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything: ``points`` x ``seeds`` of the grid, ``tried`` points x ``tuning`` seeds for variants."""

    points: int = 256
    seeds: int = 5
    reference: int = 10
    tried: int = 32
    tuning: int = 3
    epochs: int = 10  # of one network of the grid
    lengths: tuple[int, ...] = (
        1,
        2,
        4,
        8,
    )  # of a conditioned network's training, in those of one of the grid


def plan_of(size: Size):
    """The house's Adult settings, with this experiment's numbers of runs."""
    from fairjax.study import PAPER, StudyConfig

    return StudyConfig(
        **PAPER["adult"] | {"epochs": size.epochs},
        methods=("baseline",),
        runs=size.points,
        seeds=size.seeds,
        reference_seeds=size.reference,
    )


def evaluator_of(spec) -> Callable:
    """Errors and gaps of the house's evaluation, without the rest."""
    from fairjax.study import evaluator

    evaluate = evaluator(spec)

    def few(scores, splits):
        return {
            name: v
            for name, v in evaluate(scores, splits).items()
            if f".{name}".split("[")[0].endswith((".error", GAP))
        }

    return few


def nothing(scores, splits) -> dict:
    """No metrics: training alone."""
    return {}


def grid(prepared, size: Size, work: Path | None, progress: Callable | None = None) -> dict:
    """Single-task networks and a network for each point: ``{"single_task": Runs, "baseline": Runs}``."""
    from fairjax.study import points
    from fairjax.training import sweep

    plan, few, found = plan_of(size), evaluator_of(prepared.spec), {}
    for method in ("single_task", "baseline"):
        recipe, hparams, seeds = points(plan, prepared.spec, method)
        found[method] = sweep(
            recipe,
            plan.train_config,
            hparams,
            seeds,
            prepared.splits,
            few,
            root=plan.seed,
            chunk=8,
            out=work / method if work else None,
            progress=progress,
        )
    return found


# ------------------------------------------------------------------------------------------- conditioned networks


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train a conditioned network; the default is the centre from which the others differ in one thing."""

    name: str = "centre"
    gain: float | None = 1.0  # of the original form; None for the paper's scalar form
    hidden: int = 64
    blocks: int = 4
    log: bool = False  # lam log-uniform in [0.05, 5], else uniform in [0, 5]
    trunk: tuple[int, ...] = (64,)
    learning_rate: float = 0.02
    adam: bool = False
    length: int = 4  # in trainings of one network of the grid


VARIANTS = (
    Variant(),
    Variant("gain 0.1, the original", gain=0.1),
    Variant("scalar form, the fair paper's", gain=None),
    Variant("1 block", blocks=1),
    Variant("16 blocks", blocks=16),
    Variant("lam log-uniform", log=True),
    Variant("trunk of 128", trunk=(128,)),
    Variant("Adam, 0.001", learning_rate=1e-3, adam=True),
)


def model_and_recipe(prepared, variant: Variant, plan):
    """Model and recipe of a variant."""
    import optax

    from fairjax.methods import Context, yoto
    from fairjax.methods._yoto import lam_drawn
    from fairjax.methods.context import lam_range
    from fairjax.models import conditioned_network, per_channel, scalar
    from fairjax.notions import Notion, gaussian_mmd, negatives

    spec, notion = prepared.spec, Notion(gaussian_mmd(plan.bandwidth), (negatives,))
    form = scalar() if variant.gain is None else per_channel(variant.hidden, variant.gain)
    model = conditioned_network(
        spec, variant.trunk, plan.head, plan.embedding, condition=2 * len(spec.tasks), form=form
    )
    context = Context.paper(spec, model, notion, variant.learning_rate, plan.batch_size)
    if variant.adam:
        context = context._replace(optimizer=lambda hparams: optax.adam(hparams["learning_rate"]))
    return model, yoto(
        context, lam=lam_drawn(spec) if variant.log else lam_range(spec), blocks=variant.blocks
    )


def answers(prepared, variant: Variant, size: Size, seeds: list[int], points: int):
    """One conditioned network per seed, and what it answers at the first points of the grid: ``Runs``."""
    from fairjax.methods import runs_for
    from fairjax.study import points as points_of
    from fairjax.training import TrainConfig, sweep
    from fairjax.training import grid as default

    plan, few = plan_of(size), evaluator_of(prepared.spec)
    model, recipe = model_and_recipe(prepared, variant, plan)
    train_config = TrainConfig(size.epochs * variant.length, plan.batch_size)
    trained = sweep(
        recipe,
        train_config,
        default(recipe.space, {}),
        seeds,
        prepared.splits,
        nothing,
        root=plan.seed,
        keep=("params",),
        chunk=-(-len(seeds) // len(jax.local_devices())),
    )
    hparams = {
        name: v[:points] for name, v in points_of(plan, prepared.spec, "baseline")[1].items()
    }
    return runs_for(model, trained, hparams, prepared.splits, few)


# ----------------------------------------------------------------------------------------------------- measures


def plane(prepared, plan, single, runs) -> np.ndarray:
    """(ARE, ARFG) of every seed and point: ``[S, P, 2, 2]``, validation then test; NaN where a run diverged."""
    from fairjax.study import assemble

    table, _ = assemble(plan, prepared.spec, {"single_task": single, "baseline": runs})
    mine = table["method"] == "baseline"
    found = np.stack(
        [[table[f"{split}.{m}"][mine] for m in ("are", "arfg")] for split in ("validation", "test")]
    )
    found[:, :, table["diverged"][mine]] = np.nan
    return np.moveaxis(found.reshape(2, 2, len(np.unique(runs.point)), -1), (3, 2), (0, 1))


def volume(values: np.ndarray, measured: int = 1) -> float:
    """Hypervolume of a seed's points ``[P, 2, 2]``: the frontier of validation rows, measured on test (1) or validation (0)."""
    from fairjax.metrics.frontier import hypervolume, nondominated

    return hypervolume(values[nondominated(values[:, 0]), measured], REFERENCE)


def interval(values: np.ndarray, of: np.ndarray | None = None) -> list[float]:
    """Mean over seeds, or ratio of means to those of ``of``, with a 95 % bootstrap interval over seeds."""
    of = np.ones_like(values) if of is None else of
    drawn = np.random.default_rng(0).integers(len(values), size=(4_000, len(values)))
    return [
        float(values.mean() / of.mean()),
        *map(
            float, np.quantile(values[drawn].mean(axis=1) / of[drawn].mean(axis=1), [0.025, 0.975])
        ),
    ]


def smaller_grids(values: np.ndarray, draws: int = 40) -> dict[int, np.ndarray]:
    """Hypervolume per seed of a grid of n of the points, ``{n: [S]}``: the mean over random choices of n."""
    rng, points = np.random.default_rng(0), values.shape[1]
    chosen = {
        n: [rng.choice(points, n, replace=False) for _ in range(draws if n < points else 1)]
        for n in 2 ** np.arange(int(np.log2(points)) + 1)
    }
    return {
        int(n): np.array([np.mean([volume(v[rows]) for rows in each]) for v in values])
        for n, each in chosen.items()
    }


def seconds_per_epoch(prepared, size: Size, variant: Variant) -> dict[str, float]:
    """Of one network of the grid (sixteen at a time) and of one conditioned network alone, timed in turn; the best of three."""
    from fairjax.study import points
    from fairjax.training import TrainConfig, keys, mapped, member
    from fairjax.training import grid as default

    plan, devices, timed = plan_of(size), jax.local_devices(), {}
    train_config, order = TrainConfig(2, plan.batch_size), jax.random.key(1)
    recipe, hparams, _ = points(
        dataclasses.replace(plan, runs=8 * len(devices)), prepared.spec, "baseline"
    )
    own = model_and_recipe(prepared, variant, plan)[1]
    for name, made, many, where in (
        ("grid", recipe, hparams, devices),
        ("conditioned", own, default(own.space, {}), devices[:1]),
    ):
        count = len(many["learning_rate"])
        program = mapped(member(made, train_config, nothing), where)
        timed[name] = (program, (keys(0, np.arange(count))[0], order, many, prepared.splits), count)
    best = dict.fromkeys(timed, np.inf)
    for turn in range(4):  # the first one compiles
        for name, (program, arguments, count) in timed.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            if turn:
                best[name] = min(
                    best[name], (time.perf_counter() - begin) / (count * train_config.epochs)
                )
    return best


# ------------------------------------------------------------------------------------------------- the experiment


def run(
    size: Size, variants: tuple[Variant, ...], work: Path | None, longer: tuple[int, ...]
) -> dict:
    """All stages; what the tables and the figure need. ``longer``: other lengths of the grid's training to look at."""
    from fairjax import load

    prepared, plan = load("adult"), plan_of(size)
    runs = grid(prepared, size, work)
    single, separate = (
        runs["single_task"],
        plane(prepared, plan, runs["single_task"], runs["baseline"]),
    )
    whole, tuning = np.array([volume(v) for v in separate]), list(range(1_000, 1_000 + size.tuning))

    def tried(variant: Variant) -> list[float]:
        values = plane(prepared, plan, single, answers(prepared, variant, size, tuning, size.tried))
        found = interval(np.array([volume(v, 0) for v in values]))
        print(f"{variant.name}, {variant.length}x: {found[0]:.4f}", flush=True)
        return found

    found = {v: tried(v) for v in variants}
    best = max(found, key=lambda v: found[v][0])
    lengths = [dataclasses.replace(best, length=n) for n in size.lengths]
    for variant in lengths:
        if variant not in found:
            found[variant] = tried(variant)
    final = {}
    for variant in lengths:
        values = plane(
            prepared,
            plan,
            single,
            answers(prepared, variant, size, list(range(size.seeds)), size.points),
        )
        volumes = np.array([volume(v) for v in values])
        final[variant.length] = {
            "values": values,
            "volume": interval(volumes),
            "share": interval(volumes, whole),
        }
    longer = {size.epochs: separate[:2, :32]} | {
        n: longer_grid(prepared, size, single, work, n) for n in longer
    }
    return {
        "size": size,
        "tried": found,
        "best": max(lengths, key=lambda v: found[v][0]),
        "final": final,
        "separate": separate,
        "grid": interval(whole),
        "seconds": seconds_per_epoch(prepared, size, best),
        "grids": {n: interval(v, whole) for n, v in smaller_grids(separate).items()},
        "validation": interval(np.array([volume(v[: size.tried], 0) for v in separate])),
        "longer": {
            n: interval(np.array([volume(v, 0) for v in values])) for n, values in longer.items()
        },
    }


def longer_grid(
    prepared, size: Size, single, work: Path | None, epochs: int, points: int = 32, seeds: int = 2
) -> np.ndarray:
    """A small grid of another length, as of :func:`plane`."""
    from fairjax.study import points as points_of
    from fairjax.training import TrainConfig, sweep

    plan = plan_of(size)
    recipe, hparams, _ = points_of(plan, prepared.spec, "baseline")
    runs = sweep(
        recipe,
        TrainConfig(epochs, plan.batch_size),
        {name: v[:points] for name, v in hparams.items()},
        range(seeds),
        prepared.splits,
        evaluator_of(prepared.spec),
        root=plan.seed,
        chunk=8,
        out=work / f"{epochs} epochs" if work else None,
    )
    return plane(prepared, plan, single, runs)


def cost(result: dict, length: int) -> dict[str, float]:
    """Model-epochs and seconds of training the grid over those of one conditioned network."""
    size, seconds = result["size"], result["seconds"]
    ratio = size.points / length
    return {
        "epochs": size.epochs * length,
        "ratio": ratio,
        "seconds": size.epochs * length * seconds["conditioned"],
        "seconds ratio": ratio * seconds["grid"] / seconds["conditioned"],
    }


# ------------------------------------------------------------------------------------------------ tables and figure


def told(values: list[float], digits: int = 3) -> str:
    """``mean [low, high]``."""
    mean, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{mean} [{low}, {high}]"


def write_tables(result: dict, out: Path) -> str:
    """Markdown: the comparison, then every variant that was tried."""
    size, seconds = result["size"], result["seconds"]
    whole = size.points * size.epochs
    lines = [
        f"Adult, {size.seeds} seeds, {size.points} points; hypervolume on test rows, 95 % intervals over seeds. An epoch "
        f"of one network takes {1e3 * seconds['grid']:.1f} ms in the grid (eight at a time on every core) and "
        f"{1e3 * seconds['conditioned']:.1f} ms for a conditioned one alone. A network of the grid trains for "
        f'{size.epochs} epochs; 4x is four times as long. Conditioned is "{result["best"].name}", the best variant on '
        "validation rows of other seeds, and so is the length that is marked.",
        "",
        "| | hypervolume | share of the grid | model-epochs | grid's epochs over it | seconds | grid's seconds over it |",
        "|---|---|---|---|---|---|---|",
        f"| grid of {size.points} networks | {told(result['grid'])} | 1 | {whole} | 1 | "
        f"{whole * seconds['grid']:.0f} | 1 |",
    ]
    for length, found in result["final"].items():
        spent = cost(result, length)
        mark = " (best on validation)" if length == result["best"].length else ""
        lines.append(
            f"| one conditioned network, {length}x{mark} | {told(found['volume'])} | {told(found['share'])} | "
            f"{spent['epochs']} | {spent['ratio']:.0f} | {spent['seconds']:.1f} | {spent['seconds ratio']:.0f} |"
        )
    for n, found in result["grids"].items():
        if n < size.points:
            lines.append(
                f"| {n} of the grid's networks | | {told(found)} | {n * size.epochs} | {size.points / n:.0f} | "
                f"{n * size.epochs * seconds['grid']:.1f} | {size.points / n:.0f} |"
            )
    lines += [
        "",
        f"Variants, {size.tuning} other seeds, {size.tried} points, hypervolume chosen and measured on validation "
        f"rows (the grid at the same points: {told(result['validation'])}). The centre has gain 1, 64 hidden units, 4 "
        "blocks of 256 rows, lam uniform as in the grid, trunk of 64, Adagrad at 0.02; others are named after a change.",
        "",
        "| variant | training | hypervolume, validation |",
        "|---|---|---|",
    ]
    lines += [f"| {v.name} | {v.length}x | {told(found)} |" for v, found in result["tried"].items()]
    lines += [
        "",
        "Length of the grid's own training, 32 points, 2 seeds, validation rows:",
        "",
        "| epochs | hypervolume |",
        "|---|---|",
    ]
    lines += [f"| {epochs} | {told(found)} |" for epochs, found in result["longer"].items()]
    (out / "tables.md").write_text("\n".join(lines) + "\n")
    return "\n".join(lines)


def draw(result: dict, out: Path) -> None:
    """Left: the frontier of one network and of the grid, in one seed. Right: hypervolume against cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from fairjax.metrics.frontier import nondominated

    size, chosen = result["size"], result["best"].length
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for values, label, colour in (
        (result["separate"], f"grid of {size.points} networks", "#999999"),
        (result["final"][chosen]["values"], f"one network, {chosen}x", "#c44e00"),
    ):
        test = values[0, :, 1]
        front = test[nondominated(values[0, :, 0])]
        front = front[np.argsort(front[:, 0])]
        left.plot(*test.T, ".", color=colour, alpha=0.35, markersize=4)
        left.plot(*front.T, "o-", color=colour, markersize=5, label=label)
    left.set(
        xlabel="average relative error (ARE), test",
        ylabel="average relative fairness gap (ARFG), test",
        title="Seed 0: every point, and the frontier chosen on validation rows",
    )
    left.legend()
    epochs = np.array(list(result["grids"])) * size.epochs
    share = np.array(list(result["grids"].values())).T
    right.fill_between(epochs, share[1], share[2], color="#999999", alpha=0.3, linewidth=0)
    right.plot(
        epochs,
        share[0],
        "o-",
        color="#999999",
        markersize=4,
        label="a grid of 1, 2, 4, ... networks",
    )
    spent = np.array([size.epochs * n for n in result["final"]])
    one = np.array([found["share"] for found in result["final"].values()]).T
    right.errorbar(
        spent,
        one[0],
        yerr=[one[0] - one[1], one[2] - one[0]],
        fmt="s-",
        color="#c44e00",
        capsize=3,
        label="one conditioned network, longer and longer",
    )
    right.set(
        xscale="log",
        xlabel="model-epochs of training",
        ylabel=f"hypervolume, share of {size.points} networks",
        title=f"Hypervolume against cost, {size.seeds} seeds",
    )
    right.legend(loc="lower right")
    figure.savefig(out / "yoto.png", dpi=150)
    plt.close(figure)


def as_json(result: dict) -> dict:
    """Numbers behind the tables."""
    return {
        "size": dataclasses.asdict(result["size"]),
        "best": dataclasses.asdict(result["best"]),
        **{name: result[name] for name in ("grid", "validation", "seconds", "grids", "longer")},
        "final": {
            n: {k: v for k, v in f.items() if k != "values"} | cost(result, n)
            for n, f in result["final"].items()
        },
        "tried": [
            dataclasses.asdict(v) | {"volume": found} for v, found in result["tried"].items()
        ],
    }


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="very few runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for finished chunks of the grid: a run that was killed goes on there",
    )
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.quick:
        result = run(Size(8, 2, 2, 4, 2, 1, (2,)), (Variant(length=2),), args.work, ())
    else:
        result = run(Size(), VARIANTS, args.work, (40,))
    (args.out / "yoto.json").write_text(json.dumps(as_json(result), indent=1))
    draw(result, args.out)
    print(write_tables(result, args.out))


if __name__ == "__main__":
    main()
