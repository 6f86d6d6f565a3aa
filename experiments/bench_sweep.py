"""Model-epochs per second of a sweep, against the same training in PyTorch, one process per core,
in one run: eager, one model after another, and stacked, many models in one compiled step.

    python experiments/bench_sweep.py                    # MTA-F with the soft rate gap
    python experiments/bench_sweep.py --notion mmd       # with the MMD

PyTorch's MMD is over pairs of rows, as published.

Same network, losses, optimizer, batch size and data: Adult where its files are found, else random
rows of its shape, with the settings of the MTA-F code. First both sides start from the same
parameters and must agree on the first losses, on every gradient, and on the losses five steps
later. The eager peer is training alone, in the fastest form that was found (fused Adagrad, MMD
group by group). The stacked peer is what a skilled user writes: parameters with a leading axis of
models, one product of one-hot rows with the first layers of all models, into which the embeddings
are folded, one loss whose gradient reaches trunk and heads apart, all of it under
``torch.compile``; its losses must be the eager ones, and it measures error, AUC and three rates of
each group at the end, a part of what a sweep measures. ``--stack`` says how many models stand
together. Our training alone is what more epochs cost, from sweeps of all of them and of one.

``ablation.md`` says where a step's time goes: its matrix products alone, then more and more of the
step, eight members on one device, each with plain gradient descent, so that nothing leaves the
loop. The ceiling is a large float32 matrix product on all cores. Rates are per second and core; on
CPUs the seconds are CPU seconds, so that another load on the machine does not decide. Results go to
experiments/results/sweep; ``--quick`` writes none. The last line is
``ratio=... stacked_ratio=... training_ratio=... floor_share=...``: our rate over eager PyTorch's,
over the stacked one's with an evaluation on both sides, and without; and our flops per second over
the ceiling's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results" / "sweep"

SPAWN = multiprocessing.get_context("spawn")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ROWS, NUMERIC, LEVELS = 32_561, 4, (9, 16, 7, 15, 5, 42)  # the shape of Adult
# of the comparison and of the timed peer; they differ per task, so that a swap would show
HPARAMS = {"weight": (0.7, 0.3), "lam": (1.0, 2.0), "r": (0.5, 2.0), "learning_rate": 0.02}


def data() -> tuple:
    """Name, spec and splits: Adult in the paper's form, or random rows of its shape."""
    from fairjax import DataError, Dataset, Spec, load
    from fairjax.core.types import Attribute, Columns, Splits, Task

    try:
        prepared = load("adult", form="paper", validation=0.0)
        return "Adult", prepared.spec, prepared.splits
    except DataError:
        rng = np.random.default_rng(0)
        x = Columns(
            rng.normal(size=(ROWS, NUMERIC)).astype("f4"),
            rng.integers(LEVELS, size=(ROWS, 6), dtype="i4"),
        )
        labels = (rng.random((ROWS, 2)) < [0.24, 0.08]).astype("f4")
        groups = np.eye(2, dtype="f4")[(rng.random(ROWS) < 0.33).astype(int)]
        rows = Dataset(x, labels, np.ones_like(labels), groups, np.ones(ROWS, "f4"))
        spec = Spec(
            (Task("income"), Task("capital_gain")),
            (Attribute("sex", ("Male", "Female")),),
            tuple(f"n{i}" for i in range(NUMERIC)),
            tuple((f"c{i}", n) for i, n in enumerate(LEVELS)),
        )
        return "random rows of Adult's shape", spec, Splits(rows, rows, rows)


def study_of(args, spec):
    """A study of one method with the settings of the MTA-F code on Adult."""
    from fairjax.study import PAPER, from_names, named_study

    changed = {name: getattr(args, name) for name in ("notion", "epochs", "runs", "batch_size")}
    return from_names(spec, named_study(**PAPER["adult"] | changed, methods=(args.method,)))


