"""Groups of one attribute or of several attributes together."""

from __future__ import annotations

from collections.abc import Sequence

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
    numbers = [a.name for a in spec.attributes if a.continuous]
    if attributes is None:
        chosen = [i for i, a in enumerate(spec.attributes) if not a.continuous]
        reason = f"no attribute has levels (numbers: {', '.join(numbers) or 'none'})"
    else:
        chosen = list(attributes)
        numbers = [spec.attributes[i].name for i in chosen if spec.attributes[i].continuous]
        reason = f"attribute {numbers[0]!r} is a number" if numbers else "no attribute was given"
    if not chosen or (attributes is not None and numbers):
        raise DataError(
            f"groups are made of levels, but {reason}. Name attributes with levels; a rule such as "
            f"'age > 25' makes levels of a number."
        )
    return chosen


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
