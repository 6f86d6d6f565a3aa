"""Networks that branch: every task has a copy of every trunk layer, and labels say who shares.

``labels [D, T]`` holds the branch of every task at every layer, named by its smallest task. Copies
of one branch start equal and receive the same updates, so they stay equal bit by bit, and a branch
divides by writing other labels: shapes never change. The sum over the tasks of their losses gives
each copy the gradient of its own task, and :func:`tie` adds those of a branch up.

This is exactly the network with one copy per branch, which :func:`compact` gives. Where it drops
out, a layer's mask is the same in all branches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.layers import Layers, by_layer
from fairjax.core.types import Array, Model, PyTree, Spec


def trunk_layers(model: Model) -> Layers:
    """Keys of the trunk's parameters, layer by layer from the input on.

    They are those that the model states. Without a statement the number at the end of a key is its
    place; keys without a number make the first layer.

    Raises:
      ValueError: the trunk has no keys, or the statement is not about these.
    """
    trunk = jax.eval_shape(model.init, jax.random.key(0))["trunk"]
    if not isinstance(trunk, dict) or not trunk:
        raise ValueError(
            f"a network branches layer by layer, but its trunk is a {type(trunk).__name__} of "
            "parameters; give a dict with one entry per layer"
        )
    if not model.layers:
        places: dict[int, list[str]] = {}
        for key in trunk:
            number = re.search(r"\d+$", key)
            places.setdefault(int(number.group()) if number else 0, []).append(key)
        return tuple(tuple(places[place]) for place in sorted(places))
    stated = sorted(key for keys in model.layers for key in keys)
    if stated != sorted(trunk):
        raise ValueError(
            f"the model's layers name {', '.join(stated)}, but its trunk has "
            f"{', '.join(sorted(trunk))}; name every one once"
        )
    return model.layers


def branched(model: Model, spec: Spec) -> Model:
    """The model with a copy of its trunk per task, and equal heads at the start.

    Heads of equal shapes start equal, so that their likeness says what their tasks have taught
    them.

    Args:
      model: any model; a task may read the representation of its own copy alone.
      spec: of its tasks.

    Returns:
      A model whose trunk has leaves ``[T, ...]`` and whose ``represent`` gives ``[T, B, ...]``.
    """
    tasks = len(spec.tasks)

    def init(key: Array) -> PyTree:
        params = model.init(key)
        trunk = jax.tree.map(lambda leaf: jnp.stack([leaf] * tasks), params["trunk"])
        return {**params, "trunk": trunk, "heads": _alike(params["heads"])}

    def represent(params: PyTree, x: PyTree, *condition: Array, **key: Array) -> PyTree:
        # copies of one branch stay equal only under equal masks, so all copies have one key
        return jax.vmap(lambda copy: model.represent(copy, x, *condition, **key))(params)

    def predict(params: PyTree, z: PyTree) -> Array:
        own = tuple(jax.tree.map(lambda leaf, t=t: leaf[t], z) for t in range(tasks))
        if model.own_inputs:
            return model.predict(params, own)
        columns = [model.predict(params, own[t])[:, spec.score_slice(t)] for t in range(tasks)]
        return jnp.concatenate(columns, axis=1)

    layers = trunk_layers(model)
    return Model(init, represent, predict, layers, copies=tasks, dropout=model.dropout)


def _alike(heads: PyTree) -> PyTree:
    """The heads, each with the numbers of the first one that has its shapes."""
    if not isinstance(heads, dict):
        return heads
    first_of: dict[Any, PyTree] = {}
    return {name: first_of.setdefault(_shapes(head), head) for name, head in heads.items()}


def _shapes(tree: PyTree) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaf.shape for leaf in leaves)


def shared_labels(layers: Layers, tasks: int) -> Array:
    """Labels ``[D, T]`` of a trunk that all tasks share."""
    return jnp.zeros((len(layers), tasks), jnp.int32)


# ------------------------------------------------------------------------- one copy for each branch


def equal_copies(trunk: PyTree, layers: Layers) -> np.ndarray:
    """Labels ``[D, T]`` of the copies of a layer that hold the same numbers.

    Args:
      trunk: leaves ``[T, ...]``, of one run.
      layers: see :func:`trunk_layers`.
    """
    labels = []
    for part in by_layer(trunk, layers):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(part)]
        first_of: dict[bytes, int] = {}
        copies = [b"".join(leaf[t].tobytes() for leaf in leaves) for t in range(len(leaves[0]))]
        labels.append([first_of.setdefault(copy, t) for t, copy in enumerate(copies)])
    return np.array(labels, np.int32)


def compact(params: PyTree, layers: Layers) -> tuple[PyTree, np.ndarray]:
    """The parameters with one copy per branch, and the labels ``[D, T]``.

    Args:
      params: of a branched model.
      layers: see :func:`trunk_layers`.

    Returns:
      Trunk leaves are ``[branches of the layer, ...]``, in the order of their labels.
    """
    labels = equal_copies(params["trunk"], layers)
    trunk = {}
    for part, label in zip(by_layer(params["trunk"], layers), labels, strict=True):
        kept = np.unique(label)
        trunk |= jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf)[kept], part)
    return {**params, "trunk": trunk}, labels


def expanded(params: PyTree, labels: np.ndarray, layers: Layers) -> PyTree:
    """The parameters with one copy per task; the inverse of :func:`compact`."""
    trunk = {}
    for part, label in zip(by_layer(params["trunk"], layers), np.asarray(labels), strict=True):
        _, place = np.unique(label, return_inverse=True)
        trunk |= jax.tree.map(lambda leaf, place=place: np.asarray(leaf)[place], part)
    return {**params, "trunk": trunk}


def compact_shapes(shapes: PyTree, labels: np.ndarray, layers: Layers) -> PyTree:
    """The shapes that :func:`compact` gives, from those of all copies."""
    trunk = {}
    for part, label in zip(by_layer(shapes["trunk"], layers), labels, strict=True):
        branches = len(np.unique(label))
        trunk |= jax.tree.map(
            lambda leaf, n=branches: jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype), part
        )
    return {**shapes, "trunk": trunk}


def branch_text(labels: np.ndarray, names: Sequence[str]) -> str:
    """The tree in words, from the input on: ``a b c; a b | c; a | b | c``."""
    layers = []
    for label in np.asarray(labels):
        groups = [" ".join(np.array(names)[label == one]) for one in np.unique(label)]
        layers.append(" | ".join(groups))
    return "; ".join(layers)


def parameter_count(params: PyTree) -> int:
    """Number of parameters; of a branched model in the form of :func:`compact`."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
