"""The settings of a study, and a study by the names of the registries.

The names are those of its methods, network, notion and repairs.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fairjax import methods, models, notions, postprocess
from fairjax.core.types import DataError, Model, Range, Recipe, Spec
from fairjax.methods import Context, Method
from fairjax.study.draws import Bounds, check_value, checked_bounds, is_chosen
from fairjax.study.estimators import ESTIMATORS, Estimator
from fairjax.study.evaluation import DECISIONS
from fairjax.training import SCHEDULES, TrainConfig, schedule_of
from fairjax.training.samplers import steps_per_block

SEQUENCES = ("uniform", "sobol")
LEARNING_RATES = {"adagrad": 0.05, "adamw": 0.002}  # by optimizer


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Settings of a study, free of any method. JSON-safe.

    Args:
      runs: points per method.
      seeds: seeds per point.
      reference_seeds: seeds of the single-task runs, which ARE and ARFG divide by.
      epochs: passes over the training rows, at most.
      batch_size: rows of a minibatch.
      optimizer: ``"adagrad"``, on losses summed over the batch as in the MTA-F code, or
        ``"adamw"``.
      learning_rate: of the optimizer. Default: its own, see :data:`LEARNING_RATES`.
      weight_decay: of AdamW.
      trunk_rate: factor of the learning rate of the trunk, see
        :meth:`fairjax.methods.Context.with_trunk_rate`; below 1 for a pretrained trunk.
      schedule: of the learning rate, one of ``training.SCHEDULES``: ``"constant"``, or after the
        warm-up it falls to 0 at the last step of all ``epochs``, by a half ``"cosine"`` or in equal
        steps (``"linear"``). A run that ends early by ``patience`` ends on the way; methods that
        begin their optimizer anew (``recon``, ``tag``, ``sequential``) begin the schedule anew.
      warm_up: share of all steps in which the learning rate rises from 0, below 1.
      label_smoothing: share of every label that is spread over all classes, see
        :func:`fairjax.losses.smoothed`; of training alone, and not of regressions.
      class_balance: power of the factors of the classes' losses,
        :func:`fairjax.losses.balanced_class_weights` of the training rows: 0 none, 1 balanced; of
        training alone, and not of regressions.
      stop: whose epoch's parameters a run delivers: ``"last"``, or that of least ``"objective"``,
        ``"loss"`` or ``"error"`` on validation rows, see :func:`fairjax.methods.delivering`.
      patience: epochs without a better one after which a run ends; 0: it never ends early.
      reduction: see :mod:`fairjax.objectives.terms`.
      condition: the rows on which the gap is shown, a key of ``notions.CONDITIONS``; None: those of
        the first notion that is trained, or ``"fpr"`` where it has none of them.
      decision: how a binary task decides, one of ``study.DECISIONS``: at probability one half, at
        the threshold of least error on validation rows, at the threshold that selects the training
        base rate of validation rows, or ``"transductive"``, that of published tables, at the base
        rate of the very rows that are measured.
      smallest_group: rows that a rate of a group needs to be part of a gap.
      sequence: ``"uniform"`` for independent draws of hyper-parameters, ``"sobol"`` for a Sobol
        sequence.
      seed: of the draw, the initialisations and the order of minibatches.
      draw: hyper-parameters that are drawn, by name, with their bounds: ``(low, high)``, or ``(low,
        high, "log")`` for a log-uniform draw. ``learning_rate``, ``weight_decay``,
        ``trunk_rate``, ``dropout``, ``label_smoothing`` and ``class_balance``, and those of the
        methods, such as ``lam`` or ``tau``. A method without such a hyper-parameter ignores it, and
        so do the single-task runs, which have the setting itself. A log-uniform draw of the
        learning rate finds a good one: the run that is best on validation rows has it.
    """

    runs: int = 64
    seeds: int = 1
    reference_seeds: int = 10
    epochs: int = 30
    batch_size: int = 256
    optimizer: str = "adagrad"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    trunk_rate: float = 1.0
    schedule: str = "constant"
    warm_up: float = 0.0
    label_smoothing: float = 0.0
    class_balance: float = 0.0
    stop: str = "last"
    patience: int = 0
    reduction: str = "batch"
    condition: str | None = None
    decision: str = "half"
    smallest_group: int = 10
    sequence: str = "uniform"
    seed: int = 0
    draw: Mapping[str, Bounds] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.condition is not None and self.condition not in notions.CONDITIONS:
            allowed = ", ".join(notions.CONDITIONS)
            raise ValueError(f"condition {self.condition!r} is not one of {allowed}")
        if self.decision not in DECISIONS:
            allowed = ", ".join(DECISIONS)
            raise ValueError(f"decision {self.decision!r} is not one of {allowed}")
        choices = {
            "sequence": SEQUENCES,
            "optimizer": tuple(LEARNING_RATES),
            "stop": methods.STOPS,
            "schedule": SCHEDULES,
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} {value!r} is not one of {', '.join(allowed)}")
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.optimizer])
        if self.weight_decay and self.optimizer != "adamw":
            raise DataError(
                f"weight decay {self.weight_decay:g} is AdamW's, but the optimizer is "
                f"{self.optimizer}. Take --optimizer adamw, or leave --weight-decay out."
            )
        for name in ("trunk_rate", "label_smoothing", "class_balance", "warm_up"):
            check_value(name, getattr(self, name))
        draw = {name: checked_bounds(name, bounds) for name, bounds in self.draw.items()}
        object.__setattr__(self, "draw", draw)
        if "weight_decay" in draw and self.optimizer != "adamw":
            raise DataError(
                f"--draw weight_decay: it is AdamW's, but the optimizer is {self.optimizer}. Take "
                "--optimizer adamw, or leave it out."
            )
        if self.patience and self.stop == "last":
            raise DataError(
                f"patience {self.patience}: a run that delivers its last epoch has no better one "
                "to wait for. Choose an epoch with --stop objective, or leave --patience out."
            )

    @property
    def train_config(self) -> TrainConfig:
        """Shapes of a run."""
        return TrainConfig(self.epochs, self.batch_size, patience=self.patience)

    @property
    def reads_rows(self) -> bool:
        """Whether training rows decide about the methods: a horizon, or weights of classes."""
        return self.has_schedule or is_chosen(self, "class_balance")

    @property
    def has_schedule(self) -> bool:
        """Whether the learning rate changes during a run."""
        return self.schedule != "constant" or self.warm_up > 0

    def context(self, spec: Spec, model: Model, rows: int = 0, **fields: Any) -> Context:
        """What every method is given: the optimizer with its hyper-parameters.

        Args:
          spec: of the data.
          model: the network.
          rows: of training, from which the horizon of a schedule follows.
          fields: of :class:`fairjax.methods.Context`.
        """
        fields = {"reduction": self.reduction, **fields}
        if self.has_schedule:
            train_config = self.train_config
            steps = train_config.blocks * steps_per_block(train_config, rows)
            fields["schedule"] = schedule_of(self.schedule, steps, self.warm_up)
        if self.optimizer == "adagrad":
            context = Context.paper(spec, model, self.learning_rate, self.batch_size, **fields)
        else:
            context = Context.adamw(
                spec, model, self.learning_rate, self.batch_size, self.weight_decay, **fields
            )
        if self.trunk_rate == 1 and "trunk_rate" not in self.draw:
            return context
        return context.with_trunk_rate(self.trunk_rate)

    def for_prediction(self) -> StudyConfig:
        """The settings without those that training alone reads, and without its rows."""
        return dataclasses.replace(
            self, schedule="constant", warm_up=0.0, label_smoothing=0.0, class_balance=0.0, draw={}
        )