def ours(args) -> dict:
    """Rate, compilations, peak memory and flops of a sweep, trained and evaluated as every sweep
    is.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", CORES)
    from fairjax.training import Program, start_size, sweep

    name, spec, splits = data()
    study = study_of(args, spec)
    recipe = study.recipes[args.method]
    config = study.config
    hparams, seeds = study.points(args.method)
    devices = jax.local_devices()
    chunk = args.chunk or start_size(args.runs, devices)
    program = Program(recipe, config.train_config, study.evaluate, devices=devices)

    def run(points: dict[str, np.ndarray]):
        return sweep(
            recipe,
            config.train_config,
            points,
            seeds,
            splits,
            study.evaluate,
            chunk=chunk,
            program=program,
        )

    # one chunk, to compile
    first = np.arange(chunk * len(devices)) % args.runs
    run({name: values[first] for name, values in hparams.items()})
    seconds_of = clock(devices[0].platform)
    begin = seconds_of()
    runs = run(hparams)
    seconds = seconds_of() - begin
    bytes_per_unit = 1 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 2**20
    return {
        "rate": args.runs * config.epochs / seconds,
        "seconds": seconds,
        "chunk": chunk,
        "devices": len(devices),
        "data": name,
        "steps": -(-len(splits.train.weight) // config.batch_size),
        "compilations": runs.compilations,
        "peak_mb": peak,
        "jax": jax.__version__,
        "diverged": int(runs.diverged.sum()),
        "ceiling": ceiling(devices),
        "flops": xla_flops(recipe, hparams, splits.train, config.batch_size),
        "by_hand": hand_flops(study),
    }


def step_of(components, rows):
    """One step outside the scan: ``(params, state, batch) -> (params, state, values, rows)``.

    ``rows`` are the training rows. The losses here count nothing over batches, so their memory
    stays as it starts.
    """
    import jax
    import optax

    from fairjax.gradients import value_and_rows

    memory = components.objective.init(jax.random.key(0), rows)

    def step(params, state, batch):
        (values, _), gradients = value_and_rows(components.objective.apply, has_aux=True)(
            params, batch, jax.random.key(0), memory
        )
        updates, state = components.transform.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, values, gradients

    return jax.jit(step)


def xla_flops(recipe, hparams: dict, rows, batch_size: int) -> float:
    """Flops of one member's step, as XLA counts them in what it compiled."""
    import jax

    components = recipe.build({name: values[0] for name, values in hparams.items()})
    params = components.model.init(jax.random.key(0))
    state = components.transform.init(params)
    batch = jax.tree.map(lambda leaf: leaf[:batch_size], rows)
    step = step_of(components, rows)
    # gradient rows are no result of a training step
    train_step = jax.jit(lambda params, state, batch: step(params, state, batch)[:2])
    return float(train_step.lower(params, state, batch).compile().cost_analysis()["flops"])


def hand_flops(study) -> float:
    """Matrix products of a step: each layer forward, and backward to its input and parameters."""
    spec = study.spec
    batch = study.config.batch_size
    (width,) = study.names.model_options["trunk"]
    (hidden,) = study.names.model_options["head"]
    levels = sum(count for _, count in spec.categorical)
    fold = 3 * levels * study.names.model_options["embedding"] * width
    # nothing goes back to the one-hot rows
    first = 2 * batch * (len(spec.numeric) + levels) * width
    heads = 3 * len(spec.tasks) * batch * (width * hidden + hidden)
    return 2.0 * (fold + first + heads)


