"""Parts of a study on a Ray cluster, which may be this machine alone.

An actor has some CPU devices or one accelerator. It gets the data once from Ray's object store,
trains part after part, and writes every chunk whole into the study's folder, which all machines
must see. One that dies is started again, and the chunks that it had finished stay. There are more
parts than actors, so that a slow machine takes fewer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from fairjax.core.types import DataError
from fairjax.data import Prepared
from fairjax.study.config import NamedStudy
from fairjax.study.run import Programs, from_names, run_part
from fairjax.training import Part

PARTS = 4  # of an actor
PASSED = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_FLAGS")  # variables that an actor has from here


class _Worker:
    """An actor: it trains parts of one study."""

    def __init__(
        self, stored: list[Any], names: NamedStudy, out: str, keep: tuple[str, ...]
    ) -> None:
        import ray

        self._data = ray.get(stored[0])
        self._study = from_names(self._data, names)
        self._programs = Programs(self._study, keep)
        self._out = Path(out)

    def run(self, number: int, of: int) -> int:
        """The number of runs in a part."""
        part = Part(number, of)
        study, programs = self._study, self._programs
        return run_part(part, self._data, study, out=self._out, progress=False, programs=programs)


def run_on_ray(
    data: Prepared,
    names: NamedStudy,
    *,
    out: Path,
    keep: tuple[str, ...] = ("params",),
    address: str = "local",
    devices: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Train and evaluate all parts of a study; :func:`run_study` in ``out`` then finds them.

    Args:
      data: the data.
      names: the study, all of whose objects have names.
      out: its folder, which all machines see.
      keep: what the runs leave behind, see :func:`run_study`.
      address: of a cluster; ``"auto"`` for the one that this machine belongs to, ``"local"`` for
        one that is begun here and ended with the parts.
      devices: CPU devices of an actor, as many as :func:`run_study` has; where the cluster has
        accelerators, an actor has one.
      progress: called with the parts done and the parts in all.

    Returns:
      The number of runs.

    Raises:
      ImportError: Ray is not installed.
      DataError: the cluster has no room for an actor, or a part fails for its input.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise ImportError("a Ray cluster needs ray: pip install 'fairjax[ray]'") from error

    is_own = not ray.is_initialized()
    if is_own:
        ray.init(None if address == "local" else address, log_to_driver=False)
    try:
        resources = ray.cluster_resources()
        accelerators = int(resources.get("GPU", 0))
        actors = accelerators or int(resources.get("CPU", 0)) // devices
        if actors < 1:
            raise DataError(
                f"--ray {address}: the cluster has {resources.get('CPU', 0):g} cores, and an actor "
                f"needs {devices}. Give fewer with --devices."
            )
        variables = {name: os.environ[name] for name in PASSED if name in os.environ}
        variables["JAX_NUM_CPU_DEVICES"] = str(devices)
        programs = jax.config.jax_compilation_cache_dir
        if programs:
            variables["JAX_COMPILATION_CACHE_DIR"] = programs
            least = jax.config.jax_persistent_cache_min_compile_time_secs
            variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(least)
        options = {
            "num_cpus": 1 if accelerators else devices,
            "num_gpus": 1 if accelerators else 0,
            "max_restarts": -1,
            "max_task_retries": -1,
            "runtime_env": {"env_vars": variables},
        }
        worker = ray.remote(**options)(_Worker)
        stored = [ray.put(data)]  # held here, for actors that are started again
        given = (stored, names, str(Path(out).resolve()), keep)
        pool = ActorPool([worker.remote(*given) for _ in range(actors)])
        parts = PARTS * actors
        counts = pool.map_unordered(lambda actor, i: actor.run.remote(i, parts), range(parts))
        runs = 0
        for done in range(parts):
            if progress:
                progress(done, parts)
            runs += next(counts)
        if progress:
            progress(parts, parts)
        return runs
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from None
        raise
    finally:
        if is_own:
            ray.shutdown()
