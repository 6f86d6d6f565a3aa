"""Image files of a folder or a zip, read into one array. Pillow decodes them.

Every row of a table names its file. What is wrong is counted over all rows first: nothing is kept
of a reading that fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fairjax.core.threads import in_threads
from fairjax.data.complaints import collect, complain
from fairjax.data.containers import UNREADABLE, unpacked_limit
from fairjax.data.raw_table import RawTable

if TYPE_CHECKING:
    from PIL.Image import Image

_MORE = "If that is meant, say how many it may be (--unpacked GB)"
_MOST_LISTED = 3  # files, or sizes, in one message


class ImageFiles(NamedTuple):
    """The files of a folder or a zip."""

    where: str
    paths: Mapping[str, str]  # by the name that a row may give
    bytes_of: Mapping[str, int]  # by path, unpacked
    packed: int  # bytes of all
    read: Callable[[str], bytes]  # of a path


class ReadImages(NamedTuple):
    """The images of N rows."""

    pixels: np.ndarray  # [N, H, W, 3] uint8
    sha256: str  # of the rows' files in order
    unused: int  # image files that no row names


class _Read(NamedTuple):
    """One image file: its pixels and sha256, or why it cannot be read."""

    pixels: np.ndarray | None
    sha256: bytes
    reason: str = ""


def read_images(
    table: RawTable, column: str, where: str, size: int = 0, unpacked: float = 0
) -> ReadImages:
    """The images that a column of a table names.

    Grey, palette and transparent images become RGB; what is transparent lies on white. A camera's
    note of how it was held (EXIF) is followed.

    Args:
        table: N rows.
        column: file names, relative to the folder or the zip. A folder around all files may be left
            out.
        where: the folder or the zip.
        size: images are cut to the square at their centre and scaled to this height and width; 0:
            they stay as they are, and must have one size.
        unpacked: gigabytes to which the files may unpack; 0: one, or 50 times their packed size.

    Raises:
        DataError: Pillow is missing; the folder or zip is absent, damaged or empty, or unpacks to
            more; rows name no file; files are no images, damaged, or beyond
            ``PIL.Image.MAX_IMAGE_PIXELS``; or there are several sizes. All complaints come
            together.
    """
    _refuse_without_pillow(where)
    cells = table.written(column)
    with _opened(where) as files:
        limit = unpacked_limit(files.packed, unpacked)
        paths = [files.paths.get(_as_posix(cell)) for cell in cells]
        named = dict.fromkeys(path for path in paths if path is not None)
        _refuse_more(where, sum(files.bytes_of[path] for path in named), limit)
        shape_of, reason_of = _shapes(files, named, size)
        counts = Counter(shape_of[path] for path in paths if path in shape_of)
        ((shape, _),) = counts.most_common(1) or [((1, 1), 0)]
        _refuse_more(where, len(paths) * shape[0] * shape[1] * 3, limit)
        pixels = np.zeros((len(paths), *shape, 3), np.uint8)

        def fill(row: int) -> bytes:
            path = paths[row]
            if path not in shape_of:
                return b""
            read = _read_one(files, path, size)
            if read.pixels is None:
                reason_of[path] = read.reason
                return b""
            shape_of[path] = read.pixels.shape[:2]  # a note at the end of a file may turn it
            if shape_of[path] == shape:
                pixels[row] = read.pixels
            return read.sha256

        digests = in_threads(fill, range(len(paths)))
    is_read = shape_of.keys() - reason_of.keys()
    counts = Counter(shape_of[path] for path in paths if path in is_read)
    checks = (
        partial(_refuse_absent, table, column, where, paths),
        partial(_refuse_unreadable, where, paths, reason_of),
        partial(_refuse_mixed, where, counts),
    )
    collect(lambda check: check(), checks)
    sha256 = hashlib.sha256(b"".join(digests)).hexdigest()
    endings = _endings()
    unused = [path for path in files.bytes_of if path not in named and _suffix(path) in endings]
    return ReadImages(pixels, sha256, len(unused))


def _refuse_without_pillow(where: str) -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        problem = "images, which Pillow reads (0 rows read)"
        raise complain(where, problem, "pip install 'fairjax[images]'") from error


def _refuse_more(where: str, count: int, limit: int) -> None:
    """Refuse files or pixels of more bytes than the limit."""
    if count > limit:
        problem = f"its images take {count / 2**30:.3g} GB, more than {limit / 2**30:.3g}"
        raise complain(where, problem, f"{_MORE}, or give a smaller --image-size.")


# ------------------------------------------------------------------------------ folders and zips


@contextlib.contextmanager
def _opened(where: str) -> Iterator[ImageFiles]:
    path = Path(where)
    if path.is_dir():
        yield _of_folder(path)
        return
    if not path.is_file():
        problem = "no such folder or zip of images (0 images read)"
        raise complain(where, problem, "Check the path (--images).")
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        cure = "Copy it again, or give a folder or another zip of images (--images)."
        raise complain(where, f"cannot be read as a zip: {error} (0 images read)", cure) from error
    with archive:
        yield _of_zip(path, archive)


def _of_folder(path: Path) -> ImageFiles:
    found = sorted(file for file in path.rglob("*") if file.is_file())
    bytes_of = {file.relative_to(path).as_posix(): file.stat().st_size for file in found}
    paths = _names(str(path), "folder", bytes_of)
    packed = sum(bytes_of.values())
    return ImageFiles(str(path), paths, bytes_of, packed, lambda name: (path / name).read_bytes())


def _of_zip(path: Path, archive: zipfile.ZipFile) -> ImageFiles:
    members = [member for member in archive.infolist() if not member.is_dir()]
    bytes_of = {
        member.filename: member.file_size
        for member in members
        if not member.filename.startswith("__MACOSX")
    }
    paths = _names(str(path), "zip", bytes_of)
    return ImageFiles(str(path), paths, bytes_of, path.stat().st_size, archive.read)


def _names(where: str, kind: str, paths: Mapping[str, int]) -> dict[str, str]:
    """Paths by the names that rows may give: the whole path, or without a folder around all."""
    if not paths:
        problem = f"a {kind} of 0 files (0 images read)"
        raise complain(where, problem, "Give the folder or zip that holds the images (--images).")
    names = {_as_posix(path): path for path in paths}
    folders = {PurePosixPath(name).parts[0] for name in names}
    is_around = len(folders) == 1 and all("/" in name for name in names)
    inner = {name.partition("/")[2]: path for name, path in names.items()} if is_around else {}
    return inner | names


def _as_posix(name: str) -> str:
    return PurePosixPath(str(name).replace("\\", "/")).as_posix()


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _endings() -> set[str]:
    """Ends of the names of image files."""
    from PIL import Image

    return set(Image.registered_extensions())


# -------------------------------------------------------------------------------------- decoding


def _shapes(
    files: ImageFiles, paths: Mapping[str, None], size: int
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Height and width of every image after reading, and why others cannot be read, by path.

    Only the beginning of a file is decoded, so that nothing of a bomb is.
    """
    from PIL import Image

    shape_of = {}
    reason_of = {}
    with warnings.catch_warnings():
        # here and not where images are decoded in threads, which share the filters
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            try:
                shape = _upright_shape(Image.open(io.BytesIO(files.read(path))))
            except Exception as error:  # what its parsers of files raise
                reason_of[path] = _reason(error)
            else:
                shape_of[path] = (size, size) if size else shape
    return shape_of, reason_of