@dataclasses.dataclass(frozen=True)
class NamedStudy:
    """A study in names of the registries. JSON-safe.

    It is written beside the results, and any run can be made again from it.

    Args:
      methods: keys of ``methods.REGISTRY``.
      method_options: per method, keywords of its factory.
      model: a key of ``models.REGISTRY``.
      model_options: keywords of the network.
      notion: a key of ``notions.REGISTRY``.
      notion_options: keywords of the notion.
      lam_max: fairness weights are drawn from [0, this].
      fixed: hyper-parameters that are not drawn, with their values; a method without such a
        hyper-parameter ignores them.
      repairs: keys of ``postprocess.REGISTRY``.
      amounts: of repair, with which every run is evaluated once more; without amounts nothing is
        repaired.
      estimators: keys of ``study.ESTIMATORS``, which stand beside the methods.
      config: all other settings.
    """

    methods: tuple[str, ...] = ("vanilla", "baseline", "mta_f")
    method_options: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    model: str = "network"
    model_options: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"trunk": (32,), "head": (16,), "embedding": 10}
    )
    notion: str = "rate_gap"
    notion_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lam_max: float = 5.0
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    repairs: tuple[str, ...] = ("barycenter",)
    amounts: tuple[float, ...] = ()
    estimators: tuple[str, ...] = ()
    config: StudyConfig = StudyConfig(condition="fpr")

    def __post_init__(self) -> None:
        for field in ("methods", "repairs", "amounts", "estimators"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        options = {name: _hashable(value) for name, value in self.model_options.items()}
        object.__setattr__(self, "model_options", options)
        _check_names("method", self.methods, methods.REGISTRY)
        _check_names("model", (self.model,), models.REGISTRY)
        _check_names("notion", (self.notion,), notions.REGISTRY)
        _check_names("repair", self.repairs, postprocess.REGISTRY)
        _check_names("estimator", self.estimators, ESTIMATORS)
        check_amounts(self.amounts)
        both = [name for name in self.fixed if name in self.config.draw]
        if both:
            raise DataError(
                f"{both[0]} is drawn (--draw) and fixed (--{both[0]}). Leave one of them out."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for :meth:`from_json`."""
        fields = dataclasses.asdict(self)
        fields["fixed"] = {name: np.asarray(value).tolist() for name, value in self.fixed.items()}
        return fields

    @staticmethod
    def from_json(fields: dict[str, Any]) -> NamedStudy:
        """The study of :meth:`to_json`."""
        config = StudyConfig(**fields["config"])
        return NamedStudy(**{**fields, "config": config})

    def build_model(self, spec: Spec, **options: Any) -> Model:
        """The network, with other options in place of those of the study."""
        return models.build(self.model, spec, **{**self.model_options, **options})

    def conditioned_model(self, spec: Spec) -> Callable[[int], Model] | None:
        """The function from a width to the network that is told that many numbers.

        It is None where there is no such network.
        """
        is_table_network = self.model in ("network", "shared_bottom") and spec.is_table
        if not is_table_network:
            return None
        return lambda width: models.conditioned_network(spec, condition=width, **self.model_options)

    def build_methods(self, spec: Spec) -> dict[str, Method]:
        """The methods by name, with the study's ranges of hyper-parameters."""
        condition = self.config.condition or "fpr"
        notion = notions.suited(spec, self.notion, condition, **self.notion_options)
        built = {}
        for name in self.methods:
            options = self.method_options.get(name, {})
            method = methods.get(name, notion, **options)
            built[name] = _with_ranges(self, method)
        return built

    def build_estimators(self, spec: Spec) -> dict[str, Estimator]:
        """The estimators by name."""
        return {name: ESTIMATORS[name](spec) for name in self.estimators}

    def build_repairs(self, spec: Spec) -> tuple[Any, ...]:
        """The post-processors of the scores; none without amounts."""
        if not self.amounts:
            return ()
        posts = []
        for name in self.repairs:
            post = postprocess.REGISTRY[name](spec)
            posts.append(post._replace(name=name))
        return tuple(posts)


def _with_ranges(study: NamedStudy, method: Method) -> Method:
    """The method with the bound on fairness weights, and with fixed hyper-parameters."""

    def build(context):
        recipe = method(context)
        space = dict(recipe.space)
        if "lam" in space:
            space["lam"] = space["lam"]._replace(high=study.lam_max)
        for name, value in study.fixed.items():
            if name in space:
                default = _hparam(recipe, context.spec, name, value)
                space[name] = Range(default, labels=space[name].labels)
        return recipe._replace(space=space)

    return build


def point_hparams(
    recipe: Recipe, spec: Spec, values: Mapping[str, Sequence[float]]
) -> dict[str, np.ndarray]:
    """Hyper-parameters of one point: the defaults of a recipe, and the values that are given.

    Args:
      recipe: has the hyper-parameters.
      spec: names the tasks.
      values: by hyper-parameter; one number stands for all tasks.

    Returns:
      Arrays without a leading axis, float32.

    Raises:
      DataError: the recipe has no such hyper-parameter, or it takes another count of numbers.
    """
    hparams = {name: np.float32(interval.default) for name, interval in recipe.space.items()}
    for name, numbers in values.items():
        hparams[name] = _hparam(recipe, spec, name, numbers)
    return hparams


def _hparam(recipe: Recipe, spec: Spec, name: str, numbers: Any) -> np.ndarray:
    """Numbers in the shape of a hyper-parameter."""
    if name not in recipe.space:
        names = ", ".join(recipe.space)
        raise DataError(
            f"--{name}: {recipe.name} has no such hyper-parameter among {names}. "
            "Leave it out, or choose another method."
        )
    interval = recipe.space[name]
    shape = np.shape(interval.default)
    size = int(np.prod(shape))
    flat = np.float32(numbers).reshape(-1)
    if flat.size not in (1, size):
        labels = interval.labels or tuple(task.name for task in spec.tasks)
        entries = ""
        if len(labels) == size:
            entries = f" ({', '.join(labels)})"
        raise DataError(
            f"--{name}: {recipe.name} takes {size} numbers{entries}, but {flat.size} are given. "
            f"Give {size}, or one for all."
        )
    return np.broadcast_to(flat, size).reshape(shape)


def _check_names(role: str, names: tuple[str, ...], registry: Mapping[str, Any]) -> None:
    for name in names:
        if name not in registry:
            allowed = ", ".join(registry)
            raise DataError(f"{role} {name!r} is not one of {allowed}")


def _hashable(value):
    if isinstance(value, list):
        return tuple(value)
    return value


def check_amounts(amounts: tuple[float, ...]) -> None:
    """Refuse amounts of repair outside [0, 1]."""
    if not all(0 <= amount <= 1 for amount in amounts):
        raise DataError(
            f"repair {amounts} must be amounts from 0 (scores as they are) to 1 (no "
            "difference between groups)"
        )


# settings of the MTA-F code per data set, with the paper's fairness loss and embedding width; the
# frontiers of the made-up data dominate as much after 10 epochs as after 30
PAPER: dict[str, dict[str, Any]] = {
    "synthetic": {"epochs": 10},
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


def table_settings(rows: int, epochs: int | None = None, batch_size: int = 256) -> dict[str, Any]:
    """Settings of a network for a table, chosen by measurement against boosted trees.

    An epoch has ``s = ceil(rows / batch_size)`` steps. In all a run decays its weights as much as
    one of 336 steps by .1. One of fewer than 80 steps decays them less: by .42 at most, that of the
    smallest table that was measured.

    Args:
      rows: of training.
      epochs: default those of 336 steps, but 12 at least and 40 at most.
      batch_size: rows of a step.

    Returns:
      Settings for :func:`named_study`.

    Source: experiments/benchmark_tables.py.
    """
    steps = -(-rows // batch_size)
    epochs = epochs or min(max(round(336 / steps), 12), 40)
    return {
        "model": "ensemble",
        "trunk": (64, 32),
        "head": (),
        "number_encoding": "piecewise_linear",
        "optimizer": "adamw",
        "learning_rate": 0.03,
        "weight_decay": min(float(f"{0.1 * 336 / (epochs * steps):.2g}"), 0.42),
        "schedule": "cosine",
        "warm_up": 0.1,
        "stop": "objective",
        "epochs": epochs,
        "batch_size": batch_size,
    }


def named_study(**settings: Any) -> NamedStudy:
    """A named study from one flat set of settings.

    The settings are those of the study, of its config, and the widths, dropout and encoding of the
    network. Without a learning rate it is the optimizer's own, see :data:`LEARNING_RATES`.

    Raises:
      DataError: a name is in no registry, the network has no such option, or the dropout is outside
        [0, 1).

    Example:
      >>> named_study(methods=("baseline",), epochs=5, trunk=(8,)).config.epochs
      5
    """
    config_names = {field.name for field in dataclasses.fields(StudyConfig)}
    study_names = {field.name for field in dataclasses.fields(NamedStudy)}
    network_names = {"trunk", "head", "embedding", "dropout", "number_encoding"}
    unknown = set(settings) - config_names - study_names - network_names
    if unknown:
        raise ValueError(f"a study has no settings {', '.join(sorted(unknown))}")
    config_fields = _chosen(settings, config_names)
    if "optimizer" in config_fields:
        config_fields.setdefault("learning_rate", None)  # not that of another optimizer
    fields = _chosen(settings, study_names)
    network = _chosen(settings, network_names)
    models.check_dropout(network.get("dropout", 0.0))
    defaults = NamedStudy()
    model = fields.get("model", defaults.model)
    options = fields.pop("model_options", {})
    config = fields.pop("config", defaults.config)
    return NamedStudy(
        **fields,
        model_options=_network_options(model, {**options, **network}),
        config=dataclasses.replace(config, **config_fields),
    )


def _chosen(settings: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """The settings with these names."""
    return {name: value for name, value in settings.items() if name in names}


def _network_options(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network, with the default widths where it takes them."""
    _check_names("model", (model,), models.REGISTRY)
    defaults = NamedStudy().model_options
    parameters = inspect.signature(models.REGISTRY[model]).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return {**defaults, **options}
    unknown = [name for name in options if name not in parameters]
    if unknown:
        raise DataError(
            f"model {model!r} takes no {', '.join(unknown)}. "
            f"Leave out {len(unknown)} options, or choose another model."
        )
    return _chosen(defaults, set(parameters)) | {**options}
