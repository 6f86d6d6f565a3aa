"""Tensors of a PyTorch checkpoint, read without PyTorch and without running what is in the file.

A checkpoint is a pickle that names storages, and the storages. Pickles are programs. Here a small
machine knows the operations of a dictionary of tensors and no others: it calls nothing, imports
nothing, and a name that it does not know ends the reading.

Two formats are in use, both with pickles of protocol 2 and little-endian numbers. Since PyTorch 1.6
a checkpoint is a zip with the files ``NAME/data.pkl`` and ``NAME/data/KEY``, uncompressed. Before,
it was five pickles (a mark, a version, sizes of types, the tensors, the keys of the storages), then
for each key the storage's length and its numbers.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.types import DataError

_MARK = 0x1950A86A20F9469CFC6C  # of the older format
_VERSION = 1001  # of the older format
_MOST_TIMES = 4  # the file's size that its arrays may take
_MOST_AXES = 64  # of an array of numpy
_MOST_NUMBERS = 2**63
_CURE = "Write it again with torch.save(model.state_dict(), path), or install its package again."


class _Global(NamedTuple):
    """A name of Python in the pickle, as ``"module name"``."""

    name: str


class _Storage(NamedTuple):
    """Numbers beside the pickle."""

    kind: str  # of _KINDS
    key: str
    count: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides are in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _from_bfloat16(upper: np.ndarray) -> np.ndarray:
    """bfloat16 are the upper halves of single precision."""
    return (upper.astype(np.uint32) << 16).view(np.float32)


class _Kind(NamedTuple):
    """How a storage holds numbers, and which numbers come out."""

    stored: str
    given: Callable[[np.ndarray], np.ndarray]


def _given(dtype: type[Any]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda stored: stored.astype(dtype)


_KINDS = {
    "torch FloatStorage": _Kind("<f4", _given(np.float32)),
    "torch DoubleStorage": _Kind("<f8", _given(np.float64)),
    "torch HalfStorage": _Kind("<f2", _given(np.float32)),
    "torch BFloat16Storage": _Kind("<u2", _from_bfloat16),
    "torch LongStorage": _Kind("<i8", _given(np.int64)),
    "torch IntStorage": _Kind("<i4", _given(np.int32)),
    "torch ShortStorage": _Kind("<i2", _given(np.int16)),
    "torch CharStorage": _Kind("<i1", _given(np.int8)),
    "torch ByteStorage": _Kind("<u1", _given(np.uint8)),
    "torch BoolStorage": _Kind("<u1", _given(np.bool_)),
}
_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_NAMES = {_DICTIONARY, _TENSOR, *_KINDS}


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name. Nothing in the file is executed.

    The file holds one dictionary of tensors, as ``torch.save(model.state_dict(), path)`` writes it.
    Numbers of half precision and bfloat16 come in single precision, others as they are. Arrays take
    no more than four times the file's size.

    Args:
      path: of the checkpoint, in either format.

    Raises:
      DataError: there is no such file; it is damaged or truncated; it holds anything else than
        tensors, or names a function or class that is no part of them; a tensor reaches beyond its
        storage; a zip is compressed or holds paths outside its folder.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file of tensors. Check the path.")
    try:
        return _tensors(path.read_bytes())
    except Exception as error:  # parsers of zip, pickles and text raise many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path}: not tensors alone, or damaged ({reason}). {_CURE}") from error


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    is_zip = content.startswith(b"PK\x03\x04")
    tensors, storages = _of_zip(content) if is_zip else _of_older(content)
    _refuse_others(tensors)
    size = sum(_bytes_of(tensor) for tensor in tensors.values())
    if size > _MOST_TIMES * len(content):
        raise ValueError(f"its tensors take {size:,} bytes, the file {len(content):,}")
    return {name: _array(name, tensor, storages) for name, tensor in tensors.items()}


def _refuse_others(tensors: object) -> None:
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(tensors).__name__} instead of a dictionary")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"entry {str(name)[:50]!r} is a {type(tensor).__name__}, no tensor")


def _bytes_of(tensor: _Tensor) -> int:
    stored = np.dtype(_KINDS[tensor.storage.kind].stored)
    return math.prod(tensor.shape) * max(stored.itemsize, 4)


def _array(name: str, tensor: _Tensor, storages: Mapping[str, memoryview]) -> np.ndarray:
    storage = tensor.storage
    kind = _KINDS[storage.kind]
    numbers = np.frombuffer(storages[storage.key], kind.stored)
    if math.prod(tensor.shape) == 0:
        return kind.given(np.zeros(tensor.shape, kind.stored))
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((count - 1) * stride for count, stride in steps)
    if last >= len(numbers):
        raise ValueError(f"tensor {name[:50]!r} needs {last + 1:,} of {len(numbers):,} numbers")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return kind.given(np.array(view, order="C"))


# ------------------------------------------------------------------------------------ two formats


def _of_zip(content: bytes) -> tuple[object, dict[str, memoryview]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _refuse_members(archive.infolist(), len(content))
        members = archive.namelist()
        roots = [path.parent for path in map(PurePosixPath, members) if path.name == "data.pkl"]
        if len(roots) != 1:
            raise ValueError(f"a zip with {len(roots)} files data.pkl")
        (root,) = roots
        order = str(root / "byteorder")
        if order in members and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")
        machine = _Machine()
        tensors = machine.run(io.BytesIO(archive.read(str(root / "data.pkl"))))
        storages = {}
        for key, storage in machine.storages.items():
            stored = archive.read(str(root / "data" / key))
            if len(stored) != _stored_bytes(storage):
                raise ValueError(f"storage {key[:50]!r} has {len(stored):,} bytes")
            storages[key] = memoryview(stored)
    return tensors, storages


def _refuse_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what a checkpoint does not hold, before anything is unpacked."""
    paths = [PurePosixPath(member.filename) for member in members]
    if len(set(paths)) < len(paths):
        raise ValueError("it holds a file twice")
    if any(path.is_absolute() or ".." in path.parts or "\\" in str(path) for path in paths):
        raise ValueError("it holds a path outside itself")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its files are compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its files are larger than itself")


