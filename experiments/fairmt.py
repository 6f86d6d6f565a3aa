"""One asymmetric constraint for tasks of several kinds: our reading of "FairMT: Fairness for
heterogeneous multi-task learning" (Hu et al., arXiv 2512.00469, no code published) against what its
readers would take instead.

    python experiments/fairmt.py                 # hours on two cores
    python experiments/fairmt.py --only acs      # one data set
    python experiments/fairmt.py --quick         # a look at the machinery; no results kept

Protocol. ``acs``: one state of the American Community Survey, with four tasks: employed (binary),
sector of occupation (five classes), logarithm of income and minutes to work (regressions); the
attribute is sex; 0, 40 or 80 % of the training labels of every task are hidden, each on its own.
``lsac`` has its two tasks, by sex; ``student`` has a grade, days of absence and the
wish for higher education, by sex. ``faces``: 4,000 faces of
FairFace at 32 x 32, with age (three bands), gender, and the labels under 20 and over 40, by race.
``faces_pretrained``: the same by the features of a pretrained network.
``hate``: 12,000 tweets in five languages; a tweet has a label in its own alone; by the gender of
its author, where it is known. ``hatecheck``: HateCheck's 18,669 texts by the features of a pretrained
network; hateful, the class of what is tested (eleven) and whether annotators disagreed; by whether a
text is about women, gay people or trans people. Rows are dealt at random for every seed: 60 % to
train, 20 % to validate, 20 % to test; HateCheck's rows of one template go together.

The risk of a group is 1 - TPR and 1 - TNR of a binary task, 1 - recall of every class, squared error
by variance of a regression, of decisions at one half on test rows. ``violation`` is the largest, over
tasks, classes and groups, of how far a risk lies above the best group's. ``worst`` and ``best`` are
the mean risks of the groups that are served worst and best, over tasks: a method levels down where
it lowers the violation by raising ``best``. All settings of a method are one sweep, and all seeds one
compilation. Of every method the setting of least ``worst`` on validation rows is shown, with 95 %
Student intervals of the differences to ``vanilla``, paired by seed. Results go to
experiments/results/fairmt.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from fairjax.core.types import Array, Dataset, Spec, Splits
    from fairjax.methods import Method

RESULTS = Path(__file__).parent / "results" / "fairmt"
SHARES = ("validation", "test")
LAMS = (1.0, 3.0, 10.0)
TOLERANCES = (0.02, 0.05, 0.1)

SECTORS = ("management", "services", "sales and office", "resources", "production")
SECTOR_STARTS = (0, 3600, 4700, 6000, 7700)  # first codes of OCCP


@dataclasses.dataclass(frozen=True)
class Setup:
    """One data set and its training."""

    name: str
    missing: tuple[float, ...] = (0.0,)
    seeds: int = 5
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 0.05
    trunk: tuple[int, ...] = (64,)
    head: tuple[int, ...] = (32,)
    rows: int | None = None


SETUPS = {
    setup.name: setup
    for setup in (
        Setup("acs", (0.0, 0.4, 0.8), rows=12_000),
        Setup("lsac", rows=12_000),
        Setup("student", batch=64),
        Setup("faces", epochs=8, batch=128, trunk=(8, 16, 32), head=()),
        Setup("faces_pretrained", batch=128, learning_rate=0.02),
        Setup("hatecheck", batch=128, learning_rate=0.02),
        Setup("hate", epochs=8, trunk=(32,), head=(), rows=12_000),
    )
}


class Read(NamedTuple):
    """All rows of a data set; rows of the same ``unit`` are in one split."""

    spec: Spec
    rows: Dataset
    unit: np.ndarray


class System(NamedTuple):
    """A method with the settings of its sweep."""

    method: Method
    values: dict[str, Sequence[float]]


# ------------------------------------------------------------------------------------------- the data


def survey() -> tuple[Spec, Dataset]:
    """Four tasks of three kinds on the persons file of the survey: spec and all its rows."""
    from fairjax.data import Roles, from_table
    from fairjax.data.files import find_file
    from fairjax.data.read import read_csv
    from fairjax.data.sets.acs import FILES

    table = read_csv(find_file("acs", FILES[0]))
    names = ("AGEP", "PINCP", "OCCP", "JWMNP", "ESR")
    age, income, occupation, minutes, employment = (table.numbers(name)[0] for name in names)
    kept = (age > 16) & (age < 75)
    place = np.searchsorted(SECTOR_STARTS, np.nan_to_num(occupation), side="right") - 1
    sector = np.where(np.isnan(occupation), "", np.array(SECTORS, object)[np.maximum(place, 0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_income = np.where(income > 100, np.log(income), np.nan)
    features = ("AGEP", "SCHL", "MAR", "CIT", "NATIVITY", "MIL", "DEAR", "DEYE", "DREM", "DPHY")
    columns = {name: table.cells(name)[kept] for name in (*features, "SEX")}
    columns["employed"] = np.where(employment == 1, "yes", "no").astype(object)[kept]
    columns["sector"] = sector.astype(object)[kept]
    columns["log_income"] = log_income[kept]
    columns["commute"] = minutes[kept]
    roles = Roles(
        tasks=("employed: employed == yes", "sector", "log_income", "commute"),
        sensitive=("SEX",),
        features=features,
        numeric=("AGEP", "SCHL"),
        categorical=features[2:],
        kinds={"sector": "multiclass", "log_income": "regression", "commute": "regression"},
    )
    prepared = from_table(columns, roles)
    return prepared.spec, joined(prepared.splits)


def pupils() -> tuple[Spec, Dataset]:
    """Three tasks on the Portuguese course of the student data: spec and all its rows."""
    from fairjax.data import Roles, from_table
    from fairjax.data.files import RawFile, find_file

    page = "https://archive.ics.uci.edu/dataset/320/student+performance"
    roles = Roles(
        tasks=("grade: G3", "absences", "higher"),
        sensitive=("sex",),
        drop=("G1", "G2"),
        kinds={"grade": "regression", "absences": "regression"},
    )
    prepared = from_table(find_file("student", RawFile("student-por.csv", page)), roles)
    return prepared.spec, joined(prepared.splits)


def portraits(encoder: str | None = None) -> tuple[Spec, Dataset]:
    """Three tasks of three kinds on faces, half as high and wide or by the features of a pretrained
    network: spec and all its rows.
    """
    from fairjax.core.types import Images
    from fairjax.data import Roles, from_table
    from fairjax.data.files import find_file
    from fairjax.data.sets import fairface_subset as faces

    roles = Roles(
        tasks=("band", "gender", "labels: under_20, over_40 :multilabel"),
        sensitive=("race",),
        image="image",
        kinds={"band": "multiclass"},
        drop=("age", "split"),
        encoder=encoder,
    )
    size = {"size": roles.image_size} if encoder else {}
    columns = faces.read([find_file("fairface_subset", file) for file in faces.FILES], **size)
    young, old = ("0-2", "3-9", "10-19"), ("40-49", "50-59", "60-69", "more than 70")
    age = columns["age"]
    is_young, is_old = np.isin(age, young), np.isin(age, old)
    columns["band"] = np.select([is_young, is_old], ["young", "old"], "adult")
    columns["under_20"] = np.where(is_young, "yes", "no")
    columns["over_40"] = np.where(is_old, "yes", "no")
    prepared = from_table(columns, roles)
    rows = joined(prepared.splits)
    if encoder:
        return prepared.spec, rows
    count, height, width, channels = rows.x.pixels.shape
    blocks = rows.x.pixels.reshape(count, height // 2, 2, width // 2, 2, channels)
    pixels = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return prepared.spec, rows._replace(x=Images(pixels))


def tweets() -> tuple[Spec, Dataset]:
    """Hate in five languages, by gender: spec and all its rows."""
    from fairjax import load

    prepared = load("multilingual_hate", sensitive=("gender",))
    return prepared.spec, joined(prepared.splits)


def tests_of_hate() -> Read:
    """Three tasks of two kinds on HateCheck's texts, by the features of a pretrained network."""
    from fairjax import load
    from fairjax.data.sets import hatecheck

    prepared = load("hatecheck", encoder="use", sensitive=hatecheck.LANGUAGE_ROLES.sensitive)
    templates = hatecheck.read(hatecheck.ENTRY.obtain())["template"]
    places = np.concatenate([prepared.origin[name].row for name in ("train", "validation", "test")])
    _, unit = np.unique(templates[places].astype(str), return_inverse=True)
    return Read(prepared.spec, joined(prepared.splits), unit)