def ablation(args) -> dict[str, float]:
    """Microseconds of a step per member, of more and more of it: eight members, one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax

    members = 8
    _, spec, splits = data()
    rows = splits.train
    steps = len(rows.weight) // args.batch_size
    batches = jax.tree.map(
        lambda leaf: leaf[: steps * args.batch_size].reshape(steps, -1, *leaf.shape[1:]), rows
    )

    def descend(params, gradients):
        # parameters change at every step, so nothing of it leaves the loop
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradients)

    def products_alone(components):
        def step(carry, batch):
            params, state = carry
            return (descend(params, products_of(params, batch.x, spec)), state), None

        return step

    def gradients_alone(components):
        whole = step_of(components, rows)

        def step(carry, batch):
            params, state = carry
            *_, gradients = whole(params, state, batch)
            # the first row for the trunk and the last for the heads, which may be one
            own = {
                "trunk": jax.tree.map(lambda leaf: leaf[0], gradients["trunk"]),
                "heads": jax.tree.map(lambda leaf: leaf[-1], gradients["heads"]),
            }
            return (descend(params, own), state), None

        return step

    def with_optimizer(components):
        whole = step_of(components, rows)

        def step(carry, batch):
            params, state, *_ = whole(*carry, batch)
            return (params, state), None

        return step

    parts = {
        "matrix products alone": ("vanilla", products_alone),
        "gradient of the mean loss": ("vanilla", gradients_alone),
        f"gradients of {args.method}": (args.method, gradients_alone),
        "with the optimizer": (args.method, with_optimizer),
    }
    found = {}
    for what, (method, step_with) in parts.items():
        changed = argparse.Namespace(**{**vars(args), "method": method, "runs": members})
        study = study_of(changed, spec)

        def run(point, key, batches, build=study.recipes[method].build, step_with=step_with):
            components = build(point)
            params = components.model.init(key)
            carry = params, components.transform.init(params)
            return jax.lax.scan(step_with(components), carry, batches)[0]

        points, _ = study.points(method)
        arguments = points, jax.random.split(jax.random.key(0), members), batches
        compiled = jax.jit(jax.vmap(run, (0, 0, None))).lower(*arguments).compile()
        times = []
        for _ in range(5):  # the first reads its data
            begin = time.process_time()
            jax.block_until_ready(compiled(*arguments))
            times.append(time.process_time() - begin)
        found[what] = 1e6 * min(times) / steps / members
    return found


def products_of(params: dict, x, spec) -> dict:
    """The matrix products of a step, forwards and backwards, without anything between them.

    An activation stands for its own gradient.
    """
    import jax.numpy as jnp

    from fairjax.models.tabular import design

    levels = tuple(count for _, count in spec.categorical)
    trunk = params["trunk"]
    tables = jnp.split(trunk["embedding"], np.cumsum(levels)[:-1])
    widths = [x.numeric.shape[1], *(table.shape[1] for table in tables)]
    of_numbers, *blocks = jnp.split(trunk["kernel"], np.cumsum(widths)[:-1])
    pairs = list(zip(tables, blocks, strict=True))
    columns = design(x, levels, jnp.float32, range(len(levels)))
    z = jnp.concatenate([of_numbers, *(table @ block for table, block in pairs)]).T @ columns
    heads, back = {}, jnp.zeros_like(z)
    for name, head in params["heads"].items():
        hidden = head["dense_0"]["kernel"].T @ z
        score = head["output"]["kernel"].T @ hidden
        back = back + head["dense_0"]["kernel"] @ (head["output"]["kernel"] @ score)
        heads[name] = {
            "dense_0": head["dense_0"] | {"kernel": z @ hidden.T},
            "output": head["output"] | {"kernel": hidden @ score.T},
        }
    of_design = columns @ back.T
    kernel, *folded = jnp.split(of_design, np.cumsum([widths[0], *levels])[:-1])
    own = [table.T @ g for (table, _), g in zip(pairs, folded, strict=True)]
    embedding = jnp.concatenate([g @ block.T for (_, block), g in zip(pairs, folded, strict=True)])
    first = {"kernel": jnp.concatenate([kernel, *own]), "embedding": embedding}
    return {"trunk": trunk | first, "heads": heads}


def clock(platform: str) -> Callable[[], float]:
    """Seconds per core: of CPU time where the CPUs compute, else of wall-clock time."""
    if platform == "cpu":
        return lambda: time.process_time() / CORES
    return time.perf_counter


def ceiling(devices, repeats: int = 8) -> float:
    """Flops per second of one large product per device, all devices at once; the best of a few."""
    import jax

    size = 1536 if devices[0].platform == "cpu" else 8192
    mesh, each = jax.sharding.Mesh(np.asarray(devices), ("d",)), jax.sharding.PartitionSpec("d")
    product = jax.jit(jax.shard_map(lambda a: a @ a, mesh=mesh, in_specs=each, out_specs=each))
    a, times = (
        np.random.default_rng(0).normal(size=(len(devices), size, size)).astype(np.float32),
        [],
    )
    a = jax.device_put(a, jax.sharding.NamedSharding(mesh, each))
    seconds_of = clock(devices[0].platform)
    for _ in range(repeats):  # the first compiles
        begin = seconds_of()
        product(a).block_until_ready()
        times.append(seconds_of() - begin)
    return len(devices) * 2.0 * size**3 / min(times)


def in_peer_order(tree: dict, spec) -> list[np.ndarray]:
    """Leaves of a tree like fairjax's parameters, in the order and layout of the PyTorch network's
    ``parameters()``.
    """
    trunk = tree["trunk"]
    tables = np.split(
        np.asarray(trunk["embedding"]), np.cumsum([n for _, n in spec.categorical])[:-1]
    )
    layers = [
        trunk,
        *(tree["heads"][t.name][layer] for t in spec.tasks for layer in ("dense_0", "output")),
    ]
    return [
        *tables,
        *(np.asarray(a) for layer in layers for a in (layer["kernel"].T, layer["bias"])),
    ]


def network(study):
    """The shared-bottom network as a PyTorch user writes it."""
    from torch import cat, nn, relu

    spec = study.spec
    (width,) = study.names.model_options["trunk"]
    (hidden,) = study.names.model_options["head"]
    embedding = study.names.model_options["embedding"]
    inputs = len(spec.numeric) + embedding * len(spec.categorical)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList(
                nn.Embedding(levels, embedding) for _, levels in spec.categorical
            )
            self.first = nn.Linear(inputs, width)
            heads = (
                nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
                for _ in spec.tasks
            )
            self.heads = nn.ModuleList(heads)

        def forward(self, numeric, codes):
            embedded = [table(codes[:, j]) for j, table in enumerate(self.tables)]
            z = relu(self.first(cat([numeric, *embedded], dim=1)))
            return [head(z)[:, 0] for head in self.heads]

    return Network()


def peer_distance(notion: str, p, a, select):
    """Rate gap or squared MMD (Gaussian, 0.1, all pairs) of the selected rows, times their number;
    0 for one group.
    """
    import torch

    p, a = p[select], a[select]
    one, zero = p[a > 0], p[a == 0]
    if len(one) == 0 or len(zero) == 0:
        return 0.0
    if notion == "rate_gap":
        return (one.mean() - zero.mean()).abs() * len(p)
    means = [
        torch.exp(-torch.square((u[:, None] - v[None, :]) / 0.1)).mean()
        for u, v in ((one, one), (zero, zero), (one, zero))
    ]
    return (means[0] + means[1] - 2 * means[2]) * len(p)


def peer_losses(args, logits, y, a):
    """MTA-F's losses for trunk and heads; for Baseline the first is the whole loss."""
    from torch.nn import functional

    trunk = heads = moved = 0.0
    for t, (weight, lam, r) in enumerate(
        zip(HPARAMS["weight"], HPARAMS["lam"], HPARAMS["r"], strict=True)
    ):
        loss = functional.binary_cross_entropy_with_logits(logits[t], y[:, t], reduction="sum")
        p, negative = logits[t].sigmoid(), y[:, t] == 0
        fair = peer_distance(args.notion, p, a, negative)
        if args.method == "mta_f":
            moved = r * peer_distance(args.notion, p, a, negative & (y[:, 1 - t] == 1))
        trunk = trunk + weight * (loss + lam * (fair - moved)) / args.batch_size
        heads = heads + weight * (loss + lam * moved) / args.batch_size
    return trunk, heads


