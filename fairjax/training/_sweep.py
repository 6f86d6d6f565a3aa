"""Every run of a sweep in one compiled pass: hparams x seeds, in chunks, over all devices, written as it goes.

A member of a sweep is a point (hparams) and a seed. Its keys come from the seed alone, never from its chunk, so all points
start from the same initialisations. Members are trained and evaluated inside one jitted program, mapped over as many
members as the measured chunk holds and sharded over devices; only metrics leave the device. Each finished chunk is
written at once, and a sweep started again where one was killed goes on and ends with the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fairjax.core.disk import read_arrays, write_arrays, write_json
from fairjax.core.types import DataError, PyTree, Range, Recipe, Splits
from fairjax.models import scores as model_scores
from fairjax.training.loop import TrainConfig, make_train


class Runs(NamedTuple):
    """What a sweep gives, one entry per member; points vary slowest, seeds fastest."""

    point: np.ndarray  # [M] int
    seed: np.ndarray  # [M] int
    hparams: dict[str, np.ndarray]  # [M, ...]
    results: dict[str, np.ndarray]  # [M, ...]: metrics, "diverged", "values" and what was kept
    compilations: int  # of the sweep's program; 0 when every chunk was already on disk
    chunk: int  # members per device and call


# ---------------------------------------------------------------------------------------------------- points


def draw(
    space: dict[str, Range], count: int, seed: int, *, sequence: str = "uniform"
) -> dict[str, np.ndarray]:
    """Random hparams.

    Args:
      space: a recipe's hparams; one without bounds stays at its default.
      count: number of points L.
      seed: of the draw.
      sequence: ``"uniform"`` for independent draws, ``"sobol"`` for a scrambled Sobol sequence.

    Returns:
      Arrays ``[L, ...]``, float32. A simplex hparam of T entries is uniform on the simplex.
    """
    widths = {name: _dimensions(r) for name, r in space.items()}
    unit = _unit(count, sum(widths.values()), seed, sequence)
    hparams, used = {}, 0
    for name, r in space.items():
        u = unit[:, used : used + widths[name]]
        used += widths[name]
        hparams[name] = _place(r, u, count)
    return hparams


def grid(space: dict[str, Range], values: dict[str, Sequence]) -> dict[str, np.ndarray]:
    """The product of the given values per hparam, other hparams at their defaults; arrays ``[L, ...]``.

    Raises:
      ValueError: for a hparam the space does not have.
    """
    for name in values:
        if name not in space:
            raise ValueError(f"no hparam {name!r}; there are {', '.join(space)}")
    index = (
        np.indices([len(v) for v in values.values()]).reshape(len(values), -1)
        if values
        else np.zeros((0, 1), int)
    )
    chosen = {
        name: np.asarray(v, np.float32)[i]
        for (name, v), i in zip(values.items(), index, strict=True)
    }
    size = index.shape[1]
    default = {
        name: np.broadcast_to(np.float32(r.default), (size, *np.shape(r.default)))
        for name, r in space.items()
    }
    return {
        name: np.broadcast_to(
            chosen[name].reshape(
                size, *([1] * (default[name].ndim - chosen[name].ndim)), *chosen[name].shape[1:]
            ),
            default[name].shape,
        ).copy()
        if name in chosen
        else default[name].copy()
        for name in space
    }


def _dimensions(r: Range) -> int:
    """How many uniform numbers a hparam takes: none when it is fixed, T - 1 for a point of a simplex."""
    size = int(np.size(r.default))
    return 0 if r.low is None else size - 1 if r.simplex else size


def _unit(count: int, width: int, seed: int, sequence: str) -> np.ndarray:
    if sequence == "uniform":
        return np.random.default_rng(seed).random((count, width))
    if sequence == "sobol":
        from scipy.stats import qmc

        points = qmc.Sobol(max(width, 1), rng=seed).random_base2(max(count - 1, 0).bit_length())
        return points[:count, :width]
    raise ValueError(f"sequence must be 'uniform' or 'sobol', got {sequence!r}")


def _place(r: Range, u: np.ndarray, count: int) -> np.ndarray:
    shape = (count, *np.shape(r.default))
    if r.low is None:
        return np.broadcast_to(np.float32(r.default), shape).copy()
    if r.simplex:  # spacings of sorted uniforms are uniform on the simplex
        cuts = np.concatenate(
            [np.zeros((count, 1)), np.sort(u, axis=1), np.ones((count, 1))], axis=1
        )
        return np.diff(cuts, axis=1).astype(np.float32)
    place = r.low * (r.high / r.low) ** u if r.log else r.low + (r.high - r.low) * u
    return place.reshape(shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------------- the program


def member(
    recipe: Recipe,
    train_config: TrainConfig,
    evaluate: Callable,
    keep: Sequence[str] = (),
    record: Callable | None = None,
) -> Callable:
    """One run with its evaluation: ``(key, order_key, hparams, splits) -> dict of arrays``.

    ``evaluate({"validation": scores, "test": scores}, splits)`` gives named metrics. The dict also holds ``diverged`` (a
    parameter or loss is not finite, or the last losses are ten times the first) and ``values`` ``[blocks, K]``. ``keep``
    may name ``scores`` and ``params``; what ``record`` says of the state after every block comes back as ``record...``.
    """
    train = make_train(train_config, recipe, record)

    def run(key, order_key, hparams: PyTree, splits: Splits) -> dict[str, jax.Array]:
        trained = train(key, order_key, hparams, splits)
        params, model = trained.state.params, recipe.build(hparams).model
        scores = {
            name: model_scores(model, params, getattr(splits, name).x)
            for name in ("validation", "test")
        }
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
        finite.append(
            jnp.all(trained.values[-1] <= 10.0 * jnp.max(jnp.abs(trained.first)))
        )  # False for NaN
        out = {
            **evaluate(scores, splits),
            "diverged": ~jnp.all(jnp.stack(finite)),
            "values": trained.values,
        }
        if "scores" in keep:
            out.update({f"scores.{name}": s for name, s in scores.items()})
        if "params" in keep:
            out |= _named("params", params)
        return out | _named("record", trained.record)

    return run


def _named(prefix: str, tree: PyTree) -> dict[str, jax.Array]:
    return {
        f"{prefix}{jax.tree_util.keystr(path)}": leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def mapped(run: Callable, devices: Sequence[jax.Device]) -> Callable:
    """``run`` over a leading axis of keys and hparams, sharded over devices; order and data are shared. Jitted."""
    many = jax.vmap(run, in_axes=(0, None, 0, None))
    if len(devices) > 1:
        each, every = PartitionSpec("members"), PartitionSpec()
        many = jax.shard_map(
            many,
            mesh=_mesh(devices),
            in_specs=(each, every, each, every),
            out_specs=each,
            check_vma=False,
        )
    return jax.jit(many)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), ("members",))


def keys(root: int, seeds: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The members' keys (from their seeds) and the one key of the order of minibatches."""
    key = jax.random.key(root)
    return jax.vmap(lambda s: jax.random.fold_in(jax.random.fold_in(key, 1), s))(
        jnp.asarray(seeds)
    ), jax.random.fold_in(key, 0)


