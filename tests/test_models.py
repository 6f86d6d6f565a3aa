"""The shared-bottom network: folded and plain are one function, against a float64 forward; its
initialisation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import dataset, tabular_spec

import fairjax.models.tabular
from fairjax.core.types import Attribute, Columns, Spec, Task
from fairjax.models import scores, shared_bottom

SHAPES = {  # numeric columns, levels, trunk, head, embedding
    "mixed": (2, (3, 5), (6,), (4,), 3),
    "deep": (2, (3, 5), (6, 5, 4), (4, 3), 3),
    "linear heads": (2, (3,), (6,), (), 2),
    "no categorical column": (3, (), (6,), (4,), 3),
    "no numeric column": (0, (3, 4), (6,), (4,), 1),
    "a wide column": (2, (3, 300, 5, 200), (6,), (4,), 3),
    "wide columns alone": (0, (300,), (6,), (4,), 2),
}


def setting(name: str):
    """Spec, both models, parameters of every leaf away from zero, and rows with unseen levels."""
    numeric, levels, trunk, head, embedding = SHAPES[name]
    spec = tabular_spec(2, numeric, levels)
    models = [shared_bottom(spec, trunk, head, embedding, fold=fold) for fold in (True, False)]
    params = jax.eval_shape(models[0].init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), params)
    x = dataset(spec, 9, 1).x
    x.codes[2:5] = -1
    return spec, models, params, x


def brute_forward(spec: Spec, params, x: Columns, depth: int, head_depth: int) -> np.ndarray:
    """Scores in float64, row by row: concatenate the embeddings that are known, multiply, clip at
    zero.
    """
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    out = []
    for i in range(len(x.numeric)):
        first = np.cumsum(
            [0] + [n for _, n in spec.categorical]
        )  # one table holds the levels of all columns
        tables = [params["trunk"]["embedding"][a:b] for a, b in zip(first, first[1:], strict=False)]
        found = [
            t[c] if c >= 0 else np.zeros(t.shape[1])
            for t, c in zip(tables, x.codes[i], strict=True)
        ]
        z = (
            np.concatenate([x.numeric[i], *found]) @ params["trunk"]["kernel"]
            + params["trunk"]["bias"]
        )
        z = np.maximum(z, 0)
        for k in range(1, depth):
            layer = params["trunk"][f"dense_{k}"]
            z = np.maximum(z @ layer["kernel"] + layer["bias"], 0)
        row = []
        for task in spec.tasks:
            h = z
            for k in range(head_depth):
                layer = params["heads"][task.name][f"dense_{k}"]
                h = np.maximum(h @ layer["kernel"] + layer["bias"], 0)
            layer = params["heads"][task.name]["output"]
            row.append(h @ layer["kernel"] + layer["bias"])
        out.append(np.concatenate(row))
    return np.array(out)


@pytest.mark.parametrize("name", SHAPES)
def test_folded_and_plain_are_the_same_function_with_the_same_gradients(name):
    spec, models, params, x = setting(name)
    probe = np.random.default_rng(2).normal(size=(9, 2)).astype(np.float32)

    @jax.jit
    def both(params, x):
        return [
            jax.value_and_grad(
                lambda p, m=m: (jnp.sum(probe * (s := scores(m, p, x))), s), has_aux=True
            )(params)
            for m in models
        ]

    ((_, folded), folded_grads), ((_, plain), plain_grads) = both(params, x)
    np.testing.assert_allclose(
        folded,
        brute_forward(spec, params, x, len(SHAPES[name][2]), len(SHAPES[name][3])),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_allclose(folded, plain, rtol=1e-5, atol=1e-4)
    assert jax.tree.structure(folded_grads) == jax.tree.structure(params)
    for (path, got), want in zip(
        jax.tree.leaves_with_path(folded_grads), jax.tree.leaves(plain_grads), strict=True
    ):
        np.testing.assert_allclose(
            got, want, rtol=1e-4, atol=1e-3, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize("most", [1, 4, 9, 100])
def test_blocks_of_rows_have_the_scores_of_all_rows(monkeypatch, most):
    spec, (model, _), params, x = setting("mixed")
    whole = brute_forward(spec, params, x, 1, 1)
    monkeypatch.setattr(fairjax.models.tabular, "ROWS", most)
    np.testing.assert_allclose(scores(model, params, x), whole, rtol=1e-4, atol=1e-4)


def test_an_unseen_level_is_a_zero_embedding_and_leaves_its_table_alone():
    spec, models, params, x = setting("mixed")
    x = Columns(x.numeric, np.full_like(x.codes, -1))
    for model in models:
        got, grads = jax.jit(
            jax.value_and_grad(lambda p, model=model: jnp.sum(scores(model, p, x)))
        )(params)
        zero = {k: 0 * v if k.startswith("embedding") else v for k, v in params["trunk"].items()}
        np.testing.assert_allclose(
            got, brute_forward(spec, {**params, "trunk": zero}, x, 1, 1).sum(), rtol=1e-4
        )
        assert not np.any(grads["trunk"]["embedding"])


def test_scores_have_the_columns_of_the_spec_in_order():
    tasks = (
        Task("b"),
        Task("m", "multiclass", ("x", "y", "z")),
        Task("l", "multilabel", ("p", "q")),
        Task("r", "regression"),
    )
    spec = Spec(tasks, (Attribute("a", ("0", "1")),), ("x0",))
    model = shared_bottom(spec, (4,), ())
    params = jax.jit(model.init)(jax.random.key(0))
    assert set(params) == {"trunk", "heads"} and set(params["heads"]) == {"b", "m", "l", "r"}
    x = Columns(np.ones((5, 1), np.float32), np.zeros((5, 0), np.int32))
    base = scores(model, params, x)
    assert base.shape == (5, 7)
    for t, task in enumerate(tasks):  # moving one head moves its own columns
        moved = {
            **params,
            "heads": {
                **params["heads"],
                task.name: jax.tree.map(lambda a: a + 1, params["heads"][task.name]),
            },
        }
        changed = np.any(scores(model, moved, x) != base, axis=0)
        assert list(np.flatnonzero(changed)) == list(range(7)[spec.score_slice(t)])


def test_initialisation_is_the_papers():
    spec = tabular_spec(2, 30, (3000, 5))
    params = jax.jit(shared_bottom(spec, (64, 50), (32,), 40).init)(jax.random.key(1))
    table = np.asarray(params["trunk"]["embedding"])
    deviation = 40**-0.5
    assert np.max(np.abs(table)) <= 2 * deviation
    np.testing.assert_allclose(table.std(), scipy.stats.truncnorm.std(-2, 2) * deviation, rtol=0.02)
    kernels = {
        "first": params["trunk"]["kernel"],
        "second": params["trunk"]["dense_1"]["kernel"],
        "head": params["heads"]["task1"]["dense_0"]["kernel"],
        "output": params["heads"]["task1"]["output"]["kernel"],
    }
    assert kernels["first"].shape == (30 + 2 * 40, 64)
    for name, kernel in kernels.items():
        bound = np.sqrt(6 / sum(kernel.shape))
        assert bound * 0.8 < np.max(np.abs(kernel)) <= bound, name
        np.testing.assert_allclose(
            np.std(kernel), bound / np.sqrt(3), rtol=0.03 if kernel.size > 500 else 0.3
        )
    biases = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(params)
        if "bias" in jax.tree_util.keystr(path)
    ]
    assert len(biases) == 6 and not any(np.any(b) for b in biases)


def test_heads_and_keys_start_differently():
    model = shared_bottom(tabular_spec(), (4,), (3,), 2)
    one, two = (jax.jit(model.init)(jax.random.key(k)) for k in (0, 1))
    assert np.any(one["trunk"]["kernel"] != two["trunk"]["kernel"])
    assert np.any(
        one["heads"]["task0"]["output"]["kernel"] != one["heads"]["task1"]["output"]["kernel"]
    )


def test_initialisers_are_arguments():
    model = shared_bottom(
        tabular_spec(),
        (4,),
        (3,),
        2,
        kernel_init=jax.nn.initializers.constant(0.5),
        embedding_init=jax.nn.initializers.constant(-1.0),
    )
    params = model.init(jax.random.key(0))
    np.testing.assert_array_equal(params["trunk"]["embedding"], -1.0)
    np.testing.assert_array_equal(params["heads"]["task0"]["output"]["kernel"], 0.5)


def test_refusals():
    with pytest.raises(ValueError, match="at least one layer"):
        shared_bottom(tabular_spec(), trunk=())
    _, (model, _), params, x = setting("mixed")
    with pytest.raises(ValueError, match="takes no condition"):
        model.represent(params["trunk"], x, jnp.ones(3))


def test_a_model_built_inside_one_program_serves_in_another():
    kept = []

    @jax.jit
    def first(key):
        kept.append(shared_bottom(tabular_spec(), (4,), (3,), 2))
        return kept[0].init(key)

    inside = first(jax.random.key(0))
    outside = jax.jit(kept[0].init)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
