"""Names of tasks, attributes, groups and metrics for a reader: a rule appears as it was given.

In: ``info``. A rule is a text such as ``age > 60``. It is looked for in ``info["rules"]``, which
has ``tasks`` and ``attributes``, each from name to text, and else in the roles of the source.
"""

from __future__ import annotations

import re
from typing import Any

ROLES = {"tasks": "tasks", "attributes": "sensitive"}  # entries of info, and of a source's roles
RELATIVE = {
    "are": "ARE",
    "arfg": "ARFG",
    "knowledge_gain": "knowledge gain",
    "discrimination_gain_ep": "discrimination gain, equal opportunity",
    "discrimination_gain_eo": "discrimination gain, equalized odds",
}
COMPARISON = re.compile(r"==|!=|>=|<=|=|>|<|≥|≤|≠|\bin\b")


def task_label(info: dict[str, Any], task: str) -> str:
    """The rule of a task, or its name where it is a plain column."""
    return _rule(info, "tasks", task)


def attribute_label(info: dict[str, Any], attribute: str) -> str:
    """The rule of an attribute, or its name where it is a plain column."""
    return _rule(info, "attributes", attribute)


def group_label(info: dict[str, Any], attribute: str, level: str) -> str:
    """A level of an attribute; of a rule the rule itself, or its negation."""
    rule = attribute_label(info, attribute)
    if rule == attribute:
        return level
    labels = {"yes": rule, "no": f"not ({rule})"}
    return labels.get(level, level)


def _rule(info: dict[str, Any], part: str, name: str) -> str:
    rule = _rules(info, part).get(name, name)
    if COMPARISON.search(rule):
        return rule
    return name


def _rules(info: dict[str, Any], part: str) -> dict[str, str]:
    """Texts by name."""
    given = info.get("rules") or {}
    if part in given:
        return given[part]
    source = info.get("source") or {}
    roles = source.get("roles") or {}
    texts = roles.get(ROLES[part]) or ()
    names = info[part]
    if len(texts) != len(names):
        return {}
    return dict(zip(names, map(str, texts), strict=True))
