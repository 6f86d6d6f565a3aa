"""Seconds and memory of a training step of a network that branches: against the shared trunk, and
against eager PyTorch, in one run, on the CPU in float32.

    python experiments/bench_branching.py            # both networks; 2, 5 and 17 tasks
    python experiments/bench_branching.py --quick    # the small network, 2 and 5 tasks, few rounds

All sides train on the same rows, ``L_t`` and ``F_t`` of every task, with the robust log loss and
AdamW: FairBranch's ``paper`` network (20-1024-128-256-512-128) without its batch normalisation, and
a ``small`` one (20-64-64-32); batches of 256 made-up rows.

1. ``branched``: ``fairbranch`` on one copy of the trunk per task, every layer divided (``split``),
   or a tree whose branches have twice the tasks one layer further down and whose first layer is
   shared (``tree``). Both are one program: the labels are data.
2. ``shared``: the same rows on one trunk, summed, or with the gate and the surgery of FairBranch
   (``pcgrad``). Rows are taken as a training takes them, and summed rows one by one as well where
   they are ten or fewer, which takes longer to compile.
3. ``torch``: the step as the released code of FairBranch does it, in our words, with the paper's
   surgery: the shared layers once, then every task along its own branches, a gradient per task and
   loss, the gate, the surgery of each branch, fused AdamW, on one thread or on all cores, whichever
   was faster. It must agree with ours on the losses and on every gradient of the first step, and on
   the losses five steps later.
4. ``16 members``: as many networks in one mapped program, against one process of one thread of
   PyTorch per core.

In passes through one copy, a branched step is T forward and 4 T backward, a shared one 1 and 4 T: at
most 1.25 times as many. With one row per task it would be 3 T against 1 + 2 T, at most 1.5.

Every side lives in a process of its own and waits while others are timed; they take turns, and
counted are medians, of ratios those within a round. Seconds of all cores (CPU) feel less of other
load than seconds do. A step of ours is one of a scan, as in a training. Memory is the peak of the
process above that of its imports, compilation included, and by XLA what the compiled program holds.
The last line is ``branched=... over_sum=... pytorch=... members=...``: the largest time of
``branched, split`` over that of ``shared, pcgrad`` and over the faster of the plain sums, and the
smallest speed of ours over PyTorch's fastest side, of a step and of members.

Reference: Roy, Koutlis, Papadopoulos, Ntoutsi, FairBranch, IJCNN 2024.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPAWN = multiprocessing.get_context("spawn")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TRUNKS = {"paper": (1024, 128, 256, 512, 128), "small": (64, 64, 32)}
FEATURES, BATCH, MEMBERS = 20, 256, 16
STEPS = 4  # of a scan
THREADS = sorted({1, CORES})  # of PyTorch; the faster number is taken
RATE, DECAY = 1e-3, 1e-2  # of AdamW
UNROLLED = 10  # most rows that are taken one by one
TREES = ("split", "tree")


class Case(NamedTuple):
    """A network and its number of tasks."""

    network: str
    tasks: int

    @property
    def widths(self) -> tuple[int, ...]:
        return TRUNKS[self.network]

    @property
    def names(self) -> list[str]:
        return [f"t{t:02}" for t in range(self.tasks)]


class Side(NamedTuple):
    """What takes its turn: processes that are timed together, and what each is told."""

    workers: list
    tree: str
    steps: int  # networks that one step of all processes trains


# ------------------------------------------------------------------------------ what both sides get


def labels_of(case: Case, tree: str) -> np.ndarray:
    """Branches ``[D, T]``: each task alone, or a tree whose branches grow towards the input."""
    task = np.arange(case.tasks)
    if tree == "split":
        return np.tile(task, (len(case.widths), 1))
    above = np.arange(len(case.widths))[::-1, None]
    labels = task // 2**above * 2**above
    labels[0] = 0
    return labels


def next_layer(tree: str) -> int:
    """The layer that would branch next: none, or the first."""
    return -1 if tree == "split" else 0


def arrays(case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``[B, F]``, labels ``[B, T]`` and the group of every row ``[B]``."""
    rng = np.random.default_rng(seed)
    group = (rng.random(BATCH) < 0.4).astype("f4")
    x = rng.normal(size=(BATCH, FEATURES)).astype("f4")
    x[:, 0] += group
    scores = x @ rng.normal(size=(FEATURES, case.tasks)) + rng.logistic(size=(BATCH, case.tasks))
    return x, (scores > 0).astype("f4"), group