def peer_step(args, net, optimizer, batch):
    """One eager step: every loss's gradient for its own parameters."""
    import torch

    numeric, codes, *labels_and_group = batch
    trunk, heads = peer_losses(args, net(numeric, codes), *labels_and_group)
    if args.method == "mta_f":
        shared = [*net.tables.parameters(), *net.first.parameters()]
        gradients = [
            *torch.autograd.grad(trunk, shared, retain_graph=True),
            *torch.autograd.grad(heads, list(net.heads.parameters())),
        ]
    else:
        gradients = torch.autograd.grad(trunk, list(net.parameters()))
    for p, g in zip(net.parameters(), gradients, strict=True):
        p.grad = g
    optimizer.step()
    return trunk, heads


def peer_setup(args) -> tuple:
    """Network, optimizer and the training rows as tensors, on one thread; then study and splits."""
    import torch

    torch.set_num_threads(1)
    _, spec, splits = data()
    study = study_of(args, spec)
    net = network(study)
    optimizer = torch.optim.Adagrad(
        net.parameters(),
        lr=HPARAMS["learning_rate"],
        eps=0.0,
        fused=True,
        initial_accumulator_value=0.1 / args.batch_size**2,
    )
    return net, optimizer, tensors_of(splits.train), study, splits


def tensors_of(rows) -> list:
    """Numbers, codes, labels and who is of the second group."""
    import torch

    arrays = (rows.x.numeric, rows.x.codes, rows.labels, rows.groups[:, 1])
    return [torch.tensor(np.asarray(array)) for array in arrays]


