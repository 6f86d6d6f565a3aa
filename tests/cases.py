"""Tables of what is tested, small random batches, and brute forces in float64.

The brute forces share no code with the library.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fairjax import notions, objectives
from fairjax.core.types import Attribute, Columns, Dataset, Spec, Splits, Task


def double():
    """Context in which arrays may be float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


# --------------------------------------------------------------------------------------- distances


class Case(NamedTuple):
    """A distance and which laws it claims."""

    name: str
    distance: Callable
    absent_is_zero: bool = True  # no value and no gradient while fewer than two groups are there
    duplicates: bool = True  # duplicating all rows changes nothing
    many: bool = True  # takes more than two groups


DISTANCES = (
    Case("mmd_gaussian", partial(notions.mmd, kernel=notions.gaussian_kernel(0.1))),
    Case("mmd_laplacian", partial(notions.mmd, kernel=notions.laplacian_kernel(0.1))),
    Case("gaussian_mmd", partial(notions.gaussian_mmd, bandwidth=0.1)),
    Case(
        "adjusted_mmd",
        partial(notions.adjusted_mmd, kernel=notions.gaussian_kernel(0.1)),
        duplicates=False,
    ),
    Case(
        "published_mmd",
        partial(notions.published_mmd, kernel=notions.gaussian_kernel(0.1)),
        absent_is_zero=False,
        many=False,
    ),
    Case("correlation_ratio", notions.correlation_ratio),
    Case("published_correlation", notions.published_correlation, many=False),
    Case("rate_gap", notions.rate_gap),
    Case("sharpened_rate_gap", partial(notions.sharpened_rate_gap, threshold=0.4, temperature=0.2)),
    Case(
        "published_rate_gap",
        partial(notions.published_rate_gap, threshold=0.3),
        absent_is_zero=False,
    ),
    Case("kolmogorov_smirnov", notions.kolmogorov_smirnov),
    Case(
        "soft_kolmogorov_smirnov",
        partial(
            notions.soft_kolmogorov_smirnov, thresholds=np.linspace(0.1, 0.9, 9), temperature=0.05
        ),
    ),
    Case("wasserstein", notions.wasserstein),
    Case("barycenter", notions.barycenter_distance, duplicates=False),
    Case("barycenter, exact", partial(notions.barycenter_distance, levels=None), duplicates=False),
    Case(
        "projected barycenter",
        partial(notions.projected, key=jax.random.key(0)),
        duplicates=False,
    ),
    Case("sliced", partial(notions.sliced, key=jax.random.key(0)), duplicates=False),
    Case("sinkhorn", notions.sinkhorn),
)


