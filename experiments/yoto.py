"""One network for all loss weights against a grid of networks: hypervolume and cost of YOTO on
Adult.

    python experiments/yoto.py                 # about a quarter of an hour on two cores
    python experiments/yoto.py --quick         # about a minute; for a look at the machinery

Protocol. Data, network, fairness loss (MMD on negatives) and optimizer are those of
experiments/mtaf.py on Adult, two tasks. The grid is Baseline, ``sum_t w_t (L_t + lam_t F_t)``, at
256 draws of w on the simplex and lam in [0, 5], a network for each, five seeds. Its networks train
for 10 epochs, not the paper's 40, after which its hypervolume is no smaller (last table): the cheap
grid is the one to beat. A conditioned network is trained once per seed and answers at the same 256
draws.

Hypervolumes are in (ARE, ARFG) with reference (1.25, 1): the frontier is chosen on validation rows
and measured on test rows, per seed; a share is the ratio of means over seeds, with a 95 % bootstrap
interval over seeds, which are the same for both. Variants are compared on validation rows alone,
with other seeds and fewer draws; the best one of each length of training goes into the comparison.
Cost is training alone: model-epochs, and seconds of both programs timed in turn in the same
process. Results go to experiments/results/yoto.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.types import Array, Recipe, Splits
    from fairjax.data import Prepared
    from fairjax.study import Study
    from fairjax.training import Runs

RESULTS = Path(__file__).parent / "results" / "yoto"
CORNER = np.array([1.25, 1.0])  # reference point of the hypervolume, in (ARE, ARFG)
GAP = "false_positive_rate_difference"


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything.

    The grid has ``points`` x ``seeds`` networks; variants are tried at ``tried`` points x
    ``tuning`` seeds.
    """

    points: int = 256
    seeds: int = 5
    reference: int = 10
    tried: int = 32
    tuning: int = 3
    epochs: int = 10  # of one network of the grid
    # of a conditioned network's training, in trainings of one network of the grid
    lengths: tuple[int, ...] = (1, 2, 4, 8)


def grid_study(prepared: Prepared, size: Size) -> Study:
    """The settings of the MTA-F code on Adult, with this experiment's numbers of runs."""
    from fairjax.study import PAPER, from_names, named_study

    settings = PAPER["adult"] | {"epochs": size.epochs}
    names = named_study(
        **settings,
        methods=("baseline",),
        decision="transductive",
        smallest_group=0,
        runs=size.points,
        seeds=size.seeds,
        reference_seeds=size.reference,
    )
    return from_names(prepared, names)


def with_config(study: Study, **settings) -> Study:
    """The study with other settings. Fewer runs are the first ones of the same draw."""
    return dataclasses.replace(study, config=dataclasses.replace(study.config, **settings))


def errors_and_gaps(study: Study) -> Callable:
    """The study's evaluation, reduced to errors and gaps: nothing else is computed."""

    def evaluate(scores: dict[str, Array], splits: Splits) -> dict:
        metrics = study.evaluate(scores, splits)["plain"]
        needed = {key: value for key, value in metrics.items() if key.metric in ("error", GAP)}
        return {"plain": needed}

    return evaluate


def no_metrics(scores: dict[str, Array], splits: Splits) -> dict:
    """Training alone."""
    return {}


def train_networks(study: Study, method: str, prepared: Prepared, out: Path | None) -> Runs:
    """One network for each point and seed of a method of the study."""
    from fairjax.training import sweep

    return sweep(
        study.recipes[method],
        study.config.train_config,
        *study.points(method),
        prepared.splits,
        errors_and_gaps(study),
        root=study.config.seed,
        chunk=8,
        out=out,
    )


# ----------------------------------------------------------------------------- conditioned networks


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train a conditioned network; the default is the centre from which the others
    differ in one thing.
    """

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


def conditioned_recipe(study: Study, variant: Variant) -> Recipe:
    """YOTO with a variant's network and training; its fairness loss is that of the grid."""
    import optax

    from fairjax.methods import Context, lam_range, yoto
    from fairjax.models import conditioned_network, per_channel, scalar

    spec = study.spec
    options = study.names.model_options | {"trunk": variant.trunk}
    form = scalar() if variant.gain is None else per_channel(variant.hidden, variant.gain)
    model = conditioned_network(spec, **options, condition=2 * len(spec.tasks), form=form)
    context = Context.paper(spec, model, variant.learning_rate, study.config.batch_size)
    if variant.adam:
        context = context._replace(optimizer=lambda hparams: optax.adam(hparams["learning_rate"]))
    method = yoto(
        study.recipes["baseline"].notion,
        model=model,
        lam=None if variant.log else lam_range(spec),
        blocks=variant.blocks,
    )
    return method(context)