def check(args) -> dict:
    """Compare both sides from the same parameters.

    Losses, all gradients, and losses five steps later; raises if they differ.
    """
    import jax
    import torch

    net, optimizer, tensors, study, splits = peer_setup(args)
    rows = splits.train
    hparams = {name: np.float32(value) for name, value in HPARAMS.items()}
    components = study.recipes[args.method].build(hparams)
    params = components.model.init(jax.random.key(0))
    with torch.no_grad():
        for parameter, array in zip(
            net.parameters(), in_peer_order(params, study.spec), strict=True
        ):
            parameter.copy_(torch.tensor(array))
    state = components.transform.init(params)
    step = step_of(components, rows)
    differences = []
    for i in range(6):
        batch = slice(i * args.batch_size, (i + 1) * args.batch_size)
        losses = peer_step(args, net, optimizer, [tensor[batch] for tensor in tensors])
        theirs = [loss.item() for loss in losses]
        params, state, values, gradients = step(
            params, state, jax.tree.map(lambda leaf, b=batch: leaf[b], rows)
        )
        difference = np.max(np.abs(np.asarray(values) - theirs[: len(values)]))
        differences.append(float(difference))
        limit = 1e-3 if i else 1e-4
        np.testing.assert_array_less(difference, limit, err_msg=f"losses at step {i + 1}")
        if i == 0:
            check_gradients(net, gradients, study.spec)
    return {"first": differences[0], "later": differences[-1], "torch": torch.__version__}


def check_gradients(net, gradients: dict, spec) -> None:
    """Compare the PyTorch gradients with the first row for the trunk and the last for the heads."""
    import jax

    routed = {
        "trunk": jax.tree.map(lambda leaf: leaf[0], gradients["trunk"]),
        "heads": jax.tree.map(lambda leaf: leaf[-1], gradients["heads"]),
    }
    for parameter, ours in zip(net.parameters(), in_peer_order(routed, spec), strict=True):
        tolerance = 1e-4 * np.abs(ours).max()
        np.testing.assert_allclose(parameter.grad.numpy(), ours, rtol=0, atol=tolerance)


def peer_worker(args, barrier) -> float:
    """One process on one thread: three steps to warm up, then all processes time their epochs at
    once.
    """
    import torch

    net, optimizer, tensors, *_ = peer_setup(args)
    for _ in range(3):
        peer_step(args, net, optimizer, [t[: args.batch_size] for t in tensors])
    barrier.wait()
    begin = time.process_time()
    for _ in range(args.peer_epochs):
        for rows in torch.randperm(len(tensors[0])).split(args.batch_size):
            peer_step(args, net, optimizer, [t[rows] for t in tensors])
    return args.peer_epochs / (time.process_time() - begin)


def peer(args, worker=peer_worker) -> list:
    """What one process per core found, all at once."""
    with SPAWN.Manager() as manager, ProcessPoolExecutor(CORES, mp_context=SPAWN) as pool:
        barrier = manager.Barrier(CORES, timeout=300)
        return list(pool.map(worker, [args] * CORES, [barrier] * CORES))


