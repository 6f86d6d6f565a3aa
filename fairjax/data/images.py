"""Images, as an array or as files, with a table of their labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fairjax.core.inputs import TableLike
from fairjax.data.complaints import complain
from fairjax.data.pixels import as_pixels, image_cells
from fairjax.data.prepared import Prepared
from fairjax.data.read import as_table
from fairjax.data.roles import Roles
from fairjax.data.table import FRACTIONS, from_table


def from_images(
    images: str | Path | np.ndarray,
    columns: TableLike,
    roles: Roles,
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
) -> Prepared:
    """Images and their columns as training, validation and test data; see :func:`from_table`.

    Encode new rows with ``prepared.encoder.encode({"image": pixels})``, or with a table of file
    names and ``prepared.encoder.read(table, images=folder)``.

    Args:
        images: ``[N, H, W, 3]`` or ``[N, H, W]`` uint8; or the path of a folder or a zip of image
            files.
        columns: CSV path, data frame or dict of arrays with N rows: labels, sensitive columns, file
            names.
        roles: what each column is for. ``roles.image`` names the column of file names; for arrays
            it is a new column, ``"image"`` if it is None. With ``roles.image_size`` images are cut
            to the square at their centre and scaled to this height and width.
        fractions: of train, validation and test.
        seed: of the random split.

    Raises:
        DataError: as in :func:`from_table`; an image cannot be read; there are several sizes; or
            the name of the new column is taken.

    >>> columns = {"sex": ["f", "m"] * 20, "smiles": [0, 0, 1, 1] * 10}
    >>> roles = Roles(tasks=("smiles",), sensitive=("sex",))
    >>> data = from_images(np.zeros((40, 8, 8, 3), np.uint8), columns, roles)
    >>> data.spec.image_shape
    (8, 8)
    """
    if isinstance(images, (str, Path)):
        roles = dataclasses.replace(roles, images=str(images))
        if roles.image is None:
            cure = "Name the column of file names: Roles(image=...)."
            raise complain(str(images), "no column names its images (0 images read)", cure)
        return from_table(columns, roles, fractions=fractions, seed=seed)
    name = roles.image or "image"
    table = as_table(columns, **roles.reading)
    if name in table:
        problem = f"there is a column {name!r} already, {len(table):,} rows"
        raise complain(table.where, problem, "Give the images another name in roles.image.")
    shapes = {np.shape(image) for image in images}
    if len(shapes) > 1:
        problem = (
            f"{len(images):,} images of {len(shapes):,} shapes, {min(shapes)} to {max(shapes)}"
        )
        raise complain("images", problem, "Scale them to one, or give their files.")
    pixels = as_pixels("images", name, np.asarray(images))
    table = table.with_columns({name: image_cells(len(pixels))})
    table = dataclasses.replace(table, pixels={name: pixels})
    roles = dataclasses.replace(roles, image=name)
    return from_table(table, roles, fractions=fractions, seed=seed)
