"""An ensemble in one network, for tables: its networks share all weights and differ by scales.

A step of training deals its rows to the networks, each row to one of them, so that it costs about
what one network costs. Evaluation asks all of them for every row and averages what they say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import glorot_uniform, he_normal, truncated_normal

from fairjax.core.types import Array, Columns, DataError, Model, PyTree, Spec
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.number_encodings import encoding_of
from fairjax.models.tabular import design, heads_of, look_up, narrow_and_wide, rectify

EMBEDDING = 16  # width of the embedding of a column that is too wide for a column per level


def ensemble(
    spec: Spec,
    trunk: tuple[int, ...] = (64, 64),
    head: tuple[int, ...] = (),
    *,
    networks: int = 2,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """Layers ``h' = relu(s_k * (W (r_k * h)) + b_k)`` of network k, and heads of its own.

    W is one for all networks; ``r_k``, ``s_k`` and ``b_k`` are vectors. ``r_k`` of the inputs
    starts at random signs, which sets the networks apart. Inputs are the encoded numbers and a
    column per level, or, of a column of more than 128 levels, an embedding of width 16. Row i of a
    step of training is network i mod K's.

    Probabilities of classes and labels are averaged, as log-odds they are the scores; so are
    predictions of a regression.

    Args:
      spec: names the columns and tasks.
      trunk: widths of the shared ReLU layers.
      head: widths of each task's layers; may be empty.
      networks: K.
      dropout: as in :func:`fairjax.models.shared_bottom`.
      number_encoding: as there.

    Returns:
      A :class:`Model` whose ``represent`` gives ``[B, D]`` with a key, of the network that a row is
      dealt to, and ``[B, K, D]`` without one. ``predict`` takes both.

    Raises:
      ValueError: if the trunk has no layer.
      DataError: without a network; for a dropout outside [0, 1), or an unknown encoding.

    Source: Gorishniy, Kotelnikov, Babenko, TabM: advancing tabular deep learning with
    parameter-efficient ensembling, ICLR 2025, after Wen, Tran, Ba, BatchEnsemble, ICLR 2020. There
    every network sees every row in training.
    """
    if not trunk:
        raise ValueError("the trunk needs at least one layer, got trunk=()")
    if networks < 1:
        raise DataError(f"an ensemble of {networks} networks has none to ask. Take 2.")
    drops_out(dropout)
    encode = encoding_of(spec, number_encoding)
    levels = tuple(count for _, count in spec.categorical)
    init_heads, predict_one = heads_of(spec, trunk[-1], tuple(head), glorot_uniform())

    narrow, wide = narrow_and_wide(levels)
    wide_levels = [levels[j] for j in wide]
    start_table = truncated_normal(stddev=EMBEDDING**-0.5)

    def encoded(params: PyTree, x: Columns) -> Array:
        variables = {"params": params.get("encoding", {})}
        numeric = encode.apply(variables, x.numeric)
        columns = design(x._replace(numeric=numeric), levels, jnp.float32, narrow)
        if not wide:
            return columns
        tables = jnp.split(params["embedding"], np.cumsum(wide_levels)[:-1])
        found = [look_up(own, x.codes[:, j]).T for own, j in zip(tables, wide, strict=True)]
        return jnp.concatenate([columns, *found])

    def init(key: Array) -> PyTree:
        encoding_key, sign_key, layer_key, head_key = jax.random.split(key, 4)
        table_key = jax.random.fold_in(layer_key, len(trunk))
        numeric = jnp.zeros((1, len(spec.numeric)))
        codes = jnp.zeros((1, len(spec.categorical)), jnp.int32)
        variables = encode.init(encoding_key, numeric)
        params = {"encoding": variables["params"]} if variables else {}
        if wide:
            params["embedding"] = start_table(table_key, (sum(wide_levels), EMBEDDING))
        inputs, _ = jax.eval_shape(encoded, params, Columns(numeric, codes)).shape
        for i, (before, width) in enumerate(zip((inputs, *trunk[:-1]), trunk, strict=True)):
            own_key = jax.random.fold_in(layer_key, i)
            params[f"layer_{i}"] = {
                "weight": he_normal()(own_key, (before, width)).T,
                "inputs": jnp.ones((networks, before)),
                "outputs": jnp.ones((networks, width)),
                "bias": jnp.zeros((networks, width)),
            }
        params["layer_0"]["inputs"] = jax.random.rademacher(
            sign_key, (networks, inputs), jnp.float32
        )
        head_keys = jax.random.split(head_key, networks)
        return {"trunk": params, "heads": jax.vmap(init_heads)(head_keys)}

    def represent(
        params: PyTree, x: Columns, condition: Array | None = None, key: Array | None = None
    ) -> Array:
        if condition is not None:
            raise ValueError("ensemble takes no condition; use a conditioned model")
        activate = dropping(rectify, dropout, key)
        inputs = encoded(params, x)
        h = inputs
        own: Iterable[Array] = [inputs] * networks if key is None else _deal(inputs, networks)
        for i in range(len(trunk)):
            p = params[f"layer_{i}"]
            # each network's own weights: a scaled copy of the rows would cost one more product
            # backward; a product per network: all in one are several times slower on a CPU
            sums = jnp.stack(
                [
                    (scale * p["weight"]) @ columns
                    for scale, columns in zip(p["inputs"], own, strict=True)
                ]
            )
            own = h = activate(i, _scaled(p, sums))
        if key is None:
            return jnp.moveaxis(h, 2, 0)
        return _gather(h, inputs.shape[1]).T

    def predict(params: PyTree, z: Array) -> Array:
        if z.ndim == 3:
            scores = jax.vmap(predict_one, (0, 1))(params, z)
            return _averaged(spec, scores)
        dealt = jnp.swapaxes(_deal(z.T, networks), 1, 2)
        scores = jax.vmap(predict_one)(params, dealt)
        return _gather(jnp.swapaxes(scores, 1, 2), len(z)).T

    learned = ("encoding",) if number_encoding == "periodic" else ()
    if wide:
        learned = (*learned, "embedding")
    layers = tuple((f"layer_{i}",) for i in range(1, len(trunk)))
    return Model(init, represent, predict, ((*learned, "layer_0"), *layers), dropout=True)


def _scaled(params: PyTree, sums: Array) -> Array:
    """``s_k * sums + b_k`` of sums ``[K, width, B]``."""
    # scales of all rows by a product: its gradient is one too, where XLA's sum over rows is slow
    rows = jnp.ones((1, sums.shape[2]))
    scale = jnp.matmul(params["outputs"][:, :, None], rows, precision="highest")
    return scale * sums + params["bias"][:, :, None]


def _deal(columns: Array, networks: int) -> Array:
    """Columns ``[D, B]`` dealt in turn: ``[K, D, B / K]``, padded with zeros."""
    width, rows = columns.shape
    padded = jnp.pad(columns, ((0, 0), (0, -rows % networks)))
    return jnp.moveaxis(padded.reshape(width, -1, networks), 2, 0)


def _gather(dealt: Array, rows: int) -> Array:
    """The inverse of :func:`_deal`: ``[D, B]``."""
    _, width, _ = dealt.shape
    return jnp.moveaxis(dealt, 0, 2).reshape(width, -1)[:, :rows]


def _averaged(spec: Spec, scores: Array) -> Array:
    """Scores ``[B, C]`` of the mean of the networks' probabilities, from theirs ``[K, B, C]``."""
    columns = []
    for t, task in enumerate(spec.tasks):
        own = scores[:, :, spec.score_slice(t)]
        if task.kind == "regression":
            columns.append(jnp.mean(own, axis=0))
        elif task.kind == "multiclass":
            columns.append(_log_mean(jax.nn.log_softmax(own)))
        else:
            yes = _log_mean(jax.nn.log_sigmoid(own))
            no = _log_mean(jax.nn.log_sigmoid(-own))
            columns.append(yes - no)
    return jnp.concatenate(columns, axis=1)


def _log_mean(log_prob: Array) -> Array:
    """The logarithm of the mean over networks, from logarithms ``[K, B, c]``."""
    # network by network: XLA reduces a leading axis several times slower on a CPU
    return functools.reduce(jnp.logaddexp, log_prob) - np.log(len(log_prob))
