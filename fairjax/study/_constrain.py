"""A bound on a gap in place of a fairness weight: what was met, and what it cost.

A text such as ``equal_opportunity <= 0.05`` becomes a :class:`Constraint`. One model is trained
under it, and one without it. Both are measured as they would be deployed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.keys import Metric
from fairjax.core.types import Array, Dataset, Spec, Splits
from fairjax.data import Prepared
from fairjax.data.complaints import complain, listing
from fairjax.methods import SCORED, SMALLEST_GROUP, reported_gaps, verdict
from fairjax.metrics import Interval, bootstrap, condition_of, evaluate, fixed, gap_metric
from fairjax.notions import REGISTRY, Notion, suited
from fairjax.study.config import NamedStudy, named_study, point_hparams
from fairjax.study.evaluation import Scores
from fairjax.study.run import Study, from_names
from fairjax.study.saved import (
    Point,
    SavedConstraint,
    SavedModel,
    finished_model,
    train_alone,
)
from fairjax.training import Runs

METHOD = "constrained"
UNBOUND = "vanilla"  # the same loss without a constraint
EXAMPLE = "equal_opportunity <= 0.05"
TRACE = 1e-6  # of a row that a resample leaves out
_FORM = re.compile(r"\s*(?P<notion>[^\s<>=]+)\s*<=?\s*(?P<number>[^<>=]*?)\s*")
# whose rates a condition compares
_ROWS = {
    "fpr": "of rows with label 0",
    "tpr": "of rows with label 1",
    "odds": "of rows with label 0 and of rows with label 1, the larger of both",
    "parity": "of all rows",
}


class Constraint(NamedTuple):
    """A notion that is to be at most a tolerance."""

    notion: str  # a key of notions.REGISTRY
    tolerance: float

    def __str__(self) -> str:
        return f"{self.notion} <= {self.tolerance}"


class Measured(NamedTuple):
    """Gaps and errors of one model's deployed decisions, per task."""

    gap: dict[str, np.ndarray]  # by split [T]; the largest over attributes; NaN: not measured
    low: np.ndarray  # [T], of test rows: the 95 % interval
    high: np.ndarray  # [T]
    error: np.ndarray  # [T], of test rows


@dataclasses.dataclass(frozen=True)
class ConstrainedModel:
    """A model under a constraint, beside the same model without it."""

    constraint: Constraint
    cap: float  # of the multiplier
    verdict: str  # of fairjax.methods.verdict, on validation rows
    violation: np.ndarray  # [blocks], the largest gap of validation rows after every block
    multiplier: np.ndarray  # [blocks]
    block: int  # whose parameters the model has
    model: SavedModel
    unconstrained: SavedModel
    measured: Measured
    without: Measured  # of the unconstrained model
    cost: Interval  # [T], error of test rows, less that of the unconstrained model
    scores: Scores  # of the model, [N, C] by split
    smallest_group: int  # rows of a group that a gap of ``measured`` needs

    def describe(self) -> str:
        """The verdict, which gap it is about, a table of both models, and the cost."""
        header, *rows = _cells(self)
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [_aligned(row, widths) for row in (header, *rows)]
        return "\n".join([*_sentences(self), "", *lines, "", *_costs(self)])

    def __str__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        """The description, for a notebook."""
        header, *rows = _cells(self)
        table = _html_row("th", header) + "".join(_html_row("td", row) for row in rows)
        before = "".join(f"<p>{escape(text)}</p>" for text in _sentences(self))
        after = "".join(f"<p>{escape(text)}</p>" for text in _costs(self))
        return f"{before}<table>{table}</table>{after}"


def parse_constraint(text: str) -> Constraint:
    """The constraint of a text ``NOTION <= NUMBER``; ``<`` means the same.

    Args:
      text: the notion is a key of ``notions.REGISTRY``, the number is in units of its gap.

    Raises:
      DataError: the text has another form; there is no such notion, or it is no gap; the number is
        none, or below 0.

    >>> parse_constraint("equal_opportunity <= 0.05")
    Constraint(notion='equal_opportunity', tolerance=0.05)
    """
    where = f"constraint {text!r}"
    match = _FORM.fullmatch(text)
    if match is None:
        raise complain(
            where, "has not the form NOTION <= NUMBER", f"Write one bound, such as {EXAMPLE!r}."
        )
    name = match["notion"]
    if name not in REGISTRY:
        raise complain(where, f"none of {len(REGISTRY)} notions is called {name!r}", _near(name))
    if not REGISTRY[name].is_gap:
        raise complain(
            where,
            f"{name} is no gap: it is not 0 where groups agree",
            f"Bound one of {len(_gap_names())} gaps, such as equal_opportunity.",
        )
    return Constraint(name, _tolerance(where, match["number"]))


