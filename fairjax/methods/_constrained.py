"""Fairness as a constraint: the least loss whose gap is at most a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax import objectives
from fairjax.core.keys import Metric
from fairjax.core.types import (
    Array,
    Components,
    Dataset,
    Model,
    PyTree,
    Range,
    Rank,
    Recipe,
    Spec,
    Splits,
)
from fairjax.gradients import multiplier, sum_rows
from fairjax.methods.context import Context, Method, SweptNotions, notion_at, weight_range
from fairjax.metrics import condition_of, decisions, evaluate, fixed, gap_metric
from fairjax.models import scores as model_scores
from fairjax.objectives import (
    Notions,
    Penalty,
    Predictions,
    accuracy_terms,
    attributes_of,
    constrained_tasks,
    constraint_count,
    fairness_terms,
    measures_itself,
    new_violation,
    own_violations,
    predict,
    with_measurement,
    worst_violation,
)
from fairjax.training import State, first_choice

CAP = 5.0
RATE = 10.0  # per measurement, one per block
RUNNING_RATE = 1.0  # per measurement, one per step
RECENT = 7  # batches that are remembered
START = 0.0  # of the multiplier, before the first measurement
SMALLEST_GROUP = 10  # rows that a rate needs to be part of a gap, as a study reports it
# notions of scores, which decisions have no part in; other notions are measured on decisions
SCORED = ("auc_parity", "calibration_in_the_large", "calibration", "log_loss_parity")
# rows of a batch at whose scale running sums begin at nothing, so that they are those of the rows
NO_HEAD_START = 2**40
AT_CAP = 0.99  # share of the cap
SETTLES = 0.5  # share of the blocks after which one may deliver its parameters

# K rows, the last J of them constraints, and hyper-parameters -> what makes them one update
Combine = Callable[[int, int, PyTree], optax.GradientTransformation]
# scores [N, C] and their rows -> violations [J]
Gaps = Callable[[Array, Dataset], Array]
# scores [N, C] and their rows -> violations [J] and loss []
Measure = Callable[[Array, Dataset], tuple[Array, Array]]


class ConstraintRecord(NamedTuple):
    """What a sweep keeps of every run; ``[J]`` after every block."""

    violation: Array  # of all validation rows, at the end of the block
    multiplier: Array  # of the last step of the block


def constrained(notion: SweptNotions, *, together: str = "one", kind: str = "bounded") -> Method:
    """Minimise ``sum_t w_t L_t`` subject to a gap of at most ``tolerance``.

    The parameters descend ``sum_t w_t L_t + sum_j lambda_j C_j``, with the rows of
    :func:`fairjax.objectives.constrained`: of a notion of rates the gap of decisions at one half in
    the last eight batches, along the slope of probabilities. ``lambda_j``, at most ``cap``, rises
    while the hard gap is above the tolerance, and falls below it; see
    :func:`fairjax.gradients.multiplier`. That gap is measured at the end of every block on all
    validation rows (training rows, where a run gets no others), by the metric that a study shows.

    Parameters go to and fro about the tolerance. A run delivers those of one block of its last
    half: of the blocks that meet the tolerance on these rows the one of least loss there, else the
    one that is nearest to the tolerance.

    Hyper-parameters: ``tolerance``, in units of the gap; ``cap``; ``rate`` of the multiplier, per
    measurement; ``weight`` per task. A sweep draws tolerances. A record of the violation and of the
    multiplier is kept; :func:`verdict` reads it.

    On other rows the gap is another one: whoever needs the tolerance itself asks for less.
    ``docs/tutorials/bound.md`` has figures beside those of fairlearn's reductions.

    Args:
      notion: of the fairness losses.
      together: ``"one"`` constraint on the worst task, or one on ``"each"`` task.
      kind: of the multiplier.

    Reference:
      Hu et al., FairMT, 2025 (arXiv 2512.00469), whose text was not public: this is a design in its
      spirit. Cotter et al., JMLR 20, 2019, for two players, one with a slope and one with counts.
    """

    def combine(rows: int, constraints: int, hparams: PyTree) -> optax.GradientTransformation:
        del rows, constraints, hparams
        return sum_rows()

    return under_constraints(
        notion, "constrained", combine, together=together, kind=kind, cap=CAP, weighted=True
    )


def under_constraints(
    notion: SweptNotions,
    name: str,
    combine: Combine,
    *,
    together: str,
    kind: str,
    cap: float,
    weighted: bool = False,
    protected: Notions | None = None,
    running: bool = False,
    ranges: Mapping[str, Range] = MappingProxyType({}),
) -> Method:
    """A method whose chain is a multiplier, what combines rows, and the optimizer.

    Args:
      notion: of the constraints.
      name: of the method.
      combine: gets the rows after the multiplier.
      together: see :func:`constrained`.
      kind: of the multiplier.
      cap: its default.
      weighted: whether the tasks have weights.
      protected: of rows between losses and constraints; see ``fairjax.objectives.constrained``.
      running: whether every step takes the violation that the notion's memory holds. By default an
        event measures decisions, see :func:`reported_gaps`.
      ranges: of more hyper-parameters.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec

        def build(hparams: PyTree) -> Components:
            notions = notion_at(notion, hparams)
            weight = hparams["weight"] if weighted else jnp.ones(len(spec.tasks))
            objective = objectives.constrained(
                context.model,
                spec,
                notion=notions,
                together=together,
                weight=weight,
                protected=protected,
                running=running,
                recent=RECENT,
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
            )
            penalties = fairness_terms(spec, notions).penalties
            rows = len(objective.rows)
            constraints = constraint_count(constrained_tasks(penalties, together), together)
            link = multiplier(
                rows,
                constraints,
                tolerance=hparams["tolerance"],
                cap=hparams["cap"],
                rate=hparams["rate"],
                start=START,
                kind=kind,
                violation=new_violation,
            )
            if running and not measures_itself(penalties):
                raise ValueError(
                    f"{name}: steps measure a violation where every notion has one of its own, and "
                    "one has not: let an event measure decisions"
                )
            events, rank = (), None
            if not running:
                gaps = reported_gaps(spec, notions, together)

                def measure(scores: Array, rows: Dataset) -> tuple[Array, Array]:
                    losses = accuracy_terms(spec, predict(spec, scores), rows, "mean")
                    return gaps(scores, rows), weight @ jnp.stack(losses)

                events = (measure_violation(context.model, measure),)
                rank = Rank(excess_then_loss(hparams["tolerance"]), passed_over=SETTLES)
            aggregator = combine(rows, constraints, hparams)
            chain = optax.chain(link, aggregator, context.optimizer(hparams))
            return Components(
                context.model, objective, chain, events, record_constraints, rank=rank
            )

        weight = {"weight": weight_range(spec)} if weighted else {}
        space = {
            **weight,
            "tolerance": Range(0.05, 0.01, 0.3, log=True),
            "cap": Range(cap),
            "rate": Range(RUNNING_RATE if running else RATE),
            **ranges,
            **context.hparams,
        }
        return Recipe(name, build, space, notion=notion)

    return method


