"""Groups of attributes: which attributes have levels, and the combinations of their levels."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.core.groups import crossed, level_attributes
from fairjax.core.types import Attribute, DataError, Spec, Task

SPEC = Spec(
    (Task("paid"),),
    (
        Attribute("sex", ("f", "m")),
        Attribute("age", (), continuous=True),
        Attribute("race", ("a", "b", "c")),
        Attribute("land", ("n", "s")),
    ),
)
NUMBERS = Spec((Task("paid"),), (Attribute("age", (), continuous=True),))


def membership(rows: int = 40) -> np.ndarray:
    """One level per attribute or none; soft membership in a few rows."""
    rng = np.random.default_rng(0)
    blocks = []
    for attribute in SPEC.attributes:
        level = rng.integers(-1, attribute.width, rows)
        blocks.append((level[:, None] == np.arange(attribute.width)).astype(np.float32))
    groups = np.concatenate(blocks, 1)
    groups[:3] *= 0.5
    return groups


def test_attributes_with_levels_are_chosen_or_checked():
    assert level_attributes(SPEC) == [0, 2, 3]
    assert level_attributes(SPEC, (3, 0)) == [3, 0]


@pytest.mark.parametrize(
    ("spec", "attributes", "message"),
    [
        (SPEC, (0, 1), "attribute 'age' is a number.*'age > 25'"),
        (SPEC, (), "no attribute was given"),
        (NUMBERS, None, r"no attribute has levels \(numbers: age\)"),
        (Spec((Task("paid"),), ()), None, r"no attribute has levels \(numbers: none\)"),
    ],
)
def test_without_levels_there_are_no_groups(spec, attributes, message):
    with pytest.raises(DataError, match=message):
        level_attributes(spec, attributes)
    if attributes is not None:
        with pytest.raises(DataError, match=message):
            crossed(spec, membership(), attributes)


@pytest.mark.parametrize("attributes", [(0,), (2,), (0, 2), (2, 0), (3, 0, 2)])
def test_crossed_membership_is_a_product_of_levels(attributes):
    groups = membership()
    blocks = [groups[:, SPEC.group_slice(a)] for a in attributes]
    levels = itertools.product(*(range(block.shape[1]) for block in blocks))
    expected = []
    for combination in levels:
        columns = [block[:, level] for block, level in zip(blocks, combination, strict=True)]
        expected.append(np.prod(columns, axis=0))
    np.testing.assert_array_equal(
        crossed(SPEC, jnp.asarray(groups), attributes), np.stack(expected, 1)
    )
