"""All runs of a sweep in one compiled program: points times seeds, in chunks, on all devices.

A member of a sweep is a point (its hyper-parameters) and a seed. Its key comes from the seed alone,
never from its chunk. Therefore all points start from the same initialisations. One jitted program
trains and evaluates the members of a chunk, mapped over them and sharded over the devices. Only the
results leave the device. Each finished chunk is written at once. A killed sweep that is started
again resumes and gives the same numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fairjax.core.disk import locked
from fairjax.core.types import DataError, Device, PyTree, Recipe, Splits
from fairjax.training._hosts import every_process
from fairjax.training.chunks import ChunkSizes, start_size
from fairjax.training.loop import TrainConfig
from fairjax.training.manifest import SweepFolder, settings
from fairjax.training.program import MEMBERS, ROWS, Padded, Program, device_mesh, padded

NOTHING_KEPT = {"params": None, "scores": {}}  # of runs that keep nothing


class Part(NamedTuple):
    """One of several processes that share the chunks of a sweep: it has every ``of``-th of them."""

    number: int  # of this process, from 0
    of: int


class Runs(NamedTuple):
    """The results of a sweep, one entry per member. Points vary slowest, seeds fastest."""

    point: np.ndarray  # [M] int
    seed: np.ndarray  # [M] int
    hparams: dict[str, np.ndarray]  # [M, ...]
    metrics: dict[Any, np.ndarray]  # [M, ...], with the keys of ``evaluate``
    diverged: np.ndarray  # [M] bool
    values: np.ndarray | None  # [M, blocks, K]; None where no objective was trained
    scores: dict[str, np.ndarray]  # [M, N, C] per split; empty unless kept
    params: PyTree | None  # leaves [M, ...] in the model's own tree; None unless kept
    record: PyTree  # leaves [M, blocks, ...], what ``record`` returned
    block: np.ndarray  # [M] int, the block whose parameters were evaluated and kept
    compilations: int  # of the sweep's program; 0 if every chunk was already on disk
    chunk: int  # members per device and call, at the end of the sweep


def keys(root: int, seeds: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The members' keys, from their seeds, and the one key of the order of minibatches."""
    key = jax.random.key(root)
    order_key = jax.random.fold_in(key, 0)
    member_root = jax.random.fold_in(key, 1)
    fold_in_seeds = jax.vmap(lambda seed: jax.random.fold_in(member_root, seed))
    member_keys = fold_in_seeds(jnp.asarray(seeds))
    return member_keys, order_key


