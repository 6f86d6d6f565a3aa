"""Model-epochs per second of a sweep, against the same training in eager PyTorch, one process per core, in one run.

    python experiments/bench_sweep.py                    # MTA-F with the soft rate gap
    python experiments/bench_sweep.py --notion mmd       # with the MMD (PyTorch: over all pairs, as published)

Same network, losses, optimizer (Adagrad), batch size and Adult-shaped data; ``load("adult")`` where its files are found,
random rows of its shape elsewhere. Before anything is timed, the two must agree on the two losses of the first batch and on
every parameter after one step. The ceiling is a large float32 matrix product on all cores, measured in the same run.
The last line is ``ratio=... floor_share=...``: our rate over PyTorch's, and our flops per second over the ceiling's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LEVELS = (9, 16, 7, 15, 5, 42)


def data():
    """Spec and training rows: Adult, or random rows of its shape."""
    from fairjax import Attribute, Columns, DataError, Dataset, Spec, Splits, Task, load
    try:
        prepared = load("adult", form="paper", validation=0.0)
        return prepared.spec, prepared.splits
    except DataError:
        rng = np.random.default_rng(0)
        codes = np.stack([rng.integers(n, size=32_561) for n in LEVELS], axis=1).astype(np.int32)
        numeric = rng.normal(size=(32_561, 4)).astype(np.float32)
        labels = (rng.random((32_561, 2)) < [0.24, 0.08]).astype(np.float32)
        groups = np.eye(2, dtype=np.float32)[(rng.random(32_561) < 0.33).astype(int)]
        rows = Dataset(Columns(numeric, codes), labels, np.ones_like(labels), groups, np.ones(32_561, np.float32))
        spec = Spec((Task("income"), Task("capital_gain")), (Attribute("sex", ("Male", "Female")),), tuple("abcd"),
                    tuple((str(n), n) for n in LEVELS))
        return spec, Splits(rows, rows, rows)


def plan_of(args):
    """The MTA-F code's settings for Adult."""
    from fairjax.study import PAPER, Plan
    return Plan(**{**PAPER["adult"], "notion": args.notion, "epochs": args.epochs, "runs": args.runs,
                   "batch_size": args.batch_size})


# ------------------------------------------------------------------------------------------------------- ours


def ours(args) -> dict:
    """Rate, compilations, peak memory and flops of a sweep; training and evaluation as every sweep does it."""
    import jax
    jax.config.update("jax_num_cpu_devices", CORES)
    from fairjax.study import evaluator, points
    from fairjax.sweep import mapped, measure_chunk, member, sweep
    spec, splits = data()
    plan = plan_of(args)
    made, knobs, seeds = points(plan, spec, "mta_f")
    devices, evaluate = jax.local_devices(), evaluator(spec)
    chunk = args.chunk or measure_chunk(made, plan.static, knobs, splits, args.runs, devices)
    program = mapped(member(made, plan.static, evaluate), devices)
    size = chunk * len(devices)
    warm = {k: v[np.arange(size) % args.runs] for k, v in knobs.items()}
    sweep(made, plan.static, warm, seeds, splits, evaluate, chunk=chunk, program=program)  # compiles
    begin = time.perf_counter()
    runs = sweep(made, plan.static, knobs, seeds, splits, evaluate, chunk=chunk, program=program)
    seconds = time.perf_counter() - begin
    return {"rate": args.runs * plan.epochs / seconds, "seconds": seconds, "chunk": chunk,
            "compilations": runs.compilations, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "flops_per_step": step_flops(made, knobs, splits.train, plan.batch_size), "ceiling": ceiling()}


def step_flops(made, knobs: dict, rows, batch_size: int) -> float:
    """Flops of one member's step, as XLA counts them."""
    import jax

    from fairjax.gradients import value_and_rows
    parts = made.build({k: v[0] for k, v in knobs.items()})
    params = parts.model.init(jax.random.key(0))
    batch = jax.tree.map(lambda a: a[:batch_size], rows)

    def step(params, state, batch):
        (_, _), gradients = value_and_rows(parts.objective.apply, has_aux=True)(params, batch, jax.random.key(0), ())
        return parts.transform.update(gradients, state, params)

    cost = jax.jit(step).lower(params, parts.transform.init(params), batch).compile().cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost)["flops"])


