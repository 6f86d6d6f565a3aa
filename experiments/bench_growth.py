"""How time and memory grow with members, rows, levels, tasks, groups and rows of a link.

    python experiments/bench_growth.py            # half an hour of one core
    python experiments/bench_growth.py --quick    # a few minutes; a look at the machinery
    python experiments/bench_growth.py --only report,groups
    python experiments/bench_growth.py --ray      # what a Ray cluster of this machine costs, 512
                                                  # members, also on Adult, whose files it needs

Every point is a process of its own on one device: CPU seconds of the work, without imports and
without the compilation, which has a line of its own, and the peak of the process's memory. The
network is tiny (four features, one layer of eight units), so that what stands around the products
shows.

- ``members``: a sweep of ``vanilla``, one step each, with its folder, and the table of its runs.
- ``report``: a made-up table of so many runs with 115 columns, written, read and reported; beside
  it the frontier and its volume alone, ours and moocore's.
- ``rows``: an epoch of ``vanilla`` in batches of 1,024, and an evaluation of one run.
- ``levels``: a step of ``vanilla`` of two networks of usual widths, whose rows have one column of so
  many levels.
- ``tasks``: a step of ``baseline`` and an evaluation of 10,000 rows.
- ``groups``: an evaluation of 100,000 rows and two tasks; fairlearn's MetricFrame of four rates.
- ``links``: aggregation of K rows of 10,000 parameters.

The exponent is the slope of log value over log size between the last two points of a line: 1 is
linear. Results go to experiments/results/growth.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results" / "growth"
AXES = {
    "members": ((100, 1_000, 10_000, 100_000), (100, 1_000)),
    "report": ((1_000, 10_000, 100_000, 1_000_000), (1_000, 100_000)),
    "rows": ((10_000, 100_000, 1_000_000, 10_000_000), (10_000, 100_000)),
    "levels": ((32, 128, 512, 4_096, 32_768), (32, 512)),
    "tasks": ((2, 5, 10, 20, 40), (2, 5)),
    "groups": ((2, 5, 10, 20, 50), (2, 10)),
    "links": ((2, 10, 30, 100), (2, 10)),
}  # sizes, and those of --quick
NAMES = {
    "members": "members",
    "report": "runs in the table",
    "rows": "rows",
    "levels": "levels of a column",
    "tasks": "tasks",
    "groups": "groups",
    "links": "rows K of a link",
}
LINKS = ("pcgrad", "mgda", "upgrad", "cagrad")
BATCH = 1024


def spent(work: Callable, times: int = 1) -> float:
    """CPU seconds of one call of ``work``, the mean of a few."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times


def made_up(rows: int, tasks: int = 2, groups: int = 2, levels: Sequence[int] = ()) -> tuple:
    """A spec, and the same rows for training, validation and test."""
    import jax

    from fairjax.core.types import Attribute, Columns, Dataset, Spec, Splits, Task

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("f4")
    labels = (x[:, :1] + rng.normal(size=(rows, tasks)) > 0).astype("f4")
    members = np.eye(groups, dtype="f4")[rng.integers(groups, size=rows)]
    columns = Columns(x, rng.integers(levels, size=(rows, len(levels)), dtype="i4"))
    data = Dataset(columns, labels, np.ones_like(labels), members, np.ones(rows, "f4"))
    data = jax.device_put(data)
    spec = Spec(
        tuple(Task(f"task{t}") for t in range(tasks)),
        (Attribute("group", tuple(f"{g}" for g in range(groups))),),
        ("a", "b", "c", "d"),
        tuple((f"column {j}", count) for j, count in enumerate(levels)),
    )
    return spec, Splits(data, data, data)


def study_of(spec, method: str, **changed):
    """A study of one method with a tiny network."""
    from fairjax.study import from_names, named_study

    settings = {"trunk": (8,), "head": (), "epochs": 1, "batch_size": BATCH}
    return from_names(spec, named_study(**settings | changed, methods=(method,)))


# -------------------------------------------------------------------------------------------- axes


