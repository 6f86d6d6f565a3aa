"""Multilingual Twitter hate speech (Huang et al., LREC 2020; Apache-2.0): hate in five languages.

The attributes are gender, age and ethnicity. They are inferred, not stated by the people
themselves; ``x`` is unknown. Tweets are token ids, and each language has its own. A row has the
label of its own language only. The published files are no random splits of one population (hate is
23 % of English.valid and 73 % of English.test), so all files are pooled and split again by seed. Of
a repeated tweet (644 Polish, 3 Spanish) only the first is kept, so that no tweet is in both
training and test rows: 48,237 of 48,884 remain. Other tweets with the same words also remain. The
English training file is not public.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data._join import join
from fairjax.data.entry import Entry
from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

_PAGE = "https://github.com/xiaoleihuang/Multilingual_Fairness_LREC"
_SHA256 = {
    "English.valid": "420d6b6647d55f19ab64c337bc42df03b012f84513c3578bb7b820d6eaa94aed",
    "English.test": "b9af6a6be6bddabf973402a2bd272a7cd8d6d2918e89da7f7d3feb492a20de9c",
    "Italian.train": "178df387e82d5da92d3aec5a7f12bc15981994e8f25f95e3fa893c152269d5cd",
    "Italian.valid": "05b5ccd31d548f56e0ddbb0e44ff3bf3ec5cbe3930f478149809173516a5b3b0",
    "Italian.test": "8ccd8d0fe34f3b160f2ae1b29f4b1f1b237cb5dc0b1cae5f95196f0f4fa5cae2",
    "Polish.train": "579ac1fc2b9c7f6b4b4cf5bef838bf149c24a544e41012be9840ecd6e23d6da9",
    "Polish.valid": "5f53af22a80479e236ec9f97faa6687ac3243392ec9c35515f691df7bf1b12bd",
    "Polish.test": "5486e586373937143132da98db1f9dc12fef66166a1e010c7d29cdd427396e78",
    "Portuguese.train": "c240f3fc1b6364ee8d7f5271f1096f773ae3f322eb2fc32262dd562d98fb6e83",
    "Portuguese.valid": "fab0f43525428fc03603083146d70d7435580c901e3123d68d2b7c7dc88268ac",
    "Portuguese.test": "170aaeb9a47f88edfb5e8885b157c4e3bcfb1b1e9f541f2f287edc23b7663c52",
    "Spanish.train": "aa3420beca1c746254c0d61e952decf94846e0b2a0457e4919098842d1dee159",
    "Spanish.valid": "605027ba82f2a3495da7f03510ade3ba1c851a689ea9ca14ae14c28744e47be1",
    "Spanish.test": "97664c7191c06b22e6fa6aaaf216fd45f070a541007e7e4e7affdb39bff02bee",
}
# the repository calls them data/indices/LANGUAGE/PART.tsv
FILES = tuple(
    RawFile(f"{name}.tsv", f"{_PAGE} (data/indices/{name.replace('.', '/')}.tsv)", sha256=pin)
    for name, pin in _SHA256.items()
)
LANGUAGES = tuple(dict.fromkeys(name.partition(".")[0] for name in _SHA256))
_LEVELS = {
    "gender": {"0": "male", "1": "not male"},
    "age": {"0": "below median", "1": "above median"},
    "ethnicity": {"0": "white", "1": "other"},
}
ROLES = Roles(
    tasks=LANGUAGES,
    sensitive=tuple(_LEVELS),
    text="text",
    language="language",
    levels={name: tuple(level_of.values()) for name, level_of in _LEVELS.items()},
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of all files: tokens without padding, language, attributes, a label per language."""
    columns = join(*(_read_file(path) for path in paths))
    tweet_ids = columns.pop("tid")
    keys = [f"{name} {tid}" for name, tid in zip(columns["language"], tweet_ids, strict=True)]
    _, first = np.unique(keys, return_index=True)
    rows = np.sort(first)
    return {name: cells[rows] for name, cells in columns.items()}


def _read_file(path: Path) -> dict[str, np.ndarray]:
    language = path.name.partition(".")[0]
    keep = ("tid", "text", *_LEVELS, "label")
    table = read_csv(path, delimiter="\t", keep=keep)
    columns = {name: table.cells(name) for name in keep}
    columns["text"] = np.array([_without_padding(cell) for cell in columns["text"]], dtype=object)
    for name, level_of in _LEVELS.items():
        levels = [level_of.get(cell, "") for cell in columns[name]]
        columns[name] = np.array(levels, dtype=object)
    columns["language"] = np.full(len(columns["text"]), language, dtype=object)
    columns[language] = columns.pop("label")
    return columns


def _without_padding(cell: str) -> str:
    return " ".join(token for token in cell.split() if token != "0")


ENTRY = Entry(
    name="multilingual_hate",
    about="48,237 tweets as token ids; hate in five languages; by gender, age and ethnicity",
    terms="Apache-2.0",
    files=FILES,
    read=read,
    roles=ROLES,
)