def read(setup: Setup) -> Read:
    """All rows of a setup."""
    from fairjax import load

    if setup.name == "hatecheck":
        return tests_of_hate()
    own = {
        "acs": survey,
        "student": pupils,
        "faces": portraits,
        "faces_pretrained": partial(portraits, "efficientnet_lite0"),
        "hate": tweets,
    }
    if setup.name in own:
        spec, rows = own[setup.name]()
    else:
        prepared = load(setup.name)
        spec, rows = prepared.spec, joined(prepared.splits)
    if setup.rows is not None:
        chosen = np.random.default_rng(0).permutation(len(rows.weight))[: setup.rows]
        rows = jax.tree.map(lambda leaf: leaf[chosen], rows)
    return Read(spec, rows, np.arange(len(rows.weight)))


def joined(splits: Splits) -> Dataset:
    """The rows of all splits."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *splits)


def dealt(read: Read, seed: int, missing: float) -> Splits:
    """Units dealt at random, with a share of the training labels hidden.

    The rows of a unit across the border of two splits weigh nothing in the second.
    """
    from fairjax.core.types import Splits

    rng = np.random.default_rng(seed)
    count = len(read.unit)
    place = np.argsort(rng.permutation(count))
    first = np.full(count, count)
    np.minimum.at(first, read.unit, place)  # the place of a unit is that of its first row
    order = np.lexsort((place, first[read.unit]))
    parts = np.split(order, [count * 6 // 10, count * 8 // 10])
    dealt_rows = []
    for i, part in enumerate(parts):
        rows = jax.tree.map(lambda leaf, part=part: leaf[part], read.rows)
        is_cut = (
            np.isin(read.unit[part], read.unit[parts[i - 1]]) if i else np.zeros(len(part), bool)
        )
        weight = np.where(is_cut, 0, rows.weight)
        label_mask = np.where(is_cut[:, None], 0, rows.label_mask)
        dealt_rows.append(rows._replace(weight=weight, label_mask=label_mask))
    splits = Splits(*dealt_rows)
    train = splits.train
    known = rng.random(train.label_mask.shape) >= missing
    train = train._replace(label_mask=np.float32(train.label_mask * known))
    return splits._replace(train=train)


# ------------------------------------------------------------------------------------------ the methods


def systems() -> dict[str, System]:
    """Every method with its settings."""
    from fairjax import methods, notions

    ahfda = notions.ahfda()
    worst_group = notions.ahfda(reference=0.0)  # risk itself: what GroupDRO minimises
    parity = notions.from_distance(notions.rate_gap, (notions.everyone,))
    lams = {"lam": LAMS}
    tolerances = {"tolerance": TOLERANCES}
    return {
        "vanilla": System(methods.vanilla(), {}),
        "worst group": System(methods.baseline(worst_group), lams),
        "symmetric parity": System(methods.baseline(parity), lams),
        "ahfda": System(methods.baseline(ahfda), lams),
        "mta_f": System(methods.get("mta_f", parity), lams),
        "pcgrad": System(methods.get("pcgrad", ahfda), {"lam": (0.0, *LAMS)}),
        "mgda": System(methods.get("mgda", ahfda), {"lam": (0.0, *LAMS)}),
        "head_aware": System(methods.get("head_aware", ahfda), {"lam": (0.0,)}),
        "constrained sum": System(methods.constrained(ahfda), tolerances),
        "fairmt": System(methods.fairmt(), tolerances),
        # adaptive steps undo the scale of the heads: what is left of beta is the geometry
        "fairmt shared only": System(methods.fairmt(), tolerances | {"beta": (1e-3,)}),
        "fairmt protected": System(methods.fairmt(protect_best=True), tolerances),
    }


# -------------------------------------------------------------------------------------------- the runs


def evaluator(spec: Spec) -> Callable[[dict, Splits], dict]:
    """Errors, and risks of groups, of decisions on validation and test rows."""
    from fairjax.metrics import Metric, decisions, evaluate, fixed
    from fairjax.notions import ahfda, directional_violations, hard_maximum
    from fairjax.objectives import Predictions, fairness_terms

    notion = ahfda(rho=1.0)  # sums of the rows that are measured
    terms = fairness_terms(spec, notion)
    half = jnp.full(len(spec.tasks), fixed(0.5))

    def decided(scores: Array) -> Predictions:
        of_tasks = [
            decisions(task, scores[:, spec.score_slice(t)], half[t])
            for t, task in enumerate(spec.tasks)
        ]
        return Predictions((), tuple(of_tasks))

    def of_split(scores: Array, rows: Dataset) -> dict[str, Array]:
        _, memory = terms.apply(decided(scores), rows, terms.init(rows))
        errors = evaluate(spec, scores, rows, half)
        found = {}
        for task, (sums,) in zip(spec.tasks, memory, strict=True):
            risk_g = jnp.mean(sums.above / jnp.maximum(sums.below, 1e-9), axis=0)
            violation = hard_maximum(*directional_violations(sums))
            error = errors[Metric("error", task.name)]
            found[task.name] = jnp.stack([error, violation, jnp.max(risk_g), jnp.min(risk_g)])
        return found

    def evaluate_both(scores: dict[str, Array], splits: Splits) -> dict:
        return {
            f"{split}.{task}": values
            for split in SHARES
            for task, values in of_split(scores[split], getattr(splits, split)).items()
        }

    return evaluate_both


def measured(setup: Setup, read: Read, name: str, system: System) -> list[dict]:
    """Train all settings with every seed and share of missing labels."""
    from fairjax.models import network
    from fairjax.study import StudyConfig, make_study
    from fairjax.training import Program, grid, sweep

    begin = time.perf_counter()
    spec = read.spec
    config = StudyConfig(
        epochs=setup.epochs,
        batch_size=setup.batch,
        learning_rate=setup.learning_rate,
        reduction="mean",
    )
    model = network(spec, setup.trunk, setup.head)
    recipe = make_study(spec, {name: system.method}, model=model, config=config).recipes[name]
    devices = jax.local_devices()
    evaluate = evaluator(spec)
    program = Program(recipe, config.train_config, evaluate, devices=devices)
    points = grid(recipe.space, system.values)
    count = len(points["learning_rate"])
    found = []
    for missing, seed in itertools.product(setup.missing, range(setup.seeds)):
        runs = sweep(
            recipe,
            config.train_config,
            points,
            [seed],
            dealt(read, seed, missing),
            evaluate,
            root=seed,
            program=program,
            devices=devices,
            chunk=count,
        )
        for i, (split, task) in itertools.product(
            range(count), itertools.product(SHARES, spec.tasks)
        ):
            error, violation, worst, best = runs.metrics[f"{split}.{task.name}"][i]
            settings = {key: points[key][i].ravel()[0] for key in system.values}
            found.append(
                {
                    "setup": setup.name,
                    "missing": missing,
                    "method": name,
                    "setting": " ".join(f"{key}={value:g}" for key, value in settings.items()),
                    "seed": seed,
                    "split": split,
                    "task": task.name,
                    "error": float(error),
                    "violation": float(violation),
                    "worst": float(worst),
                    "best": float(best),
                    "multiplier": _last_multiplier(runs, i),
                }
            )
    seconds = time.perf_counter() - begin
    total = count * setup.seeds * len(setup.missing)
    print(f"  {name}: {total} runs, {seconds:.0f} s", flush=True)
    return found


def _last_multiplier(runs, i: int) -> float:
    record = runs.record
    if record is None or not hasattr(record, "multiplier"):
        return float("nan")
    return float(np.asarray(record.multiplier)[i, -1].max())


# ------------------------------------------------------------------------------------------- the tables


def over_tasks(rows: list[dict]) -> dict[str, np.ndarray]:
    """Per seed the mean error and risks over tasks, and the largest violation."""
    by_seed: dict[str, list[dict]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row)
    groups = list(by_seed.values())

    def column(name: str, together: Callable) -> np.ndarray:
        return np.array([together([float(row[name]) for row in group]) for group in groups])

    return {
        "violation": column("violation", np.max),
        "error": column("error", np.mean),
        "worst": column("worst", np.mean),
        "best": column("best", np.mean),
    }


def chosen_settings(rows: list[dict]) -> dict[str, str]:
    """Per method the setting of least mean ``worst`` on validation rows."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [r for r in rows if r["method"] == method and r["split"] == "validation"]
        settings = dict.fromkeys(row["setting"] for row in of_method)
        means = {
            s: over_tasks([r for r in of_method if r["setting"] == s])["worst"].mean()
            for s in settings
        }
        found[method] = min(means, key=means.get)
    return found