def sweep(
    recipe: Recipe,
    train_config: TrainConfig,
    hparams: dict[str, np.ndarray],
    seeds: Sequence[int],
    splits: Splits | Padded,
    evaluate: Callable[..., Any],
    *,
    root: int = 0,
    out: Path | None = None,
    chunk: int | None = None,
    keep: Sequence[str] = (),
    devices: Sequence[Device] | None = None,
    record: Callable[..., Any] | None = None,
    progress: Callable[[int], None] | None = None,
    program: Callable[..., Any] | None = None,
    part: Part | None = None,
    row_devices: int = 1,
    on_disk: bool = False,
) -> Runs:
    """Train and evaluate every point with every seed.

    Args:
      recipe: the method.
      train_config: shapes of a run.
      hparams: arrays ``[L, ...]``, from :func:`draw` or :func:`grid`.
      seeds: S seeds; each is used at every point.
      splits: the data, an argument of the compiled program, or what :func:`on_devices` made of it.
      evaluate: see :func:`member`.
      root: seed of the key tree.
      out: a folder for finished chunks. A sweep that is already there resumes, with the chunk
        sizes of its manifest. None writes nothing.
      chunk: members per device and call. None chooses; see :mod:`fairjax.training.chunks`. The
        size changes results by rounding alone.
      keep: ``"scores"``, ``"params"`` to return them too.
      devices: default all local devices. Those of several processes (``jax.distributed``) must all
        share the rows; every process then calls this with the same arguments, and an ``out`` of its
        own.
      record: see :func:`member`.
      progress: called with the number of members that were just finished.
      program: ``Program(recipe, train_config, evaluate, keep, record, devices=devices)``. Sweeps of
        one recipe (single-task and vanilla, say) share its compilation at the same chunk size.
      part: of the chunks, where several processes share ``out``, with as many devices each; None
        for all. The chunks are those of the manifest, or of the start size, whatever their speed.
      row_devices: devices that share the rows of a run, for data that one device cannot hold;
        members go over the others. Statistics of groups are those of all rows, results differ by
        rounding alone. A ``program`` has as many.
      on_disk: what ``keep`` names stays in the chunk files of ``out``, and takes no memory.

    Returns:
      :class:`Runs` with M = L * S members; of a part, with those of its chunks.

    Raises:
      DataError: ``out`` holds a different sweep, or another process sweeps there.
    """
    devices = list(devices or jax.local_devices())
    member_devices = device_mesh(devices, row_devices).shape[MEMBERS]
    hosts = len({device.process_index for device in devices})
    if hosts > 1 and member_devices > 1:
        raise DataError(
            f"{len(devices)} devices of {hosts} processes: a process reads the results of its own "
            f"members alone. Let all devices share the rows, row_devices={len(devices)}, or give "
            "every process its local devices and a part of the sweep."
        )
    point, seed = members_of(hparams, seeds)
    with locked(out, "a sweep", shared=part is not None) if out else contextlib.nullcontext():
        folder = None
        if out:
            identity = settings(
                recipe, train_config, hparams, seeds, splits, root, keep, devices, row_devices
            )
            folder = SweepFolder(out, identity)
        splits = on_devices(splits, devices, row_devices)
        program = program or Program(
            recipe,
            train_config,
            evaluate,
            keep,
            record,
            devices=devices,
            row_devices=row_devices,
        )
        stored_sizes = folder.sizes if folder else None
        first_size = chunk or start_size(len(point), devices[:member_devices])
        schedule = ChunkSizes(
            stored_sizes or [(0, first_size)],
            member_devices,
            tune=stored_sizes is None and chunk is None and part is None and hosts == 1,
        )

        def arguments(first: int, size: int) -> tuple[Any, ...]:
            return (*chunk_of(hparams, point, seed, root, first, size), splits)

        if folder:
            folder.add_program(program.lower(*arguments(0, schedule.size_at(0) * member_devices)))
            if stored_sizes is None:
                folder.write_sizes(schedule.sizes)
        left = NOTHING_KEPT if on_disk and folder else ()
        members, results = run_chunks(
            program,
            arguments,
            len(point),
            member_devices,
            schedule,
            folder,
            progress,
            part,
            left,
            hosts,
        )
        return Runs(
            point=point[members],
            seed=seed[members],
            hparams={name: np.asarray(array)[point[members]] for name, array in hparams.items()},
            **NOTHING_KEPT | results,
            compilations=program._cache_size(),
            chunk=schedule.current,
        )


def chunk_of(
    hparams: dict[str, np.ndarray],
    point: np.ndarray,
    seed: np.ndarray,
    root: int,
    first: int,
    size: int,
) -> tuple[jax.Array, jax.Array, dict[str, np.ndarray]]:
    """Keys and hyper-parameters of the members of a chunk; the last chunk repeats its last one.

    Hyper-parameters stay on the host, from which every device takes its own: an array of one device
    would be cut by programs of JAX, one for each shape.
    """
    index = np.minimum(np.arange(first, first + size), len(point) - 1)
    rows = {
        name: np.asarray(array[point[index]], jax.dtypes.canonicalize_dtype(array.dtype))
        for name, array in hparams.items()
    }
    return *keys(root, seed[index]), rows


