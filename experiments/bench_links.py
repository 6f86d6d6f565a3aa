"""Links against a plain sum of the rows and against TorchJD, in one run, on the CPU in float32.

    python experiments/bench_links.py            # the whole grid
    python experiments/bench_links.py --quick    # few rows, few parameters, three minutes
    python experiments/bench_links.py --part memory     # part 6 alone
    python experiments/bench_links.py --part products   # part 7 alone

1. Aggregation alone: every link on given rows, against ``sum_rows`` and against TorchJD's
   aggregator of the same name on the same Jacobian, which must give the same update where nothing
   is drawn.
2. PCGrad in Gram coordinates against the same algorithm on the vectors.
3. ``value_and_rows`` by its modes: time and memory, each in a process of its own.
4. A training step with PCGrad against the gradients of its K losses alone.
5. The same training step by TorchJD.
6. Memory: an update by PCGrad of eight rows of 1e7 parameters, in many layers and in few, from rows
   and without them (``mode="gram"``), beside TorchJD's rows and its engine, and beside one backward
   pass. Each in a process of its own that gives freed memory back.
7. The Gram matrix of long rows against the matrix product of PyTorch's BLAS.

Both sides take turns, so that other load on the machine hits both; each time is the best of several
after a first call that is not counted. Parts 6 and 7 count the CPU seconds of all threads, on which
other load tells less. Without torchjd its columns stay empty. Written: ``links.csv`` (part 1, every
cell), ``links.md``, ``memory.md`` (part 6) and ``products.md`` (part 7).
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib.metadata
import importlib.util
import io
import math
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax import gradients
from fairjax.core import disk

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BLOCK = 10_000  # columns that are drawn; more parameters repeat them
SHARES = (50, 25, 20, 4, 1)  # percent of the parameters in each leaf
# what the constants must be for both sides to compute the same
GIVEN = {
    "weighted_rows": {"weights": 1.0, "diagnostics": False},
    "mean_rows": {"diagnostics": False},
    "random_weighting": {"diagnostics": False},
    "dwa": {"every": 100},
    "cagrad": {"rescale": 0},
}
DRAWN = ("random_weighting", "graddrop")  # never the same update on both sides
ORDERED = ("pcgrad", "gradvac")  # the same for two rows, where there is one order
IN_OUT = 64, 4  # inputs of the network, outputs of a head


def peers(rows: int) -> dict[str, Callable]:
    """TorchJD's aggregators by our names; none when torchjd is not installed."""
    if importlib.util.find_spec("torchjd") is None:
        return {}
    from torchjd import aggregation as a

    return {
        "mean_rows": a.Mean(),
        "weighted_rows": a.Sum(),
        "random_weighting": a.Random(),
        "upgrad": a.UPGrad(),
        "dualproj": a.DualProj(),
        "mgda": a.MGDA(),
        "cagrad": a.CAGrad(c=0.5),
        "imtl_g": a.IMTLG(),
        "conflict_free": a.ConFIG(),
        "nash_mtl": a.NashMTL(n_tasks=rows),
        "fairgrad": a.FairGrad(alpha=2.0),
        "pcd": a.PCD(),
        "excess_mtl": a.ExcessMTL(),
        "aligned_mtl": a.AlignedMTL(),
        "pcgrad": a.PCGrad(),
        "gradvac": a.GradVac(beta=0.01),
        "graddrop": a.GradDrop(),
    }


def links(rows: int) -> dict[str, optax.GradientTransformationExtraArgs]:
    """Every link of the family by name."""
    family = {}
    for name, entry in gradients.REGISTRY.items():
        if entry.owns_optimizer:
            family[name] = entry.factory(rows, optax.identity())
        elif name != "sum_rows":  # the yardstick, timed by itself
            family[name] = entry.factory(rows, **GIVEN.get(name, {}))
    return family


