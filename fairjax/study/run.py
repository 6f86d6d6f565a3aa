"""Several methods on one data set: every run of every method, and one tidy table of them.

Every method gets the same number of points, drawn from its own hyper-parameters with the same seed,
and the same seeds. The single-task runs, which ARE and ARFG divide by, come first: an interrupted
study then lacks only points.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.tables import Table
from fairjax.core.types import (
    Array,
    Columns,
    DataError,
    Dataset,
    Device,
    Images,
    Model,
    Post,
    PyTree,
    Recipe,
    Sentences,
    Spec,
    Splits,
)
from fairjax.data import Prepared
from fairjax.methods import Method, delivering, runs_for, vanilla
from fairjax.metrics import condition_of
from fairjax.models import scores as model_scores
from fairjax.notions import Notion
from fairjax.objectives import Penalty
from fairjax.study._resampled import resampler
from fairjax.study.branching import branching_of
from fairjax.study.config import NamedStudy, StudyConfig, check_amounts
from fairjax.study.constraints import constraints_of
from fairjax.study.draws import (
    balanced_weights,
    check_classes,
    check_drawn,
    drawn,
    with_settings,
)
from fairjax.study.estimators import (
    Estimator,
    check_estimators,
    estimated_scores,
    identity_of,
    library_versions,
)
from fairjax.study.evaluation import Scores, evaluator, thresholds_of, validates_on_test
from fairjax.study.progress import ProgressBars
from fairjax.study.references import references_of
from fairjax.study.table import assemble
from fairjax.training import (
    Compiler,
    Part,
    Program,
    Runs,
    chunk_of,
    draw,
    grid,
    members_of,
    on_devices,
    scored,
    start_size,
    sweep,
    sweep_scores,
    unpadded,
)

REFERENCE = "single_task"  # in the table of runs: one network per task
AHEAD = 3  # methods whose programs are compiled while another one trains


@dataclasses.dataclass(frozen=True)
class Study:
    """The methods, the settings and the repairs of a study of one data set.

    :func:`make_study` makes one from objects, :func:`from_names` from a :class:`NamedStudy`.
    """

    spec: Spec
    recipes: Mapping[str, Recipe]  # by the name of the method, the reference among them
    repairs: tuple[Post, ...]
    amounts: tuple[float, ...]
    config: StudyConfig
    condition: str  # the rows on which the gap is shown
    notion: str  # what the methods train for
    names: NamedStudy | None = None  # where all objects come from the registries
    estimators: Mapping[str, Estimator] = dataclasses.field(default_factory=dict)  # by name

    def recipe(self, method: str) -> Recipe:
        """The recipe of a method.

        Raises:
          DataError: it is an estimator from outside, which has none.
        """
        if method in self.estimators:
            raise DataError(
                f"{method} is an estimator from outside: its runs have scores, and no model that "
                "could be trained or saved. Fit it yourself, and repair its scores with "
                "fairjax.Repair or 'fairjax repair'."
            )
        return self.recipes[method]

    def points(self, method: str) -> tuple[dict[str, np.ndarray], list[int]]:
        """Hyper-parameters ``[L, ...]``, of an estimator none, and seeds of a method."""
        config = self.config
        if method in self.estimators:
            return {}, list(range(config.seeds))
        space = self.recipes[method].space
        if method == REFERENCE:
            corners = {"weight": np.eye(len(self.spec.tasks))}
            points = grid(space, corners)
            seeds = range(config.reference_seeds)
        else:
            points = draw(space, config.runs, config.seed, sequence=config.sequence)
            seeds = range(config.seeds)
        return points, list(seeds)

    def _repr_html_(self) -> str:
        """The methods with their hyper-parameters, for a notebook."""
        rows = []
        for method, recipe in self.recipes.items():
            space = ", ".join(recipe.space)
            rows.append(f"<tr><th>{escape(method)}</th><td>{escape(space)}</td></tr>")
        for name in self.estimators:
            rows.append(f"<tr><th>{escape(name)}</th><td></td></tr>")
        head = "<tr><th>method</th><th>hyper-parameters</th></tr>"
        return f"<table>{head}{''.join(rows)}</table>"

    @cached_property
    def evaluate(self) -> Callable[..., Any]:
        """Metrics of a run, see :func:`fairjax.study.evaluation.evaluator`."""
        return evaluator(self.spec, self.config, self.repairs, self.amounts)

    @cached_property
    def deployed(self) -> StudyConfig:
        """The settings by which a saved model decides.

        No model can decide transductively for new rows: it has the base rate of validation rows.
        """
        if self.config.decision == "transductive":
            return dataclasses.replace(self.config, decision="base_rate")
        return self.config

    @cached_property
    def scored(self) -> Callable[..., Any]:
        """From a model, several parameters and inputs by name to scores; compiled once."""

        @partial(jax.jit, static_argnums=0)
        def scored(model: Model, copies: PyTree, inputs: Mapping[str, PyTree]) -> Scores:
            def of_one(params: PyTree) -> Scores:
                return {name: model_scores(model, params, x) for name, x in inputs.items()}

            return jax.vmap(of_one)(copies)

        return scored

    @cached_property
    def thresholds(self) -> Callable[..., Any]:
        """From scores of one model to the thresholds ``[T]`` of its decisions; compiled once."""

        @jax.jit
        def thresholds(scores: Scores, splits: Splits) -> Array:
            found = thresholds_of(self.spec, self.deployed.decision, scores, splits)
            return found["validation"]

        return thresholds

    @cached_property
    def measured(self) -> Callable[..., Any]:
        """From scores of one model to the metrics of its decisions; compiled once."""
        evaluate = evaluator(self.spec, self.deployed)

        @jax.jit
        def measured(scores: Scores, splits: Splits) -> dict[str, Any]:
            return evaluate(scores, splits)["plain"]

        return measured

    @cached_property
    def resampled(self) -> jax.stages.Wrapped:
        """From scores ``[N, C]`` and thresholds ``[T]`` of rows to errors and gaps with intervals.

        Compiled once, or before it is called, by :meth:`compile_resampled`.
        """
        return jax.jit(resampler(self))

    def compile_resampled(self, rows: Dataset) -> None:
        """Compile what :func:`candidates` asks of such rows."""
        width = sum(task.score_width for task in self.spec.tasks)
        scores = jax.ShapeDtypeStruct((len(rows.weight), width), jnp.float32)
        thresholds = jax.ShapeDtypeStruct((len(self.spec.tasks),), jnp.float32)
        self.resampled.lower(scores, thresholds, rows).compile()


@dataclasses.dataclass(frozen=True)
class Results:
    """A study with its runs: a tidy table has a row per run.

    ``info`` holds what a report needs to know. It is JSON-safe.
    """

    study: Study
    table: Table
    info: dict[str, Any]
    # by method, leaves [members, ...]; absent where they were not kept or are on disk alone
    params: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
    sweeps: Path | None = None  # folder of the methods' sweeps, with what they kept
    # of estimators, by name and split [members, N, C]; absent where they are on disk
    scores: Mapping[str, Scores] = dataclasses.field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Warnings, then the table, for a notebook."""
        warnings = "".join(
            f"<p><b>{escape(text)}</b></p>" for text in self.info.get("warnings", ())
        )
        return warnings + self.table._repr_html_()


