"""Multilingual Twitter hate speech (Huang et al., LREC 2020; Apache-2.0): hate in five languages, by gender, age, ethnicity.

Tweets are ids of tokens, each language its own; a row knows its own language's label alone. Demographics are inferred, not
stated by the people themselves; ``x`` is unknown. The published files are no random splits of one population (hate
is 23 % of English.valid and 73 % of English.test), so all are pooled and split anew by seed. A tweet that stands there more
than once (644 Polish, 3 Spanish) is kept where it stands first, lest it be in training and test rows: 48,237 of 48,884.
Other tweets of the same words remain. The English training file is not public.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data._join import join
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
# the repository has them as data/indices/LANGUAGE/PART.tsv
FILES = tuple(
    RawFile(f"{name}.tsv", f"{_PAGE} (data/indices/{name.replace('.', '/')}.tsv)", sha256=pin)
    for name, pin in _SHA256.items()
)
LANGUAGES = tuple(dict.fromkeys(name.partition(".")[0] for name in _SHA256))
_WORDS = {
    "gender": {"0": "male", "1": "not male"},
    "age": {"0": "below median", "1": "above median"},
    "ethnicity": {"0": "white", "1": "other"},
}
ROLES = Roles(
    tasks=LANGUAGES,
    sensitive=tuple(_WORDS),
    text="text",
    language="language",
    levels={name: tuple(words.values()) for name, words in _WORDS.items()},
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of all files: tokens without padding, language, attributes in words, a label column per language."""
    parts = [_part(path) for path in paths]
    columns = join(*parts)
    _, first = np.unique(
        [f"{a} {b}" for a, b in zip(columns["language"], columns.pop("tid"), strict=True)],
        return_index=True,
    )
    return {name: cells[np.sort(first)] for name, cells in columns.items()}


def _part(path: Path) -> dict[str, np.ndarray]:
    language = path.name.partition(".")[0]
    keep = ("tid", "text", *_WORDS, "label")
    columns = read_csv(path, delimiter="\t", keep=keep).columns
    columns["text"] = np.array(
        [" ".join(i for i in cell.split() if i != "0") for cell in columns["text"]], dtype=object
    )
    columns |= {
        name: np.array([words.get(cell, "") for cell in columns[name]], dtype=object)
        for name, words in _WORDS.items()
    }
    columns["language"] = np.full(len(columns["text"]), language, dtype=object)
    return columns | {language: columns.pop("label")}