def members_of(
    hparams: dict[str, np.ndarray], seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Point and seed of every member."""
    first_column = next(iter(hparams.values()))
    points = np.arange(len(first_column))
    point, seed = np.meshgrid(points, np.asarray(seeds), indexing="ij")
    return point.ravel(), seed.ravel()


def on_devices(
    splits: Splits | Padded, devices: Sequence[Device], row_devices: int = 1
) -> Splits | Padded:
    """The data as an argument of a sweep's program: whole on every device, or shared by some."""
    if len(devices) == 1:
        return jax.device_put(splits, devices[0])
    mesh = device_mesh(devices, row_devices)
    if row_devices == 1:
        return jax.device_put(splits, NamedSharding(mesh, PartitionSpec()))
    if isinstance(splits, Splits):
        splits = padded(splits, row_devices)
    return jax.device_put(splits, NamedSharding(mesh, PartitionSpec(ROWS)))


def run_chunks(
    program: Callable[..., Any],
    arguments: Callable[[int, int], tuple[Any, ...]],
    members: int,
    devices: int,
    schedule: ChunkSizes,
    folder: SweepFolder | None,
    progress: Callable[[int], None] | None,
    part: Part | None = None,
    left: Collection[str] = (),
    hosts: int = 1,
) -> tuple[np.ndarray, dict[str, PyTree]]:
    """Members and results of all chunks, or of a part's, leaves ``[members, ...]``.

    Results called ``left`` stay in the chunk files.

    A chunk size is in the manifest before the first chunk of that size runs, so a resumed sweep
    cuts the members into the same chunks.
    """
    gathered = _Gathered(members, left)
    if part:
        nothing = _no_members(program, arguments(0, schedule.size_at(0) * devices))
        gathered.add(members, nothing)
    first = chunk = 0
    while first < members:
        if schedule.decide(first, members) and folder:
            folder.write_sizes(schedule.sizes)
        size = schedule.size_at(first) * devices
        count = min(size, members - first)
        if part is None or chunk % part.of == part.number:
            results = folder.read_chunk(first, count) if folder else None
            if hosts > 1 and not every_process(results is not None):
                results = None
            if results is None:
                try:
                    results = _timed_chunk(program, arguments(first, size), count, size, schedule)
                except jax.errors.JaxRuntimeError as error:
                    is_full = "RESOURCE_EXHAUSTED" in str(error)
                    if not is_full or hosts > 1 or not schedule.retreat(first):
                        raise
                    if folder:
                        folder.write_sizes(schedule.sizes)
                    continue
                if folder:
                    folder.write_chunk(first, results)
            gathered.add(first, results)
            if progress:
                progress(count)
        first += count
        chunk += 1
    return gathered.members, gathered.results


class _Gathered:
    """Results of chunks, each written once into arrays that have room for all members."""

    def __init__(self, members: int, left: Collection[str]):
        self._room = members
        self._left = left
        self._arrays: dict[str, PyTree] | None = None
        self._members = np.zeros(members, int)
        self._count = 0

    def add(self, first: int, results: dict[str, PyTree]) -> None:
        """Take the results of the members from ``first`` on."""
        kept = {name: tree for name, tree in results.items() if name not in self._left}
        if self._arrays is None:
            self._arrays = jax.tree.map(
                lambda leaf: np.empty((self._room, *leaf.shape[1:]), leaf.dtype), kept
            )
        leaves = jax.tree.leaves(kept)
        count = len(leaves[0])
        place = slice(self._count, self._count + count)
        for array, leaf in zip(jax.tree.leaves(self._arrays), leaves, strict=True):
            array[place] = leaf
        self._members[place] = np.arange(first, first + count)
        self._count += count

    @property
    def members(self) -> np.ndarray:
        """Numbers of the members."""
        return self._members[: self._count]

    @property
    def results(self) -> dict[str, PyTree]:
        """Leaves ``[members, ...]``."""
        return jax.tree.map(lambda array: array[: self._count], self._arrays)


def _no_members(program: Callable[..., Any], arguments: tuple[Any, ...]) -> PyTree:
    """Results of no member: a part may be without a chunk."""
    shapes = program.lower(*arguments).out_info
    return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), shapes)


def _timed_chunk(
    program: Callable[..., Any],
    arguments: tuple[Any, ...],
    count: int,
    size: int,
    schedule: ChunkSizes,
) -> PyTree:
    """Run one chunk, and tell the schedule how long it took if all of its members are real."""
    compilations = program._cache_size()
    begin = time.perf_counter()
    results = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], program(*arguments))
    seconds = time.perf_counter() - begin
    if count == size:
        compile_seconds = getattr(program, "compile_seconds", 0.0)
        compiled = program._cache_size() > compilations
        schedule.record(seconds, compiled, compile_seconds)
    return results