def memory_mb(peak: bool = False) -> float:
    """Resident megabytes of this process, now or at most; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    name = "VmHWM" if peak else "VmRSS"
    return int(re.search(rf"{name}:\s+(\d+)", status).group(1)) / 1024


# --------------------------------------------------------------------------------------- our sides


def batch_of(case: Case):
    """The batch as a data set, and its spec."""
    from fairjax import Dataset, Spec
    from fairjax.core.types import Attribute, Columns, Task

    x, labels, group = arrays(case)
    columns = Columns(x, np.zeros((BATCH, 0), np.int32))
    groups = np.stack([1 - group, group], axis=1)
    batch = Dataset(columns, labels, np.ones_like(labels), groups, np.ones(BATCH, "f4"))
    spec = Spec(
        tuple(Task(name) for name in case.names),
        (Attribute("sex", ("f", "m")),),
        tuple(f"x{i}" for i in range(FEATURES)),
    )
    return batch, spec


def components_of(case: Case, kind: str):
    """Model, objective and transformation of ``branched``, ``sum`` or ``pcgrad``."""
    import jax.numpy as jnp
    import optax

    from fairjax import gradients, models, notions
    from fairjax.core.types import Components
    from fairjax.methods import Context, fairbranch
    from fairjax.objectives import per_task

    _, spec = batch_of(case)
    model = models.shared_bottom(spec, case.widths, ())
    notion = notions.get("robust_log")
    optimizer = optax.adamw(RATE, weight_decay=DECAY)
    ones = jnp.ones(case.tasks)
    if kind == "branched":
        context = Context(spec, model, lambda hparams: optimizer, {}, "mean", BATCH)
        hparams = {"weight": ones, "lam": ones, "tau": jnp.asarray(0.7)}
        return fairbranch(notion)(context).build(hparams)
    objective = per_task(
        model, spec, notion=notion, lam=ones, split=True, reduction="mean", batch_size=BATCH
    )
    if kind == "sum":
        return Components(model, objective, optax.chain(gradients.sum_rows(), optimizer))
    among = gradients.among_fairness(case.tasks)
    surgery = gradients.pcgrad(2 * case.tasks, ascending=True, against=among)
    on_trunk = gradients.route({"trunk": surgery, "heads": gradients.sum_rows()})
    gate = gradients.gate_fairness(case.names)
    return Components(model, objective, optax.chain(gate, on_trunk, optimizer))


def step_of(components, mode: str = "auto") -> Callable:
    """``(params, opt_state, memory), batch -> (params, opt_state, memory), values``."""
    import jax
    import optax

    from fairjax.gradients import value_and_rows

    apply, key = components.objective.apply, jax.random.key(0)
    transform = optax.with_extra_args_support(components.transform)

    def step(state, batch):
        params, opt_state, memory = state
        pull = value_and_rows(apply, has_aux=True, mode=mode)
        (values, memory), rows = pull(params, batch, key, memory)
        told = {"values": values, "key": key, "memory": memory}
        updates, opt_state = transform.update(rows, opt_state, params, **told)
        return (optax.apply_updates(params, updates), opt_state, memory), values

    return step


def with_tree(case: Case, memory, tree: str, members: int):
    """The memory of a branched network with the labels of a tree."""
    import jax.numpy as jnp

    from fairjax.gradients import Branches

    labels, layer = jnp.asarray(labels_of(case, tree), jnp.int32), jnp.asarray(next_layer(tree))
    if members:
        labels, layer = (jnp.stack([leaf] * members) for leaf in (labels, layer))
    return {**memory, "branches": Branches(labels, layer)}


def ours(case: Case, kind: str, mode: str, members: int) -> tuple[Callable, dict]:
    """``steps(tree)``, which trains STEPS steps, and what is known of its program."""
    import jax
    import jax.numpy as jnp

    base = memory_mb()
    batch, _ = batch_of(case)
    components = components_of(case, kind)
    step = step_of(components, mode)
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * STEPS), batch)

    def start(key):
        params = components.model.init(key)
        memory = components.objective.init(key, batch)
        return params, components.transform.init(params), memory

    def train(state, batches):
        return jax.lax.scan(step, state, batches)[0]

    keys = jax.random.key(0)
    if members:
        start, train = jax.vmap(start), jax.vmap(train, in_axes=(0, None))
        keys = jax.random.split(keys, members)
    held = [jax.jit(start)(keys)]
    begin = time.perf_counter()
    program = jax.jit(train, donate_argnums=0).lower(held[0], batches).compile()
    compile_s = time.perf_counter() - begin

    def steps(tree: str) -> int:
        params, opt_state, memory = held[0]
        if kind == "branched":
            memory = with_tree(case, memory, tree, members)
        held[0] = jax.block_until_ready(program((params, opt_state, memory), batches))
        return STEPS

    known = program.memory_analysis()
    held_mb = (known.argument_size_in_bytes + known.temp_size_in_bytes) / 2**20
    return steps, {"compile_s": compile_s, "xla_mb": held_mb, "base": base}


# ------------------------------------------------------------------------------------ PyTorch's side


class Peer:
    """The branched network of one tree in eager PyTorch: a layer per branch, a step per call."""

    def __init__(self, case: Case, tree: str, params: dict | None = None):
        """From the parameters of a branched network of ours, or from PyTorch's own numbers."""
        import torch
        from torch import nn

        self.case, self.first = case, next_layer(tree)
        self.labels = labels_of(case, tree)
        sizes = [FEATURES, *case.widths]
        kept = [sorted(set(label)) for label in self.labels.tolist()]
        self.layers = [
            {branch: nn.Linear(*sizes[i : i + 2]) for branch in branches}
            for i, branches in enumerate(kept)
        ]
        self.heads = [nn.Linear(sizes[-1], 1) for _ in case.names]
        if params is not None:
            with torch.no_grad():
                for layer, (kernel, bias) in self.paired(params):
                    layer.weight.copy_(torch.tensor(np.asarray(kernel).T))
                    layer.bias.copy_(torch.tensor(np.asarray(bias)))
        free = [p for layer in self.linears() for p in (layer.weight, layer.bias)]
        self.optimizer = torch.optim.AdamW(free, lr=RATE, weight_decay=DECAY, fused=True)
        x, labels, group = map(torch.tensor, arrays(case))
        self.x, self.y, self.group = x, labels, group

    def linears(self) -> list:
        """Every layer of every branch, then the heads."""
        return [layer for branches in self.layers for layer in branches.values()] + self.heads

    def paired(self, tree: dict) -> list:
        """Layers of this network with kernel and bias of a tree like a branched network's."""
        pairs = []
        for i, branches in enumerate(self.layers):
            part = tree["trunk"] if i == 0 else tree["trunk"][f"dense_{i}"]
            for branch, layer in branches.items():
                pairs.append((layer, (part["kernel"][branch], part["bias"][branch])))
        for name, head in zip(self.case.names, self.heads, strict=True):
            output = tree["heads"][name]["output"]
            pairs.append((head, (output["kernel"], output["bias"])))
        return pairs

    def path(self, t: int) -> list:
        """The layers of a task from the input on, its head last."""
        trunk = [self.layers[i][label] for i, label in enumerate(self.labels[:, t].tolist())]
        return [*trunk, self.heads[t]]

    def forward(self) -> list:
        """The scores of every task: layers below all branches once, then each task by itself."""
        from torch import relu

        below = 0
        z = self.x
        while len(self.layers[below]) == 1:
            z = relu(self.layers[below][0](z))
            below += 1
        scores = []
        for t in range(self.case.tasks):
            own = z
            *trunk, head = self.path(t)[below:]
            for layer in trunk:
                own = relu(layer(own))
            scores.append(head(own)[:, 0])
        return scores

    def losses(self, t: int, scores) -> tuple:
        """``L_t`` and ``F_t``."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        y = self.y[:, t]
        fairness = 0.0
        for label in (0, 1):
            cells = [torch.nonzero((y == label) & (self.group == g))[:, 0] for g in (0, 1)]
            means = [cross_entropy(scores[cell], y[cell]) for cell in cells if len(cell)]
            if means:
                fairness = fairness + torch.stack(means).max()
        return cross_entropy(scores, y), fairness

    def step(self) -> tuple[float, float]:
        """One update; the sums of the losses before it."""
        import torch

        scores = self.forward()
        accuracy, fairness, totals = [], [], [0.0, 0.0]
        for t, of_task in enumerate(scores):
            free = [p for layer in self.path(t) for p in (layer.weight, layer.bias)]
            for k, loss in enumerate(self.losses(t, of_task)):
                gradient = torch.autograd.grad(loss, free, retain_graph=True)
                pairs = list(zip(gradient[::2], gradient[1::2], strict=True))
                (accuracy, fairness)[k].append(pairs)
                totals[k] += loss.detach()
        for t in range(self.case.tasks):
            heads = zip(accuracy[t][-1], fairness[t][-1], strict=True)
            if sum(torch.sum(one * other) for one, other in heads) < 0:
                fairness[t] = [tuple(map(torch.zeros_like, pair)) for pair in fairness[t]]
        for i, branches in enumerate(self.layers):
            for branch, layer in branches.items():
                mates = np.flatnonzero(self.labels[i] == branch)
                rows = [fairness[t][i] for t in mates]
                if i > self.first and len(mates) > 1:
                    rows = without_conflicts(rows)
                rows += [accuracy[t][i] for t in mates]
                layer.weight.grad = sum(weight for weight, _ in rows)
                layer.bias.grad = sum(bias for _, bias in rows)
        for t, head in enumerate(self.heads):
            pairs = zip(accuracy[t][-1], fairness[t][-1], strict=True)
            head.weight.grad, head.bias.grad = (one + other for one, other in pairs)
        self.optimizer.step()
        return tuple(map(float, totals))


def without_conflicts(rows: list) -> list:
    """Each pair of weight and bias off those of its mates that it conflicts with, in their order."""
    import torch

    flat = [torch.cat([part.reshape(-1) for part in row]) for row in rows]
    projected = []
    for i, row in enumerate(flat):
        for j, mate in enumerate(flat):
            if i != j and (product := torch.dot(row, mate)) < 0:
                row = row - product / torch.dot(mate, mate) * mate
        weight, bias = rows[i]
        projected.append((row[: weight.numel()].reshape(weight.shape), row[weight.numel() :]))
    return projected


def theirs(case: Case, tree: str, threads: Sequence[int]) -> tuple[Callable, dict]:
    """``steps(tree)``, which trains STEPS steps in eager PyTorch, and the threads it takes."""
    import torch

    base = memory_mb()
    peer = Peer(case, tree)
    took = {}
    for count in threads:
        torch.set_num_threads(count)
        peer.step()
        begin = time.perf_counter()
        peer.step()
        took[count] = time.perf_counter() - begin
    fastest = min(took, key=took.get)
    torch.set_num_threads(fastest)

    def steps(_: str) -> int:
        for _ in range(STEPS):
            peer.step()
        return STEPS

    return steps, {"base": base, "threads": fastest}


# ------------------------------------------------------------------------- agreement of both sides


def apart(case: Case, params: dict, labels: np.ndarray) -> dict:
    """The parameters with copies that differ between branches, and heads between tasks."""
    import jax

    noise = 1 + 0.1 * np.random.default_rng(1).normal(size=case.tasks).astype("f4")
    trunk = dict(params["trunk"])
    first = trunk | {"kernel": trunk["kernel"] * noise[labels[0]][:, None, None]}
    trunk = first | {
        f"dense_{i}": trunk[f"dense_{i}"]
        | {"kernel": trunk[f"dense_{i}"]["kernel"] * noise[label][:, None, None]}
        for i, label in enumerate(labels[1:], start=1)
    }
    heads = {
        name: jax.tree.map(lambda leaf, t=t: leaf * noise[t], params["heads"][name])
        for t, name in enumerate(case.names)
    }
    return {"trunk": trunk, "heads": heads}


def check(case: Case, pipe) -> None:
    """Send the largest differences to PyTorch, of both trees, from the same parameters.

    Losses and all gradients of a step, and losses five steps later; raises if they differ.
    """
    import jax
    import optax

    from fairjax.gradients import on_branches, value_and_rows

    batch, _ = batch_of(case)
    components = components_of(case, "branched")
    link = on_branches(case.names, components.model.layers)
    key = jax.random.key(0)
    initial = components.model.init(key)
    counts = components.objective.init(key, batch)

    @jax.jit
    def step(params, opt_state, memory):
        pull = value_and_rows(components.objective.apply, has_aux=True)
        (values, _), rows = pull(params, batch, key, memory)
        tied, seen = link.update(rows, link.init(params), params, memory=memory)
        updates, opt_state = components.transform.update(rows, opt_state, params, memory=memory)
        return optax.apply_updates(params, updates), opt_state, values, tied, seen

    found = {"first": 0.0, "sixth": 0.0, "closed": 0, "conflicts": 0}
    for tree in TREES:
        params = apart(case, initial, labels_of(case, tree))
        opt_state = components.transform.init(params)
        memory = with_tree(case, counts, tree, 0)
        peer = Peer(case, tree, params)
        for i in range(6):
            expected = np.array(peer.step())
            params, opt_state, values, tied, seen = step(params, opt_state, memory)
            off = float(np.max(np.abs(np.asarray(values) / expected - 1)))
            if off > (1e-3 if i else 1e-5):
                raise AssertionError(f"{case}, {tree}: losses at step {i + 1} are off by {off:.1e}")
            if i == 0:
                found["first"] = max(found["first"], off)
                found["closed"] += int(np.sum(seen.gate == 0))
                found["conflicts"] += int(np.sum(seen.conflicts[1])) // 2
                check_gradients(peer, tied)
        found["sixth"] = max(found["sixth"], off)
    pipe.send(found)


def check_gradients(peer: Peer, tied: dict) -> None:
    """Compare PyTorch's gradients after gate and surgery with the tied ones."""
    for layer, (kernel, bias) in peer.paired(tied):
        for theirs_, expected in ((layer.weight, kernel.T), (layer.bias, bias)):
            tolerance = 1e-3 * max(float(np.abs(expected).max()), 1e-6)
            np.testing.assert_allclose(theirs_.grad.numpy(), expected, rtol=0, atol=tolerance)


