"""Runs whose scores come from outside: they are measured and kept as those of a sweep are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.disk import locked
from fairjax.core.types import PyTree, Splits
from fairjax.training._sweep import Runs, run_chunks
from fairjax.training.chunks import ChunkSizes
from fairjax.training.manifest import FORMAT, SweepFolder, fingerprint

Scores = dict[str, np.ndarray]  # per split [N, C]


def scored(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """The program that measures scores, jitted.

    Args:
      evaluate: see :func:`fairjax.training.member`.

    Returns:
      ``run(scores, splits) -> dict`` of scores ``[M, N, C]`` per split, with the entries
      ``metrics``, ``diverged`` (a score is not finite) and ``scores``, leaves ``[M, ...]``.
    """

    def run(scores: Scores, splits: Splits) -> dict[str, PyTree]:
        evaluated = {split: scores[split] for split in ("validation", "test")}
        finite = [jnp.all(jnp.isfinite(score)) for score in scores.values()]
        return {
            "metrics": evaluate(evaluated, splits),
            "diverged": ~jnp.all(jnp.stack(finite)),
            "scores": scores,
        }

    return jax.jit(jax.vmap(run, in_axes=(0, None)))


def sweep_scores(
    scores_of: Callable[[int], Scores],
    identity: dict[str, Any],
    seeds: Sequence[int],
    splits: Splits,
    width: int,
    program: Callable[..., Any],
    *,
    out: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Runs:
    """Score and measure one point with every seed.

    Args:
      scores_of: from a seed to scores ``[N, C]`` of the rows of all splits.
      identity: what tells the scores apart from those of another sweep; JSON-safe.
      seeds: S seeds.
      splits: the data.
      width: C.
      program: of :func:`scored`.
      out: a folder for finished runs; those that are there are not scored again.
      progress: called with the number of runs that were just finished.

    Returns:
      :class:`Runs` with S members, which keep their scores.

    Raises:
      DataError: ``out`` holds a different sweep, or another process sweeps there.
    """
    seed = np.asarray(seeds)
    schedule = ChunkSizes([(0, 1)], devices=1, tune=False)
    with locked(out, "a sweep") if out else contextlib.nullcontext():
        folder = None
        if out:
            sweep = {"seeds": seed.tolist(), "data": fingerprint(splits), "jax": jax.__version__}
            folder = SweepFolder(out, {"format": FORMAT, **identity, **sweep})
            shapes = {
                split: jax.ShapeDtypeStruct((1, len(rows.weight), width), np.float32)
                for split, rows in zip(Splits._fields, splits, strict=True)
            }
            folder.add_program(program.lower(shapes, splits))
            folder.write_sizes(schedule.sizes)

        def arguments(first: int, size: int) -> tuple[Any, ...]:
            scores = scores_of(int(seed[first]))
            return {split: score[None] for split, score in scores.items()}, splits

        _, results = run_chunks(program, arguments, len(seed), 1, schedule, folder, progress)
    nothing = np.zeros(len(seed), int)
    return Runs(
        point=nothing,
        seed=seed,
        hparams={},
        **results,
        values=None,
        params=None,
        record=(),
        block=nothing,
        compilations=program._cache_size(),
        chunk=schedule.current,
    )