def stacked_setup(args) -> tuple:
    """Leaves of many models, an optimizer of all, the losses, the first layer, one-hot training
    rows, their other columns, and both for the rows of an evaluation.
    """
    import torch
    from torch.nn import functional

    net, _, training, _, splits = peer_setup(args)
    levels = [table.num_embeddings for table in net.tables]

    def one_hot(numeric, codes):
        columns = [functional.one_hot(codes[:, j].long(), n) for j, n in enumerate(levels)]
        return torch.cat([numeric, *columns], dim=1).float()

    numeric, codes, *labels_and_group = training
    held_out = []
    for rows in (splits.validation, splits.test):
        own_numeric, own_codes, *own = tensors_of(rows)
        held_out.append((one_hot(own_numeric, own_codes), *own))

    def stacked(parameter):
        return parameter.detach()[None].repeat(args.stack, *[1] * parameter.ndim).requires_grad_()

    leaves = {
        "tables": [stacked(table.weight) for table in net.tables],
        "first": [stacked(net.first.weight.T), stacked(net.first.bias[None])],
        "heads": [
            [stacked(leaf.T if leaf.ndim == 2 else leaf[None]) for leaf in head.parameters()]
            for head in net.heads
        ],
    }
    flat = [*leaves["tables"], *leaves["first"], *(leaf for h in leaves["heads"] for leaf in h)]
    optimizer = torch.optim.Adagrad(
        flat,
        lr=HPARAMS["learning_rate"],
        eps=0.0,
        fused=True,
        initial_accumulator_value=0.1 / args.batch_size**2,
    )

    def features_of(leaves: dict, x):
        """Activations ``[M, B, width]`` of the first layer."""
        kernel, bias = leaves["first"]
        own, shared = kernel[:, : numeric.shape[1]], kernel[:, numeric.shape[1] :]
        blocks = shared.split([table.shape[2] for table in leaves["tables"]], dim=1)
        folded = [torch.bmm(*pair) for pair in zip(leaves["tables"], blocks, strict=True)]
        # the rows are those of all models: one product for all of them
        first = torch.cat([own, *folded], dim=1)
        models, inputs, width = first.shape
        beside = first.permute(1, 0, 2).reshape(inputs, models * width)
        return torch.relu((x @ beside).view(-1, models, width).permute(1, 0, 2) + bias)

    def losses(leaves: dict, x, y, a):
        """Losses ``[M]`` for the trunk, whose gradient does not reach the heads, and for the heads."""
        z = features_of(leaves, x)
        fixed = [[leaf.detach() for leaf in head] for head in leaves["heads"]]
        if args.method == "baseline":
            return stacked_losses(args, logits_of(z, leaves["heads"]), y, a)[0], 0.0
        trunk, _ = stacked_losses(args, logits_of(z, fixed), y, a)
        _, heads = stacked_losses(args, logits_of(z.detach(), leaves["heads"]), y, a)
        return trunk, heads

    design = one_hot(numeric, codes)
    return leaves, optimizer, losses, features_of, design, labels_and_group, held_out


def logits_of(z, heads: list) -> list:
    """Logits ``[M, B]`` of every task."""
    import torch

    found = []
    for kernel, bias, out_kernel, out_bias in heads:
        hidden = torch.relu(torch.bmm(z, kernel) + bias)
        found.append((torch.bmm(hidden, out_kernel) + out_bias)[..., 0])
    return found


def stacked_losses(args, logits: list, y, a):
    """:func:`peer_losses` of many models, ``[M]`` each, by masks in place of selected rows."""
    from torch.nn import functional

    trunk = heads = 0.0
    for t, (weight, lam, r) in enumerate(
        zip(HPARAMS["weight"], HPARAMS["lam"], HPARAMS["r"], strict=True)
    ):
        label = y[:, t].expand_as(logits[t])
        entropy = functional.binary_cross_entropy_with_logits(logits[t], label, reduction="none")
        loss = entropy.sum(dim=1)
        p, negative = logits[t].sigmoid(), (y[:, t] == 0).float()
        fair = stacked_distance(args.notion, p, a, negative)
        moved = 0.0
        if args.method == "mta_f":
            other = (y[:, 1 - t] == 1).float()
            moved = r * stacked_distance(args.notion, p, a, negative * other)
        trunk = trunk + weight * (loss + lam * (fair - moved)) / args.batch_size
        heads = heads + weight * (loss + lam * moved) / args.batch_size
    return trunk, heads


def stacked_distance(notion: str, p, a, rows):
    """:func:`peer_distance` of probabilities ``[M, B]``, of the rows of weight 1."""
    import torch

    one, zero = rows * (a > 0), rows * (a == 0)
    ones, zeros = one.sum(), zero.sum()
    both = (ones > 0) & (zeros > 0)
    ones, zeros = ones.clamp(min=1), zeros.clamp(min=1)
    if notion == "rate_gap":
        distance = ((p * one).sum(dim=1) / ones - (p * zero).sum(dim=1) / zeros).abs()
    else:
        kernel = torch.exp(-torch.square((p[:, :, None] - p[:, None, :]) / 0.1))
        signed = one / ones - zero / zeros
        distance = torch.einsum("mij,i,j->m", kernel, signed, signed)
    return torch.where(both, distance * rows.sum(), 0.0)