def record_constraints(state: State) -> ConstraintRecord:
    """Violations and multipliers, for ``Components.record``."""
    lam = optax.tree_utils.tree_get(state.opt_state, "multiplier")
    return ConstraintRecord(state.memory.violation, lam)


def excess_then_loss(tolerance: Array) -> Callable[[State, Splits | Dataset], Array]:
    """How far a block lies above the tolerance, then its loss, for a ``Rank``."""

    def rank(state: State, data: Splits | Dataset) -> Array:
        del data  # the event has measured
        excess = jnp.max(jax.nn.relu(state.memory.violation - tolerance))
        excess = jnp.where(jnp.isnan(excess), jnp.inf, excess)
        return jnp.stack([excess, state.memory.loss])

    return rank


def verdict(
    violation: Array, multiplier: Array, tolerance: float, cap: float, block: int = -1
) -> str:
    """What became of the constraints of one run, from its record.

    ``"met"``: in the block that delivers the parameters no violation is above the tolerance.
    ``"infeasible"``: one was above it in the whole last half of the blocks, and its multiplier is
    at the cap (within 1 %), so that more time would not help: a larger cap might. It is about this
    training, and no proof that no model of the kind could meet the tolerance. ``"not met"``: one is
    above, and its multiplier is below the cap, or it was met in a block in which another was not. A
    violation that was never measured counts as above.

    Args:
      violation: ``[blocks, J]`` of :class:`ConstraintRecord`.
      multiplier: ``[blocks, J]``.
      tolerance: of the run.
      cap: of the run.
      block: whose parameters the run delivers, of ``Trained.block`` or ``Runs.block``.
    """
    is_above = ~(np.asarray(violation) <= tolerance)  # [blocks, J], true for NaN
    is_at_cap = np.asarray(multiplier)[-1] >= AT_CAP * np.asarray(cap)
    settled = first_choice(len(is_above), SETTLES)
    stays_above = np.all(is_above[settled:], axis=0)
    if not np.any(is_above[block]):
        return "met"
    if np.any(stays_above & is_at_cap):
        return "infeasible"
    return "not met"