# --------------------------------------------------------------------------------------- the rounds


def serve(make: Callable, arguments: tuple, pipe) -> None:
    """Build a side, tell about it, and train whenever told a tree and for how long."""
    steps, told = make(*arguments)
    for tree in TREES:
        steps(tree)
    pipe.send(told)
    # the end of the pipe is the end of the benchmark, even of one that was killed
    while (order := received(pipe)) is not None:
        tree, slice_s = order
        begin, begin_cpu, done = time.perf_counter(), time.process_time(), 0
        while not done or time.perf_counter() - begin < slice_s:
            done += steps(tree)
        took = time.perf_counter() - begin, time.process_time() - begin_cpu
        pipe.send((*(seconds / done for seconds in took), memory_mb(peak=True) - told["base"]))


def received(pipe):
    """The next order; None where there will be none."""
    try:
        return pipe.recv()
    except EOFError:
        return None


class Worker:
    """A process with a side of its own, and what is known of it once it is built."""

    def __init__(self, make: Callable, *arguments):
        self.pipe, end = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(make, arguments, end), daemon=True)
        self.process.start()
        end.close()
        self.facts = self.pipe.recv()

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()


def alone(part: Callable, *arguments):
    """What a part sends from a process of its own."""
    pipe, end = SPAWN.Pipe()
    process = SPAWN.Process(target=part, args=(*arguments, end))
    process.start()
    end.close()
    found = pipe.recv()
    process.join()
    return found


