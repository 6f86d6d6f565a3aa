"""ConsMTL: the trunk by FairGrad, heads by central differences of their published term, and what
holds without it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double
from scipy.optimize import least_squares

from fairjax.core.types import Model
from fairjax.gradients import consistent_heads, fairgrad, value_and_rows
from fairjax.gradients.gram_matrix import gram
from fairjax.objectives import objective

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 4)), RNG.normal(size=(7, 2))
TRUNK, HEADS = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 3))


class Batch:
    """What an objective reads of a batch."""

    x = X


def linear_model() -> Model:
    def represent(trunk, x, condition=None):
        del condition
        return x @ trunk["kernel"]

    def predict(heads, z):
        return jnp.stack([z @ heads["first"], z @ heads["second"]], axis=1)

    return Model(lambda key: None, represent, predict)


def squared_errors(model: Model):
    def values(scores, batch):
        return [jnp.mean((scores[:, k] - Y[:, k]) ** 2) for k in range(2)]

    return objective(model, ("first", "second"), values)


def parameters() -> dict:
    return {
        "trunk": {"kernel": jnp.asarray(TRUNK)},
        "heads": {"first": jnp.asarray(HEADS[0]), "second": jnp.asarray(HEADS[1])},
    }


def value_and_gradient(losses=squared_errors, **options):
    """The value, its gradient and the rows."""
    made = consistent_heads(linear_model(), losses, fairgrad.rule(ridge=0.0), **options)
    key = jax.random.key(0)
    memory = made.init(key, Batch)

    def total(params):
        (value,), _ = made.apply(params, Batch, key, memory)
        return value

    return jax.jit(jax.value_and_grad(total))(parameters())


def by_z(heads: np.ndarray) -> np.ndarray:
    """``dL_k / dz``, ``[2, B, 3]``, by hand."""
    errors = X @ TRUNK @ heads.T - Y
    return 2 / len(X) * np.einsum("bk,kd->kbd", errors, heads)


def by_definition(lam: float, limit: float):
    """Weights by the authors' equation and solver; the heads' term by central differences."""
    z_rows = by_z(HEADS)
    trunk_rows = np.einsum("bi,kbd->kid", X, z_rows)
    flat = trunk_rows.reshape(2, -1)
    matrix = flat @ flat.T
    exact = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    solution = least_squares(lambda w: matrix @ w - w**-0.5, np.ones(2) / 2, bounds=(0, 9), **exact)
    weights = solution.x
    direction = np.einsum("k,kbd->bd", weights, z_rows)

    def agreement(heads: np.ndarray, k: int) -> float:
        return -lam * np.sum(by_z(heads)[k] * direction)

    own = 2 / len(X) * (X @ TRUNK @ HEADS.T - Y).T @ (X @ TRUNK)
    extra = np.zeros_like(own)
    for k in range(2):
        for d in range(3):
            step = np.zeros_like(HEADS)
            step[k, d] = 1e-5
            extra[k, d] = (agreement(HEADS + step, k) - agreement(HEADS - step, k)) / 2e-5
    length, longest = np.linalg.norm(extra, axis=1), limit * np.linalg.norm(own, axis=1)
    extra = extra * np.minimum(1, longest / length)[:, None]
    return weights, np.einsum("k,kid->id", weights, trunk_rows), own, extra


@pytest.mark.parametrize(("lam", "limit"), [(1.0, 0.1), (0.01, 0.5), (0.0, 0.1)])
def test_it_is_its_definition(lam, limit):
    with double():
        value, gradient = value_and_gradient(consistency=lam, limit=limit)
        losses = ((X @ TRUNK @ HEADS.T - Y) ** 2).mean(axis=0)
        weights, trunk, own, extra = by_definition(lam, limit) if lam else by_definition(1e-9, 0.0)
        np.testing.assert_allclose(value, weights @ losses, rtol=1e-6)
        np.testing.assert_allclose(gradient["trunk"]["kernel"], trunk, rtol=1e-5, atol=1e-8)
        heads = np.stack([gradient["heads"]["first"], gradient["heads"]["second"]])
        np.testing.assert_allclose(heads, own + extra, rtol=1e-6, atol=1e-8)
        lengths = np.linalg.norm(heads - own, axis=1) / np.linalg.norm(own, axis=1)
        assert np.all(lengths <= limit * (1 + 1e-9))
        assert np.all(lengths > 1e-9) == (lam > 0)


def test_the_term_turns_gradients_towards_the_update():
    """A small step of the heads along it, and they agree more with the update of all."""
    with double():
        weights, _, _, extra = by_definition(1.0, 10.0)
        direction = np.einsum("k,kbd->bd", weights, by_z(HEADS))
        before = np.einsum("kbd,bd->k", by_z(HEADS), direction)
        after = np.einsum("kbd,bd->k", by_z(HEADS - 1e-4 * extra), direction)
        assert np.all(after > before)


def test_an_absent_task_moves_nothing():
    def without_second(model):
        def values(scores, batch):
            return [jnp.mean((scores[:, 0] - Y[:, 0]) ** 2), 0.0 * jnp.sum(scores[:, 1])]

        return objective(model, ("first", "second"), values)

    _, gradient = value_and_gradient(without_second)
    np.testing.assert_array_equal(gradient["heads"]["second"], 0.0)
    assert np.all(np.isfinite(gradient["trunk"]["kernel"]))
    assert np.any(gradient["trunk"]["kernel"] != 0) and np.any(gradient["heads"]["first"] != 0)


def test_weights_are_those_of_the_rule_on_the_trunk():
    """Also of the rows that a link would see."""
    with double():
        params = parameters()

        def losses(params):
            scores = linear_model().predict(
                params["heads"], linear_model().represent(params["trunk"], X)
            )
            return tuple(jnp.mean((scores[:, k] - Y[:, k]) ** 2) for k in range(2))

        values, rows = value_and_rows(losses)(params)
        matrix = gram(jax.tree.leaves(rows["trunk"]))
        weights, _, _ = fairgrad.rule(ridge=0.0).weights(matrix, values, (), None)
        value, _ = value_and_gradient()
        np.testing.assert_allclose(value, weights @ values, rtol=1e-9)