def stacked_metrics(logits, label, group):
    """Error, AUC and the groups' rates of decisions, of all models ``[M, N]``: a value each."""
    import torch

    decided = (logits > 0).float()
    error = (decided - label).abs().mean(dim=1)
    ascending = label[logits.argsort(dim=1)]
    negatives_below = (1 - ascending).cumsum(dim=1)
    positives, negatives = label.sum(), (1 - label).sum()
    auc = (ascending * negatives_below).sum(dim=1) / (positives * negatives)
    members = torch.stack([group, 1 - group], dim=1)
    rows = torch.cat([members, members * label[:, None], members * (1 - label[:, None])], dim=1)
    return error, auc, decided @ rows / rows.sum(dim=0)


def stacked_evaluation(leaves: dict, features_of, splits) -> float:
    """CPU seconds of the metrics of one model, from its parameters; the best of a few."""
    import torch

    times = []
    for _ in range(3):
        begin = time.process_time()
        with torch.no_grad():
            for design, labels, group in splits:
                z = features_of(leaves, design)
                for t, logits in enumerate(logits_of(z, leaves["heads"])):
                    stacked_metrics(logits, labels[:, t], group)
        times.append(time.process_time() - begin)
    return min(times) / len(leaves["first"][0])


def stacked_worker(args, barrier) -> tuple[float, float]:
    """One process on one thread: compiles, then all processes time their epochs at once, and then
    the metrics of a model.
    """
    import torch

    leaves, optimizer, losses, features_of, design, columns, held_out = stacked_setup(args)
    total = torch.compile(lambda leaves, *batch: sum(losses(leaves, *batch)).sum())

    def step(rows) -> None:
        optimizer.zero_grad()
        total(leaves, design[rows], *(column[rows] for column in columns)).backward()
        optimizer.step()

    batches = len(design) // args.batch_size * args.batch_size  # batches of one shape
    for rows in torch.arange(3 * args.batch_size).split(args.batch_size):
        step(rows)
    barrier.wait()
    begin = time.process_time()
    for _ in range(args.peer_epochs):
        for rows in torch.randperm(len(design))[:batches].split(args.batch_size):
            step(rows)
    share = batches / len(design)
    rate = share * args.stack * args.peer_epochs / (time.process_time() - begin)
    return rate, stacked_evaluation(leaves, features_of, held_out)


def check_stacked(args) -> float:
    """The largest difference of the stacked losses to the eager ones; raises if it is large."""
    net, _, tensors, *_ = peer_setup(args)
    leaves, _, losses, _, design, columns, _ = stacked_setup(args)
    batch = [tensor[: args.batch_size] for tensor in tensors]
    numeric, codes, *labels_and_group = batch
    # both networks draw their own parameters: the eager one gets those of the first stacked model
    ours = [*leaves["tables"], *leaves["first"], *(leaf for h in leaves["heads"] for leaf in h)]
    for parameter, leaf in zip(net.parameters(), ours, strict=True):
        first = leaf.detach()[0]
        parameter.data = first.T.clone() if parameter.ndim == 2 else first[0].clone()
    for table, leaf in zip(net.tables, leaves["tables"], strict=True):
        table.weight.data = leaf.detach()[0].clone()
    eager = peer_losses(args, net(numeric, codes), *labels_and_group)
    stacked = losses(leaves, *(column[: args.batch_size] for column in (design, *columns)))
    pairs = list(zip(eager, stacked, strict=True))[: 1 if args.method == "baseline" else 2]
    difference = max((value - of_all).detach().abs().max().item() for value, of_all in pairs)
    np.testing.assert_array_less(difference, 1e-4, err_msg="losses of the stacked models")
    return difference


def alone(part, args, **changed) -> dict:
    """A part in a process of its own, so that its memory and its devices are its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(part, argparse.Namespace(**{**vars(args), **changed})).result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=("mta_f", "baseline"), default="mta_f")
    parser.add_argument("--notion", choices=("rate_gap", "mmd"), default="rate_gap")
    parser.add_argument(
        "--runs", type=int, default=128, help="memory is measured at a quarter of them too"
    )
    parser.add_argument("--epochs", type=int, default=40, help="two or more")
    parser.add_argument(
        "--batch-size", type=int, default=512, help="1024 in the paper's code, 512 in its text"
    )
    parser.add_argument("--peer-epochs", type=int, default=4)
    parser.add_argument("--stack", type=int, default=16, help="models of the stacked peer")
    parser.add_argument("--quick", action="store_true", help="write no results")
    parser.add_argument("--chunk", type=int, default=0, help="members per device; 0 chooses")
    args = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            "bench_sweep compares with PyTorch, which is missing: pip install 'fairjax[bench]'"
        )
    agreed = alone(check, args)
    many = alone(ours, args)
    short = alone(ours, args, epochs=1, chunk=many["chunk"])
    fewer = max(args.runs // 4, 1)
    few = alone(ours, args, runs=fewer, chunk=many["chunk"])
    alone(check_stacked, args)
    theirs = sum(peer(args))
    found = peer(args, stacked_worker)
    stacked = sum(rate for rate, _ in found)
    measured = sum(1 / (1 / rate + seconds / args.epochs) for rate, seconds in found)
    training = args.runs * (args.epochs - 1) / (many["seconds"] - short["seconds"])
    rest = many["seconds"] / args.runs - args.epochs / training
    share = many["flops"] * many["steps"] * many["rate"] / many["ceiling"]
    print(f"""\