# ---------------------------------------------------------------------------------------------------- the sweep


def sweep(
    recipe: Recipe,
    train_config: TrainConfig,
    hparams: dict[str, np.ndarray],
    seeds: Sequence[int],
    splits: Splits,
    evaluate: Callable,
    *,
    root: int = 0,
    out: Path | None = None,
    chunk: int | None = None,
    keep: Sequence[str] = (),
    devices: Sequence[jax.Device] | None = None,
    record: Callable | None = None,
    progress: Callable[[int], None] | None = None,
    program: Callable | None = None,
) -> Runs:
    """Train and evaluate every point with every seed.

    Args:
      recipe: the method.
      static: shapes of a run.
      hparams: arrays ``[L, ...]``, as :func:`draw` and :func:`grid` give them.
      seeds: S seeds, each used at every point.
      splits: the data, an argument of the compiled program.
      evaluate: see :func:`member`.
      root: seed of the key tree.
      out: a folder for finished chunks; a sweep found there goes on. Nothing is written when None.
      chunk: members per device and call; measured when None.
      keep: ``"scores"``, ``"params"`` to bring them back too.
      devices: default all local ones.
      record: see :func:`member`.
      progress: called with the number of members just finished.
      program: ``mapped(member(recipe, static, evaluate, keep), devices)``, to share one compilation between sweeps of
        the same recipe (single-task and vanilla, say) at the same chunk size.

    Returns:
      :class:`Runs` with M = L * S members.

    Raises:
      DataError: when ``out`` holds a different sweep.
    """
    devices = list(devices or jax.local_devices())
    points = len(next(iter(hparams.values())))
    point, seed = (
        a.ravel() for a in np.meshgrid(np.arange(points), np.asarray(seeds), indexing="ij")
    )
    manifest = (
        _manifest(recipe, train_config, hparams, seeds, splits, root, keep, devices) if out else {}
    )
    found = _resume(out, manifest) if out else None
    if len(devices) > 1:
        splits = jax.device_put(splits, NamedSharding(_mesh(devices), PartitionSpec()))
    else:
        splits = jax.device_put(splits, devices[0])
    if found is not None:
        chunk = found["chunk"]
    elif chunk is None:
        chunk = measure_chunk(recipe, train_config, hparams, splits, len(point), devices)
    program, size = (
        program or mapped(member(recipe, train_config, evaluate, keep, record), devices),
        chunk * len(devices),
    )

    def arguments(first: int) -> tuple:
        index = np.minimum(
            np.arange(first, first + size), len(point) - 1
        )  # the last chunk repeats its last member
        return (
            *keys(root, seed[index]),
            {name: jnp.asarray(v[point[index]]) for name, v in hparams.items()},
            splits,
        )

    if out:
        # the lowered program knows what no setting says: the model, the notion, the metrics, the code itself
        manifest |= {
            "chunk": chunk,
            "program": _digest(program.lower(*arguments(0)).as_text().encode()),
        }
        if found is None:
            write_json(out / "manifest.json", manifest)
        else:
            _same(out, manifest, found)
    results = []
    for first in range(0, len(point), size):
        real = min(size, len(point) - first)
        file = out / f"chunk-{first:07d}.npz" if out else None
        if file is None or not file.exists():
            done = {name: np.asarray(v)[:real] for name, v in program(*arguments(first)).items()}
            if file is not None:
                write_arrays(file, done)
        else:
            done = read_arrays(file)
        results.append(done)
        if progress:
            progress(real)
    joined = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    return Runs(
        point,
        seed,
        {name: np.asarray(v)[point] for name, v in hparams.items()},
        joined,
        program._cache_size(),
        chunk,
    )