def make_study(
    data: Prepared | Spec,
    methods: Sequence[Method] | Mapping[str, Method],
    *,
    model: Model | Callable[[Spec], Model],
    repairs: Sequence[Post | Callable[[Spec], Post]] = (),
    amounts: Sequence[float] = (1.0,),
    config: StudyConfig | None = None,
    conditioned: Callable[[int], Model] | None = None,
    names: NamedStudy | None = None,
    estimators: Mapping[str, Estimator] | None = None,
) -> Study:
    """A study from objects.

    Args:
      data: the data, or its spec.
      methods: the methods to compare, of :mod:`fairjax.methods` or one's own
        ``Context -> Recipe``. A mapping gives them other names than their recipes have.
      model: the network, or a function of the spec that gives it; to draw dropout, one that takes
        ``dropout=`` too.
      repairs: post-processors of the scores, each a ``Post`` or a function of the spec that gives
        one, such as ``fairjax.postprocess.model_barycenter``.
      amounts: of repair, from 0 (scores as they are) to 1.
      config: all other settings.
      conditioned: from a width W to the network that gets W numbers, for methods such as ``yoto``.
        Default: the representation of ``model`` is modulated.
      names: where the objects come from the registries.
      estimators: by name, classifiers and regressors from outside: from a task of one label column
        and a seed to an object with scikit-learn's ``fit`` and ``predict_proba``, or, for a
        regression, ``predict``; see :func:`fairjax.study.estimators.estimated_scores`. Each has one
        point, and the seeds from ``config.seed`` on.

    Raises:
      ValueError: two methods or two repairs have one name, or an amount is outside [0, 1].
      DataError: epochs are to be chosen on validation rows, and these are the test rows; an
        estimator is no function, or the data are no table; a repair chooses the decisions, and
        ``config.decision`` is not ``"half"``; ``config.draw`` names a hyper-parameter that no
        method can draw; or settings are about classes, and no task has any.
    """
    if isinstance(data, Spec):
        spec = data
        inputs = _inputs(spec)
    else:
        spec = data.spec
        inputs = _shapes(data.splits.train.x)
    config = config or StudyConfig()
    if not isinstance(data, Spec):
        _refuse_test_rows(data.splits, config.stop)
    check_amounts(tuple(amounts))
    estimators = dict(estimators or {})
    check_estimators(spec, estimators)
    check_classes(spec, config)
    train = _training_rows(data, config)
    network = model if isinstance(model, Model) else model(spec)
    count = 0 if train is None else len(train.weight)
    class_weights = balanced_weights(config, spec, train)
    context = config.context(spec, network, count, inputs=inputs, conditioned=conditioned)
    dropout = _own_dropout(model, names) if "dropout" in config.draw else 0.0

    def network_at(dropout: Array) -> Model:
        return model(spec, dropout=dropout)

    def recipe_of(method: Method) -> Recipe:
        method = delivering(method, config.stop)
        method = with_settings(method, config, class_weights, network_at, dropout)
        return drawn(method(context), config.draw)

    recipes = {REFERENCE: recipe_of(vanilla())}
    if isinstance(methods, Mapping):
        built = [recipe_of(method)._replace(name=name) for name, method in methods.items()]
    else:
        built = [recipe_of(method) for method in methods]
    for recipe in built:
        if recipe.name in recipes:
            raise ValueError(
                f"two methods are called {recipe.name!r}. Give the methods as a dict of names, for "
                f"example {{{recipe.name + ' a'!r}: ..., {recipe.name + ' b'!r}: ...}}"
            )
        recipes[recipe.name] = recipe
    check_drawn(built or list(recipes.values()), config.draw)
    taken = [name for name in estimators if name in recipes]
    if taken:
        raise ValueError(f"a method and an estimator are called {taken[0]!r}; rename the estimator")
    posts = tuple(post if isinstance(post, Post) else post(spec) for post in repairs)
    post_names = [post.name for post in posts]
    if len(set(post_names)) < len(posts):
        raise ValueError(
            f"repairs are called {', '.join(post_names)}; give each its own name: "
            "post._replace(name=...)"
        )
    _refuse_rule(posts, config.decision)
    return Study(
        spec=spec,
        recipes=recipes,
        repairs=posts,
        amounts=tuple(amounts) if posts else (),
        config=config,
        condition=config.condition or _condition(built),
        notion=_notion_names(built),
        names=names,
        estimators=estimators,
    )


