"""Encodings of numbers: pieces between knots by brute force, waves, and networks that use them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dataset, tabular_spec

from fairjax import Roles, from_table
from fairjax.data.encoder import Encoder
from fairjax.models import NUMBER_ENCODINGS, branched, conditioned_network, scores, shared_bottom

KNOTS = ((-2.0, -0.5, 0.25, 3.0), (0.0, 1.0), (), (-1.0, 0.0, 1.0))
SPEC = dataclasses.replace(tabular_spec(numeric=4), knots=KNOTS)


def brute_pieces(x: float, knots: tuple[float, ...]) -> list[float]:
    """Of Gorishniy, Rubachev, Babenko 2022, Eq. 1, with open ends."""
    pieces = []
    for j in range(len(knots) - 1):
        low, high = knots[j], knots[j + 1]
        if x < low and j > 0:
            pieces.append(0.0)
        elif x >= high and j < len(knots) - 2:
            pieces.append(1.0)
        else:
            pieces.append((x - low) / (high - low))
    return pieces


def test_pieces_are_those_of_the_paper():
    numeric = np.float32(np.random.default_rng(0).normal(scale=3, size=(50, 4)))
    numeric[0, 0], numeric[1, 0] = -0.5, 0.25  # on a knot
    got = NUMBER_ENCODINGS["piecewise_linear"](SPEC).apply({}, numeric)
    want = [
        [*row, *brute_pieces(row[0], KNOTS[0]), *brute_pieces(row[3], KNOTS[3])]
        for row in numeric.astype(float)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_numbers_without_pieces_stay_alone():
    plain = dataclasses.replace(SPEC, knots=((0.0, 1.0),))
    numeric = np.ones((3, 4), np.float32)
    encoding = NUMBER_ENCODINGS["piecewise_linear"](plain)
    np.testing.assert_array_equal(encoding.apply({}, numeric), numeric)
    np.testing.assert_array_equal(NUMBER_ENCODINGS["plain"](SPEC).apply({}, numeric), numeric)


def test_waves_by_hand():
    encoding = NUMBER_ENCODINGS["periodic"](SPEC)
    numeric = np.float32([[0.5, -1.0, 2.0, 0.0]])
    variables = encoding.init(jax.random.key(0), numeric)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])
    got = encoding.apply(variables, numeric)
    want = list(numeric[0])
    for j, x in enumerate(numeric[0].astype(float)):
        angle = 2 * np.pi * p["frequencies"][j] * x
        waves = np.concatenate([np.sin(angle), np.cos(angle)])
        want += list(np.maximum(waves @ p["kernel"] + p["bias"], 0))
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoding", NUMBER_ENCODINGS)
def test_a_folded_network_is_the_one_that_looks_up(encoding):
    data = dataset(SPEC, 6, 0)
    folded, plain = (
        shared_bottom(SPEC, (5, 4), (3,), 2, number_encoding=encoding, fold=fold)
        for fold in (True, False)
    )
    params = folded.init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, params, plain.init(jax.random.key(1)))
    of_folded = scores(folded, params, data.x)
    np.testing.assert_allclose(of_folded, scores(plain, params, data.x), rtol=1e-5, atol=1e-6)
    copies = branched(folded, SPEC).init(jax.random.key(1))["trunk"]
    assert all(leaf.shape[0] == len(SPEC.tasks) for leaf in jax.tree.leaves(copies))


@pytest.mark.parametrize("encoding", NUMBER_ENCODINGS)
def test_slopes_members_and_half_precision(encoding):
    data = dataset(SPEC, 6, 0)
    model = shared_bottom(SPEC, (5,), (), 2, number_encoding=encoding)
    keys = jax.random.split(jax.random.key(0), 3)
    members = jax.vmap(model.init)(keys)
    together = jax.jit(jax.vmap(lambda p: scores(model, p, data.x)))(members)
    for m in range(3):
        alone = scores(model, jax.tree.map(lambda leaf, m=m: leaf[m], members), data.x)
        np.testing.assert_allclose(together[m], alone, rtol=1e-5, atol=1e-6)

    params = model.init(keys[0])
    grads = jax.grad(lambda p: jnp.sum(scores(model, p, data.x) ** 2))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    x = data.x._replace(numeric=jnp.asarray(data.x.numeric, jnp.bfloat16))
    low = scores(model, halves, x)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(low), scores(model, params, data.x), rtol=0.2, atol=0.2)


def test_a_conditioned_network_has_the_encoding_of_the_plain_one():
    plain = shared_bottom(SPEC, (5,), (), 2, number_encoding="piecewise_linear")
    told = conditioned_network(SPEC, (5,), (), 2, condition=2, number_encoding="piecewise_linear")
    shapes = jax.tree.map(jnp.shape, plain.init(jax.random.key(0))["trunk"])
    assert jax.tree.map(jnp.shape, told.init(jax.random.key(0))["trunk"]["body"]) == shapes


def test_an_unknown_encoding_is_refused():
    with pytest.raises(
        ValueError, match="number encoding 'spline' is not one of plain, piecewise_linear"
    ):
        shared_bottom(SPEC, number_encoding="spline")


def test_knots_are_quantiles_of_the_training_rows_and_are_saved():
    rng = np.random.default_rng(0)
    n = 400
    value = rng.exponential(size=n)
    value[rng.random(n) < 0.2] = np.nan
    columns = {
        "value": value,
        "flag": rng.integers(0, 2, n).astype(float),
        "paid": np.where(rng.random(n) < 0.5, "yes", "no"),
        "sex": np.where(rng.random(n) < 0.5, "f", "m"),
        "split": np.array(["train", "validation", "test", "train"] * (n // 4)),
    }
    data = from_table(columns, Roles(tasks=("paid",), sensitive=("sex",), split="split"))
    assert data.spec.numeric == ("value", "flag", "value is missing")
    of_train = value[np.isin(columns["split"], ["train"])]
    of_train = of_train[np.isfinite(of_train)]
    mean, deviation = of_train.mean(), of_train.std(ddof=1)
    want = (np.quantile(of_train, np.linspace(0, 1, 17)) - mean) / deviation
    np.testing.assert_allclose(data.spec.knots[0], want, rtol=1e-6)
    assert len(data.spec.knots) == 2 and len(data.spec.knots[1]) == 2
    assert Encoder.from_json(data.encoder.to_json()).spec == data.spec