def sides_of(case: Case) -> dict[str, Side]:
    """Start every side, one after the other."""
    branched = Worker(ours, case, "branched", "auto", 0)
    sides = {f"branched, {tree}": Side([branched], tree, 1) for tree in TREES}
    kinds = {"sum": ("sum", "auto"), "pcgrad": ("pcgrad", "auto")}
    if 2 * case.tasks <= UNROLLED:
        kinds["sum one by one"] = ("sum", "unroll")
    for name, kind in kinds.items():
        sides[f"shared, {name}"] = Side([Worker(ours, case, *kind, 0)], "", 1)
    members = Worker(ours, case, "branched", "auto", MEMBERS)
    sides[f"{MEMBERS} members, tree"] = Side([members], "tree", MEMBERS)
    for tree in TREES:
        sides[f"torch, {tree}"] = Side([Worker(theirs, case, tree, THREADS)], tree, 1)
    per_core = [Worker(theirs, case, "tree", [1]) for _ in range(CORES)]
    sides["torch, tree, one per core"] = Side(per_core, "tree", 1)
    return sides


def turn(side: Side, slice_s: float) -> tuple[float, float, float]:
    """Seconds and seconds of all cores per step of one network, and peak megabytes."""
    for worker in side.workers:
        worker.pipe.send((side.tree, slice_s))
    found = [worker.pipe.recv() for worker in side.workers]
    rates, cpu_rates = ([side.steps / one[k] for one in found] for k in range(2))
    return 1.0 / sum(rates), 1.0 / statistics.mean(cpu_rates), max(one[2] for one in found)