def from_names(data: Prepared | Spec, names: NamedStudy) -> Study:
    """The study whose objects the registries have under these names."""
    spec = data if isinstance(data, Spec) else data.spec
    return make_study(
        data,
        names.build_methods(spec),
        model=names.build_model,
        repairs=names.build_repairs(spec),
        amounts=names.amounts,
        config=names.config,
        conditioned=names.conditioned_model(spec),
        names=names,
        estimators=names.build_estimators(spec),
    )


def run_study(
    data: Prepared,
    methods: Sequence[Method] | Mapping[str, Method] | None = None,
    *,
    study: Study | None = None,
    out: Path | None = None,
    keep: tuple[str, ...] = ("params",),
    progress: bool | Callable[[str, int, int], None] | None = None,
    row_devices: int = 1,
    **objects: Any,
) -> Results:
    """Train and evaluate every run of a study.

    Args:
      data: the data.
      methods: see :func:`make_study`, which takes this and ``objects``; or None, with ``study``.
      study: a study that was made before.
      out: folder for finished chunks (under ``sweeps/``); a study found there goes on.
      keep: ``"params"`` (with them a run's model is the one that was evaluated) and ``"scores"``;
        kept in the chunk files, or, of parameters without ``out``, in memory.
      progress: called with the method, members done, and members in all. True: a progress bar per
        method. Default: True where tqdm is installed.
      row_devices: devices that share the rows of a run, see :func:`fairjax.training.sweep`. More
        than this process has are those of all processes of ``jax.distributed``.
      objects: ``model``, ``repairs``, ``amounts``, ``config`` and ``estimators`` of
        :func:`make_study`.

    Returns:
      The table of runs, and what a report needs to know.

    Raises:
      DataError: ``out`` holds another study, or an estimator cannot be fitted; see
        :mod:`fairjax.study.estimators`.
    """
    if study is None:
        study = make_study(data, methods, **objects)
    identities = {  # an object that is no estimator is refused before anything is trained
        name: identity_of(study.spec, name, estimator, study.config.seed)
        for name, estimator in study.estimators.items()
    }
    with _shown(progress) as advance:
        with contextlib.closing(Programs(study, keep, row_devices)) as programs:
            runs = _run_methods(study, data.splits, out, programs, advance)
        measure = scored(study.evaluate)
        for name, identity in identities.items():
            folder = out / "sweeps" / name if out else None
            runs[name] = _run_estimator(study, identity, data.splits, measure, folder, advance)
    table, info = assemble(study, runs, REFERENCE)
    info |= references_of(data, study, table, info)
    branching = branching_of(runs)
    if branching:
        info["branching"] = branching
    constraints = constraints_of(runs)
    if constraints:
        info["constraints"] = constraints
    if study.estimators:
        info["versions"] |= library_versions()
    if out:
        return Results(study, table, info, sweeps=out / "sweeps")
    params = {method: runs[method].params for method in study.recipes}
    scores = {name: runs[name].scores for name in study.estimators}
    return Results(study, table, info, params, scores=scores)