def timed(call: Callable) -> float:
    """Seconds of one call; the call must wait for its result."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def cpu_timed(call: Callable) -> float:
    """CPU seconds of one call, of all threads; what it returns is dropped."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def race(calls: dict[str, Callable], rounds: int, slice_s: float = 0.01) -> dict[str, float]:
    """Best seconds of each call; they take turns, a few calls at a time."""
    best = {name: math.inf for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            spent, count = 0.0, 0
            while count < 2 or spent < slice_s:
                took = timed(call)
                best[name], spent, count = min(best[name], took), spent + took, count + 1
                if took > 1.0:
                    break
    return best


def block(rows: int, seed: int = 0) -> np.ndarray:
    """``[K, BLOCK]`` float64: correlated rows, of which many conflict."""
    rng = np.random.default_rng(seed)
    mix = np.eye(rows) + 0.5 * rng.normal(size=(rows, rows)) / np.sqrt(rows)
    return mix @ rng.normal(size=(rows, BLOCK))


def leaves_of(matrix: np.ndarray) -> list[jax.Array]:
    """The columns of a Jacobian as a handful of leaves ``[K, ...]``, three of them matrices."""
    ends = np.cumsum(SHARES)[:-1] * (matrix.shape[1] // 100)
    parts = np.split(matrix, ends, axis=1)
    return [jnp.asarray(p.reshape(len(p), 50, -1) if i < 3 else p) for i, p in enumerate(parts)]


def flat(update: list[jax.Array]) -> np.ndarray:
    """The leaves of an update as one vector."""
    return np.concatenate([np.asarray(u).ravel() for u in update])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference relative to the largest entry of the other; infinite where that is 0 and
    this is not.
    """
    off, largest = float(np.max(np.abs(one - other))), float(np.max(np.abs(other)))
    return off / largest if largest > 0 else math.inf if off > 0 else 0.0


def bandwidth(size: int = 64_000_000) -> float:
    """Bytes per second of ``a + 1`` on a long vector: what is read and what is written."""
    add, a = jax.jit(lambda a: a + 1), jnp.zeros(size, jnp.float32)
    return 8 * size / min(timed(lambda: add(a).block_until_ready()) for _ in range(5))


def aggregation(counts, sizes, rounds: int, limit: float) -> list[dict]:
    """Part 1: a dictionary per link and cell."""
    found, pace = [], {}
    for rows in counts:
        for size in sizes:
            if rows * size * 4 > 2e9:
                print(
                    f"  K={rows} P={size:.0e}: skipped, the rows take {rows * size * 4 / 1e9:.1f} "
                    "GB",
                    flush=True,
                )
                continue
            matrix = np.tile(block(rows).astype("f4"), (1, size // BLOCK))
            leaves, values = leaves_of(matrix), jnp.linspace(0.5, 1.5, rows)
            params, theirs = [jnp.zeros(g.shape[1:]) for g in leaves], peers(rows)
            plain, none = (
                jax.jit(lambda r, p: gradients.sum_rows().update(r, optax.EmptyState(), p)[0]),
                [],
            )
            total = functools.partial(
                lambda f, *a: jax.block_until_ready(f(*a)), plain, leaves, params
            )
            total()
            if theirs:
                import torch

                jacobian = torch.from_numpy(matrix)
            for name, tx in links(rows).items():
                step = jax.jit(
                    lambda r, s, p, v, tx=tx: tx.update(r, s, p, values=v, value_fn=lambda _: v)
                )
                given = leaves, tx.init(params), params, values
                mine = functools.partial(lambda f, *a: jax.block_until_ready(f(*a)), step, *given)
                begin = time.perf_counter()
                update, _ = mine()
                row = {
                    "link": name,
                    "rows": rows,
                    "parameters": size,
                    "first_call_s": time.perf_counter() - begin,
                }
                calls = {"sum": total, "ours": mine}
                peer, slow = theirs.get(name), pace.get((name, rows), 0.0)
                if peer and slow > limit:
                    none.append(f"{name} ({slow:.0f} s expected)")
                elif peer:
                    pace[name, rows] = 10 * timed(lambda: row.update(update=peer(jacobian)))  # noqa: B023
                    other = row.pop("update").numpy()
                    if name not in DRAWN and (rows == 2 or name not in ORDERED):
                        row["difference"] = difference(flat(update), other)
                    calls["torchjd"] = functools.partial(peer, jacobian)
                best = race(calls, rounds)
                found.append(row | {f"{k}_s": v for k, v in best.items()})
            some = [r for r in found if r["rows"] == rows and r["parameters"] == size]
            ratio = [r["torchjd_s"] / r["ours_s"] for r in some if "torchjd_s" in r]
            print(
                f"  K={rows} P={size:.0e}: sum {min(r['sum_s'] for r in some) * 1e3:.3f} ms; links "
                f"{min(r['ours_s'] / r['sum_s'] for r in some):.1f} to "
                f"{max(r['ours_s'] / r['sum_s'] for r in some):.1f} sums"
                + (
                    f"; TorchJD takes {min(ratio):.1f} to {max(ratio):.1f} times as long"
                    if ratio
                    else ""
                )
                + (f"; TorchJD skipped: {', '.join(none)}" if none else ""),
                flush=True,
            )
    return found


def vector_pcgrad(leaves: list[jax.Array]) -> list[jax.Array]:
    """PCGrad on the vectors, j ascending: for each j an inner product and a subtraction for every
    row, then the sum.
    """
    rows = leaves[0].shape[0]
    flat_leaves = [g.reshape(rows, -1) for g in leaves]
    high = {"precision": jax.lax.Precision.HIGHEST}
    squared = sum(jnp.einsum("ip,ip->i", g, g, **high) for g in flat_leaves)

    def step(j, moved):
        inner = sum(
            jnp.einsum("ip,p->i", m, g[j], **high) for m, g in zip(moved, flat_leaves, strict=True)
        )
        take = jnp.where((inner < 0) & (jnp.arange(rows) != j), inner / squared[j], 0.0)
        return [m - take[:, None] * g[j] for m, g in zip(moved, flat_leaves, strict=True)]

    moved = jax.lax.fori_loop(0, rows, step, flat_leaves)
    return [jnp.sum(m, axis=0).reshape(g.shape[1:]) for m, g in zip(moved, leaves, strict=True)]


def gram_pcgrad(leaves: list[jax.Array]) -> list[jax.Array]:
    """The same through the Gram matrix, by the link."""
    tx, params = (
        gradients.pcgrad(leaves[0].shape[0], ascending=True),
        [jnp.zeros(g.shape[1:], g.dtype) for g in leaves],
    )
    return tx.update(leaves, tx.init(params), params)[0]


def forms(counts, sizes, rounds: int, limit: float) -> list[dict]:
    """Part 2: a dictionary per cell, differences in float32 and float64 and times in float32."""
    found = []
    for rows in counts:
        by_vector, by_gram, slow = jax.jit(vector_pcgrad), jax.jit(gram_pcgrad), 0.0
        for size in sizes:
            row = {"rows": rows, "parameters": size}
            if rows * size * 4 > 2e9 or slow > limit:
                why = f"{slow:.0f} s expected" if slow > limit else "over 2 GB"
                print(f"  K={rows} P={size:.0e}: skipped, {why}", flush=True)
                continue
            for kind in ("f4", "f8"):
                if rows * size * int(kind[1]) > 2e9:
                    continue
                with jax.enable_x64(kind == "f8"):
                    leaves = leaves_of(np.tile(block(rows).astype(kind), (1, size // BLOCK)))
                    one, other = (jax.block_until_ready(f(leaves)) for f in (by_vector, by_gram))
                    row[f"difference_{kind}"] = difference(flat(other), flat(one))
                    if kind == "f4":
                        best = race(
                            {
                                "vector": lambda x=leaves: jax.block_until_ready(by_vector(x)),  # noqa: B023
                                "gram": lambda x=leaves: jax.block_until_ready(by_gram(x)),  # noqa: B023
                            },
                            rounds,
                        )
                    del leaves, one, other
            slow = 10 * best["vector"]
            found.append(row | {f"{k}_s": v for k, v in best.items()})
            print(
                f"  K={rows} P={size:.0e}: {best['vector'] / best['gram']:.1f} times as fast as on "
                "vectors, difference "
                + ", ".join(f"{row[k]:.1e} ({k[-2:]})" for k in row if k.startswith("diff")),
                flush=True,
            )
    return found


def network(rows: int, width: int, batch: int, seed: int = 0) -> tuple[dict, tuple]:
    """Parameters of a trunk of two hidden layers with K linear heads, and a batch."""
    rng, (inputs, outputs) = np.random.default_rng(seed), IN_OUT

    def layer(*shape):
        scale = np.sqrt(2.0 / shape[-2])
        return {
            "kernel": (scale * rng.normal(size=shape)).astype("f4"),
            "bias": np.zeros((*shape[:-2], shape[-1]), "f4"),
        }

    params = {
        "first": layer(inputs, width),
        "second": layer(width, width),
        "heads": {f"{k:02}": layer(width, outputs) for k in range(rows)},
    }
    x = rng.normal(size=(batch, inputs)).astype("f4")
    return jax.tree.map(jnp.asarray, params), (
        x,
        rng.normal(size=(rows, batch, outputs)).astype("f4"),
    )


def losses(params: dict, x, targets) -> tuple:
    """K mean squared errors."""
    for name in ("first", "second"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return tuple(
        jnp.mean((x @ h["kernel"] + h["bias"] - targets[k]) ** 2)
        for k, h in enumerate(params["heads"].values())
    )


def high_water(reset: bool = False) -> int:
    """Peak resident bytes of this process, since the last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return 1024 * int(
            re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)
        )
    except (OSError, AttributeError):
        return 0


def one_mode(rows: int, width: int, batch: int, mode: str, chunk: int) -> dict:
    """Part 3 in a process of its own: time and memory of the rows of one network."""
    params, data = network(rows, width, batch)
    begin = time.perf_counter()
    made = (
        jax.jit(gradients.value_and_rows(losses, mode=mode, chunk=chunk))
        .lower(params, *data)
        .compile()
    )
    compile_s, memory, before = (
        time.perf_counter() - begin,
        made.memory_analysis(),
        high_water(reset=True),
    )
    seconds = [timed(lambda: jax.block_until_ready(made(params, *data))) for _ in range(4)]
    return {
        "rows": rows,
        "mode": mode if mode != "map" else f"map, chunk {chunk}",
        "compile_s": compile_s,
        "seconds": min(seconds),
        "temporary_bytes": memory.temp_size_in_bytes,
        "rows_bytes": memory.output_size_in_bytes,
        "resident_bytes": high_water() - before,
    }


def deep_network(layers: int, width: int, rows: int, batch: int) -> tuple[dict, np.ndarray]:
    """Kernels of a trunk of equal layers with one linear head of K outputs, and a batch."""
    rng = np.random.default_rng(0)

    def kernel(outputs):
        return (rng.normal(size=(width, outputs)) / np.sqrt(width)).astype("f4")

    params = {"layers": [kernel(width) for _ in range(layers)], "heads": kernel(rows)}
    return params, rng.normal(size=(batch, width)).astype("f4")


def our_update(how: str, params: dict, x: np.ndarray) -> Callable:
    """An update by PCGrad from rows of a mode, or the gradient of the sum."""
    rows = params["heads"].shape[1]
    tx = gradients.pcgrad(rows)
    params, x = jax.tree.map(jnp.asarray, (params, x))

    def deep_losses(p):
        z = x
        for kernel in p["layers"]:
            z = jax.nn.relu(z @ kernel)
        return tuple(jnp.mean(((z @ p["heads"])[:, k] - 1.0) ** 2) for k in range(rows))

    def update(p):
        if how == "one backward pass":
            return jax.grad(lambda p: sum(deep_losses(p)))(p)
        _, given = gradients.value_and_rows(deep_losses, mode=how)(p)
        return tx.update(given, tx.init(p), p)[0]

    made = jax.jit(update).lower(params).compile()
    return lambda: jax.block_until_ready(made(params))


def their_update(how: str, params: dict, x: np.ndarray) -> Callable:
    """The same by TorchJD: from rows, by its engine, or the gradient of the sum."""
    import torch
    from torchjd.aggregation import PCGrad, PCGradWeighting
    from torchjd.autogram import Engine
    from torchjd.autojac import backward, jac_to_grad

    torch.set_num_threads(CORES)

    def linear(kernel):
        made = torch.nn.Linear(*kernel.shape, bias=False)
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(kernel.T))
        return made

    hidden = [(linear(kernel), torch.nn.ReLU()) for kernel in params["layers"]]
    model = torch.nn.Sequential(*(part for pair in hidden for part in pair))
    model.append(linear(params["heads"]))
    free, x = list(model.parameters()), torch.from_numpy(x)
    engine = Engine(model, batch_dim=None) if how == "engine" else None

    def update():
        for param in free:
            param.grad = None
        values = ((model(x) - 1.0) ** 2).mean(dim=0)
        if how == "one backward pass":
            values.sum().backward()
        elif how == "engine":
            values.backward(PCGradWeighting()(engine.compute_gramian(values)))
        else:
            backward(list(values), parallel_chunk_size=1)
            jac_to_grad(free, PCGrad())
        return [param.grad for param in free]

    return update