def answers(
    study: Study, prepared: Prepared, variant: Variant, seeds: Sequence[int], points: int
) -> Runs:
    """One conditioned network per seed, and its answers at the first points of the grid."""
    from fairjax.methods import runs_for
    from fairjax.training import TrainConfig, grid, sweep

    config = study.config
    recipe = conditioned_recipe(study, variant)
    trained = sweep(
        recipe,
        TrainConfig(config.epochs * variant.length, config.batch_size),
        grid(recipe.space, {}),
        seeds,
        prepared.splits,
        no_metrics,
        root=config.seed,
        keep=("params",),
        chunk=-(-len(seeds) // len(jax.local_devices())),
    )
    hparams, _ = with_config(study, runs=points).points("baseline")
    return runs_for(recipe, trained, hparams, prepared.splits, errors_and_gaps(study))


# ----------------------------------------------------------------------------------------- measures


def relative(study: Study, single: Runs, runs: Runs) -> np.ndarray:
    """(ARE, ARFG) of every seed and point: ``[S, P, 2, 2]``, validation then test.

    NaN where a run diverged.
    """
    from fairjax.metrics import Metric
    from fairjax.study import REFERENCE, assemble

    table, _ = assemble(study, {REFERENCE: single, "baseline": runs}, REFERENCE)
    rows = table["method"] == "baseline"
    values = [
        [table[Metric(metric, split=split)][rows] for metric in ("are", "arfg")]
        for split in ("validation", "test")
    ]
    values = np.array(values)
    values[:, :, table["diverged"][rows]] = np.nan
    seeds = len(np.unique(runs.seed))
    by_point = values.reshape(2, 2, -1, seeds)
    return np.moveaxis(by_point, (3, 2), (0, 1))


def volume(values: np.ndarray, measured: int = 1) -> float:
    """Hypervolume of a seed's points ``[P, 2, 2]``.

    The frontier is that of validation rows, measured on test rows (1) or validation rows (0).
    """
    from fairjax.metrics.frontier import hypervolume, nondominated

    return hypervolume(values[nondominated(values[:, 0]), measured], CORNER)


def volumes(values: np.ndarray, measured: int = 1) -> np.ndarray:
    """:func:`volume` of every seed, ``[S]``."""
    return np.array([volume(of_seed, measured) for of_seed in values])


def interval(values: np.ndarray, base: np.ndarray | None = None) -> list[float]:
    """Mean over seeds, or its ratio to that of ``base``, with a 95 % bootstrap interval."""
    base = np.ones_like(values) if base is None else base
    drawn = np.random.default_rng(0).integers(len(values), size=(4_000, len(values)))
    ratios = values[drawn].mean(axis=1) / base[drawn].mean(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return [float(values.mean() / base.mean()), float(low), float(high)]


def smaller_grids(values: np.ndarray, draws: int = 40) -> dict[int, np.ndarray]:
    """Hypervolume per seed of a grid of n of the points, ``{n: [S]}``.

    It is the mean over random choices of n points, the same for every seed.
    """
    rng = np.random.default_rng(0)
    points = values.shape[1]
    by_size = {}
    for size in 2 ** np.arange(int(np.log2(points)) + 1):
        count = draws if size < points else 1
        choices = [rng.choice(points, size, replace=False) for _ in range(count)]
        by_choice = [volumes(values[:, choice]) for choice in choices]
        by_size[int(size)] = np.mean(by_choice, axis=0)
    return by_size


def seconds_per_epoch(study: Study, prepared: Prepared, variant: Variant) -> dict[str, float]:
    """Of one network of the grid and of one conditioned network, timed in turn; the best of three.

    The grid trains eight networks at a time on every device, the conditioned network is alone.
    """
    from fairjax.training import Program, TrainConfig, grid, keys

    devices = jax.local_devices()
    train_config = TrainConfig(2, study.config.batch_size)
    order_key = jax.random.key(1)
    many, _ = with_config(study, runs=8 * len(devices)).points("baseline")
    conditioned = conditioned_recipe(study, variant)
    timed = {
        "grid": (study.recipes["baseline"], many, devices),
        "conditioned": (conditioned, grid(conditioned.space, {}), devices[:1]),
    }
    programs = {}
    for name, (recipe, hparams, on_devices) in timed.items():
        count = len(hparams["learning_rate"])
        member_keys, _ = keys(0, np.arange(count))
        program = Program(recipe, train_config, no_metrics, devices=on_devices)
        arguments = (member_keys, order_key, hparams, prepared.splits)
        programs[name] = (program, arguments, count * train_config.epochs)
    best = dict.fromkeys(programs, np.inf)
    for turn in range(4):  # the first one compiles
        for name, (program, arguments, epochs) in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            seconds = (time.perf_counter() - begin) / epochs
            if turn:
                best[name] = min(best[name], seconds)
    return best


# ----------------------------------------------------------------------------------- the experiment


def run(
    size: Size, variants: tuple[Variant, ...], work: Path | None, longer: tuple[int, ...]
) -> dict:
    """All stages, for the tables and the figure.

    Args:
      size: how much of everything.
      variants: of the conditioned network.
      work: folder for finished chunks of the grid.
      longer: other lengths of the grid's training to look at, in epochs.
    """
    from fairjax import load
    from fairjax.study import REFERENCE

    prepared = load("adult")
    study = grid_study(prepared, size)

    def folder(name: str) -> Path | None:
        return work / name if work else None

    single = train_networks(study, REFERENCE, prepared, folder(REFERENCE))
    runs = train_networks(study, "baseline", prepared, folder("baseline"))
    separate = relative(study, single, runs)
    grid_volumes = volumes(separate)

    def try_variant(variant: Variant) -> list[float]:
        tuning_seeds = range(1_000, 1_000 + size.tuning)
        runs = answers(study, prepared, variant, tuning_seeds, size.tried)
        result = interval(volumes(relative(study, single, runs), 0))
        print(f"{variant.name}, {variant.length}x: {result[0]:.4f}", flush=True)
        return result

    tried = {variant: try_variant(variant) for variant in variants}
    best = max(tried, key=lambda variant: tried[variant][0])
    lengths = [dataclasses.replace(best, length=length) for length in size.lengths]
    for variant in lengths:
        if variant not in tried:
            tried[variant] = try_variant(variant)
    final = {}
    for variant in lengths:
        runs = answers(study, prepared, variant, range(size.seeds), size.points)
        values = relative(study, single, runs)
        final[variant.length] = {
            "values": values,
            "volume": interval(volumes(values)),
            "share": interval(volumes(values), grid_volumes),
        }
    by_epochs = {size.epochs: separate[:2, :32]}
    for epochs in longer:
        small = with_config(study, epochs=epochs, runs=32, seeds=2)
        runs = train_networks(small, "baseline", prepared, folder(f"{epochs} epochs"))
        by_epochs[epochs] = relative(small, single, runs)
    return {
        "size": size,
        "tried": tried,
        "best": max(lengths, key=lambda variant: tried[variant][0]),
        "final": final,
        "separate": separate,
        "grid": interval(grid_volumes),
        "seconds": seconds_per_epoch(study, prepared, best),
        "grids": {n: interval(v, grid_volumes) for n, v in smaller_grids(separate).items()},
        "validation": interval(volumes(separate[:, : size.tried], 0)),
        "longer": {n: interval(volumes(values, 0)) for n, values in by_epochs.items()},
    }


def cost(result: dict, length: int) -> dict[str, float]:
    """Model-epochs and seconds of training the grid over those of one conditioned network."""
    size = result["size"]
    seconds = result["seconds"]
    epochs = size.epochs * length
    ratio = size.points / length
    return {
        "epochs": epochs,
        "ratio": ratio,
        "seconds": epochs * seconds["conditioned"],
        "seconds ratio": ratio * seconds["grid"] / seconds["conditioned"],
    }


# -------------------------------------------------------------------------------- tables and figure


def as_text(values: list[float]) -> str:
    """``mean [low, high]``."""
    mean, low, high = values
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def write_tables(result: dict, out: Path) -> str:
    """Markdown: the comparison, then every variant that was tried."""
    lines = [
        *comparison_lines(result),
        "",
        *variant_lines(result),
        "",
        "Length of the grid's own training, 32 points, 2 seeds, validation rows:",
        "",
        "| epochs | hypervolume |",
        "|---|---|",
    ]
    for epochs, hypervolume in result["longer"].items():
        lines.append(f"| {epochs} | {as_text(hypervolume)} |")
    text = "\n".join(lines)
    (out / "tables.md").write_text(text + "\n")
    return text


def comparison_lines(result: dict) -> list[str]:
    """The grid, conditioned networks of several lengths, and smaller grids."""
    size = result["size"]
    seconds = result["seconds"]
    grid_epochs = size.points * size.epochs
    lines = [
        f"Adult, {size.seeds} seeds, {size.points} points; hypervolume on test rows, 95 % "
        f"intervals over seeds. An epoch of one network takes "
        f"{1e3 * seconds['grid']:.1f} ms in the grid "
        f"(eight at a time on every core) and {1e3 * seconds['conditioned']:.1f} ms for a "
        f"conditioned one alone. A network of the grid trains for {size.epochs} epochs; 4x is four "
        f'times as long. Conditioned is "{result["best"].name}", the best variant on validation '
        "rows of other seeds, and so is the length that is marked.",
        "",
        "| | hypervolume | share of the grid | model-epochs | grid's epochs over it | seconds | "
        "grid's seconds over it |",
        "|---|---|---|---|---|---|---|",
        f"| grid of {size.points} networks | {as_text(result['grid'])} | 1 | {grid_epochs} | 1 | "
        f"{grid_epochs * seconds['grid']:.0f} | 1 |",
    ]
    for length, measured in result["final"].items():
        spent = cost(result, length)
        mark = " (best on validation)" if length == result["best"].length else ""
        lines.append(
            f"| one conditioned network, {length}x{mark} | {as_text(measured['volume'])} | "
            f"{as_text(measured['share'])} | {spent['epochs']} | {spent['ratio']:.0f} | "
            f"{spent['seconds']:.1f} | {spent['seconds ratio']:.0f} |"
        )
    for n, share in result["grids"].items():
        if n < size.points:
            ratio = size.points / n
            lines.append(
                f"| {n} of the grid's networks | | {as_text(share)} | {n * size.epochs} | "
                f"{ratio:.0f} | {n * size.epochs * seconds['grid']:.1f} | {ratio:.0f} |"
            )
    return lines


def variant_lines(result: dict) -> list[str]:
    """Every variant that was tried."""
    size = result["size"]
    lines = [
        f"Variants, {size.tuning} other seeds, {size.tried} points, hypervolume chosen and "
        f"measured on validation rows (the grid at the same points: "
        f"{as_text(result['validation'])}). The "
        "centre has gain 1, 64 hidden units, 4 blocks of 256 rows, lam uniform as in the grid, "
        "trunk of 64, Adagrad at 0.02; others are named after a change.",
        "",
        "| variant | training | hypervolume, validation |",
        "|---|---|---|",
    ]
    for variant, hypervolume in result["tried"].items():
        lines.append(f"| {variant.name} | {variant.length}x | {as_text(hypervolume)} |")
    return lines


def draw(result: dict, out: Path) -> None:
    """Left: the frontier of one network and of the grid, in one seed. Right: hypervolume, cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    draw_frontiers(left, result)
    draw_costs(right, result)
    figure.savefig(out / "yoto.png", dpi=150)
    plt.close(figure)


def draw_frontiers(panel, result: dict) -> None:
    """Every point of seed 0 on test rows, and the frontier chosen on validation rows."""
    from fairjax.metrics.frontier import nondominated

    length = result["best"].length
    for values, label, colour in (
        (result["separate"], f"grid of {result['size'].points} networks", "#999999"),
        (result["final"][length]["values"], f"one network, {length}x", "#c44e00"),
    ):
        test = values[0, :, 1]
        front = test[nondominated(values[0, :, 0])]
        front = front[np.argsort(front[:, 0])]
        panel.plot(*test.T, ".", color=colour, alpha=0.35, markersize=4)
        panel.plot(*front.T, "o-", color=colour, markersize=5, label=label)
    panel.set(
        xlabel="average relative error (ARE), test",
        ylabel="average relative fairness gap (ARFG), test",
        title="Seed 0: every point, and the frontier chosen on validation rows",
    )
    panel.legend()


def draw_costs(panel, result: dict) -> None:
    """Share of the grid's hypervolume against model-epochs."""
    size = result["size"]
    epochs = np.array(list(result["grids"])) * size.epochs
    share, low, high = np.array(list(result["grids"].values())).T
    panel.fill_between(epochs, low, high, color="#999999", alpha=0.3, linewidth=0)
    label = "a grid of 1, 2, 4, ... networks"
    panel.plot(epochs, share, "o-", color="#999999", markersize=4, label=label)
    epochs = np.array(list(result["final"])) * size.epochs
    share, low, high = np.array([measured["share"] for measured in result["final"].values()]).T
    panel.errorbar(
        epochs,
        share,
        yerr=[share - low, high - share],
        fmt="s-",
        color="#c44e00",
        capsize=3,
        label="one conditioned network, longer and longer",
    )
    panel.set(
        xscale="log",
        xlabel="model-epochs of training",
        ylabel=f"hypervolume, share of {size.points} networks",
        title=f"Hypervolume against cost, {size.seeds} seeds",
    )
    panel.legend(loc="lower right")


def as_json(result: dict) -> dict:
    """Numbers behind the tables."""
    final = {}
    for length, measured in result["final"].items():
        intervals = {name: value for name, value in measured.items() if name != "values"}
        final[length] = intervals | cost(result, length)
    tried = []
    for variant, hypervolume in result["tried"].items():
        tried.append(dataclasses.asdict(variant) | {"volume": hypervolume})
    return {
        "size": dataclasses.asdict(result["size"]),
        "best": dataclasses.asdict(result["best"]),
        **{name: result[name] for name in ("grid", "validation", "seconds", "grids", "longer")},
        "final": final,
        "tried": tried,
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