def _of_older(content: bytes) -> tuple[object, dict[str, memoryview]]:
    stream = io.BytesIO(content)
    mark, version, system = (_Machine().run(stream) for _ in range(3))
    if type(mark) is not int or mark != _MARK:
        raise ValueError("it does not begin like a checkpoint")
    if type(version) is not int or version != _VERSION:
        raise ValueError("its version is unknown")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    machine = _Machine()
    tensors = machine.run(stream)
    keys = _Machine().run(stream)
    if not isinstance(keys, list) or any(type(key) is not str for key in keys):
        raise ValueError("its storages have no keys")
    if len(set(keys)) < len(keys) or set(keys) != machine.storages.keys():
        raise ValueError("its storages are not those of its tensors")
    storages = {}
    start = stream.tell()
    for key in keys:
        storage = machine.storages[key]
        count = int.from_bytes(content[start : start + 8], "little")
        start += 8
        stored = memoryview(content)[start : start + _stored_bytes(storage)]
        if count != storage.count or len(stored) != _stored_bytes(storage):
            raise ValueError(f"storage {key[:50]!r} is not whole")
        storages[key] = stored
        start += len(stored)
    if start != len(content):
        raise ValueError("something follows its storages")
    return tensors, storages


def _stored_bytes(storage: _Storage) -> int:
    return storage.count * np.dtype(_KINDS[storage.kind].stored).itemsize


# ------------------------------------------------------------------------------------ the machine


class _Machine:
    """Runs the pickle of a dictionary of tensors.

    Source of the operations: :mod:`pickletools`. Of what it builds, nothing is compared, hashed or
    printed except texts and whole numbers, so that no nesting is too deep.
    """

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, object] = {}

    def run(self, stream: io.BytesIO) -> object:
        """The object of the next pickle of a stream."""
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name == "STOP":
                return self._stack.pop()
            self._step(operation.name, argument)
        raise ValueError("it ends too early")

    def _step(self, name: str, argument) -> None:
        match name:
            case "PROTO":
                if argument != 2:
                    raise ValueError(f"a pickle of protocol {argument}")
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                self._stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._last(int(name[-1]))))
            case "MARK":
                self._below.append(self._stack)
                self._stack = []
            case "TUPLE":
                items = self._since_mark()
                self._stack.append(tuple(items))
            case "APPEND":
                self._append(self._last(1))
            case "APPENDS":
                self._append(self._since_mark())
            case "SETITEM":
                self._set(self._last(2))
            case "SETITEMS":
                self._set(self._since_mark())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                if argument not in _NAMES:
                    raise ValueError(f"it names {argument[:100]!r}")
                self._stack.append(_Global(argument))
            case "BINPERSID":
                self._stack.append(self._storage(self._stack.pop()))
            case "REDUCE":
                function, arguments = self._last(2)
                self._stack.append(_built(function, arguments))
            case "BUILD":
                # attributes of an ordered dictionary: versions of modules, of which none is kept
                target, attributes = self._last(2)
                if type(target) is not dict or type(attributes) is not dict:
                    raise ValueError("it gives attributes to an object")
                self._stack.append(target)
            case _:
                raise ValueError(f"operation {name} of a pickle")

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("its stack is too short")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._below.pop()
        return items

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("it appends to something else than a list")
        target.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        keys = items[::2]
        if type(target) is not dict or any(type(key) not in (str, int) for key in keys):
            raise ValueError("a dictionary whose keys are not texts or whole numbers")
        target.update(zip(keys, items[1::2], strict=True))

    def _storage(self, identity: object) -> _Storage:
        """What stands for a storage: ``("storage", kind, key, device, count)``."""
        if type(identity) is not tuple or len(identity) not in (5, 6):
            raise ValueError("something that is stored elsewhere")
        word, kind, key, device, count, *view = identity
        is_text = all(type(part) is str for part in (word, key, device))
        if not is_text or word != "storage" or any(part is not None for part in view):
            raise ValueError("something that is stored elsewhere")
        if type(kind) is not _Global or kind.name not in _KINDS or not _is_count(count):
            raise ValueError(f"storage {key[:50]!r} is of no known kind")
        if not key.isascii() or not key.isalnum():
            raise ValueError(f"storage {key[:50]!r} has no key of letters and digits")
        storage = _Storage(kind.name, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key[:50]!r} is of two kinds")
        return storage


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_NUMBERS


def _built(function: object, arguments: object) -> object:
    """An empty dictionary, or the tensor of ``(storage, offset, shape, strides, ...)``."""
    if type(function) is not _Global or type(arguments) is not tuple:
        raise ValueError("it calls an object")
    if function.name == _DICTIONARY and not arguments:
        return {}
    if function.name != _TENSOR or len(arguments) not in (6, 7):
        raise ValueError(f"it calls {function.name} with {len(arguments)} arguments")
    storage, offset, shape, strides, *_ = arguments
    sizes = (shape, strides)
    is_shape = all(type(size) is tuple and all(map(_is_count, size)) for size in sizes)
    if type(storage) is not _Storage or not _is_count(offset) or not is_shape:
        raise ValueError("a tensor without storage, or with a negative size")
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    return _Tensor(storage, offset, shape, strides)