settings  {args.method}, {args.notion}, batch {args.batch_size}, {many["data"]}; \
{args.runs} runs x {args.epochs} epochs, {many["devices"]} devices x {many["chunk"]} members
agreed    losses to {agreed["first"]:.0e} at the first step, {agreed["later"]:.0e} at the sixth
fairjax   {many["rate"]:.2f} model-epochs/s, {training:.2f} of training alone, jax {many["jax"]}: \
{many["seconds"]:.1f} s, {many["diverged"]} diverged
PyTorch   {theirs:.2f} model-epochs/s of training alone, torch {agreed["torch"]}: eager, \
{CORES} processes of one thread
PyTorch   {measured:.2f} model-epochs/s, {stacked:.2f} of training alone: {args.stack} models \
stacked in a compiled step, {CORES} processes of one thread
sweep     {many["compilations"]} compilation; peak memory {few["peak_mb"]:.0f} MB with \
{fewer} runs, {many["peak_mb"]:.0f} MB with {args.runs}
flops     {many["flops"] / 1e6:.2f} M per step by XLA, {many["by_hand"] / 1e6:.2f} M by hand \
(products alone); {many["ceiling"] / 1e9:.0f} G per second at the ceiling
evaluation and all else that is no training: {1e3 * rest * CORES:.0f} ms of a core for a run, \
{rest * training:.1f} epochs""")
    parts = alone(ablation, args)
    for what, rate in (("with the order of rows and batches", training), ("a sweep", many["rate"])):
        parts[what] = 1e6 * CORES / rate / many["steps"]
    lines = ablation_lines(parts)
    print(lines)
    line = {
        "method": args.method,
        "notion": args.notion,
        "batch": args.batch_size,
        "fairjax": f"{many['rate']:.1f}",
        "eager": f"{theirs:.1f}",
        "ratio": f"{many['rate'] / theirs:.1f}",
        "stacked": f"{measured:.1f}",
        "stacked ratio": f"{many['rate'] / measured:.2f}",
        "training alone": f"{training:.1f}",
        "stacked, training alone": f"{stacked:.1f}",
        "share of the ceiling": f"{share:.2f}",
        "evaluation in epochs": f"{rest * training:.1f}",
    }
    if not args.quick:
        write(line)
        if args.notion == "rate_gap":
            (RESULTS / "ablation.md").write_text(lines)
    print(
        f"ratio={line['ratio']} stacked_ratio={line['stacked ratio']} "
        f"training_ratio={training / stacked:.2f} floor_share={share:.3f}"
    )


def ablation_lines(parts: dict[str, float]) -> str:
    """A Markdown table: microseconds of a member's step, and what it adds to the line above."""
    lines = ["| a step of one member | microseconds | more |", "|---|---|---|"]
    before = None
    for what, value in parts.items():
        more = "" if before is None else f"{value - before:+.0f}"
        lines.append(f"| {what} | {value:.0f} | {more} |")
        before = value
    return "\n".join(lines) + "\n"


def write(line: dict) -> None:
    """Put a line into the table of results, in the place of an older one with its settings."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "sweep.csv"
    lines = []
    if path.exists():
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
    line = {name: str(value) for name, value in line.items()}
    settings = ("method", "notion", "batch")
    lines = [old for old in lines if any(old[name] != line[name] for name in settings)]
    lines.append(line)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, line, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    cells = [list(line), ["---"] * len(line), *(list(row.values()) for row in lines)]
    text = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    (RESULTS / "sweep.md").write_text(text)


if __name__ == "__main__":
    main()