def student(values: np.ndarray) -> str:
    """Mean and half width of its 95 % Student interval."""
    from scipy import stats

    count = len(values)
    if count < 2:
        return f"{values.mean():+.4f}"
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return f"{values.mean():+.4f} ± {half:.4f}"


def table_of(rows: list[dict]) -> str:
    """A Markdown table of one setup and share of missing labels."""
    lines = [
        "| method | setting | violation | worst | best | worst, less vanilla's | best, less"
        " vanilla's | error, less vanilla's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    settings = chosen_settings(rows)
    test = [row for row in rows if row["split"] == "test"]
    plain = over_tasks([row for row in test if row["method"] == "vanilla"])
    for method, setting in settings.items():
        chosen = [r for r in test if r["method"] == method and r["setting"] == setting]
        values = over_tasks(chosen)
        less = {name: student(values[name] - plain[name]) for name in values}
        lines.append(
            f"| {method} | {setting} | {values['violation'].mean():.3f} "
            f"| {values['worst'].mean():.4f} | {values['best'].mean():.4f} "
            f"| {less['worst']} | {less['best']} | {less['error']} |"
        )
    return "\n".join(lines)


def relative_errors(rows: list[dict]) -> list[dict]:
    """Rows whose errors are shares of the mean error of ``vanilla`` on the same task."""
    plain: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == "vanilla":
            plain.setdefault(row["task"], []).append(float(row["error"]))
    return [row | {"error": float(row["error"]) / np.mean(plain[row["task"]])} for row in rows]


def draw(path: Path, rows: list[dict]) -> None:
    """A picture per share of missing labels: error over that of ``vanilla``, mean of the tasks,
    against the worst group's risk, a point per setting."""
    from matplotlib.figure import Figure

    from fairjax.report.drawing import COLOURS, MARKERS, draw_grid, hide_box, house_style, look

    shares = list(dict.fromkeys(row["missing"] for row in rows))
    with house_style():
        figure = Figure(figsize=(5.2 * len(shares), 4.6), dpi=150, layout="constrained")
        axes = figure.subplots(1, len(shares), squeeze=False)[0]
        for ax, missing in zip(axes, shares, strict=True):
            of_share = [r for r in rows if r["missing"] == missing and r["split"] == "test"]
            of_share = relative_errors(of_share)
            for index, method in enumerate(dict.fromkeys(row["method"] for row in of_share)):
                of_method = [row for row in of_share if row["method"] == method]
                settings = dict.fromkeys(row["setting"] for row in of_method)
                points = []
                for setting in settings:
                    values = over_tasks([r for r in of_method if r["setting"] == setting])
                    points.append((values["error"].mean(), values["worst"].mean()))
                colour, marker = look(index)
                ax.plot(
                    *np.array(sorted(points)).T,
                    color=COLOURS[colour],
                    marker=MARKERS[marker],
                    ms=6,
                    lw=0.8,
                    label=method,
                )
            ax.set(
                title=f"{float(missing):.0%} of the labels hidden", xlabel="error over vanilla's"
            )
            ax.set(ylabel="mean risk of the worst group")
            draw_grid(ax)
            hide_box(ax)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", frameon=False, ncols=3 * len(shares)
        )
        figure.savefig(path, metadata={"Software": "fairjax"})