# ------------------------------------------------------------------------------------- measurement


def measure_violation(model: Model, measure: Measure) -> Callable[..., State]:
    """The event that measures violations and loss of all validation rows at the end of a block.

    Training rows are measured where a run has no others. A network that fits them closely has
    smaller gaps there than on other rows.

    Args:
      model: scores the rows.
      measure: see :func:`reported_gaps` for the violations.

    Returns:
      ``(key, block, state, data) -> state``, with ``memory.violation [J]`` and ``memory.loss``
      written.
    """

    def event(key: Array, block: Array, state: State, data: Splits | Dataset) -> State:
        del key, block
        rows = data.validation if isinstance(data, Splits) else data
        scores = model_scores(model, state.params, rows.x)
        violation, loss = measure(scores, rows)
        return state._replace(memory=with_measurement(state.memory, violation, loss))

    return event


def reported_gaps(
    spec: Spec,
    notion: Notions | Sequence[Penalty],
    together: str,
    thresholds: Array | None = None,
    smallest_group: float = SMALLEST_GROUP,
) -> Gaps:
    """The hard gaps by which a study shows a notion.

    A notion on the rows of a condition has the condition's metric
    (:func:`fairjax.metrics.gap_metric`). A notion on other rows, such as accuracy parity, has its
    own value: of decisions, or of probabilities where it is about scores, such as calibration. The
    violation of a task is the largest over its notions and attributes.

    Args:
      spec: names tasks and attributes.
      notion: see :func:`fairjax.objectives.fairness_terms`.
      together: ``"one"``: the largest of all tasks, ``"each"``: one of every constrained task.
      thresholds: ``[T]`` on the scores of binary tasks. Default: probability one half, which is
        also what a multiplier follows.
      smallest_group: rows that a rate needs to be part of a gap.

    Returns:
      ``(scores [N, C], rows) -> [J]``; NaN where no two groups have a rate.
    """
    penalties = fairness_terms(spec, notion).penalties
    tasks = constrained_tasks(penalties, together)
    if thresholds is None:
        thresholds = jnp.full(len(spec.tasks), fixed(0.5))

    def gaps(scores: Array, rows: Dataset) -> Array:
        measured = evaluate(spec, scores, rows, thresholds, smallest_group)
        of_task = {t: [] for t in tasks}
        for penalty in penalties:
            condition = condition_of(penalty.notion)
            if condition is None:
                own = _own_value(spec, penalty, scores, rows, thresholds)
                of_task[penalty.task].append(own)
                continue
            task = spec.tasks[penalty.task]
            for a in attributes_of(spec, penalty.notion):
                attribute = spec.attributes[a]
                name = gap_metric(condition, task.kind, attribute.continuous)
                key = Metric(name, task.name, attribute=attribute.name)
                of_task[penalty.task].append(measured[key])
        worst_t = [worst_violation(jnp.stack(of_task[t]), "one")[0] for t in tasks]
        return worst_violation(jnp.stack(worst_t), together)

    return gaps


def _own_value(
    spec: Spec, penalty: Penalty, scores: Array, rows: Dataset, thresholds: Array
) -> Array:
    """What a notion says of all rows at once: its violation where it has one, else its value."""
    predictions = predict(spec, scores)
    if penalty.notion.name not in SCORED:
        of_tasks = zip(spec.tasks, predictions.scores, thresholds, strict=True)
        decided = tuple(decisions(task, score, threshold) for task, score, threshold in of_tasks)
        predictions = Predictions(predictions.scores, decided)
    terms = fairness_terms(spec, [penalty], reduction="mean", batch_size=NO_HEAD_START)
    (value,), memory = terms.apply(predictions, rows, terms.init(rows))
    if not measures_itself([penalty]):
        return value
    return own_violations(terms, [penalty.task], memory)[0]