def measured(case: Case, rounds: int, slice_s: float) -> dict[str, float]:
    """Print the table of a case; the ratios of the last line."""
    begin = time.perf_counter()
    agreed = alone(check, case)
    sides = sides_of(case)
    print(
        f"\n{case.network} network {'-'.join(map(str, (FEATURES, *case.widths)))}, {case.tasks} "
        f"tasks; agreed with PyTorch to {agreed['first']:.0e} at the first step, "
        f"{agreed['sixth']:.0e} at the sixth; {agreed['closed']} gates closed, "
        f"{agreed['conflicts']} conflicts",
        flush=True,
    )
    seconds, cpu_seconds = ({name: [] for name in sides} for _ in range(2))
    megabytes = dict.fromkeys(sides, 0.0)
    for _ in range(rounds):
        for name, side in sides.items():
            took, took_cpu, peak = turn(side, slice_s)
            seconds[name].append(took)
            cpu_seconds[name].append(took_cpu)
            megabytes[name] = max(megabytes[name], peak)
    reference, cpu_reference = (kind["branched, split"] for kind in (seconds, cpu_seconds))
    print(
        f"{'':28s} ms a step (least, most)     of branched   CPU ms  of branched    MB  by XLA "
        "compile s"
    )
    for name, side in sides.items():
        told, taken, cpu = side.workers[0].facts, seconds[name], cpu_seconds[name]
        line = (
            f"{name:28s} {1e3 * statistics.median(taken):9.2f} ({1e3 * min(taken):.2f}, "
            f"{1e3 * max(taken):.2f})"
        )
        line = (
            f"{line:57s} {ratio(taken, reference):9.2f} {1e3 * statistics.median(cpu):9.2f} "
            f"{ratio(cpu, cpu_reference):9.2f} {megabytes[name]:8.0f}"
        )
        if "xla_mb" in told:
            line += f" {told['xla_mb']:7.0f} {told['compile_s']:9.1f}"
        else:
            line += f"  threads: {told['threads']}"
        print(line, flush=True)
    for worker in {id(w): w for side in sides.values() for w in side.workers}.values():
        worker.stop()
    print(f"{rounds} rounds; {time.perf_counter() - begin:.0f} s in all", flush=True)
    members = f"{MEMBERS} members, tree"
    peers = [seconds["torch, tree"], seconds["torch, tree, one per core"]]
    return {
        "branched": ratio(reference, seconds["shared, pcgrad"]),
        "over_sum": max(
            ratio(reference, taken)
            for name, taken in seconds.items()
            if name.startswith("shared, sum")
        ),
        "pytorch": min(ratio(seconds[f"torch, {t}"], seconds[f"branched, {t}"]) for t in TREES),
        "members": min(ratio(taken, seconds[members]) for taken in peers),
    }