def check_constraint(spec: Spec, constraint: Constraint) -> None:
    """Refuse a constraint that has no meaning for some data.

    Raises:
      DataError: there is no attribute, or the notion does not fit a task or an attribute.
    """
    where = f"constraint '{constraint}'"
    if not spec.attributes:
        raise complain(
            where,
            "the data have 0 sensitive attributes, so that no groups can be compared",
            "Name at least one: --sensitive COLUMN.",
        )
    entry = REGISTRY[constraint.notion]
    others = [f"{task.name} ({task.kind})" for task in spec.tasks if task.kind not in entry.kinds]
    if others:
        kinds = {task.kind for task in spec.tasks}
        fitting = [name for name in _gap_names() if kinds <= set(REGISTRY[name].kinds)]
        raise complain(
            where,
            f"{constraint.notion} does not fit {len(others)} of {len(spec.tasks)} tasks, "
            f"{listing(others)}",
            f"Bound a gap that fits all ({', '.join(fitting)}), or leave these tasks out.",
        )
    numbers = [attribute.name for attribute in spec.attributes if attribute.continuous]
    if numbers and entry.dependence is None:
        fitting = [name for name in _gap_names() if REGISTRY[name].dependence is not None]
        raise complain(
            where,
            f"{constraint.notion} compares groups, but {len(numbers)} of {len(spec.attributes)} "
            f"attributes are numbers, {listing(numbers)}",
            f"Cut them by a rule such as 'age > 25', or bound one of {', '.join(fitting)}.",
        )


def constrain(
    data: Prepared, text: str, *, seed: int = 0, cap: float | None = None, **settings: Any
) -> ConstrainedModel:
    """Train one model under a constraint, and the same without it.

    Args:
      data: the data.
      text: such as ``"equal_opportunity <= 0.05"``, see :func:`parse_constraint`.
      seed: of the initialisations and the batches of both.
      cap: of the multiplier. Default: that of :func:`fairjax.methods.constrained`.
      settings: of :func:`fairjax.study.named_study`, such as ``epochs``, ``trunk`` or ``decision``;
        with one of ``amounts`` both models are repaired after training.

    Raises:
      DataError: the constraint does not fit the data, see :func:`parse_constraint` and
        :func:`check_constraint`; the cap is not above 0; there are several amounts; or a run
        diverged.
    """
    constraint = parse_constraint(text)
    study = constrained_study(data, constraint, seed=seed, **settings)
    amounts = study.amounts
    if len(amounts) > 1 or len(study.repairs) > 1:
        raise complain(
            f"constraint '{constraint}'",
            f"{len(study.repairs)} repairs by {len(amounts)} amounts",
            "Give one of each: one model is trained.",
        )
    names = [post.name for post in study.repairs]
    repair = (names[0], amounts[0]) if amounts else None
    return train_constrained(data, study, constraint, cap=cap, repair=repair)


def constrained_study(data: Prepared, constraint: Constraint, **settings: Any) -> Study:
    """The study of the methods that :func:`train_constrained` trains.

    Args:
      data: the data.
      constraint: its notion is trained.
      settings: of :func:`fairjax.study.named_study`, without methods and notion.

    Raises:
      DataError: the constraint does not fit the data.
    """
    check_constraint(data.spec, constraint)
    names = named_study(methods=(METHOD, UNBOUND), notion=constraint.notion, **settings)
    return from_names(data, names)