def write(folder: Path, setup: str, rows: list[dict]) -> None:
    """Runs as CSV with those of other methods that stand there, their picture, and tables.md."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{setup}.csv"
    new = {row["method"] for row in rows}
    rounded = [
        {k: f"{v:.5f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    ]
    kept = [row for row in _read(path) if row["method"] not in new]
    order = list(systems())  # so that a method looks alike in all pictures
    every = sorted([*rounded, *kept], key=lambda row: order.index(row["method"]))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(every)
    draw(folder / f"{setup}.png", _read(path))
    parts = []
    for name in SETUPS:
        read_rows = _read(folder / f"{name}.csv")
        for missing in dict.fromkeys(row["missing"] for row in read_rows):
            of_share = [row for row in read_rows if row["missing"] == missing]
            seeds = len({row["seed"] for row in of_share})
            hidden = f", {float(missing):.0%} of the training labels hidden"
            parts.append(f"## {name}{hidden}: {seeds} seeds\n\n{table_of(of_share)}\n")
    (folder / "tables.md").write_text("\n".join(parts))


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the setups that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(SETUPS), help="setups, with commas")
    parser.add_argument(
        "--methods", default="", help="methods beside vanilla, with commas; default all"
    )
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    only = set(filter(None, options.methods.split(",")))
    for name in options.only.split(","):
        setup = SETUPS[name]
        if options.seeds:
            setup = dataclasses.replace(setup, seeds=options.seeds)
        if options.quick:
            setup = dataclasses.replace(
                setup, seeds=2, epochs=3, missing=setup.missing[-1:], rows=2000
            )
        folder = Path(tempfile.mkdtemp()) if options.quick else RESULTS
        data = read(setup)
        kinds = ", ".join(f"{task.name} ({task.kind})" for task in data.spec.tasks)
        print(f"{name}: {len(data.unit)} rows; {kinds}", flush=True)
        found = []
        for method, system in systems().items():
            if only and method not in only | {"vanilla"}:
                continue
            found += measured(setup, data, method, system)
            write(folder, name, found)
        print((folder / "tables.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