def measure_chunk(
    recipe: Recipe,
    train_config: TrainConfig,
    hparams: dict,
    splits: Splits,
    members: int,
    devices: Sequence[jax.Device],
) -> int:
    """Members per device and call with the best rate in a short trial: a few steps of training on the first rows.

    On a CPU members must fit its cache and the best number is small; on an accelerator it is large. Sizes double from 4
    (256 on an accelerator) as long as a trial is faster per member by a tenth. A sweep too small to repay the trials is
    cut into even chunks of at most 8.
    """
    share = -(-members // len(devices))
    on_cpu = devices[0].platform == "cpu"
    if share <= (32 if on_cpu else 256):
        return -(-share // -(-share // 8)) if on_cpu else share
    size = 4 if on_cpu else 256
    rows = min(splits.train.weight.shape[0], 4 * train_config.batch_size)
    short = splits._replace(
        **{name: jax.tree.map(lambda a: a[:rows], getattr(splits, name)) for name in splits._fields}
    )
    program = mapped(
        member(recipe, TrainConfig(2, train_config.batch_size), lambda scores, splits: {}), devices
    )
    best, rate = size, 0.0
    while size <= share:
        index = np.arange(size * len(devices)) % len(next(iter(hparams.values())))
        args = (
            *keys(0, index),
            {name: jnp.asarray(v[index]) for name, v in hparams.items()},
            short,
        )
        jax.block_until_ready(program(*args))  # compile
        now = len(index) / min(_seconds(program, args) for _ in range(3))
        if now < 1.1 * rate:
            break
        best, rate, size = size, now, 2 * size
    return best


def _seconds(program: Callable, args: tuple) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - begin


# ---------------------------------------------------------------------------------------------------- on disk


def fingerprint(tree: PyTree) -> str:
    """A hash of every array of a tree: what, rather than which file, a sweep was run on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _manifest(recipe, train_config, hparams, seeds, splits, root, keep, devices) -> dict:
    return {
        "recipe": recipe.name,
        "epochs": train_config.epochs,
        "batch_size": train_config.batch_size,
        "block": train_config.block,
        "points": len(next(iter(hparams.values()))),
        "hparams": fingerprint(hparams),
        "seeds": [int(s) for s in seeds],
        "root": root,
        "data": fingerprint(splits),
        "keep": list(keep),
        "devices": len(devices),
        "platform": devices[0].platform,
        "jax": jax.__version__,
    }


def _resume(out: Path, manifest: dict) -> dict | None:
    """The manifest of the sweep in ``out``, None when there is none, an error when it is another sweep."""
    file = out / "manifest.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    _same(out, manifest, found)
    return found


def _same(out: Path, manifest: dict, found: dict) -> None:
    different = [
        f"{name} is {value!r} now and {found.get(name)!r} there"
        for name, value in manifest.items()
        if found.get(name) != value
    ]
    if different:
        raise DataError(
            f"{out}: holds another sweep: {'; '.join(different)}. Choose another folder, or go on with the "
            "same settings."
        )
