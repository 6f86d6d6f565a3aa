"""The program of a sweep's chunk in three stages, compiled apart: start, training, measure.

Compilation is most of the time of a small study. Stages of several methods are compiled side by
side, in threads, and what methods have in common is compiled once: all of them measure scores
alike, and most start from the same network.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fairjax.core.types import Array, DataError, Dataset, Device, PyTree, Recipe, Splits
from fairjax.models import scores as model_scores
from fairjax.training.loop import TrainConfig, first_key, make_train
from fairjax.training.samplers import without_unused_cells

# Drawing parameters is compiled in a fifth of the time, to the same bits. On CPUs; a level of the
# user's own stays.
OPTIMISATION = "xla_backend_optimization_level"
QUICK = {OPTIMISATION: "1"}
MEMBERS, ROWS = "members", "rows"  # axes of a mesh of devices


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of scores in two parts, so that few arrays leave a program for many metrics."""

    program: Callable[..., PyTree]  # of the scores and the splits, compiled
    finish: Callable[[PyTree], PyTree]  # of its results, any axes before theirs; on the host

    def __call__(self, scores: dict[str, Array], splits: Splits) -> PyTree:
        """The metrics by name."""
        return self.finish(self.program(scores, splits))


def member(
    recipe: Recipe,
    train_config: TrainConfig,
    evaluate: Callable[..., Any],
    keep: Sequence[str] = (),
    record: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Build one run with its evaluation.

    Args:
      recipe: the method.
      train_config: shapes of the run.
      evaluate: ``evaluate({"validation": scores, "test": scores}, splits)`` gives metrics by name;
        of a :class:`Measure` a sweep runs the two parts apart.
      keep: may name ``"scores"`` and ``"params"``.
      record: what to keep of the state after every block, see :func:`fairjax.training.make_train`.

    Returns:
      ``run(key, order_key, hparams, splits) -> dict`` with the entries ``metrics``, ``diverged``,
      ``values`` ``[blocks, K]``, ``scores`` (a dict per split, empty unless kept), ``params`` (None
      unless kept), ``record`` and ``block``, whose parameters are evaluated. A run has diverged if
      a parameter or loss is not finite, or if the last losses are more than ten times the first.
    """
    train = _trained(recipe, train_config, keep, record)

    def run(key, order_key, hparams: PyTree, splits: Splits) -> dict[str, PyTree]:
        results = train(None, key, order_key, hparams, splits)
        metrics = _measured(evaluate, results["scores"], splits)
        return _with_metrics(results, metrics, keep)

    return run


def _trained(
    recipe: Recipe,
    train_config: TrainConfig,
    keep: Sequence[str],
    record: Callable[..., Any] | None,
    place: Callable[[Dataset], Dataset] | None = None,
) -> Callable[..., Any]:
    """One run from given parameters, or None for its own, to its scores."""
    train = make_train(train_config, recipe, record, place=place)

    def run(
        params: PyTree, key, order_key, hparams: PyTree, splits: Splits | Padded
    ) -> dict[str, PyTree]:
        splits = without_unused_cells(unpadded(splits))
        trained = train(key, order_key, hparams, splits, params=params)
        params = trained.params
        model = recipe.build(hparams).model
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
        bound = 10.0 * jnp.max(jnp.abs(trained.first))
        finite.append(jnp.all(trained.values[-1] <= bound))  # False for NaN
        return {
            "diverged": ~jnp.all(jnp.stack(finite)),
            "values": trained.values,
            "scores": {
                "validation": model_scores(model, params, splits.validation.x),
                "test": model_scores(model, params, splits.test.x),
            },
            "params": params if "params" in keep else None,
            "record": trained.record,
            "block": trained.block,
        }

    return run


def _measured(
    evaluate: Callable[..., Any], scores: dict[str, Array], splits: Splits | Padded
) -> PyTree:
    return evaluate(scores, without_unused_cells(unpadded(splits)))


def _with_metrics(
    results: dict[str, PyTree], metrics: PyTree, keep: Sequence[str]
) -> dict[str, Any]:
    scores = results["scores"] if "scores" in keep else {}
    return {"metrics": metrics, **results, "scores": scores}


def mapped(
    run: Callable[..., Any],
    devices: Sequence[Device],
    in_axes: Sequence[int | str | None] = (0, None, 0, ROWS),
    row_devices: int = 1,
) -> Callable[..., Any]:
    """Map ``run`` over members, shard it over the devices, and jit it.

    Args:
      run: a function of one member.
      devices: over which the members go.
      in_axes: 0 of an argument with a leading axis of members, None of one that all share, ``ROWS``
        of one that all share and that has a leading axis of rows. Default: keys and
        hyper-parameters have one of members, the data have one of rows.
      row_devices: devices that share the rows, see :func:`device_mesh`.
    """
    axes = tuple(0 if axis == 0 else None for axis in in_axes)
    if len(devices) == 1:
        return jax.jit(jax.vmap(run, in_axes=axes))
    mesh = device_mesh(devices, row_devices)
    of_axis = {0: PartitionSpec(MEMBERS), None: PartitionSpec(), ROWS: PartitionSpec(ROWS)}
    specs = tuple(of_axis[axis] for axis in in_axes)
    split = of_axis[0]
    if row_devices == 1:
        program = jax.shard_map(
            jax.vmap(run, in_axes=axes), mesh=mesh, in_specs=specs, out_specs=split, check_vma=False
        )
    else:
        program = jax.vmap(run, in_axes=axes, spmd_axis_name=MEMBERS)
    # leaves without elements too, which JAX would not split by itself
    return jax.jit(
        program,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, split),
    )


def device_mesh(devices: Sequence[Device], row_devices: int = 1) -> Mesh:
    """The devices as a mesh of members and rows.

    Args:
      devices: of the sweep.
      row_devices: how many of them share the rows of a run. Members go over the others.

    Raises:
      DataError: the devices are no multiple of it.
    """
    if row_devices < 1 or len(devices) % row_devices:
        raise DataError(
            f"the number of devices, {len(devices)}, is no multiple of row_devices={row_devices}. "
            "Give a divisor of it; 1 keeps whole rows on each device."
        )
    return Mesh(np.asarray(devices).reshape(-1, row_devices), (MEMBERS, ROWS))


@partial(jax.tree_util.register_dataclass, data_fields=["splits"], meta_fields=["rows"])
@dataclasses.dataclass(frozen=True)
class Padded:
    """Splits with rows at the end that are none, so that devices share each split evenly."""

    splits: Splits
    rows: tuple[int, ...]  # of each split that are rows


def padded(splits: Splits, row_devices: int) -> Padded:
    """The splits, with as many rows more as make each a multiple of the devices."""
    rows = tuple(len(part.weight) for part in splits)

    def longer(leaf: Array) -> np.ndarray:
        more = -len(leaf) % row_devices
        return np.pad(np.asarray(leaf), [(0, more)] + [(0, 0)] * (leaf.ndim - 1))

    return Padded(jax.tree.map(longer, splits), rows)


def unpadded(splits: Splits | Padded) -> Splits:
    """The splits without the rows that are none."""
    if isinstance(splits, Splits):
        return splits
    return Splits(
        *(
            jax.tree.map(lambda leaf, n=rows: leaf[:n], part)
            for part, rows in zip(splits.splits, splits.rows, strict=True)
        )
    )


class Lowered(NamedTuple):
    """What a program does, in words and in the shapes of its results."""

    text: str
    out_info: PyTree

    def as_text(self) -> str:
        """The words."""
        return self.text


class Stage:
    """A lowered program that a thread compiles once it is asked to."""

    def __init__(
        self, lowered: jax.stages.Lowered, threads: ThreadPoolExecutor, options: dict[str, Any]
    ) -> None:
        self.lowered = lowered
        self._options = options
        self.seconds: float = 0.0  # that compilation took
        self._threads = threads
        self._compiling: Future[Callable[..., Any]] | None = None

    def begin(self) -> Future[Callable[..., Any]]:
        """Begin to compile, and return at once."""
        if self._compiling is None:
            self._compiling = self._threads.submit(self._compile)
        return self._compiling

    def _compile(self) -> Callable[..., Any]:
        begin = time.perf_counter()
        compiled = self.lowered.compile(compiler_options=self._options or None)
        self.seconds = time.perf_counter() - begin
        return compiled


class Compiler:
    """Compiles programs in threads, each key once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self._stages: dict[Hashable, Stage] = {}

    def stage(
        self,
        key: Hashable,
        program: Callable[..., Any],
        *arguments: PyTree,
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> Stage:
        """The program of a key, lowered for these arguments, to be compiled with these options."""
        if key not in self._stages:
            self._stages[key] = Stage(program.lower(*arguments), self._threads, dict(options))
        return self._stages[key]

    def close(self) -> None:
        """Begin no other compilation."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Stages(NamedTuple):
    """The stages of a chunk of one size."""

    start: Stage  # parameters of all members
    train: Stage
    measure: Stage


class Program:
    """What a sweep runs on each of its chunks: :func:`member`, mapped, in three stages.

    Args:
      recipe: the method.
      train_config: shapes of the run.
      evaluate: see :func:`member`, also for ``keep`` and ``record``.
      keep: ``"scores"``, ``"params"``.
      record: what to keep of every block.
      devices: default all local devices.
      compiler: one for all programs that may share stages; default its own.
      measured: members that are measured together, a multiple of the number of devices. Programs
        whose chunks differ in size share the measure of one number. Default: those of a chunk.
      row_devices: devices that share the rows of a run, see :func:`device_mesh`. The data are then
        :func:`on_devices` with as many.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_config: TrainConfig,
        evaluate: Callable[..., Any],
        keep: Sequence[str] = (),
        record: Callable[..., Any] | None = None,
        *,
        devices: Sequence[Device] | None = None,
        compiler: Compiler | None = None,
        measured: int | None = None,
        row_devices: int = 1,
    ):
        self.compile_seconds: float = 0.0  # of the stages of the newest size
        self._recipe = recipe
        self._evaluate = evaluate
        self._keep = tuple(keep)
        self._devices = list(devices or jax.local_devices())
        self._compiler = compiler or Compiler()
        self._measured = measured
        self._row_devices = row_devices
        train = _trained(recipe, train_config, keep, record, self._place())
        self._train = self._mapped(train, (0, 0, None, 0, ROWS))
        if not isinstance(evaluate, Measure):
            evaluate = Measure(evaluate, lambda metrics: metrics)
        self._finish = evaluate.finish
        self._measure = self._mapped(partial(_measured, evaluate.program), (0, ROWS))
        # the start of every member, where hyper-parameters do not matter
        self._init: Callable[..., Any] | None = None
        self._stages: dict[Hashable, Stages] = {}  # by the shapes of arguments
        self._used: set[Stages] = set()

    def _mapped(self, run: Callable, in_axes: Sequence[int | str | None]) -> Callable:
        return mapped(run, self._devices, in_axes, self._row_devices)

    def _place(self) -> Callable[[Dataset], Dataset] | None:
        """How a minibatch is shared by devices, None where they share members alone."""
        if self._row_devices == 1:
            return None
        mesh = device_mesh(self._devices, self._row_devices)
        sharding = NamedSharding(mesh, PartitionSpec(ROWS))
        return partial(jax.lax.with_sharding_constraint, shardings=sharding)

    def _cache_size(self) -> int:
        """For how many shapes of arguments it has run, as jitted functions call it."""
        return len(self._used)

    def lower(self, keys: Array, order_key: Array, hparams: PyTree, splits: Splits) -> Lowered:
        """What it does with these arguments; nothing is compiled."""
        start, train, measure = self._lowered(keys, order_key, hparams, splits)
        results = train.lowered.out_info
        text = "\n".join(stage.lowered.as_text() for stage in (start, train, measure))
        metrics = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((len(keys), *leaf.shape[1:]), leaf.dtype),
            jax.eval_shape(self._finish, measure.lowered.out_info),
        )
        return Lowered(text, _with_metrics(results, metrics, self._keep))

    def begin(self, keys: Array, order_key: Array, hparams: PyTree, splits: Splits) -> None:
        """Begin to compile for these arguments, and return at once."""
        for stage in self._lowered(keys, order_key, hparams, splits):
            stage.begin()

    def __call__(
        self, keys: Array, order_key: Array, hparams: PyTree, splits: Splits
    ) -> dict[str, PyTree]:
        """The results of all members of a chunk, leaves ``[members, ...]``."""
        stages = self._lowered(keys, order_key, hparams, splits)
        compiling = [stage.begin() for stage in stages]
        start, train, measure = (future.result() for future in compiling)
        if stages not in self._used:
            self._used.add(stages)
            self.compile_seconds = sum(stage.seconds for stage in stages)
        params = start(keys) if self._init else start(keys, hparams)
        results = train(params, keys, order_key, hparams, splits)
        metrics = self._metrics(measure, results["scores"], splits)
        return _with_metrics(results, metrics, self._keep)

    def _lowered(self, keys: Array, order_key: Array, hparams: PyTree, splits: Splits) -> Stages:
        arguments = (keys, order_key, hparams, splits)
        shapes = _shapes(arguments)
        if shapes not in self._stages:
            start = self._lowered_start(keys, hparams)
            params = start.lowered.out_info
            train_key = ("train", self, shapes)
            train = self._compiler.stage(train_key, self._train, params, *arguments)
            measured = self._measured or len(keys)
            scores = train.lowered.out_info["scores"]
            measure = self._lowered_measure(scores, measured, splits)
            self._stages[shapes] = Stages(start, train, measure)
        return self._stages[shapes]

    def _lowered_measure(self, scores: PyTree, members: int, splits: Splits) -> Stage:
        """The measure of so many members, whose scores are like these."""
        scores = {
            split: jax.ShapeDtypeStruct((members, *leaf.shape[1:]), leaf.dtype)
            for split, leaf in scores.items()
        }
        key = ("measure", self._evaluate, _shapes((scores, splits)))
        return self._compiler.stage(key, self._measure, scores, splits)

    def _lowered_start(self, keys: Array, hparams: PyTree) -> Stage:
        self._init = _common_init(self._recipe, hparams)
        init = self._init

        def start(key: Array, *hparams: PyTree) -> PyTree:
            own = init or self._recipe.build(*hparams).model.init
            return own(first_key(key))

        arguments = (keys,) if init else (keys, hparams)
        program = self._mapped(start, (0,) * len(arguments))
        key = ("start", init or self, len(keys))
        is_cpu = self._devices[0].platform == "cpu"
        is_free = OPTIMISATION not in os.environ.get("XLA_FLAGS", "")
        options = QUICK if is_cpu and is_free else {}
        return self._compiler.stage(key, program, *arguments, options=options)

    def _metrics(self, measure: Callable[..., Any], scores: PyTree, splits: Splits) -> PyTree:
        """Measure all members, so many at a time; the last ones repeat the last member."""
        members = len(next(iter(scores.values())))
        measured = self._measured or members
        if members == measured:
            return self._finish(jax.device_get(measure(scores, splits)))
        scores = jax.device_get(scores)
        parts = []
        for first in range(0, members, measured):
            place = np.minimum(np.arange(first, first + measured), members - 1)
            part = {split: score[place] for split, score in scores.items()}
            parts.append(jax.device_get(measure(part, splits)))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:members], *parts)
        return self._finish(joined)


def _shapes(tree: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _common_init(recipe: Recipe, hparams: PyTree) -> Callable[..., Any] | None:
    """The initialisation of the network, if it is one for all hyper-parameters, else None.

    A function that two builds share cannot depend on what they were given.
    """
    found = []

    def build(point: PyTree) -> Array:
        found.append(recipe.build(point).model.init)
        return jnp.zeros(())

    one_point = jax.tree.map(lambda leaf: leaf[0], hparams)
    for _ in range(2):
        jax.eval_shape(lambda point: build(point), one_point)
    one, other = found
    return one if one is other else None
