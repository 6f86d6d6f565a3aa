"""A BERT of 8 words and 4 features, in a folder as transformers writes it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

CONFIG = {
    "model_type": "bert",
    "vocab_size": 8,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 9,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "!"]


def bert_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    shapes = {"word": (8, 4), "position": (9, 4), "token_type": (2, 4)}
    shapes = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    layer = "encoder.layer.0"
    products = {f"attention.self.{name}": (4, 4) for name in ("query", "key", "value")}
    products |= {"attention.output.dense": (4, 4), "intermediate.dense": (6, 4)}
    products |= {"output.dense": (4, 6)}
    for name, shape in products.items():
        shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for name in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes |= {f"{name}.LayerNorm.gamma": (4,), f"{name}.LayerNorm.beta": (4,)}
    rng = np.random.default_rng(seed)
    return {f"bert.{n}": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def packed(arrays: dict[str, np.ndarray], **changes) -> bytes:
    """The format by hand."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        span = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}
        body += array.tobytes()
    text = json.dumps(header | changes).encode()
    return struct.pack("<Q", len(text)) + text + body


def write_bert(place: Path, seed: int = 0) -> Path:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (place / "model.safetensors").write_bytes(packed(bert_arrays(seed)))
    return place