def one_update(of: str, how: str, layers: int, width: int, rows: int, batch: int) -> dict:
    """Part 6 in a process of its own: seconds and peak of an update, parameters included."""
    params, x = deep_network(layers, width, rows, batch)
    held = sum(a.nbytes for a in jax.tree.leaves(params))
    update = {"ours": our_update, "torchjd": their_update}[of](how, params, x)
    del params
    before = high_water(reset=True)
    seconds = [cpu_timed(update) for _ in range(5)]
    return {
        "of": of,
        "how": how,
        "layers": layers,
        "seconds": min(seconds[1:]),
        "peak_bytes": held + high_water() - before,
    }


def memory(shapes: list[tuple[int, int]], rows: int, batch: int) -> list[dict]:
    """Part 6; ``shapes`` are numbers of layers and widths."""
    kinds = [("ours", how) for how in ("one backward pass", "gram", "map", "unroll", "vmap")]
    if importlib.util.find_spec("torchjd") is not None:
        kinds += [("torchjd", how) for how in ("one backward pass", "engine", "rows")]
    # glibc keeps what is freed below this size, and the high water would count it again
    os.environ["MALLOC_MMAP_THRESHOLD_"] = os.environ["MALLOC_TRIM_THRESHOLD_"] = "65536"
    found = []
    for layers, width in shapes:
        for of, how in kinds:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                job = pool.submit(one_update, of, how, layers, width, rows, batch)
                found.append(job.result())
            r = found[-1]
            print(
                f"  {layers} layers, {of}, {how}: {r['seconds'] * 1e3:.0f} CPU ms, peak "
                f"{r['peak_bytes'] / 1e6:.0f} MB",
                flush=True,
            )
    return found