def run_part(
    part: Part,
    data: Prepared,
    study: Study,
    *,
    out: Path,
    keep: tuple[str, ...] = ("params",),
    progress: bool | Callable[[str, int, int], None] | None = None,
    programs: Programs | None = None,
    row_devices: int = 1,
) -> int:
    """Train and evaluate one process's part of the runs; :func:`run_study` in ``out`` has the rest.

    Estimators from outside are left to it.

    Args:
      part: of this process, of as many as share ``out``; each with as many devices.
      data: see :func:`run_study`, as all that follow.
      study: the study.
      out: the folder.
      keep: what the runs leave behind.
      progress: see :func:`run_study`; of the runs of this part.
      programs: of the study, with ``keep`` and ``row_devices``, where one process trains several
        parts.
      row_devices: see :func:`run_study`.

    Returns:
      The number of runs in this part.

    Raises:
      DataError: ``out`` holds another study.
    """
    programs = programs or Programs(study, keep, row_devices)
    with _shown(progress) as advance:
        runs = _run_methods(study, data.splits, out, programs, advance, part)
    return sum(len(of_method.point) for of_method in runs.values())


def _run_methods(
    study: Study,
    splits: Splits,
    out: Path | None,
    programs: Programs,
    progress: Callable[[str, int, int], None] | None,
    part: Part | None = None,
) -> dict[str, Runs]:
    """The runs of every method, or those of a part."""
    placed = on_devices(splits, programs.devices, programs.row_devices)
    folders = {method: out / "sweeps" / method if out else None for method in study.recipes}
    methods = list(study.recipes)
    runs = {}
    begun = set()
    for i, method in enumerate(methods):
        for later in methods[i : i + 1 + AHEAD]:
            folder = folders[later]
            is_stored = part is None and folder is not None and folder.exists()
            if later not in begun and not is_stored:
                programs.begin(later, placed)
            begun.add(later)
        runs[method] = _run_method(study, method, placed, programs, folders[method], progress, part)
    return runs


def _refuse_test_rows(splits: Splits, stop: str) -> None:
    """Refuse a choice of epochs on the rows that are to test them."""
    if stop != "last" and validates_on_test(splits):
        count = len(splits.test.weight)
        raise DataError(
            f"--stop {stop} chooses an epoch on validation rows, but the {count:,} validation rows "
            "are the test rows. Leave a share to validate (--fractions 0.6,0.2,0.2, or rows called "
            "validation in the split column), or take --stop last."
        )


