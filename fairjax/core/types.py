"""The types of fairjax: what flows between its rooms, and in which shapes.

``N`` rows, ``B`` batch, ``T`` tasks, ``Y`` label columns, ``C`` score columns, ``G`` groups,
``K`` gradient rows.

One pattern: an object with state is a named pair of pure functions. Closures hold the
configuration. What a sweep may map is an argument. NamedTuples hold arrays (traced); frozen
dataclasses hold names and widths (static).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax

Array = jax.Array
PyTree = Any
Values = TypeVar("Values", Array, np.ndarray)  # in, and of the same kind out
Device = Any  # jax.Device, a compiled class that type checkers cannot see
KeyPath = tuple[Any, ...]  # of a leaf, as jax.tree_util gives it

KINDS = ("binary", "multiclass", "multilabel", "regression")
REGRESSION_LOSSES = ("squared_error", "ccc")


class DataError(ValueError):
    """An error in the data. The message names file, column and count, and says what to do."""


class Columns(NamedTuple):
    """Features of a table: ``x`` of a :class:`Dataset` that was read from columns."""

    numeric: Array  # [N, P] float32, standardised
    # [N, Q] int32, level index per categorical column; -1 is a level unseen in training
    codes: Array


class Sentences(NamedTuple):
    """Texts as token ids: ``x`` of a :class:`Dataset` that was read from a column of tokens."""

    tokens: Array  # [N, L] int32, 0 is padding


class Images(NamedTuple):
    """Colour images of one size: ``x`` of a :class:`Dataset` that was read from images.

    They stay whole numbers until the network reads them, because floats take four times the memory.
    """

    pixels: Array  # [N, H, W, 3] uint8


class Dataset(NamedTuple):
    """Rows of data. All fields are traced arrays.

    A jitted function takes a Dataset as an argument and never closes over it. A missing label has
    ``label_mask`` 0. Missing demographics have a block of zeros in ``groups``. Padding has
    ``weight`` 0.
    """

    # any pytree of arrays with leading N; Columns for tables, Sentences for texts, Images
    x: PyTree
    # [N, Y] float32: 0 or 1, a class index, or a number; any value, NaN too, where the mask is 0
    labels: Array
    label_mask: Array  # [N, Y] float32, 1 where the label is known
    # [N, G] float32 membership, all attributes side by side; a number has the columns known, value
    groups: Array
    weight: Array  # [N] float32


class Splits(NamedTuple):
    """Three data sets with one spec."""

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclasses.dataclass(frozen=True)
class Task:
    """One target to predict.

    ``levels`` are class names (multiclass), column names (multilabel), output names (a regression
    of several numbers), or what the labels 0 and 1 of a binary task mean, where that is known.

    Labels and scores of a regression are standardised, ``(value - mean) / deviation``; metrics and
    predictions are in the units of the value. With ``levels``, mean and deviation have one entry
    per output. ``loss`` is that of a regression: the squared error, or one minus the concordance of
    a batch (``"ccc"``).
    """

    name: str
    kind: str = "binary"
    levels: tuple[str, ...] = ()
    mean: float | tuple[float, ...] = 0.0
    deviation: float | tuple[float, ...] = 1.0
    loss: str = "squared_error"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"task {self.name!r}: kind {self.kind!r} is not one of {', '.join(KINDS)}"
            )
        if self.loss not in REGRESSION_LOSSES:
            raise ValueError(
                f"task {self.name!r}: loss {self.loss!r} is not one of "
                f"{', '.join(REGRESSION_LOSSES)}"
            )
        if self.loss != "squared_error" and self.kind != "regression":
            raise ValueError(
                f"task {self.name!r}: loss {self.loss!r} is for regressions, but its kind is "
                f"{self.kind}. Leave it out"
            )
        for moment in (self.mean, self.deviation):
            if isinstance(moment, tuple) and len(moment) != len(self.levels):
                raise ValueError(
                    f"task {self.name!r}: {len(moment)} means or deviations for "
                    f"{len(self.levels)} outputs. Give one per output"
                )

    def in_units(self, standardised: Values) -> Values:
        """Labels or scores of a regression in its column's units; other kinds are unchanged.

        Outputs of a regression of several numbers are the last axis.
        """
        mean = _along(standardised, self.mean)
        return mean + _along(standardised, self.deviation) * standardised

    def standardised(self, value: Values) -> Values:
        """The inverse of :meth:`in_units`."""
        return (value - _along(value, self.mean)) / _along(value, self.deviation)

    @property
    def columns(self) -> tuple[Task, ...]:
        """A task of one label per label column, named ``name=level``; other tasks are themselves.

        Labels become binary tasks, outputs become regressions of one number.
        """
        if self.kind == "multilabel":
            return tuple(Task(f"{self.name}={level}") for level in self.levels)
        if not self.is_vector:
            return (self,)
        means = np.broadcast_to(self.mean, len(self.levels)).tolist()
        deviations = np.broadcast_to(self.deviation, len(self.levels)).tolist()
        return tuple(
            Task(f"{self.name}={level}", "regression", (), mean, deviation, self.loss)
            for level, mean, deviation in zip(self.levels, means, deviations, strict=True)
        )

    @property
    def is_vector(self) -> bool:
        """Whether it is a regression of named outputs."""
        return self.kind == "regression" and bool(self.levels)

    @property
    def positive(self) -> str:
        """What label 1 of a binary task means; empty where it is unknown."""
        return self.levels[1] if self.kind == "binary" and self.levels else ""

    @property
    def label_width(self) -> int:
        """Number of label columns: one per label or output, else one."""
        return len(self.levels) if self.kind == "multilabel" or self.is_vector else 1

    @property
    def score_width(self) -> int:
        """Number of score columns: one per class, label or output, else one."""
        return len(self.levels) if self.kind == "multiclass" else self.label_width


def _along(values: Values, moment: float | tuple[float, ...]) -> Any:
    """A mean or deviation of one number as it is, those of outputs along the last axis."""
    if not isinstance(moment, tuple):
        return moment
    return np.asarray(moment, np.float32).reshape((1,) * (np.ndim(values) - 1) + (-1,))


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A sensitive attribute: one block of ``groups`` with a column per level.

    An attribute that is a number has no levels. Its block has two columns,
    ``(known, value * known)``, with the value standardised. A row whose value is unknown is a block
    of zeros here too.
    """

    name: str
    levels: tuple[str, ...]
    continuous: bool = False
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the block's columns: ``name=level``.

        For a number: ``name known`` and ``name value``.
        """
        if self.continuous:
            return f"{self.name} known", f"{self.name} value"
        return tuple(f"{self.name}={level}" for level in self.levels)

    @property
    def width(self) -> int:
        """Number of columns of the block."""
        return len(self.columns)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What the columns of a :class:`Dataset` mean. Static and hashable."""

    tasks: tuple[Task, ...]
    attributes: tuple[Attribute, ...]
    numeric: tuple[str, ...] = ()  # names of Columns.numeric
    categorical: tuple[tuple[str, int], ...] = ()  # (name, number of levels) of Columns.codes
    # rows of the embedding table of Sentences.tokens, padding included; 0 for tables
    vocab_size: int = 0
    image_shape: tuple[int, ...] = ()  # height and width of Images.pixels; () for others
    # per numeric column, from the first on, ascending knots at quantiles of the training rows, in
    # the units of Columns.numeric; a column without knots has none to be cut at
    knots: tuple[tuple[float, ...], ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether the features are :class:`Columns`."""
        return not (self.vocab_size or self.image_shape)

    @property
    def label_tasks(self) -> tuple[Task, ...]:
        """A task of one label per column of ``labels``; see :attr:`Task.columns`."""
        return tuple(column for task in self.tasks for column in task.columns)

    def label_slice(self, task: int) -> slice:
        """Columns of ``labels`` that belong to a task."""
        return _block([t.label_width for t in self.tasks], task)

    def score_slice(self, task: int) -> slice:
        """Columns of the scores that belong to a task."""
        return _block([t.score_width for t in self.tasks], task)

    def group_slice(self, attribute: int) -> slice:
        """Columns of ``groups`` that belong to an attribute."""
        return _block([a.width for a in self.attributes], attribute)

    @property
    def group_names(self) -> tuple[str, ...]:
        """A name for every column of ``groups``; see :class:`Attribute`."""
        return tuple(name for a in self.attributes for name in a.columns)


def _block(widths: list[int], index: int) -> slice:
    start = sum(widths[:index])
    return slice(start, start + widths[index])


class Model(NamedTuple):
    """Three pure functions. Any object with them is a model.

    Parameters are ``{"trunk": ..., "heads": ...}``.
    """

    init: Callable[[Array], PyTree]  # key -> params
    represent: Callable[..., PyTree]  # trunk, x, condition=None -> z; see dropout
    predict: Callable[[PyTree, PyTree], Array]  # heads, z -> scores [B, C]
    # keys of the trunk's parameters, layer by layer from the input on; (): see models.trunk_layers
    layers: tuple[tuple[str, ...], ...] = ()
    own_inputs: bool = False  # predict also takes a tuple of representations, one per task
    copies: int = 0  # of the trunk, along the first axis of its leaves: a network that branches
    # represent also takes key=, of a step of training; without it nothing is left out or dealt
    dropout: bool = False


class Objective(NamedTuple):
    """Named losses of a batch.

    Losses with running counts keep them in ``memory``; the others have ``()``.

    ``init(key, data) -> memory`` reads priors and shapes from the training data.
    ``apply(params, batch, key, memory) -> (values, memory)``; ``values`` holds K scalars in the
    order of ``rows``. A tuple of scalars keeps the rows' gradients apart at no cost; an array
    ``[K]`` works too.
    """

    rows: tuple[str, ...]
    init: Callable[[Array, Dataset], PyTree]
    apply: Callable[..., tuple[Any, PyTree]]


class Rank(NamedTuple):
    """How good a block is: the best one delivers its parameters.

    The best one is least in the first entry of ``value``, then in the next.
    """

    value: Callable[[Any, Any], Array]  # state after a block, data -> [R]
    passed_over: float = 0.0  # share of the blocks, from the first on, that deliver nothing


class Components(NamedTuple):
    """The four slots of a recipe, built from its hyper-parameters."""

    model: Model
    objective: Objective
    transform: optax.GradientTransformationExtraArgs
    events: tuple[Callable[..., Any], ...] = ()  # (key, block, state, data) -> state
    record: Callable[[Any], Any] | None = None  # state -> what a sweep keeps after every block
    # of fairjax.training.samplers; None for shuffled rows
    sampler: Callable[..., Any] | None = None
    rank: Rank | None = None  # which block delivers its parameters; None for the last one


class Range(NamedTuple):
    """Range of a hyper-parameter: uniform or log-uniform in [low, high].

    A hyper-parameter that is not swept stays at ``default``.
    """

    default: Any
    low: float | None = None
    high: float | None = None
    log: bool = False
    simplex: bool = False  # draw a point of the simplex over tasks
    labels: tuple[str, ...] = ()  # names of its entries in a table of runs; default: the tasks


class Recipe(NamedTuple):
    """A method on given tasks and a given network: hyper-parameters in, components out.

    ``build`` runs inside the trace, so every hyper-parameter may be mapped.
    """

    name: str
    build: Callable[[PyTree], Components]
    space: dict[str, Range]  # every hyper-parameter; a point is a dict of arrays with these keys
    notion: Any = None  # of its fairness losses, so that a report can show the gap that is trained
    told: tuple[str, ...] = ()  # hyper-parameters that training ignores: the trained model is told


class Post(NamedTuple):
    """Post-processing of scores: ``fit`` on a pool, ``apply`` to any row.

    Most need no labels. A ``labelled`` one chooses decisions by them: its ``fit`` takes the labels
    ``[N, Y]``, any value where the mask is 0, and their mask too, and its scores decide at 0.
    """

    # scores [N, C], groups [N, G], weight [N] -> state; labelled: and labels, label_mask [N, Y]
    fit: Callable[..., PyTree]
    # state, scores [M, C], groups [M, G], key=None, amount=1.0 -> scores
    apply: Callable[..., Array]
    name: str = "repair"  # in a table of runs
    labelled: bool = False

    def pool(self, scores: Array, rows: Dataset) -> tuple[Array, ...]:
        """What ``fit`` takes of scores ``[N, C]`` and their rows."""
        pool = (scores, rows.groups, rows.weight)
        if self.labelled:
            pool += (rows.labels, rows.label_mask)
        return pool
