"""Order of rows by a number, against numpy's sort."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double

from fairjax.core.ordering import _places, ordered, permutation, reached, sums_of_equals

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-37, -1e-37, 3e38, -3e38, 1.0, -1.0]
CASES = {
    "special": np.array(SPECIAL * 2, np.float32),
    "ties": np.random.default_rng(0).integers(-3, 4, 200).astype(np.float32),
    "normal": np.random.default_rng(1).normal(size=513).astype(np.float32),
    "one": np.array([2.5], np.float32),
}


@pytest.mark.parametrize("name", CASES)
def test_the_order_is_numpys(name):
    value = CASES[name]
    order = jax.jit(ordered)(value)
    ascending = np.sort(value)
    np.testing.assert_array_equal(order.value, ascending)
    # infinities and NaN have places too
    comparable = np.nan_to_num(ascending, nan=np.float32(3.4e38), posinf=3.39e38)
    own = np.nan_to_num(value, nan=np.float32(3.4e38), posinf=3.39e38)
    np.testing.assert_array_equal(order.place, np.searchsorted(comparable, own))


@pytest.mark.parametrize("name", ["ties", "normal", "one"])
def test_sums_are_those_of_all_rows_that_are_no_greater(name):
    value = CASES[name]
    columns = np.random.default_rng(2).random((len(value), 3), np.float32)
    order = ordered(value)
    expected = [columns[value <= v].sum(axis=0) for v in np.sort(value)]
    np.testing.assert_allclose(reached(order, columns), expected, rtol=1e-5)
    total = sums_of_equals(order, columns).sum(axis=0)
    np.testing.assert_allclose(total, columns.sum(axis=0), rtol=1e-5)


def test_members_of_a_sweep_are_ordered_alone():
    values = np.random.default_rng(3).normal(size=(4, 50)).astype(np.float32)
    together = jax.vmap(ordered)(values)
    for i, value in enumerate(values):
        alone = ordered(value)
        np.testing.assert_array_equal(together.value[i], alone.value)
        np.testing.assert_array_equal(together.place[i], alone.place)


def test_half_precision_is_ordered_as_float32():
    value = jnp.asarray(CASES["normal"], jnp.bfloat16)
    order = ordered(value)
    assert order.value.dtype == jnp.float32
    np.testing.assert_array_equal(order.value, np.sort(np.asarray(value, np.float32)))


def test_double_precision_stays():
    value = np.repeat(np.random.default_rng(4).normal(size=40), 2) + [0, 1e-12] * 40
    with double():
        order = ordered(jnp.asarray(value))
    np.testing.assert_array_equal(order.value, np.sort(value))
    np.testing.assert_array_equal(order.place, np.searchsorted(np.sort(value), value))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 1626, 9001])
def test_a_permutation_is_that_of_jax(count):
    keys = jax.random.split(jax.random.key(count), 3)
    ours = jax.jit(jax.vmap(lambda key: permutation(key, count)))(keys)
    theirs = [jax.random.permutation(key, count) for key in keys]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("levels", [1, 2, 50, 2**32])
def test_equal_numbers_keep_their_order(levels):
    bits = np.random.default_rng(3).integers(0, levels, 400, np.uint32)
    expected = np.empty(400, int)
    expected[np.argsort(bits, kind="stable")] = np.arange(400)
    np.testing.assert_array_equal(jax.jit(_places)(bits), expected)