def _training_rows(data: Prepared | Spec, config: StudyConfig) -> Dataset | None:
    """The training rows; None of a spec alone, whose settings must not read them."""
    if not isinstance(data, Spec):
        return data.splits.train
    if config.reads_rows:
        raise ValueError(
            "a schedule's horizon and the weights of classes follow from the training rows: give "
            "make_study the data in place of their spec"
        )
    return None


def _own_dropout(model: Model | Callable[..., Any], names: NamedStudy | None) -> float:
    """The dropout that a network has where none is drawn.

    Raises:
      DataError: the network is an object, or a function that takes no dropout.
    """
    if names is not None:
        return names.model_options.get("dropout", 0.0)
    parameters = {} if isinstance(model, Model) else inspect.signature(model).parameters
    if "dropout" not in parameters:
        raise DataError(
            "--draw dropout: the network is built once, with 1 rate. Give it as a function "
            "(spec, dropout=0.0) -> Model, such as fairjax.shared_bottom, or do not draw dropout."
        )
    own = parameters["dropout"].default
    return 0.0 if own is inspect.Parameter.empty else own


def _refuse_rule(posts: Sequence[Post], decision: str) -> None:
    """Refuse a rule of decisions beside repairs that choose the decisions."""
    deciding = [post.name for post in posts if post.labelled]
    if deciding and decision != "half":
        raise DataError(
            f"--decision {decision} beside {len(deciding)} repairs that choose the thresholds "
            f"themselves ({', '.join(deciding)}). Take --decision half, or another --postprocess."
        )


@contextlib.contextmanager
def _shown(progress: bool | Callable[..., Any] | None) -> Iterator[Callable[..., Any] | None]:
    """The function that shows progress."""
    if progress is None:
        progress = importlib.util.find_spec("tqdm") is not None
    if callable(progress) or not progress:
        yield progress or None
        return
    with contextlib.closing(ProgressBars()) as bars:
        yield bars.advance


class Programs:
    """Programs by method; the reference and vanilla share one, and all of them a measure."""

    def __init__(self, study: Study, keep: tuple[str, ...], row_devices: int = 1) -> None:
        is_local = row_devices <= jax.local_device_count()
        self.devices: list[Device] = jax.local_devices() if is_local else jax.devices()
        self.row_devices = row_devices
        self._member_devices = self.devices[::row_devices]
        self.keep = keep
        self._study = study
        self._compiler = Compiler()
        self._programs: dict[str, Program] = {}
        runs = study.config.runs * study.config.seeds
        self._measured = start_size(runs, self._member_devices) * len(self._member_devices)
        self._shared = [
            name
            for name, recipe in study.recipes.items()
            if name == REFERENCE or recipe.name == "vanilla"
        ]

    def program(self, method: str) -> Program:
        """The program of a method's sweep."""
        key = REFERENCE if method in self._shared else method
        if key not in self._programs:
            self._programs[key] = Program(
                self._study.recipes[method],
                self._study.config.train_config,
                self._study.evaluate,
                self.keep,
                devices=self.devices,
                compiler=self._compiler,
                measured=self._measured,
                row_devices=self.row_devices,
            )
        return self._programs[key]

    def begin(self, method: str, splits: Splits) -> None:
        """Begin to compile the program of a method, and return at once."""
        if self._study.recipes[method].told:
            return
        hparams, seeds = self._study.points(method)
        point, seed = members_of(hparams, seeds)
        chunk = self.chunk(method) or start_size(len(point), self._member_devices)
        size = chunk * len(self._member_devices)
        root = self._study.config.seed
        first = chunk_of(hparams, point, seed, root, 0, size)
        self.program(method).begin(*first, splits)

    def close(self) -> None:
        """Compile nothing more."""
        self._compiler.close()

    def chunk(self, method: str) -> int | None:
        """Members per device and call where a program is shared; None lets the sweep choose."""
        if method not in self._shared or len(self._shared) < 2:
            return None
        largest = max(_count(*self._study.points(name)) for name in self._shared)
        return start_size(largest, self._member_devices)