def modes(counts, width: int, batch: int) -> list[dict]:
    """Part 3."""
    found = []
    for rows in counts:
        for mode, chunk in (("unroll", 1), ("vmap", 1), ("map", 1), ("map", 4)):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found.append(pool.submit(one_mode, rows, width, batch, mode, chunk).result())
            r = found[-1]
            print(
                f"  K={rows} {r['mode']}: {r['seconds'] * 1e3:.0f} ms, "
                f"{r['temporary_bytes'] / 1e6:.0f} MB beside rows of "
                f"{r['rows_bytes'] / 1e6:.0f} MB, {r['resident_bytes'] / 1e6:.0f} MB resident",
                flush=True,
            )
    return found


def torch_step(
    params: dict, data: tuple, aggregate, chunk: int | None
) -> tuple[Callable, Callable]:
    """A training step by TorchJD of the same network, and what gives its parameters in our order."""
    import torch
    from torchjd.autojac import backward, jac_to_grad

    def linear(layer):
        made = torch.nn.Linear(*layer["kernel"].shape)
        with torch.no_grad():
            made.weight.copy_(torch.tensor(np.asarray(layer["kernel"]).T))
            made.bias.copy_(torch.tensor(np.asarray(layer["bias"])))
        return made

    layers = [linear(params["first"]), linear(params["second"])]
    trunk = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU())
    heads = torch.nn.ModuleList(linear(h) for h in params["heads"].values())
    free = [*trunk.parameters(), *heads.parameters()]
    optimizer, (x, targets) = torch.optim.SGD(free, lr=0.01), (torch.from_numpy(d) for d in data)

    def step():
        z = trunk(x)
        values = [((head(z) - t) ** 2).mean() for head, t in zip(heads, targets, strict=True)]
        backward(values, parallel_chunk_size=chunk)
        jac_to_grad(free, aggregate)
        optimizer.step()
        optimizer.zero_grad()

    def state():
        def layer(made):
            return {"bias": made.bias.detach().numpy(), "kernel": made.weight.detach().numpy().T}

        return {
            "first": layer(layers[0]),
            "heads": {k: layer(h) for k, h in zip(params["heads"], heads, strict=True)},
            "second": layer(layers[1]),
        }

    return step, state


