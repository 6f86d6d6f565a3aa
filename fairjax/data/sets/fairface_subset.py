"""A part of FairFace (Karkkainen and Joo, WACV 2021; CC BY 4.0): 4,000 faces from Flickr.

The first 3,000 images of the published training part train, and are validated on. The first 1,000
images of the published validation part are the test rows. Images are 224 x 224 with the wider
margin (0.25) and are scaled to 64 x 64 when they are read, unless a pretrained network reads them.

Age (nine bands), gender (two) and race (seven) are guesses of paid annotators from the face. They
are not what the people say of themselves. A model of them measures how annotators see faces, and
serves to compare methods, not to be used on people.

The form ``"corrected"`` predicts gender (Male: 1,548 of 3,000 training and 525 of 1,000 test
images), over_40 (40 years or more: 728, 243) and under_20 (less than 20: 773, 264). Its sensitive
attribute is race: White 593, 188; Latino_Hispanic 502, 139; Indian 439, 118; Black 435, 173; East
Asian 388, 141; Southeast Asian 342, 119; Middle Eastern 301, 122. The smallest cell of the test
rows are the 19 Southeast Asian faces over 40.

The form ``"age"`` predicts gender, white (593, 188), black (435, 173) and asian (East or Southeast
Asian: 730, 260). Its sensitive attribute is over_40, and all tasks have two classes, so that every
method and notion applies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.entry import Entry
from fairjax.data.files import RawFile
from fairjax.data.image_files import read_images
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

_PAGE = "https://github.com/joojs/fairface"
_SIZE = 64
_SPLITS = ("train", "test")  # of the published training and validation parts
FILES = (
    RawFile("fairface_label_train.csv", f"{_PAGE} (rows of the images 1 to 3000)"),
    RawFile("train.zip", f"{_PAGE} (train/1.jpg to train/3000.jpg, padding 0.25)"),
    RawFile("fairface_label_val.csv", f"{_PAGE} (rows of the images 1 to 1000)"),
    RawFile("val.zip", f"{_PAGE} (val/1.jpg to val/1000.jpg, padding 0.25)"),
)
_OVER_40 = "over_40: age in 40-49, 50-59, 60-69, more than 70"
_UNDER_20 = "under_20: age in 0-2, 3-9, 10-19"
_LEVELS = {"gender": ("Female", "Male")}
ROLES = Roles(
    tasks=("gender", _OVER_40, _UNDER_20),
    sensitive=("race",),
    image="image",
    split="split",
    levels=_LEVELS,
)
AGE_ROLES = Roles(
    tasks=(
        "gender",
        "white: race == White",
        "black: race == Black",
        "asian: race in East Asian, Southeast Asian",
    ),
    sensitive=(_OVER_40,),
    image="image",
    split="split",
    levels=_LEVELS,
)


def read(paths: list[Path], size: int = _SIZE) -> dict[str, np.ndarray]:
    """Columns of both parts: images ``[N, size, size, 3]``, age, gender, race, split."""
    label_paths, zip_paths = paths[::2], paths[1::2]
    parts = []
    for labels, images, split in zip(label_paths, zip_paths, _SPLITS, strict=True):
        table = read_csv(labels, keep=("file", "age", "gender", "race"))
        columns = {name: table.cells(name) for name in ("age", "gender", "race")}
        columns["split"] = np.full(len(table), split, dtype=object)
        columns["image"] = read_images(table, "file", str(images), size).pixels
        parts.append(columns)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


ENTRY = Entry(
    name="fairface_subset",
    about="4,000 faces; gender and age by race, or gender and race by age (form age)",
    terms="CC BY 4.0",
    files=FILES,
    read=read,
    roles=ROLES,
    is_raw=True,
    forms=("corrected", "age"),
    form_roles={"age": AGE_ROLES},
)