def _upright_shape(image) -> tuple[int, int]:
    from PIL.ExifTags import Base
    from PIL.Image import Image

    width, height = image.size
    # that of PNG files decodes them
    exif = Image.getexif(image)
    is_turned = exif.get(Base.Orientation) in (5, 6, 7, 8)
    return (width, height) if is_turned else (height, width)


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    return str(error) or type(error).__name__


def _read_one(files: ImageFiles, path: str, size: int) -> _Read:
    try:
        content = files.read(path)
        return _Read(_decoded(content, size), hashlib.sha256(content).digest())
    except Exception as error:  # what its parsers of files raise
        return _Read(None, b"", _reason(error))


def _decoded(content: bytes, size: int) -> np.ndarray:
    """``[H, W, 3]`` uint8 of a file."""
    from PIL import Image, ImageOps

    image = Image.open(io.BytesIO(content))
    if image.mode[0] in "IF":
        raise ValueError(f"mode {image.mode}: more than 8 bits per channel")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(transparent)
    image = image.convert("RGB")
    return np.asarray(fitted(image, size) if size else image)


def fitted(image: Image, size: int) -> Image:
    """The square at the centre of an image of Pillow, scaled to height and width ``size``."""
    from PIL.Image import Resampling

    width, height = image.size
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Resampling.BILINEAR)


# ------------------------------------------------------------------------------------ complaints


def _refuse_absent(table: RawTable, column: str, where: str, paths: list[str | None]) -> None:
    absent = np.array([path is None for path in paths])
    if absent.any():
        count = f"{absent.sum():,} of {len(paths):,} rows name no file of {where}"
        problem = f"column {column!r}: {count}, {table.spots(absent, column)}"
        cure = f"Correct the names, relative to {where}, leave out those rows, or add the images."
        raise complain(table.where, problem, cure)


def _refuse_unreadable(where: str, paths: list[str | None], reason_of: Mapping[str, str]) -> None:
    bad = [path for path in paths if path in reason_of]
    if bad:
        named = [f"{path!r} ({reason_of[path]})" for path in sorted(set(bad))]
        listed = ", ".join(named[:_MOST_LISTED])
        more = f", ... ({len(named):,} in all)" if len(named) > _MOST_LISTED else ""
        problem = f"{len(bad):,} of {len(paths):,} images cannot be read, {listed}{more}"
        raise complain(where, problem, "Save them again with 8 bits, or leave out their rows.")


def _refuse_mixed(where: str, counts: Counter) -> None:
    if len(counts) > 1:
        sizes = [f"{h} x {w} ({rows:,})" for (h, w), rows in counts.most_common(_MOST_LISTED)]
        more = ", ..." if len(counts) > _MOST_LISTED else ""
        problem = f"{counts.total():,} images of {len(counts):,} sizes: {', '.join(sizes)}{more}"
        raise complain(where, problem, "Give one size to which they are scaled (--image-size 64).")
