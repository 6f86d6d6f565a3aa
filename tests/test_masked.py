"""Means under masks: numpy's averages, and nothing of what stands where the weight is 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.core.masked import divide, group_mean, keep, weighted_mean, weighted_sum


def test_divide_is_division_where_the_denominator_is_positive():
    got = divide(jnp.array([3.0, 1.0, 0.0]), jnp.array([2.0, 4.0, 5.0]))
    np.testing.assert_allclose(got, [1.5, 0.25, 0.0])


def test_members_that_share_their_rows_are_divided_exactly():
    denominators = np.arange(1, 500, dtype=np.float32)  # 41 * (1 / 41) is less than 1
    ratios = jax.jit(jax.vmap(divide, in_axes=(0, None)))
    np.testing.assert_array_equal(ratios(np.tile(denominators, (3, 1)), denominators), 1.0)
    thirds = ratios(np.tile(denominators, (3, 1)), 3 * denominators)
    np.testing.assert_array_equal(thirds, np.float32(1) / np.float32(3))


@pytest.mark.parametrize("fallback", [0.0, 1.0])
def test_divide_by_nothing_falls_back_with_finite_gradients(fallback):
    value, slopes = jax.value_and_grad(lambda v: divide(v[0], v[1], fallback))(
        jnp.array([2.0, 0.0])
    )
    assert value == fallback
    np.testing.assert_array_equal(slopes, 0.0)


def test_keep_drops_values_and_gradients():
    weight = jnp.array([1.0, 0.0, 2.0])
    np.testing.assert_array_equal(keep(jnp.array([1.0, jnp.nan, 3.0]), weight), [1.0, 0.0, 3.0])
    slopes = jax.grad(lambda v: jnp.sum(keep(v, weight)))(jnp.array([1.0, jnp.inf, 3.0]))
    np.testing.assert_array_equal(slopes, [1.0, 0.0, 1.0])


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_weighted_mean_and_sum_are_numpys(shape):
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=shape), rng.uniform(0, 2, shape)
    weight[2] = 0
    hidden = np.where(weight > 0, values, np.nan)
    np.testing.assert_allclose(
        weighted_mean(jnp.asarray(hidden), jnp.asarray(weight)),
        np.average(values, axis=0, weights=weight),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        weighted_sum(jnp.asarray(hidden), jnp.asarray(weight)), (values * weight).sum(0), rtol=1e-5
    )


def test_a_mean_over_nothing_is_zero_with_gradient_zero():
    value, slopes = jax.value_and_grad(weighted_mean)(jnp.array([1.0, jnp.nan]), jnp.zeros(2))
    assert value == 0
    np.testing.assert_array_equal(slopes, 0.0)


def test_group_mean_is_a_loop_over_groups():
    rng = np.random.default_rng(1)
    values, weight = rng.normal(size=9), rng.uniform(0.1, 2, 9)
    groups = np.zeros((9, 4))
    groups[np.arange(8), np.arange(8) % 2] = 1  # row 8 unknown
    groups[:3, 2] = [1, 0.5, 0]  # a soft, overlapping group; the fourth has nobody
    mean, mass = group_mean(*map(jnp.asarray, (values, groups, weight)))
    for g in range(3):
        np.testing.assert_allclose(
            mean[g], np.average(values, weights=groups[:, g] * weight), rtol=1e-5
        )
    np.testing.assert_allclose(mass, weight @ groups, rtol=1e-5)
    assert mean[3] == 0 and mass[3] == 0


def test_group_mean_ignores_nan_of_weight_zero_in_value_and_gradient():
    values = jnp.array([0.2, 0.4, jnp.nan, 0.9])
    groups, weight = jnp.array([[1.0, 0], [0, 1], [0, 1], [1, 0]]), jnp.array([1.0, 1, 0, 3])
    mean, pull = jax.vjp(lambda v: group_mean(v, groups, weight)[0], values)
    np.testing.assert_allclose(mean, [0.725, 0.4], rtol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(2))[0], [0.25, 1, 0, 0.75], rtol=1e-6)
