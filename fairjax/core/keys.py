"""Keys of the columns of a table of runs, as values.

A metric is asked for by its task and group, and no name is taken apart. A key becomes text where a
file is written (``str(key)``), and :func:`parse_key` alone reads it back. In the text a backslash
stands before every character of a name that the notation uses itself. Therefore any name of a task,
class, attribute or level can be read back.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SPECIAL = re.compile(r"[\\\[\]|=@]")
_NAME = r"(?:[^\\\[\]|=@]|\\.)*"
_METRIC = re.compile(
    rf"(?P<split>validation|test)\.(?P<metric>\w+)(?:@(?P<threshold>{_NAME}))?"
    rf"(?:\[(?P<task>{_NAME})(?:=(?P<outcome>{_NAME}))?"
    rf"(?:\|(?P<attribute>{_NAME})(?:=(?P<group>{_NAME}))?)?\])?",
    re.DOTALL,
)
_HPARAM = re.compile(rf"hparam\.(?P<name>\w+)(?:\[(?P<task>{_NAME})\])?", re.DOTALL)


class Metric(NamedTuple):
    """What was measured, of what, on which rows. A field that does not apply is the empty text.

    As text: ``test.selection_rate@0.5[task=class|attribute=level]``.
    """

    metric: str  # fairlearn's name where it has one
    task: str = ""
    outcome: str = ""  # a class or a label, where the metric is of this one against the rest
    attribute: str = ""
    group: str = ""  # a level of the attribute
    threshold: str = ""  # of the decision; empty: the task's own rule
    split: str = ""  # validation or test

    def __str__(self) -> str:
        task = escape(self.task)
        if self.outcome:
            task += f"={escape(self.outcome)}"
        attribute = f"|{escape(self.attribute)}" if self.attribute else ""
        if self.group:
            attribute += f"={escape(self.group)}"
        threshold = f"@{escape(self.threshold)}" if self.threshold else ""
        subject = f"[{task}{attribute}]" if self.task or self.attribute else ""
        split = f"{self.split}." if self.split else ""
        return f"{split}{self.metric}{threshold}{subject}"


class HParam(NamedTuple):
    """A hyper-parameter of a run, or its value for one task. As text: ``hparam.weight[task]``."""

    name: str
    task: str = ""

    def __str__(self) -> str:
        task = f"[{escape(self.task)}]" if self.task else ""
        return f"hparam.{self.name}{task}"


Key = str | HParam | Metric  # a plain name (run, method, seed, ...), a hyper-parameter or a metric


def escape(name: str) -> str:
    """The name with a backslash before every character that the notation of keys uses."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], name)


def parse_key(text: str) -> Key:
    """The key whose text this is.

    A text without the form of a metric or a hyper-parameter is a plain name.

    >>> parse_key(r"test.error@0.5[y\\=1]")
    Metric(metric='error', task='y=1', outcome='', attribute='', group='', threshold='0.5',
    split='test')
    """
    for kind, pattern in ((Metric, _METRIC), (HParam, _HPARAM)):
        match = pattern.fullmatch(text)
        if match:
            groups = match.groupdict(default="")
            fields = {name: _plain(value) for name, value in groups.items()}
            return kind(**fields)
    return text


def _plain(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL)