def ceiling(size: int = 1536, repeats: int = 6) -> float:
    """Flops per second of one large product per device, all devices at once."""
    import jax
    products = jax.jit(jax.shard_map(lambda a: a @ a[0], mesh=jax.sharding.Mesh(np.array(jax.local_devices()), ("d",)),
                                     in_specs=jax.sharding.PartitionSpec("d"), out_specs=jax.sharding.PartitionSpec("d")))
    a = np.random.default_rng(0).normal(size=(CORES, size, size)).astype(np.float32)
    a = jax.block_until_ready(jax.device_put(a, jax.sharding.NamedSharding(
        jax.sharding.Mesh(np.array(jax.local_devices()), ("d",)), jax.sharding.PartitionSpec("d"))))
    jax.block_until_ready(products(a))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(products(a))
        times.append(time.perf_counter() - begin)
    return CORES * 2.0 * size**3 / min(times)


# ------------------------------------------------------------------------------------------------------- the peer


def peer_model(params: dict, spec):
    """The network in PyTorch with the given fairjax parameters; trunk parameters first, then the heads'."""
    import torch
    trunk, heads = params["trunk"], [params["heads"][t.name] for t in spec.tasks]
    tensor = lambda a: torch.tensor(np.array(a), requires_grad=True)  # noqa: E731
    tables = [tensor(t) for t in np.split(np.asarray(trunk["embedding"]), np.cumsum([n for _, n in spec.categorical])[:-1])]
    shared = [*tables, tensor(trunk["kernel"]), tensor(trunk["bias"])]
    own = [tensor(h[layer][part]) for h in heads for layer in ("dense_0", "output") for part in ("kernel", "bias")]

    def forward(numeric, codes):
        found = [torch.nn.functional.embedding(codes[:, j], table) for j, table in enumerate(tables)]
        z = torch.relu(torch.cat([numeric, *found], dim=1) @ shared[-2] + shared[-1])
        each = [own[4 * t:4 * t + 4] for t in range(2)]
        return torch.cat([torch.relu(z @ k + b) @ k2 + b2 for k, b, k2, b2 in each], dim=1)

    return shared, own, forward


def peer_distance(notion: str):
    """The soft gap, or the MMD over all pairs, on selected rows; times their share of the batch."""
    import torch

    def gap(p, a, select):
        one, zero = select * a, select * (1 - a)
        if notion == "rate_gap":
            value = ((p * one).sum() / one.sum() - (p * zero).sum() / zero.sum()).abs()
        else:
            p = p[select > 0]
            g1, g0 = p[a[select > 0] > 0], p[a[select > 0] == 0]
            mean = lambda x, y: torch.exp(-((x[:, None] - y[None]) / 0.1) ** 2).mean()  # noqa: E731
            value = mean(g1, g1) + mean(g0, g0) - 2 * mean(g1, g0)
        return value * select.sum() / len(a)
    return gap


def peer_losses(notion: str, scores, y, a, weight, lam, r):
    """MTA-F's two objectives."""
    import torch
    gap, trunk, heads = peer_distance(notion), 0.0, 0.0
    for t in range(2):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores[:, t], y[:, t])
        p, negative = torch.sigmoid(scores[:, t]), 1 - y[:, t]
        moved = r[t] * gap(p, a, negative * y[:, 1 - t])
        trunk = trunk + weight[t] * (loss + lam[t] * (gap(p, a, negative) - moved))
        heads = heads + weight[t] * (loss + lam[t] * moved)
    return trunk, heads


def peer_step(model, optimizer, notion, batch, knobs):
    """One eager step: each objective's gradient for its own parameters."""
    import torch
    shared, own, forward = model
    numeric, codes, y, a = batch
    trunk, heads = peer_losses(notion, forward(numeric, codes), y, a, *knobs)
    gradients = [*torch.autograd.grad(trunk, shared, retain_graph=True), *torch.autograd.grad(heads, own)]
    for p, g in zip((*shared, *own), gradients, strict=True):
        p.grad = g
    optimizer.step()
    return trunk.item(), heads.item()


def peer_setup(args):
    """Model, optimizer, tensors and knobs."""
    import jax
    import torch

    from fairjax.study import recipe
    spec, splits = data()
    knobs = ((0.5, 0.5), (1.0, 1.0), (1.0, 1.0))
    named = dict(zip(("weight", "lam", "r"), map(np.float32, knobs), strict=True)) | {"learning_rate": np.float32(0.02)}
    made = recipe(plan_of(args), spec, "mta_f")
    params = jax.device_get(made.build(named).model.init(jax.random.key(0)))
    model = peer_model(params, spec)
    optimizer = torch.optim.Adagrad([*model[0], *model[1]], lr=0.02, initial_accumulator_value=0.1 / args.batch_size**2,
                                    eps=0.0)
    rows = splits.train
    tensors = (torch.tensor(rows.x.numeric), torch.tensor(rows.x.codes).long(), torch.tensor(rows.labels),
               torch.tensor(rows.groups[:, 1]))
    return model, optimizer, tensors, knobs, (made, named, params, rows)