def training(rows: int, width: int, batch: int, rounds: int) -> dict:
    """Components 4 and 5: seconds of steps, of gradients alone and of TorchJD's steps, all in turn."""
    params, data = network(rows, width, batch)
    pull = gradients.value_and_rows(losses)
    calls = {
        "rows returned": jax.jit(pull),
        "rows summed": jax.jit(lambda p, *d: jax.tree.map(lambda g: g.sum(0), pull(p, *d)[1])),
        "one gradient of the sum": jax.jit(jax.value_and_grad(lambda p, *d: sum(losses(p, *d)))),
    }
    runs = {k: (lambda f=f: jax.block_until_ready(f(params, *data))) for k, f in calls.items()}
    after = {}
    for name in ("sum_rows", "pcgrad", "upgrad"):
        link = gradients.sum_rows() if name == "sum_rows" else getattr(gradients, name)(rows)
        tx = optax.chain(link, optax.sgd(0.01))

        def step(p, s, *d, tx=tx):
            _, r = pull(p, *d)
            updates, s = tx.update(r, s, p)
            return optax.apply_updates(p, updates), s

        made, state = jax.jit(step), tx.init(params)
        runs[f"step with {name}"] = lambda f=made, s=state: jax.block_until_ready(
            f(params, s, *data)
        )
        after[name] = runs[f"step with {name}"]()[0]
    found = {
        "rows": rows,
        "batch": batch,
        "parameters": sum(a.size for a in jax.tree.leaves(params)),
    }
    for name in ("pcgrad", "upgrad"):
        for chunk in (None, 1):
            if peer := peers(rows).get(name):
                label = f"TorchJD with {name}" + (", one row at a time" if chunk else "")
                runs[label], told = torch_step(params, data, peer, chunk)
                runs[label]()
                if name == "upgrad" and chunk is None:
                    one, other = (
                        flat(
                            jax.tree.leaves(
                                jax.tree.map(lambda a, b: jnp.asarray(a) - b, t, params)
                            )
                        )
                        for t in (after[name], told())
                    )
                    found["step_difference"] = difference(one, other)
    for call in runs.values():
        call()
    best = race(runs, rounds, slice_s=0.1)
    for name, seconds in best.items():
        print(f"  {name}: {seconds * 1e3:.2f} ms", flush=True)
    return found | {"seconds": best}