def ratio(one: list[float], other: list[float]) -> float:
    """The median over rounds of one time over another."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small network, 2 and 5 tasks")
    parser.add_argument("--rounds", type=int, help="how often sides take turns; 9, or 3 if quick")
    parser.add_argument("--tasks", type=int, nargs="+", help="numbers of tasks, 2 or more")
    parser.add_argument("--networks", nargs="+", choices=TRUNKS, default=None)
    args = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            "bench_branching compares with PyTorch, which is missing: pip install 'fairjax[bench]'"
        )
    networks = args.networks or (("small",) if args.quick else tuple(TRUNKS))
    tasks = args.tasks or ((2, 5) if args.quick else (2, 5, 17))
    rounds = args.rounds or (3 if args.quick else 9)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "torch"))
    print(f"{versions}; batches of {BATCH}, {CORES} cores", flush=True)
    found = [
        measured(Case(network, count), rounds, 0.05 if args.quick else 0.4)
        for network in networks
        for count in tasks
    ]
    print(
        f"branched={max(f['branched'] for f in found):.2f} "
        f"over_sum={max(f['over_sum'] for f in found):.2f} "
        f"pytorch={min(f['pytorch'] for f in found):.2f} "
        f"members={min(f['members'] for f in found):.2f}"
    )


if __name__ == "__main__":
    main()
