"""The features of raw rows: a pretrained network's outputs, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from fairjax.core.disk import cache_dir, read_arrays, write_arrays
from fairjax.core.types import Array, DataError, Images, Sentences
from fairjax.pretrained.network import Pretrained, Progress
from fairjax.pretrained.texts import as_texts

_BLOCK = 1024  # texts that are read at a time
_SHORTEST = 8  # length to which tokens are padded


def features(
    pretrained: Pretrained,
    rows: Iterable[Any],
    *,
    dtype: DTypeLike = jnp.float32,
    batch: int | None = None,
    cache: str | Path | bool | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Features ``[N, D]`` float32 of raw rows.

    Equal rows are computed once. Texts are sorted by length and padded to a few lengths, so the
    network is compiled a few times. What was computed is kept in a file per network, rows and
    precision, and read from there the next time; a damaged file is computed again.

    Args:
      pretrained: the network.
      rows: N texts, of which a missing one is an empty text, or pixels ``[N, H, W, 3]`` uint8.
      dtype: precision of the weights and of what is computed with them: float32 or bfloat16.
      batch: rows at a time. Default: as many as the network suggests.
      cache: folder of the files. Default: ``features`` in the user's cache,
        :func:`fairjax.core.disk.cache_dir`. False: no file is read or written.
      progress: is called with the network's name, and with the number of different rows that are
        done and of all of them; ``fairjax.study.progress.ProgressBars().advance`` is one.

    Raises:
      DataError: rows are neither texts nor images, or the network refuses them; or a batch of no
        row.
    """
    batch = pretrained.batch if batch is None else batch
    if batch < 1:
        raise DataError(f"features: a batch of {batch} rows. Give 1 or more.")
    dtype = jnp.dtype(dtype)
    is_pixels = isinstance(rows, np.ndarray) and rows.ndim == 4
    rows = rows if is_pixels else np.array(as_texts(rows), dtype=object)
    digests = [_digest(row) for row in rows]
    path = None
    if cache is not False:
        folder = cache_dir() / "features" if cache in (None, True) else Path(cache)
        key = "".join((pretrained.fingerprint, dtype.name, str(rows.shape[1:])))
        path = folder / f"{hashlib.sha256(key.encode() + b''.join(digests)).hexdigest()}.npz"
        kept = _kept(path, (len(rows), pretrained.width))
        if kept is not None:
            return kept
    first_of: dict[bytes, int] = {}
    for row, digest in enumerate(digests):
        first_of.setdefault(digest, row)
    place_of = {digest: place for place, digest in enumerate(first_of)}
    distinct = _computed(pretrained, rows[list(first_of.values())], dtype, batch, progress)
    computed = distinct[[place_of[digest] for digest in digests]]
    if path is not None:
        _keep(path, computed)
    return computed


def _digest(row) -> bytes:
    content = row.encode() if isinstance(row, str) else np.ascontiguousarray(row).data
    return hashlib.sha256(content).digest()


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What a file holds; None if there is none, or a damaged one."""
    if not path.is_file():
        return None
    try:
        kept = read_arrays(path)["features"]
    except (DataError, KeyError):
        return None
    return kept if kept.shape == shape and kept.dtype == np.float32 else None


def _keep(path: Path, computed: np.ndarray) -> None:
    try:
        write_arrays(path, {"features": computed})
    except DataError as error:
        warnings.warn(f"the features are not kept: {error}", stacklevel=3)


def _computed(
    pretrained: Pretrained,
    rows: np.ndarray,
    dtype: np.dtype,
    batch: int,
    progress: Progress | None,
) -> np.ndarray:
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), pretrained.params)
    encode = jax.jit(pretrained.apply)
    computed = np.zeros((len(rows), pretrained.width), np.float32)
    finished = 0
    # float32 means float32 on devices that have something faster, too
    with jax.default_matmul_precision("float32"):
        for places, x in _batches(pretrained, rows, batch):
            encoded: Array = encode(params, x)
            computed[places] = np.asarray(encoded, np.float32)[: len(places)]
            finished += len(places)
            if progress is not None:
                progress(pretrained.name, finished, len(rows))
    return computed


def _batches(
    pretrained: Pretrained, rows: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, Sentences | Images]]:
    """Places of some rows, and their inputs, which rows of zeros may follow."""
    if rows.ndim == 1:
        yield from _text_batches(pretrained, rows, batch)
        return
    for start in range(0, len(rows), batch):
        places = np.arange(start, min(start + batch, len(rows)))
        pixels = np.asarray(pretrained.read(rows[places]).pixels)
        missing = _rounded(len(places), batch) - len(places)
        yield places, Images(np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0))))


def _text_batches(
    pretrained: Pretrained, rows: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, Sentences]]:
    """The longest texts first: what does not fit into the memory fails at once."""
    ids = []
    for start in range(0, len(rows), _BLOCK):
        tokens = np.asarray(pretrained.read(rows[start : start + _BLOCK]).tokens)
        ids += [row[: np.count_nonzero(row)].copy() for row in tokens]
    lengths = np.array([len(row) for row in ids])
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        # no longer than what the network reads
        length = min(_padded(lengths[places[0]]), lengths[order[0]])
        tokens = np.zeros((_rounded(len(places), batch), length), np.int32)
        for row, place in enumerate(places):
            tokens[row, : lengths[place]] = ids[place]
        yield places, Sentences(tokens)


def _rounded(count: int, most: int) -> int:
    """A power of two of at least ``count`` rows, or ``most``."""
    return min(most, 1 << (count - 1).bit_length())


def _padded(length: int) -> int:
    """``length`` rounded up to 8, 12, 16, 24, 32, 48, 64, ..."""
    power = _SHORTEST
    while power < length:
        power *= 2
    between = 3 * power // 4
    return between if _SHORTEST < power and length <= between else power