def table(head: list[str], lines: list[list]) -> str:
    """Markdown; numbers with three digits."""

    def shown(cell) -> str:
        return "" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else str(cell)

    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(shown, row)) + " |" for row in rows) + "\n"


def write_memory(args: argparse.Namespace, told: str) -> None:
    """Part 6 and its table."""
    rows, batch = 8, 64 if args.quick else 256
    found = memory([(4, 300), (1, 600)] if args.quick else [(10, 1000), (2, 2236)], rows, batch)
    least = {(r["of"], r["layers"]): r for r in found if r["how"] == "one backward pass"}
    lines = []
    for r in found:
        one = least[r["of"], r["layers"]]
        lines.append(
            [
                r["layers"],
                {"ours": "fairjax", "torchjd": "TorchJD"}[r["of"]],
                r["how"],
                r["peak_bytes"] / 1e6,
                r["peak_bytes"] / one["peak_bytes"],
                1e3 * r["seconds"],
                r["seconds"] / one["seconds"],
            ]
        )
    head = ["layers", "by", "from", "MB", "backward passes", "CPU ms", "backward passes"]
    text = (
        f"`python experiments/bench_links.py --part memory`: {told}. An update by PCGrad of {rows} rows "
        f"on a network without biases, batch {batch}: resident memory at the peak, parameters "
        "included, and CPU time of all threads, each also in those of one backward pass by the "
        "same library.\n\n" + table(head, lines)
    )
    print(text)
    disk.write(args.out / "memory.md", text.encode())