def _run_method(
    study: Study,
    method: str,
    splits: Splits,
    programs: Programs,
    folder: Path | None,
    progress: Callable[[str, int, int], None] | None,
    part: Part | None,
) -> Runs:
    recipe = study.recipes[method]
    hparams, seeds = study.points(method)
    train_config = study.config.train_config
    options = {
        "root": study.config.seed,
        "out": folder,
        "devices": programs.devices,
        "part": part,
        "row_devices": programs.row_devices,
    }
    if recipe.told:
        # one network per seed is trained, and asked for every point
        trained_at = {name: array[:1] for name, array in hparams.items()}
        count = _counter(progress, method, len(seeds))
        trained = sweep(
            recipe,
            train_config,
            trained_at,
            seeds,
            splits,
            study.evaluate,
            keep=("params",),
            progress=count,
            **options,
        )
        if part is not None:
            return trained
        runs = runs_for(recipe, trained, hparams, unpadded(splits), study.evaluate)
        return runs._replace(params=trained.params)
    return sweep(
        recipe,
        train_config,
        hparams,
        seeds,
        splits,
        study.evaluate,
        keep=programs.keep,
        progress=_counter(progress, method, _count(hparams, seeds)),
        program=programs.program(method),
        chunk=programs.chunk(method),
        on_disk=folder is not None,
        **options,
    )


def _run_estimator(
    study: Study,
    identity: dict[str, Any],
    splits: Splits,
    program: Callable[..., Any],
    folder: Path | None,
    progress: Callable[[str, int, int], None] | None,
) -> Runs:
    name = identity["estimator"]
    _, seeds = study.points(name)

    def scores_of(seed: int) -> Scores:
        estimator = study.estimators[name]
        return estimated_scores(study.spec, splits, name, estimator, study.config.seed + seed)

    return sweep_scores(
        scores_of,
        identity,
        seeds,
        splits,
        sum(task.score_width for task in study.spec.tasks),
        program,
        out=folder,
        progress=_counter(progress, name, len(seeds)),
    )


def _count(hparams: dict[str, np.ndarray], seeds: list[int]) -> int:
    first_column = next(iter(hparams.values()))
    return len(first_column) * len(seeds)


def _counter(progress: Callable[..., Any] | None, method: str, total: int) -> Callable[[int], None]:
    """From counts of finished members to calls of ``progress`` with their sum.

    The first call says 0.
    """
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished
        finished += count
        if progress:
            progress(method, finished, total)

    advance(0)
    return advance


def _shapes(x: PyTree) -> PyTree:
    """Shapes of one row of features."""

    def row_shape(leaf: Array) -> jax.ShapeDtypeStruct:
        _, *widths = np.shape(leaf)
        return jax.ShapeDtypeStruct((1, *widths), leaf.dtype)

    return jax.tree.map(row_shape, x)


def _inputs(spec: Spec) -> PyTree:
    """Shapes of one row of features of a spec."""
    if spec.vocab_size:
        return Sentences(jax.ShapeDtypeStruct((1, 8), jnp.int32))
    if spec.image_shape:
        return Images(jax.ShapeDtypeStruct((1, *spec.image_shape, 3), jnp.uint8))
    return Columns(
        jax.ShapeDtypeStruct((1, len(spec.numeric)), jnp.float32),
        jax.ShapeDtypeStruct((1, len(spec.categorical)), jnp.int32),
    )


def _condition(recipes: Sequence[Recipe]) -> str:
    """The first condition that has the rows of a trained notion, else that of false positives."""
    for recipe in recipes:
        for notion in _notions(recipe.notion):
            name = condition_of(notion)
            if name:
                return name
    return "fpr"


def _notion_names(recipes: Sequence[Recipe]) -> str:
    """Names of the trained notions; empty where no method trains one."""
    notions = [notion for recipe in recipes for notion in _notions(recipe.notion)]
    return ", ".join(dict.fromkeys(notion.name for notion in notions))


def _notions(entry: Any) -> list[Notion]:
    """All notions of what a recipe says of its fairness losses."""
    if isinstance(entry, Notion):
        return [entry]
    if isinstance(entry, Penalty):
        return [entry.notion]
    if isinstance(entry, list | tuple):
        return [notion for part in entry for notion in _notions(part)]
    return []
