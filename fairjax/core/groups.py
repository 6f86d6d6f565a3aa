"""Groups of one attribute or of several attributes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from fairjax.core.types import Array, DataError, Spec


def level_attributes(spec: Spec, attributes: Sequence[int] | None = None) -> list[int]:
    """Indices of attributes that have levels, and so have groups.

    Args:
      spec: names the attributes.
      attributes: the indices to use; None uses every attribute that has levels.

    Raises:
      DataError: no attribute is left, or a given attribute is a number.

    >>> from fairjax.core.types import Attribute, Task
    >>> attributes = (Attribute("age", (), continuous=True), Attribute("sex", ("f", "m")))
    >>> level_attributes(Spec((Task("paid"),), attributes))
    [1]
    """
    if attributes is None:
        numbers = [attribute.name for attribute in spec.attributes if attribute.continuous]
        indices = [i for i, attribute in enumerate(spec.attributes) if not attribute.continuous]
        if not indices:
            _refuse(f"no attribute has levels (numbers: {', '.join(numbers) or 'none'})")
        return indices
    indices = list(attributes)
    if not indices:
        _refuse("no attribute was given")
    for i in indices:
        attribute = spec.attributes[i]
        if attribute.continuous:
            _refuse(f"attribute {attribute.name!r} is a number")
    return indices


def _refuse(reason: str) -> NoReturn:
    raise DataError(
        f"groups are made of levels, but {reason}. Name attributes with levels; a rule such as "
        "'age > 25' makes levels of a number."
    )


def crossed(spec: Spec, groups: Array, attributes: Sequence[int]) -> Array:
    """Membership in every combination of levels, ``[N, G1 * G2 * ...]``.

    ``member[i, (g, h, ...)] = groups[i, g] * groups[i, h] * ...``, the last attribute fastest.
    A row is 0 where one of its attributes is unknown.

    Args:
      spec: names the attributes.
      groups: membership ``[N, G]`` of all attributes.
      attributes: indices of the attributes to combine.

    Raises:
      DataError: no attribute is given, or one of them is a number.
    """
    first, *others = level_attributes(spec, attributes)
    member = groups[:, spec.group_slice(first)]
    for attribute in others:
        block = groups[:, spec.group_slice(attribute)]
        pairs = member[:, :, None] * block[:, None, :]
        member = pairs.reshape(member.shape[0], -1)
    return member