def write_products(args: argparse.Namespace, told: str) -> None:
    """Part 7 and its table."""
    size = 100_000 if args.quick else 10_000_000
    has_torch = importlib.util.find_spec("torch") is not None
    lines = []
    for rows in (2, 8, 40):
        matrix = np.tile(block(rows).astype("f4"), (1, size // BLOCK))
        leaves = leaves_of(matrix)
        made = jax.jit(gradients.gram_matrix.gram)
        calls = {"ours": lambda f=made, x=leaves: jax.block_until_ready(f(x))}
        if has_torch:
            import torch

            jacobian = torch.from_numpy(matrix)
            calls["torch"] = lambda j=jacobian: j @ j.T
        taken = {name: [] for name in calls}
        for _ in range(args.rounds + 1):
            for name, call in calls.items():
                taken[name].append(cpu_timed(call))
        best = {name: min(seconds[1:]) for name, seconds in taken.items()}
        ratio = best["torch"] / best["ours"] if has_torch else None
        theirs = 1e3 * best["torch"] if has_torch else None
        lines.append([rows, f"{size:.0e}", 1e3 * best["ours"], theirs, ratio])
        print(f"  K={rows}: {lines[-1]}", flush=True)
    text = (
        f"`python experiments/bench_links.py --part products`: {told}. The Gram matrix of K rows, "
        "CPU time of all threads.\n\n"
        + table(["K", "P", "fairjax, CPU ms", "PyTorch, CPU ms", "PyTorch / fairjax"], lines)
    )
    disk.write(args.out / "products.md", text.encode())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rows, few parameters")
    parser.add_argument("--part", choices=("memory", "products"), help="one part alone")
    parser.add_argument("--rounds", type=int, default=5, help="how often calls take turns")
    parser.add_argument(
        "--limit", type=float, default=20.0, help="seconds above which a peer's cell is left out"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "links")
    args = parser.parse_args()
    begin = time.perf_counter()
    versions = {
        name: importlib.metadata.version(name)
        for name in ("jax", "torch", "torchjd")
        if importlib.util.find_spec(name) is not None
    }
    if "torch" in versions:
        import torch

        torch.set_num_threads(CORES)
    counts, sizes = (
        ((2, 8), (10_000, 100_000))
        if args.quick
        else ((2, 8, 40), (10_000, 100_000, 1_000_000, 10_000_000))
    )
    width, batch = (300, 64) if args.quick else (900, 256)
    speed = bandwidth()
    told = (
        ", ".join(f"{k} {v}" for k, v in versions.items())
        + f"; {platform.system()}, Python {platform.python_version()}, "
        f"{CORES} cores, {speed / 1e9:.1f} GB per second"
    )
    parts = {"memory": write_memory, "products": write_products}
    if args.part:
        parts[args.part](args, told)
        return
    print(f"{told}\n1. aggregation of given rows", flush=True)
    one = aggregation(counts, sizes, args.rounds, args.limit)
    print("2. PCGrad in Gram coordinates against vectors", flush=True)
    two = forms(counts, sizes, args.rounds, args.limit)
    print("3. rows by mode", flush=True)
    three = modes(counts[1:], width, batch)
    print("4., 5. a training step", flush=True)
    four = training(8, width, batch, args.rounds)
    print("6. memory", flush=True)
    write_memory(args, told)
    print("7. products", flush=True)
    write_products(args, told)
    seconds = four["seconds"]
    cost = {
        name: seconds["step with pcgrad"] / seconds[name]
        for name in ("rows returned", "rows summed")
    }

    largest = {rows: max(r["parameters"] for r in one if r["rows"] == rows) for rows in counts}
    links_at = [
        [
            r["link"],
            r["rows"],
            f"{r['parameters']:.0e}",
            1e3 * r["ours_s"],
            r["ours_s"] / r["sum_s"],
            r["torchjd_s"] / r["ours_s"] if "torchjd_s" in r else None,
            r.get("difference"),
        ]
        for r in one
        if r["parameters"] in (10_000, largest[r["rows"]])
    ]
    text = "\n".join(
        [
            f"`python experiments/bench_links.py`: {told}. A plain sum reads K P numbers and "
            "writes P. "
            "The difference is the largest, relative to the largest entry of TorchJD's update: its "
            "MGDA ends its iteration early, "
            "and its ConFIG is 0 from 1e7 parameters, where the cutoff of its pseudo-inverse, P "
            "eps, is more than 1.\n",
            table(
                ["link", "K", "P", "ms", "times a plain sum", "TorchJD / ours", "difference"],
                links_at,
            ),
            "PCGrad, vectors against Gram coordinates:\n",
            table(
                ["K", "P", "vectors, ms", "Gram, ms", "ratio", "difference f32", "difference f64"],
                [
                    [
                        r["rows"],
                        f"{r['parameters']:.0e}",
                        1e3 * r["vector_s"],
                        1e3 * r["gram_s"],
                        r["vector_s"] / r["gram_s"],
                        r["difference_f4"],
                        r.get("difference_f8"),
                    ]
                    for r in two
                ],
            ),
            f"Rows of an MLP of width {width}, batch {batch}, by mode:\n",
            table(
                [
                    "K",
                    "mode",
                    "ms",
                    "compile, s",
                    "MB beside the rows",
                    "MB of rows",
                    "MB resident",
                ],
                [
                    [
                        r["rows"],
                        r["mode"],
                        1e3 * r["seconds"],
                        r["compile_s"],
                        r["temporary_bytes"] / 1e6,
                        r["rows_bytes"] / 1e6,
                        r["resident_bytes"] / 1e6,
                    ]
                    for r in three
                ],
            ),
            f"A training step, K = 8, {four['parameters']:,} parameters, batch {batch}; with "
            "PCGrad "
            f"{cost['rows returned']:.2f} times the rows returned and {cost['rows summed']:.2f} "
            "times the rows summed:\n",
            table(["what", "ms"], [[name, 1e3 * s] for name, s in seconds.items()]),
        ]
    )
    print(text + f"{time.perf_counter() - begin:.0f} s")
    held = io.StringIO()
    writer = csv.DictWriter(
        held, list(dict.fromkeys(k for r in one for k in r)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(one)
    disk.write(args.out / "links.csv", held.getvalue().encode())
    disk.write(args.out / "links.md", text.encode())


if __name__ == "__main__":
    main()
