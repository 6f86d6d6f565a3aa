"""The pixels of a table's images: as arrays, or from files."""

from __future__ import annotations

import dataclasses

import numpy as np

from fairjax.data.arrow_text import Texts, texts_of
from fairjax.data.complaints import complain
from fairjax.data.image_files import fitted, read_images
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles


def as_pixels(where: str, name: str, array: np.ndarray) -> np.ndarray:
    """``[N, H, W, 3]`` of a column of images; grey ones have three equal channels.

    Raises:
        DataError: it has another shape than ``[N, H, W, 3]``, ``[N, H, W, 1]`` or ``[N, H, W]``, no
            pixels, or another type than uint8.
    """
    pixels = array[..., None] if array.ndim == 3 else array
    has_shape = pixels.ndim == 4 and pixels.shape[3] in (1, 3) and all(pixels.shape[1:3])
    if not has_shape or pixels.dtype != np.uint8:
        problem = f"column {name!r} has shape {array.shape} and type {array.dtype}"
        cure = (
            "Give one value per row; or, for images, [N, H, W, 3] or [N, H, W] of whole numbers "
            "from 0 to 255 (uint8)."
        )
        raise complain(where, problem, cure)
    if pixels.shape[3] == 1:
        return np.repeat(pixels, 3, axis=3)
    return np.ascontiguousarray(pixels)


def image_cells(count: int) -> Texts:
    """Cells of a column of images that have no file names."""
    return texts_of([f"image {row}" for row in range(count)])


def with_images(table: RawTable, roles: Roles, images: str = "") -> RawTable:
    """The table with the pixels of its column of images; the table itself if it has none.

    Args:
        table: N rows.
        roles: its column of images, where their files are, and their size.
        images: another folder or zip.

    Raises:
        DataError: there is no such column, no folder or zip is known, or the files cannot be read;
            see :func:`fairjax.data.image_files.read_images`.
    """
    if roles.image is None:
        return table
    table.column(roles.image)
    name = table.find(roles.image)
    size = roles.image_size
    if name in table.pixels:
        pixels = _scaled(table.pixels[name], size)
        return dataclasses.replace(table, pixels={name: pixels})
    where = images or roles.images
    if not where:
        problem = f"column {name!r} names the images of {len(table):,} rows, but no files are known"
        raise complain(table.where, problem, "Give their folder or zip (--images).")
    read = read_images(table, name, where, size, roles.unpacked)
    notes = table.notes
    if read.unused:
        notes = (*notes, f"{read.unused:,} images of {where} have no row, and are not used")
    return dataclasses.replace(
        table, pixels={name: read.pixels}, images_sha256=read.sha256, notes=notes
    )


def _scaled(pixels: np.ndarray, size: int) -> np.ndarray:
    """Images ``[N, H, W, 3]`` cut and scaled to a size; 0 leaves them as they are."""
    if not size or pixels.shape[1:3] == (size, size):
        return pixels
    from PIL import Image

    return np.stack([np.asarray(fitted(Image.fromarray(image), size)) for image in pixels])