def train_constrained(
    data: Prepared,
    study: Study,
    constraint: Constraint,
    *,
    cap: float | None = None,
    weight: Sequence[float] | None = None,
    member_seed: int = 0,
    repair: tuple[str, float] | None = None,
) -> ConstrainedModel:
    """Train both models of a study, and measure what they deploy.

    Args:
      data: the data.
      study: of :func:`constrained_study`.
      constraint: the notion of the study, and its bound.
      cap: of the multiplier; None: the default of the method.
      weight: of the tasks; None: equal.
      member_seed: of both runs.
      repair: of the scores of both, by name and amount.

    Raises:
      DataError: the cap is not above 0, or a run diverged.
    """
    if cap is not None and not cap > 0:
        raise complain(f"cap {cap}", "a multiplier's cap is a number above 0", "Give one, or none.")
    shared = {} if weight is None else {"weight": weight}
    bound = {"tolerance": constraint.tolerance}
    if cap is not None:
        bound["cap"] = cap
    points = {}
    for method, values in ((METHOD, shared | bound), (UNBOUND, shared)):
        hparams = point_hparams(study.recipes[method], data.spec, values)
        points[method] = Point(method, hparams, member_seed, repair)
    largest = float(points[METHOD].hparams["cap"])
    model, scores, runs = _trained(data, study, points[METHOD])
    violation, multiplier = (np.asarray(leaf)[0] for leaf in runs.record)
    block = int(runs.block[0])
    outcome = verdict(violation, multiplier, constraint.tolerance, largest, block)
    model = dataclasses.replace(model, constraint=SavedConstraint(str(constraint), outcome))
    unconstrained, other_scores, _ = _trained(data, study, points[UNBOUND])
    measure = _measurer(data, study)
    return ConstrainedModel(
        constraint=constraint,
        cap=largest,
        verdict=outcome,
        violation=violation[:, 0],
        multiplier=multiplier[:, 0],
        block=block,
        model=model,
        unconstrained=unconstrained,
        measured=measure(model, scores),
        without=measure(unconstrained, other_scores),
        cost=_cost(data, study, (model, unconstrained), (scores, other_scores)),
        scores=scores,
        smallest_group=study.config.smallest_group,
    )


def _trained(data: Prepared, study: Study, point: Point) -> tuple[SavedModel, Scores, Runs]:
    """The model of a point, its scores, and its sweep of one run."""
    runs = train_alone(data, study, point)
    params = jax.tree.map(lambda leaf: leaf[0], runs.params)
    model, scores = finished_model(data, study, point, params)
    return model, scores, runs


# ------------------------------------------------------------------------------------ measurement


def _measurer(data: Prepared, study: Study) -> Callable[[SavedModel, Scores], Measured]:
    """From a model and its scores to the gaps of its own thresholds, and to its errors.

    What it compiles serves both models.
    """
    spec = data.spec
    config = study.config
    notion = _suited(spec, study.names)
    splits = jax.tree.map(jnp.asarray, data.splits)

    @jax.jit
    def gap_of(scores: Array, rows: Dataset, threshold_t: Array) -> Array:
        gaps = reported_gaps(spec, notion, "each", threshold_t, config.smallest_group)
        return gaps(scores, rows)

    @jax.jit
    def interval_of(key: Array, scores: Array, rows: Dataset, threshold_t: Array) -> Interval:
        def resampled(test_scores: Array, weight: Array) -> Array:
            # a row that is left out keeps a trace, so that its group stays as large as it is
            weight = jnp.maximum(weight, TRACE * rows.weight)
            return gap_of(test_scores, rows._replace(weight=weight), threshold_t)

        # one resample at a time: some notions look at all pairs of rows
        return bootstrap(key, resampled, scores, rows.weight, batch=1)

    def measure(model: SavedModel, scores: Scores) -> Measured:
        threshold_t = _thresholds(model)
        gap = {}
        for split in ("train", "validation"):
            gap[split] = np.asarray(gap_of(scores[split], getattr(splits, split), threshold_t))
        key = jax.random.key(config.seed)
        test = interval_of(key, scores["test"], splits.test, threshold_t)
        gap["test"] = np.asarray(test.estimate)
        errors = [model.metrics[Metric("error", task.name, split="test")] for task in spec.tasks]
        return Measured(gap, np.asarray(test.low), np.asarray(test.high), np.asarray(errors))

    return measure