def agree(args) -> None:
    """Both sides give the same losses on the first batch and the same parameters after one step."""
    import jax

    from fairjax.gradients import value_and_rows
    model, optimizer, tensors, knobs, (made, named, params, rows) = peer_setup(args)
    first = [t[:args.batch_size] for t in tensors]
    peer = peer_step(model, optimizer, args.notion, first, knobs)
    parts = made.build(named)
    batch = jax.tree.map(lambda a: a[:args.batch_size], rows)
    (values, _), gradients = value_and_rows(parts.objective.apply, has_aux=True)(params, batch, jax.random.key(0), ())
    updates, _ = parts.transform.update(gradients, parts.transform.init(params), params)
    np.testing.assert_allclose(values, peer, rtol=1e-4)
    stepped = jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)
    np.testing.assert_allclose(stepped["trunk"]["kernel"], model[0][-2].detach().numpy(), atol=2e-3)
    last = stepped["heads"][data()[0].tasks[1].name]["output"]["kernel"]
    np.testing.assert_allclose(last, model[1][-2].detach().numpy(), atol=2e-3)


def peer_worker(args, barrier, results) -> None:
    """One process on one thread: a warm-up of three steps, then ``peer_epochs`` epochs."""
    import torch
    torch.set_num_threads(1)
    model, optimizer, tensors, knobs, _ = peer_setup(args)
    n = len(tensors[0])
    for _ in range(3):
        peer_step(model, optimizer, args.notion, [t[:args.batch_size] for t in tensors], knobs)
    barrier.wait(timeout=300)
    begin = time.perf_counter()
    for _ in range(args.peer_epochs):
        order = torch.randperm(n)
        for i in range(0, n, args.batch_size):
            peer_step(model, optimizer, args.notion, [t[order[i:i + args.batch_size]] for t in tensors], knobs)
    results.put(args.peer_epochs / (time.perf_counter() - begin))


def peer(args) -> float:
    """Model-epochs per second of one process per core, all at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(CORES), context.Queue()
    workers = [context.Process(target=peer_worker, args=(args, barrier, results)) for _ in range(CORES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            barrier.abort()
            sys.exit(f"bench_sweep: a PyTorch process ended with {worker.exitcode}")
    rates = [results.get() for _ in workers]
    return sum(rates)


def alone(args, runs: int) -> dict:
    """Our side in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--part", "ours", "--runs", str(runs), "--epochs", str(args.epochs), "--notion",
               args.notion, "--chunk", str(args.chunk), "--batch-size", str(args.batch_size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notion", choices=("rate_gap", "mmd"), default="rate_gap")
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=512, help="512 in the paper, 1024 in its code")
    parser.add_argument("--peer-epochs", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=0, help="members per device; 0 measures")
    parser.add_argument("--part", choices=("ours",), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "ours":
        print(json.dumps(ours(args)))
        return
    try:
        import torch  # noqa: F401
    except ImportError:
        sys.exit("bench_sweep needs torch for the comparison: pip install a CPU build of torch, then '.[bench]'")
    agree(args)
    few, many = alone(args, max(args.runs // 4, 1)), alone(args, args.runs)
    theirs = peer(args)
    steps = -(-32_561 // args.batch_size)
    used = many["flops_per_step"] * steps * many["rate"]
    print(f"fairjax   {many['rate']:8.1f} model-epochs/s  ({args.runs} runs x {args.epochs} epochs in {many['seconds']:.0f} s, "
          f"{CORES} devices x {many['chunk']} members, {many['compilations']} compilation)")
    print(f"PyTorch   {theirs:8.1f} model-epochs/s  (eager, {CORES} processes of one thread)")
    print(f"memory    {few['peak_mb']:.0f} MB peak for {max(args.runs // 4, 1)} runs, {many['peak_mb']:.0f} MB for {args.runs}")
    print(f"flops     {many['flops_per_step'] / 1e6:.1f} M per step and member; ceiling {many['ceiling'] / 1e9:.0f} GFLOP/s")
    print(f"ratio={many['rate'] / theirs:.2f} floor_share={used / many['ceiling']:.3f}")


if __name__ == "__main__":
    main()