def members(size: int) -> Iterator[tuple[str, float]]:
    import jax

    from fairjax.study import REFERENCE
    from fairjax.study.table import assemble
    from fairjax.training import Program, start_size, sweep

    spec, splits = made_up(200)
    study = study_of(spec, "vanilla", runs=size)
    device = jax.local_devices()[:1]
    recipe, config = study.recipes["vanilla"], study.config.train_config
    program = Program(recipe, config, study.evaluate, ("params",), devices=device)
    runs = {}

    def swept(method: str, folder: str | None, chunk: int | None = None):
        points, seeds = study.points(method)
        return sweep(
            recipe,
            config,
            points,
            seeds,
            splits,
            study.evaluate,
            out=folder and Path(folder),
            keep=("params",),
            chunk=chunk,
            devices=device,
            program=program,
            on_disk=True,
        )

    runs[REFERENCE] = swept(REFERENCE, None, start_size(size, device))  # compiles that size
    with tempfile.TemporaryDirectory() as folder:
        yield (
            "sweep",
            spent(lambda: runs.update(vanilla=swept("vanilla", folder))),
        )
        yield "sweep, read from its folder", spent(lambda: swept("vanilla", folder))
    yield "table of its runs", spent(lambda: assemble(study, runs, REFERENCE))


def table_of(runs: int):
    """A table with the columns of two tasks, two groups, and numbers of no meaning; its info."""
    from fairjax.core.keys import HParam, Metric
    from fairjax.core.tables import Table

    rng = np.random.default_rng(0)
    spec, _ = made_up(4)
    tasks = [task.name for task in spec.tasks]
    gap = "false_positive_rate_difference"
    table = Table({"run": np.arange(runs)})
    table["method"] = np.array(["baseline", "mta_f"])[np.arange(runs) * 2 // runs]
    table["point"] = np.arange(runs)
    table["seed"] = np.zeros(runs, int)
    table["diverged"] = rng.random(runs) < 0.01
    for task in tasks:
        table[HParam("lam", task)] = rng.uniform(0, 5, runs).astype("f4")
    for split in ("validation", "test"):
        fairness = rng.uniform(0, 1, runs)
        subject = Metric("are", split=split)
        table[subject] = (1.1 - 0.1 * fairness + 0.1 * rng.exponential(size=runs)).astype("f4")
        table[subject._replace(metric="arfg")] = fairness.astype("f4")
        for task in tasks:
            key = Metric("error", task, split=split)
            table[key] = rng.beta(20, 80, runs).astype("f4")
            key = Metric(gap, task, attribute="group", split=split)
            table[key] = rng.beta(2, 20, runs).astype("f4")
            for other in range(24):
                key = Metric(f"metric{other}", task, split=split)
                table[key] = rng.normal(size=runs).astype("f4")
    info = {"tasks": tasks, "attributes": ["group"], "gap": gap}
    return table, info


def report(size: int) -> Iterator[tuple[str, float]]:
    from moocore import hypervolume as their_volume
    from moocore import is_nondominated

    from fairjax import report as reports
    from fairjax.core.keys import Metric
    from fairjax.core.tables import read_table
    from fairjax.metrics.frontier import hypervolume, nondominated

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # a process apart makes the table, so that this one has the memory of a report alone
        script = [sys.executable, __file__, "--table", name, "--size", str(size)]
        done = subprocess.run(script, check=True, capture_output=True, text=True)
        yield "table written", json.loads(done.stdout)["seconds"]
        _, info = table_of(2)
        table = None

        def read() -> None:
            nonlocal table
            table = read_table(folder)
            for key in table:
                table[key]

        yield "table read", spent(read)
        table = read_table(folder)
        yield "report", spent(lambda: reports.write(folder, table, info))
        page = (folder / "report.html").stat().st_size
        yield "page, MB", page / 2**20
        yield "table, MB", sum(p.stat().st_size for p in folder.glob("table.*")) / 2**20
        are, arfg = Metric("are", split="test"), Metric("arfg", split="test")
        points = np.stack([table[are], table[arfg]], axis=1).astype(float)
        corner = np.array([1.25, 1.0])
        yield "frontier", spent(lambda: nondominated(points))
        yield "frontier, moocore", spent(lambda: is_nondominated(points, keep_weakly=True))
        yield "volume", spent(lambda: hypervolume(points, corner))
        yield "volume, moocore", spent(lambda: their_volume(points, ref=corner))
        agree = np.array_equal(nondominated(points), is_nondominated(points, keep_weakly=True))
        volumes = hypervolume(points, corner), their_volume(points, ref=corner)
        if not agree or not np.isclose(*volumes, rtol=1e-12):
            raise AssertionError(f"moocore has another frontier or volume: {volumes}")


def write_one(folder: str, size: int) -> None:
    """Write a made-up table, and print the CPU seconds."""
    from fairjax.core.tables import write_table

    table, _ = table_of(size)
    print(json.dumps({"seconds": spent(lambda: write_table(Path(folder), table))}))


def steps_and_evaluation(study, splits, method: str, steps: int, times: int) -> Iterator:
    """Compilation, a step, and an evaluation of one run."""
    import jax

    from fairjax.training import make_train

    recipe = study.recipes[method]
    points, _ = study.points(method)
    point = {name: values[0] for name, values in points.items()}
    key = jax.random.key(0)
    arguments = key, key, point, splits
    train = jax.jit(make_train(study.config.train_config, recipe))
    begin = time.process_time()
    train = train.lower(*arguments).compile()
    yield "training, compilation", time.process_time() - begin
    yield "training step", spent(lambda: jax.block_until_ready(train(*arguments)), times) / steps
    rng = np.random.default_rng(0)
    scores = {
        split: rng.normal(size=getattr(splits, split).labels.shape).astype("f4")
        for split in ("validation", "test")
    }
    evaluate = jax.jit(study.evaluate.program)
    begin = time.process_time()
    evaluate = evaluate.lower(scores, splits).compile()
    yield "evaluation, compilation", time.process_time() - begin
    yield "evaluation", spent(lambda: jax.block_until_ready(evaluate(scores, splits)), times)


def rows(size: int) -> Iterator[tuple[str, float]]:
    spec, splits = made_up(size)
    study = study_of(spec, "vanilla")
    for what, seconds in steps_and_evaluation(study, splits, "vanilla", 1, 1):
        yield what.replace("step", "epoch"), seconds


def levels(size: int) -> Iterator[tuple[str, float]]:
    count = 10_000
    spec, splits = made_up(count, levels=(size,))
    steps = -(-count // BATCH)
    for network in ("shared_bottom", "ensemble"):
        study = study_of(spec, "vanilla", model=network, trunk=(64,), head=(32,))
        measured = steps_and_evaluation(study, splits, "vanilla", steps, 3)
        for what, seconds in itertools.islice(measured, 2):
            yield what.replace("training", network), seconds


def tasks(size: int) -> Iterator[tuple[str, float]]:
    count = 10_000
    spec, splits = made_up(count, tasks=size)
    steps = -(-count // BATCH)
    yield from steps_and_evaluation(study_of(spec, "baseline"), splits, "baseline", steps, 3)


def groups(size: int) -> Iterator[tuple[str, float]]:
    import fairlearn.metrics as fairlearn

    spec, splits = made_up(100_000, groups=size)
    study = study_of(spec, "vanilla")
    *_, (what, seconds) = steps_and_evaluation(study, splits, "vanilla", 1, 2)
    yield what, seconds
    labels, member = np.asarray(splits.test.labels), np.asarray(splits.test.groups).argmax(1)
    decisions = np.random.default_rng(0).normal(size=labels.shape) > 0
    rates = {
        name: getattr(fairlearn, name)
        for name in (
            "selection_rate",
            "true_positive_rate",
            "false_positive_rate",
            "false_negative_rate",
        )
    }

    def frames() -> None:
        for _ in range(2):  # both splits
            for t in range(2):
                frame = fairlearn.MetricFrame(
                    metrics=rates,
                    y_true=labels[:, t],
                    y_pred=decisions[:, t],
                    sensitive_features=member,
                )
                frame.difference()

    yield "four rates, MetricFrame", spent(frames)


def links(size: int) -> Iterator[tuple[str, float]]:
    import jax
    import jax.numpy as jnp

    from fairjax import gradients

    rng = np.random.default_rng(0)
    matrix = jnp.asarray(rng.normal(size=(size, 10_000)).astype("f4"))
    params, values = jnp.zeros(10_000), jnp.linspace(0.5, 1.5, size)
    for name in LINKS:
        tx = gradients.REGISTRY[name].factory(size)
        state = tx.init(params)
        step = jax.jit(lambda g, s, p, v, tx=tx: tx.update(g, s, p, values=v, value_fn=lambda _: v))
        begin = time.process_time()
        compiled = step.lower(matrix, state, params, values).compile()
        yield f"{name}, compilation", time.process_time() - begin

        def call(compiled=compiled, state=state) -> None:
            jax.block_until_ready(compiled(matrix, state, params, values))

        call()
        yield name, spent(call, 5)


# --------------------------------------------------------------------------------------------- Ray


def on_ray(size: int) -> list[dict]:
    """Sweeps here, and on a Ray cluster of this machine: few runs for what is fixed, and many."""
    found = []
    with tempfile.TemporaryDirectory() as folder:

        def swept(side: str, data: str, runs: int, epochs: int) -> dict:
            options = (
                f"--data {data} --methods mta_f --devices 1 --keep metrics --runs {runs} "
                f"--epochs {epochs}"
            )
            command = [sys.executable, "-m", "fairjax", "frontier", *options.split()]
            command += ["--out", tempfile.mkdtemp(dir=folder)]
            command += ["--ray", "local"] if side == "ray" else []
            cpu, wall = cost_of(command, {"XDG_CACHE_HOME": folder})
            line = {"data": data, "runs": runs, "epochs": epochs, "side": side}
            return line | {"cpu": cpu, "wall": wall}

        for data, epochs, counts in (("synthetic", 10, (16, size)), ("adult", 40, (size,))):
            swept("here", data, 16, epochs)  # fills the cache of programs
            for count in counts:
                for side in ("here", "ray"):
                    found.append(swept(side, data, count, epochs))
                    print(json.dumps(found[-1]), flush=True)
    return found


def cost_of(command: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """CPU seconds of a command and of all processes that it starts, and seconds; Linux only.

    Ray's processes are nobody's children in the end, so they are known by a variable that they
    inherit, and looked at ten times a second.
    """
    mark = f"FAIRJAX_COST={time.monotonic_ns()}"
    environment = os.environ | variables | dict([mark.split("=")])
    ticks: dict[str, int] = {}
    others: set[str] = set()
    begin = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    while process.poll() is None:
        time.sleep(0.1)
        for folder in Path("/proc").glob("[0-9]*"):
            if folder.name in others:
                continue
            try:
                if folder.name not in ticks and mark.encode() not in (
                    folder / "environ"
                ).read_bytes().split(b"\0"):
                    others.add(folder.name)
                    continue
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                ticks[folder.name] = int(fields[11]) + int(fields[12])
            except OSError:  # it has just ended
                pass
    wall = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"failed: {' '.join(command)}")
    return sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), wall


def ray_summary(found: list[dict]) -> str:
    """A Markdown table: CPU seconds here and on Ray, and what they differ by."""
    lines = [
        "| data | runs | epochs | CPU seconds here | on Ray | more |",
        "|---|---|---|---|---|---|",
    ]
    for here, ray in zip(found[::2], found[1::2], strict=True):
        more = ray["cpu"] - here["cpu"]
        lines.append(
            f"| {here['data']} | {here['runs']} | {here['epochs']} | {here['cpu']:.1f} "
            f"| {ray['cpu']:.1f} | {more:.1f} ({more / here['cpu']:.0%}) |"
        )
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------------- the tables


def measure(axis: str, size: int) -> None:
    """Print what a point of an axis costs."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    before = _peak()
    for what, seconds in globals()[axis](size):
        print(json.dumps({"axis": axis, "what": what, "size": size, "value": seconds}), flush=True)
    line = {"axis": axis, "what": "memory, MB", "size": size, "value": _peak() - before}
    print(json.dumps(line), flush=True)


def _peak() -> float:
    """Megabytes that this process had at most."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log value over log size between the last two points."""
    if len(sizes) < 2:
        return float("nan")
    return float(np.diff(np.log(values[-2:]))[0] / np.diff(np.log(sizes[-2:]))[0])


def lines_of(found: list[dict]) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """By axis and what was measured: sizes and values."""
    lines: dict = {}
    for row in sorted(found, key=lambda row: float(row["size"])):
        line = lines.setdefault((row["axis"], row["what"]), ([], []))
        line[0].append(float(row["size"]))
        line[1].append(float(row["value"]))
    order = {axis: place for place, axis in enumerate(AXES)}
    return dict(sorted(lines.items(), key=lambda line: order[line[0][0]]))


def summary(found: list[dict]) -> str:
    """A Markdown table: a line per axis and what was measured."""
    lines = [
        "| grows | what (CPU seconds, unless MB) | from | to | values | exponent |",
        "|---|---|---|---|---|---|",
    ]
    for (axis, what), (sizes, values) in lines_of(found).items():
        shown = ", ".join(f"{value:.3g}" for value in values)
        lines.append(
            f"| {NAMES[axis]} | {what} | {sizes[0]:,.0f} | {sizes[-1]:,.0f} | {shown} "
            f"| {exponent(sizes, values):.2f} |"
        )
    return "\n".join(lines) + "\n"


def draw(found: list[dict], path: Path) -> None:
    """A panel per axis: CPU seconds over size, both logarithmic; exponents in brackets."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    short = EngFormatter(places=0, sep="")
    figure = Figure(figsize=(15, 9), dpi=110, layout="constrained")
    panels = {}
    for place, axis in enumerate(AXES, start=1):
        panels[axis] = figure.add_subplot(2, 4, place)
    for (axis, what), (sizes, values) in lines_of(found).items():
        if what.endswith("MB") or "compilation" in what:
            continue
        style = ":" if "moocore" in what or "MetricFrame" in what else "-"
        label = f"{what} ({exponent(sizes, values):.2f})"
        panels[axis].plot(sizes, values, marker="o", ms=4, ls=style, label=label)
    for axis, ax in panels.items():
        ax.set(xscale="log", yscale="log", xlabel=NAMES[axis])
        ax.set_ylabel("CPU seconds")
        ax.grid(color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
        if ax.lines:
            sizes = sorted({x for line in ax.lines for x in line.get_xdata()})
            ax.set_xticks(sizes, [short(size) for size in sizes])
            ax.set_xticks([], minor=True)
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 2}
            ax.legend(frameon=False, fontsize=8, **below)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the axes that are asked for; results of others stay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(AXES), help="axes, with commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--axis", help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=512, help="members on Ray")
    options = parser.parse_args(arguments)
    if options.axis:
        return measure(options.axis, options.size)
    if options.table:
        return write_one(options.table, options.size)
    if options.ray:
        text = ray_summary(on_ray(options.size))
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "ray.md").write_text(text)
        print(text)
        return None
    folder = Path(tempfile.mkdtemp()) if options.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "growth.csv"
    found = []
    if path.exists():
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
    for axis in options.only.split(","):
        found = [row for row in found if row["axis"] != axis]
        for size in AXES[axis][options.quick]:
            command = [sys.executable, __file__, "--axis", axis, "--size", str(size)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            print(done.stdout, end="", flush=True)
            found += [json.loads(line) for line in done.stdout.splitlines()]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["axis", "what", "size", "value"], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "value": f"{float(row['value']):.4g}"} for row in found)
    (folder / "growth.md").write_text(summary(found))
    draw(found, folder / "growth.png")
    print(summary(found))
    return None


if __name__ == "__main__":
    main()