def _cost(
    data: Prepared,
    study: Study,
    models: tuple[SavedModel, SavedModel],
    scores: tuple[Scores, Scores],
) -> Interval:
    """How far the error of the first model is above the other's, per task, paired."""
    spec = data.spec
    threshold_mt = jnp.stack([_thresholds(model) for model in models])

    @jax.jit
    def interval_of(key: Array, scores_m: Array, rows: Dataset) -> Interval:
        def difference(scores_m: Array, weight: Array) -> Array:
            rows_of_draw = rows._replace(weight=weight)
            errors = []
            for scores, threshold_t in zip(scores_m, threshold_mt, strict=True):
                metrics = evaluate(spec, scores, rows_of_draw, threshold_t)
                errors.append(jnp.stack([metrics[Metric("error", t.name)] for t in spec.tasks]))
            return errors[0] - errors[1]

        return bootstrap(key, difference, scores_m, rows.weight)

    key = jax.random.key(study.config.seed)
    test = jnp.stack([jnp.asarray(of_model["test"]) for of_model in scores])
    return jax.tree.map(np.asarray, interval_of(key, test, data.splits.test))


def _thresholds(model: SavedModel) -> Array:
    """``[T]``; one half where a task has none."""
    thresholds = [fixed(0.5) if value is None else value for value in model.thresholds]
    return jnp.asarray(thresholds, jnp.float32)


def _suited(spec: Spec, names: NamedStudy) -> tuple[tuple[Notion, ...], ...]:
    """The notions that a study's methods train, per task."""
    condition = names.config.condition or "fpr"
    return suited(spec, names.notion, condition, **names.notion_options)


# ------------------------------------------------------------------------------------------- words


def _sentences(result: ConstrainedModel) -> list[str]:
    """What stands before the table."""
    texts = [f"{result.constraint}: {result.verdict}.", _verdict_sentence(result)]
    texts += _gap_sentences(result)
    texts += _deployed_sentences(result)
    return texts


def _verdict_sentence(result: ConstrainedModel) -> str:
    gap = float(result.violation[result.block])
    bound = result.constraint.tolerance
    if math.isnan(gap):
        return (
            f"The gap of validation rows could not be measured: fewer than two groups have "
            f"{SMALLEST_GROUP} rows for it. Give more rows, or merge groups (--merge)."
        )
    if result.verdict == "met":
        return (
            f"The largest gap of validation rows is {gap:.3g}, at most {bound}. Of the last half "
            "of the epochs this is the one of least loss that meets the bound."
        )
    multiplier = float(result.multiplier[-1])
    if result.verdict == "not met":
        return (
            f"The largest gap of validation rows is {gap:.3g}, above {bound}, the smallest of the "
            f"last half of the epochs. The multiplier ended at {multiplier:.3g} of at most "
            f"{result.cap:g}: train longer (--epochs), or in larger batches (--batch-size)."
        )
    cures = [f"a larger cap (--cap {10 * result.cap:g})", "a looser bound"]
    if result.model.repair is None:
        cures.append(
            "a repair of the scores after training (--repair 1), which evens out selection rates"
        )
    return (
        f"The multiplier reached its cap of {result.cap:g} and the gap stays above, at {gap:.3g} "
        "on validation rows: this training cannot meet the bound, which another one still might; "
        f"try {', '.join(cures[:-1])} or {cures[-1]}."
    )


def _gap_sentences(result: ConstrainedModel) -> list[str]:
    """Which gap it is, per task; tasks with one text share it."""
    spec = result.model.encoder.spec
    tasks_of: dict[str, list[str]] = {}
    for t, task in enumerate(spec.tasks):
        text = _gap_text(result, t)
        tasks_of.setdefault(text, []).append(task.name)
    attributes = ", ".join(attribute.name for attribute in spec.attributes)
    how = "the largest over" if len(spec.attributes) > 1 else "by"
    return [
        f"The gap of {', '.join(names)} is {text}, {how} {attributes}."
        for text, names in tasks_of.items()
    ]


