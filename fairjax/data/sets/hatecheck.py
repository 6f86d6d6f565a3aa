"""HateCheck in five languages (Rottger et al., ACL 2021 and WOAH 2022; CC BY 4.0): raw texts.

These are functional tests for detectors of hate speech, short statements made from templates. They
are no natural text: a measure on them says how a model does on the tests, not how much it errs on
what people write. Many are hateful, so that fairjax shows none of them.

The files hold 3,728 English, 3,690 Italian, 3,815 Polish, 3,691 Portuguese and 3,745 Spanish texts.
Rows of one template differ in little but the group's name, so that the rows of a template, of its
language, are in one split.

- ``hateful``: what the text was written to be; 13,037 of 18,669 are.
- ``functionality``: the class, by the first word, of what is tested: derogation, threats, slurs,
  profanity, references, negation, phrasing, identities, counter speech, other targets, spelling.
- ``disagreement``: whether most of three annotators disagreed with the authors' label; 347 of
  14,941. It is missing in English.

The sensitive attribute is ``target``, the group that a text is about. Languages have seven groups
each, ten in all, in one spelling here: Portuguese and Spanish write ``jews``, Polish ``jewish
people``, and two Polish rows ``immigrant``. A text about no group is of an unknown one (1,472).
``language`` is another attribute that may be asked for, ``sensitive=("target", "language")``.

The form ``"languages"`` has a task per language, whether a text is hateful, and a row has the label
of its own language alone. Its sensitive attribute is about_gender: the text is about women, gay
people or trans people (7,571 rows), or about another group (9,626).

Without a pretrained network, texts are split at blanks, and every language has its own words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data._join import join
from fairjax.data.entry import Entry
from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

_ENGLISH = "https://github.com/paul-rottger/hatecheck-data (test_suite_cases.csv)"
_OTHERS = "https://github.com/rewire-online/multilingual-hatecheck (MHC Final Cases)"
_SHA256 = {
    "english": "ecf0dc1e93fccc90b6f880e632b19e635c0f0a68b3157915a9e20b6938f121cf",
    "italian": "5339cd1e0d6e338c7ae9b831e74d653d6216a25120214d92b5d98d25a1c20674",
    "polish": "88b8f9cfe4484f2e7543a7b28983b10f5942f04cc87c904c653a01318b7d1c04",
    "portuguese": "839bcd08e59efb9a659ab3c7e82022844a57ae5babe705323a7956d2d9461ea8",
    "spanish": "20d2388f4f3bafe744010a42f1ce7ddd5b2b09efa978fb0d8a0fc810487948aa",
}
FILES = tuple(
    RawFile(f"{language}.csv", _ENGLISH if language == "english" else _OTHERS, sha256=pin)
    for language, pin in _SHA256.items()
)
CLASSES = (
    "derog",
    "threat",
    "slur",
    "profanity",
    "ref",
    "negate",
    "phrase",
    "ident",
    "counter",
    "target",
    "spell",
)
_TARGETS = {"immigrant": "immigrants", "jews": "jewish people"}  # other spellings of a group
_HATEFUL = {"hateful": "yes", "non-hateful": "no"}
_DISAGREE = {"True": "yes", "False": "no", "": ""}
LANGUAGES = tuple(_SHA256)
_KEPT = ("functionality", "test_case", "label_gold", "target_ident", "templ_id")
ROLES = Roles(
    tasks=("hateful", "functionality", "disagreement"),
    sensitive=("target",),
    text="text",
    language="language",
    split_by="template",
    levels={"hateful": ("no", "yes"), "disagreement": ("no", "yes"), "functionality": CLASSES},
)
LANGUAGE_ROLES = Roles(
    tasks=LANGUAGES,
    sensitive=("about_gender: target in women, gay people, trans people",),
    text="text",
    language="language",
    split_by="template",
    levels={language: ("no", "yes") for language in LANGUAGES},
)
NOTE = (
    "functional tests made from templates, no natural text: measures say how a model does on the "
    "tests, not on what people write"
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of all files: text, language, template, tasks, target, a label per language."""
    return join(*(_read_file(path) for path in paths))


def _read_file(path: Path) -> dict[str, np.ndarray]:
    language = path.name.partition(".")[0]
    has_annotators = language != "english"
    keep = (*_KEPT, "disagreement_in_case") if has_annotators else _KEPT
    table = read_csv(path, keep=keep)
    cells = {name: table.written(name) for name in keep}
    classes = [name.partition("_")[0] for name in cells["functionality"]]
    disagreement = cells.get("disagreement_in_case", np.full(len(table), ""))
    columns = {
        "text": cells["test_case"],
        "language": [language] * len(table),
        "template": [f"{language} {template}" for template in cells["templ_id"]],
        "hateful": [_HATEFUL[label] for label in cells["label_gold"]],
        "functionality": classes,
        "disagreement": [_DISAGREE[cell] for cell in disagreement],
        "target": [_TARGETS.get(target, target) for target in cells["target_ident"]],
    }
    columns[language] = columns["hateful"]
    return {name: np.array(column, dtype=object) for name, column in columns.items()}


ENTRY = Entry(
    name="hatecheck",
    about="18,669 tests of hate speech in five languages, raw texts; by the group they are about",
    terms="CC BY 4.0",
    files=FILES,
    read=read,
    roles=ROLES,
    forms=("corrected", "languages"),
    form_roles={"languages": LANGUAGE_ROLES},
    is_raw=True,
    notes=(NOTE,),
)