def rows(seed: int, n: int = 12, groups: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random scores, membership with every group present (at least twice), and uneven weights."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) % groups)
    prob = rng.uniform(0.02, 0.98, n)
    return (
        prob.astype(np.float32),
        np.eye(groups, dtype=np.float32)[member],
        rng.uniform(0.2, 2.0, n).astype(np.float32),
    )


# ---------------------------------------------------------------------------- float64 brute forces


def brute_mmd(kernel: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """Squared MMD by loops over pairs of rows; the mean over pairs of present groups."""

    def mean(prob, a, b):
        return np.average(kernel(np.subtract.outer(prob, prob)), weights=np.outer(a, b))

    def distance(prob, groups, weight):
        prob, groups, weight = (np.asarray(v, np.float64) for v in (prob, groups, weight))
        members = [groups[:, g] * weight for g in range(groups.shape[1])]
        members = [m for m in members if m.sum() > 0]
        pairs = [
            mean(prob, a, a) + mean(prob, b, b) - 2 * mean(prob, a, b)
            for i, a in enumerate(members)
            for b in members[:i]
        ]
        return float(np.mean(pairs)) if pairs else 0.0

    return distance


def brute_gaussian(bandwidth: float) -> Callable:
    """Kernel ``exp(-d^2 / l^2)``."""
    return lambda d: np.exp(-((d / bandwidth) ** 2))


def brute_gap(prob, groups, weight) -> float:
    """Largest difference of weighted group means."""
    prob, groups, weight = (np.asarray(v, np.float64) for v in (prob, groups, weight))
    rates = []
    for g in range(groups.shape[1]):
        inside = (groups[:, g] > 0) & (weight > 0)
        if inside.any():
            rates.append(np.average(prob[inside], weights=(weight * groups[:, g])[inside]))
    return float(max(rates) - min(rates)) if len(rates) > 1 else 0.0


def slope(function: Callable, at: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """Gradient by central differences in float64; ``at`` of any shape."""
    at = np.asarray(at, np.float64)
    out = np.zeros_like(at)
    for i in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[i] += h
        down[i] -= h
        out[i] = (function(up) - function(down)) / (2 * h)
    return out


def brute_select(condition: str, label, mask) -> np.ndarray:
    """Rows of a condition by loop; ``label`` may be NaN where ``mask`` is 0."""
    if condition == "everyone":
        return np.ones(len(label))
    wanted = {"negatives": 0.0, "positives": 1.0}[condition]
    return np.array([float(m == 1 and y == wanted) for y, m in zip(label, mask, strict=True)])


def brute_exclusive(condition: str, labels, masks, task: int) -> np.ndarray:
    """Rows that meet the condition on ``task`` and are known not to on every other task."""
    opposite = {"negatives": "positives", "positives": "negatives"}
    select = brute_select(condition, labels[:, task], masks[:, task])
    for t in range(labels.shape[1]):
        if t != task and condition == "everyone":
            select = np.zeros(len(labels))
        elif t != task:
            select = select * brute_select(opposite[condition], labels[:, t], masks[:, t])
    return select


# ------------------------------------------------------------------------------------------- terms


class TermsOfBatch(NamedTuple):
    """Losses of one batch by task."""

    loss: list  # L_t
    fairness: list  # F_t
    exclusive: list  # E_t


def terms_of(spec: Spec, scores, batch: Dataset, notion, reduction: str = "batch") -> TermsOfBatch:
    """All terms of one batch, with memory as it is before training."""
    tasks = range(len(spec.tasks))
    predictions = objectives.predict(spec, scores)
    of_rows = {}
    for on_exclusive in (False, True):
        terms = objectives.fairness_terms(
            spec, notion, reduction=reduction, on_exclusive=on_exclusive
        )
        values, _ = terms.apply(predictions, batch, terms.init(batch))
        of_rows[on_exclusive] = [terms.of_task(values, t) for t in tasks]
    loss = objectives.accuracy_terms(spec, predictions, batch, reduction)
    return TermsOfBatch(loss, of_rows[False], of_rows[True])


def by_text(values: dict) -> dict:
    """Metrics by the text of their keys."""
    return {str(key): value for key, value in values.items()}


# --------------------------------------------------------------------------------------- data sets


def tabular_spec(
    tasks: int = 2, numeric: int = 2, levels: tuple[int, ...] = (3,), groups: int = 2
) -> Spec:
    """Binary tasks, one attribute, a few columns."""
    return Spec(
        tuple(Task(f"task{t}") for t in range(tasks)),
        (Attribute("a", tuple(str(g) for g in range(groups))),),
        tuple(f"x{i}" for i in range(numeric)),
        tuple((f"c{j}", n) for j, n in enumerate(levels)),
    )


def dataset(
    spec: Spec,
    n: int,
    seed: int,
    *,
    missing: float = 0.0,
    unknown: float = 0.0,
    weighted: bool = False,
) -> Dataset:
    """Random rows of a spec of binary tasks.

    Missing labels are NaN; unknown demographics are rows of zeros.
    """
    rng = np.random.default_rng(seed)
    tasks, groups = len(spec.tasks), len(spec.attributes[0].levels)
    x = Columns(
        rng.normal(size=(n, len(spec.numeric))).astype(np.float32),
        np.stack([rng.integers(0, k, n) for _, k in spec.categorical], 1).astype(np.int32)
        if spec.categorical
        else np.zeros((n, 0), np.int32),
    )
    labels = (rng.random((n, tasks)) < 0.5).astype(np.float32)
    mask = (rng.random((n, tasks)) >= missing).astype(np.float32)
    member = np.eye(groups, dtype=np.float32)[rng.permutation(np.arange(n) % groups)]
    known = (rng.random(n) >= unknown).astype(np.float32)
    weight = rng.uniform(0.5, 2.0, n).astype(np.float32) if weighted else np.ones(n, np.float32)
    return Dataset(
        x,
        np.where(mask > 0, labels, np.nan).astype(np.float32),
        mask,
        member * known[:, None],
        weight,
    )


def pad(data: Dataset, more: int, fill: float = np.nan) -> Dataset:
    """Rows of weight 0 at the end, with labels that must not be looked at."""

    def block(a, value):
        return np.concatenate([a, np.full((more, *a.shape[1:]), value, a.dtype)])

    return Dataset(
        Columns(block(data.x.numeric, 3.0), block(data.x.codes, -1)),
        block(data.labels, fill),
        block(data.label_mask, 0),
        block(data.groups, 0),
        block(data.weight, 0),
    )


def splits(spec: Spec, n: int = 22, seed: int = 0) -> Splits:
    """Three random data sets of one spec."""
    return Splits(dataset(spec, n, seed), dataset(spec, 9, seed + 1), dataset(spec, 11, seed + 2))


def tiny_sweep():
    """A small sweep: ``(recipe, train_config, splits, evaluate)``, the same in every process."""
    import jax.numpy as jnp

    from fairjax.methods import Context, mta_f
    from fairjax.models import shared_bottom
    from fairjax.training import TrainConfig

    spec = tabular_spec()
    context = Context.paper(spec, shared_bottom(spec, (4,), (3,), 2), 0.05, 8)
    method = mta_f(notions.from_distance(notions.rate_gap, (notions.negatives,)))

    def evaluate(scores, data):
        wrong = (scores["test"] > 0) != (data.test.labels > 0.5)
        return {
            "error": jnp.mean(wrong, axis=0),
            "square": jnp.mean(jnp.square(scores["validation"])),
        }

    return method(context), TrainConfig(2, 8), splits(spec), evaluate


def fairjax(*arguments: str, cwd) -> subprocess.CompletedProcess:
    """The command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fairjax.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=900,
    )


# ---------------------------------------------------------------------------- a pretrained network

BERT_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "c", "d", "e", "!")


def tiny_bert(folder: Path, layers: int = 2) -> Path:
    """A checkpoint of BERT with random weights, four units wide, in a folder."""
    sizes = {"vocab_size": len(BERT_WORDS), "hidden_size": 4, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 6, "max_position_embeddings": 9}
    shapes = {"word": (len(BERT_WORDS), 4), "position": (9, 4), "token_type": (2, 4)}
    shapes = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(layers)):
        products = {f"attention.self.{name}": (4, 4) for name in ("query", "key", "value")}
        products |= {"attention.output.dense": (4, 4), "intermediate.dense": (6, 4)}
        products |= {"output.dense": (4, 6)}
        for name, shape in products.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (4,), f"{name}.bias": (4,)}
    rng = np.random.default_rng(0)
    header, body = {}, b""
    for name, shape in shapes.items():
        array = rng.normal(size=shape).astype(np.float32)
        span = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": span}
        body += array.tobytes()
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    (folder / "vocab.txt").write_text("\n".join(BERT_WORDS))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    return folder