def _gap_text(result: ConstrainedModel, t: int) -> str:
    """Metric, rows and threshold of one task's gap."""
    spec = result.model.encoder.spec
    task = spec.tasks[t]
    names = result.model.names
    rows = condition_of(_suited(spec, names)[t][0])
    if rows is None:
        text = f"{names.notion} itself, of rows whose label is known"
    else:
        sorts = [attribute.continuous for attribute in spec.attributes]
        metrics = dict.fromkeys(gap_metric(rows, task.kind, sort) for sort in sorts)
        text = f"{' or '.join(metrics)}, {_ROWS[rows]}"
    if task.kind == "binary" and names.notion not in SCORED:
        probability = 1.0 / (1.0 + math.exp(-result.model.thresholds[t]))
        text += f", decided from probability {probability:.3g} on"
    if task.kind == "regression":
        in_units = rows is not None and not task.is_vector
        text += ", in units of the column" if in_units else ", in training deviations"
    return text


def _deployed_sentences(result: ConstrainedModel) -> list[str]:
    """Where the gaps of the table are not those that the multiplier saw."""
    model = result.model
    spec = model.encoder.spec
    differences = []
    if model.decision != "half" and any(task.kind == "binary" for task in spec.tasks):
        rule = model.decision.replace("_", " ")
        differences.append(
            f"decisions at probability one half, and the model decides otherwise ({rule})"
        )
    if model.repair is not None:
        differences.append(f"scores before the repair ({model.repair.post.name})")
    if result.smallest_group != SMALLEST_GROUP:
        differences.append(
            f"groups of {SMALLEST_GROUP} rows and more, and the table those of "
            f"{result.smallest_group}"
        )
    texts = []
    if differences:
        texts.append(
            f"The multiplier, and the verdict, saw {'; '.join(differences)}. The table shows what "
            "the model deploys."
        )
    test = result.measured.gap["test"]
    above = [
        f"{task.name} ({test[t]:.3g})"
        for t, task in enumerate(spec.tasks)
        if test[t] > result.constraint.tolerance
    ]
    if result.verdict == "met" and above:
        texts.append(
            f"On test rows the gap is above the bound in {len(above)} of {len(spec.tasks)} tasks, "
            f"{', '.join(above)}. A smaller bound leaves room for new rows."
        )
    return texts


def _cells(result: ConstrainedModel) -> list[list[str]]:
    """A header, and a row per task and split."""
    rows = [["gap of", "rows", "constrained", "unconstrained"]]
    for t, task in enumerate(result.model.encoder.spec.tasks):
        for split in Splits._fields:
            both = [_gap_cell(m, split, t) for m in (result.measured, result.without)]
            rows.append([task.name, split, *both])
    return rows


def _gap_cell(measured: Measured, split: str, t: int) -> str:
    value = measured.gap[split][t]
    if np.isnan(value):
        return "unknown"
    text = f"{value:.3g}"
    if split == "test":
        text += f" [{measured.low[t]:.3g}, {measured.high[t]:.3g}]"
    return text


def _costs(result: ConstrainedModel) -> list[str]:
    """What the constraint does to the error of every task."""
    parts = []
    for t, task in enumerate(result.model.encoder.spec.tasks):
        before, after = result.without.error[t], result.measured.error[t]
        low, high = result.cost.low[t], result.cost.high[t]
        change = f"{after - before:+.3g} [{low:+.3g}, {high:+.3g}]"
        parts.append(f"{task.name} from {before:.3g} to {after:.3g} ({change})")
    return [
        "The constraint takes the error of test rows "
        f"{_together(parts)}. Brackets are 95 % intervals over test rows."
    ]


def _together(parts: Sequence[str]) -> str:
    """Some parts of a sentence, with "and" before the last."""
    *others, last = [f"of {part}" for part in parts]
    return f"{', '.join(others)} and {last}" if others else last


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _tolerance(where: str, text: str) -> float:
    """The number of a constraint."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise complain(
            where, f"{text!r} is no number", "Write the bound in decimals: 0.05 for five percent."
        )
    if number < 0:
        raise complain(
            where, f"a gap is 0 or more, and cannot be at most {text}", "Give 0 or a larger number."
        )
    return number


def _near(name: str) -> str:
    """A cure for a notion that does not exist."""
    plain = name.lower().replace("-", "_")
    near = difflib.get_close_matches(plain, _gap_names(), n=3)
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"Take one of {', '.join(_gap_names())}."


def _gap_names() -> list[str]:
    """The notions that a bound has a meaning for."""
    return [name for name, entry in REGISTRY.items() if entry.is_gap]
