"""Bytes, JSON and arrays in files. A file appears whole or not at all, and damage is found.

JSON and arrays carry a checksum of their content. Reading executes nothing, allocates no more than
four times the file's size, and answers a damaged or edited file with one :class:`DataError`. So it
does with files of others, which have no checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from fairjax.core.types import DataError

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows has none)
    fcntl = None

CHECKSUM = "checksum"
writing: threading.Lock = threading.Lock()  # held while a file is written
Content = TypeVar("Content")
_PART = 64  # bytes in memory of a small part of JSON
_ROOM = 2**26  # bytes that any JSON may take
_AGAIN = "Make it again, or restore a copy."


def cache_dir() -> Path:
    """The user's cache of files, ``$XDG_CACHE_HOME/fairjax`` or ``~/.cache/fairjax``."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "fairjax"


@contextlib.contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """Turn what the system says of a write into a complaint."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}). Make room, mend the folder's "
            "permissions, or choose another folder."
        ) from error


def write(path: Path, content: bytes | memoryview) -> Path:
    """Write ``content`` to ``path`` in one step and create its folders, see :func:`whole_file`."""
    with whole_file(path) as file:
        file.write(content)
    return Path(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which then appears as ``path`` in one step.

    A reader sees the old file or the new file, never a part of one. Folders are created.

    Raises:
      DataError: the system refuses: the disk is full, the folder is read-only.
    """
    path = Path(path)
    # processes of several machines may have one number
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with writing, _complaints(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            # a read-only folder holds no scratch file and refuses to look
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, what: str, shared: bool = False) -> Iterator[None]:
    """Keep a folder for this process; a dead process leaves no lock behind.

    Args:
      folder: it is made where it is absent.
      what: what works there, for the message.
      shared: with other processes that share it.

    Raises:
      DataError: another process works there, or the folder cannot be written.
    """
    with _complaints(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:  # pragma: no cover (Windows)
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(folder, handle, what, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(folder: Path, handle: int, what: str, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"{folder}: another process runs {what} here. Wait for it, or choose another folder."
        ) from error
    except OSError:
        # some network file systems have no locks
        pass


@contextlib.contextmanager
def whole_folder(folder: Path, last: str) -> Iterator[Path]:
    """A folder to write into, whose files then appear in ``folder`` together.

    Where ``folder`` exists, they come one by one, ``last`` at the end. A process that dies before
    leaves ``folder`` without that file.

    Raises:
      DataError: the system refuses to write.
    """
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with _complaints(folder):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    try:
        yield scratch
        with writing, _complaints(folder):
            if not folder.exists():
                os.replace(scratch, folder)
                return
            for name in sorted(os.listdir(scratch), key=lambda name: name == last):
                os.replace(scratch / name, folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# -------------------------------------------------------------------------------------------- JSON


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Write a dictionary as JSON with :func:`write`, and its checksum with it.

    Arrays become lists, and numpy's numbers become numbers.
    """
    plain = json.loads(json.dumps(content, default=_plain))
    plain[CHECKSUM] = _json_checksum(plain)
    return write(path, json.dumps(plain, indent=1).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
      DataError: the file is absent, damaged, or was changed.
    """

    def read() -> dict[str, Any]:
        content = _parsed(path.read_bytes())
        stored = content.pop(CHECKSUM, None)
        if stored != _json_checksum(content):
            raise ValueError("its content was changed after it was written")
        return content

    return read_safely(path, read)


def read_foreign_json(path: Path) -> dict[str, Any]:
    """Read JSON that somebody else wrote, an object without a checksum.

    Raises:
      DataError: the file is absent or damaged, holds no object, or takes more than four times its
        size in memory.
    """

    def read() -> dict[str, Any]:
        content = _parsed(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        return content

    return read_safely(path, read)


def _parsed(text: bytes):
    _refuse_swollen(text)
    return json.loads(text.decode())


def _refuse_swollen(text: bytes) -> None:
    """Refuse JSON of so many small parts that it takes more than four times its size in memory."""
    parts = sum(map(text.count, (b",", b":", b"[", b"{")))
    if _PART * parts > max(_ROOM, 4 * len(text)):
        raise ValueError(f"its {parts:,} parts take more than four times its size in memory")


def _json_checksum(content: dict[str, Any]) -> str:
    content = {name: value for name, value in content.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def file_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of the files of a folder that exist, by name."""
    checksums = {}
    for name in names:
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                checksums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Refuse files that are not those of :func:`file_checksums`.

    Raises:
      DataError: a file is absent, damaged or changed.
    """
    for name, checksum in checksums.items():
        if file_checksums(folder, [name]).get(name) != checksum:
            raise DataError(f"{folder / name}: absent, damaged or changed. {_AGAIN}")


# ------------------------------------------------------------------------------------------ arrays


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write named arrays as npz with :func:`write`, and their checksum with them."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    stored: dict[str, Any] = arrays | {CHECKSUM: np.array(_arrays_checksum(arrays))}
    buffer = io.BytesIO()
    np.savez(buffer, **stored)
    return write(path, buffer.getbuffer())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that :func:`write_arrays` wrote. It runs no code from the file.

    Raises:
      DataError: the file is absent, damaged, or was changed.
    """

    def read() -> dict[str, np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = path.stat().st_size
            if sum(member.file_size for member in members) > size:
                raise ValueError("its arrays are larger than the file")
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"it holds {name!r} twice")
                arrays[name] = _array(archive.read(member))
        stored = str(arrays.pop(CHECKSUM))
        if stored != _arrays_checksum(arrays):
            raise ValueError("its arrays were changed after they were written")
        return arrays

    return read_safely(path, read)


def _array(content: bytes) -> np.ndarray:
    """An array in numpy's format; its header may ask for no more than the content holds."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array of format {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    values = np.frombuffer(content, dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def _arrays_checksum(arrays: dict[str, np.ndarray]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hasher.update(f"{name}{arrays[name].shape}{array.dtype.str}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def read_safely(path: Path, read: Callable[[], Content]) -> Content:
    """What ``read`` returns; whatever a damaged file makes it raise becomes one complaint.

    Raises:
      DataError: the file is absent, or ``read`` raised something.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. {_AGAIN}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read()
    except Exception as error:  # parsers of zip, arrays and JSON raise many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path}: damaged or changed ({reason}). {_AGAIN}") from error
