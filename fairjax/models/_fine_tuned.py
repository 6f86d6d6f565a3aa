"""A pretrained network as the trunk: its weights start the training, or stay as they are.

What a run moves is a parameter; a weight that stays is configuration, and the closure has it. So
a frozen weight has no gradient, no state of an optimizer and no place among the parameters of a
run, and the members of a sweep share it: there is one copy of it, and frozen layers below the
first trained one are computed once per batch for all members, because neither their weights nor
their rows differ.

The price is paid at compilation. The weights are constants of the program (those that start the
training, too), which takes about four times their size in memory and 30 seconds per gigabyte more
to compile on a CPU. ``JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS=1`` in the environment hands them over as
arguments instead; the text of a program, by which a sweep on disk is known, is then without them.

On paper, with P parameters that are trained, M members, K rows of gradients, B rows of L tokens and
single precision: parameters take ``4 M P`` bytes, the moments of Adam ``8 M P``, the rows ``4 M K
P`` and their update ``4 M P``; the heads are small. A layer of width D with H heads and 4 D inner
units keeps about ``4 M B L (27 D + 3.5 H L)`` bytes for its backward pass, and with ``remat`` its
input, ``4 M B L D``. A network of the size of BERT has P = 109 million, D = 768, H = 12 and 12
layers; at B = 256 and L = 128 that is .44 GB, .87, .44 K and .44, and 42 GB of activations, with
``remat`` 1.5. Members train beside one another, so memory is for few of them: ``chunk=1``. XLA on a
CPU orders the second computation as it likes, so ``remat`` may save nothing there.

Several small batches may stand for a large one: ``wrap_chain(lambda tx: optax.MultiSteps(tx, k),
chain, rows)`` of :func:`fairjax.gradients.wrap_chain` averages rows over k steps, and then the
chain takes one step; it keeps K gradients of its own. For mean losses this is the step of the large
batch, whatever the link. A gap is no mean over rows: the mean of k gaps of small batches lies above
that of the large one. Where this matters, take a notion with running counts
(:func:`fairjax.notions.differential_fairness`), or the method ``constrained``, whose gaps are those
of decisions over recent batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, glorot_uniform
from jax.typing import DTypeLike

from fairjax.core.layers import Layers
from fairjax.core.types import Array, DataError, Images, Model, PyTree, Sentences, Spec
from fairjax.models._blocks import in_blocks
from fairjax.models.dropout import dropped, drops_out
from fairjax.models.tabular import heads_of
from fairjax.pretrained import Pretrained

# batches of the network that are computed at once
_BATCHES = 8


def fine_tuned(
    spec: Spec,
    network: Pretrained,
    *,
    trained: str | Sequence[str] = "all",
    head: tuple[int, ...] = (32,),
    dropout: Array | float = 0.0,
    dtype: DTypeLike = jnp.float32,
    remat: bool = False,
    kernel_init: Initializer | None = None,
) -> Model:
    """A multi-task network: a pretrained network with fresh heads per task.

    Args:
      spec: names the tasks.
      network: the trunk, and what it reads: the rows are those that ``network.read`` gives.
      trained: which of its layers are trained: ``"all"``, ``"none"``, or their names, keys of
        ``network.params``. The trunk's parameters are those of trained layers.
      head: widths of each task's ReLU layers; may be empty.
      dropout: share of the units of the representation that a step of training leaves out; may be
        traced.
      dtype: precision in which the network computes, float32 or bfloat16. Parameters, gradients,
        the representation and the heads are in float32 in either case.
      remat: whether the backward pass computes each layer's inside again, for less memory and about
        a third more time.
      kernel_init: initialiser of the heads' kernels. Default: Glorot uniform.

    Returns:
      A :class:`Model`; ``represent`` takes what ``network.read`` gives and gives ``[B, D]``,
      ``predict`` gives scores ``[B, C]``. Its ``layers`` are those of the network that are trained.

    Raises:
      DataError: the network reads other rows than those of the spec; it has no such layers, or none
        to compute again; or for a dropout outside [0, 1).
    """
    has_masks = drops_out(dropout)
    _refuse_other_rows(spec, network)
    names = _trained_names(network, trained)
    start = {name: network.params[name] for name in names}
    frozen = {name: part for name, part in network.params.items() if name not in start}
    frozen = jax.tree.map(partial(jnp.asarray, dtype=dtype), frozen)
    apply = _applied(network, remat)
    init_heads, predict = heads_of(
        spec, network.width, tuple(head), kernel_init or glorot_uniform()
    )

    def init(key: Array) -> PyTree:
        return {"trunk": jax.tree.map(jnp.asarray, start), "heads": init_heads(key)}

    def encode(trunk: PyTree, x: Sentences | Images) -> Array:
        moved = jax.tree.map(lambda leaf: leaf.astype(dtype), trunk)
        return apply(frozen | moved, x).astype(jnp.float32)

    def represent(
        trunk: PyTree,
        x: Sentences | Images,
        condition: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        if condition is not None:
            raise ValueError("fine_tuned takes no condition; use a conditioned model")
        z = in_blocks(partial(encode, trunk), x, _BATCHES * network.batch)
        return z if key is None else dropped(z, dropout, key)

    layers = _layers_of(network.layers, names)
    return Model(init, represent, predict, layers, own_inputs=True, dropout=has_masks)


def _refuse_other_rows(spec: Spec, network: Pretrained) -> None:
    rows = "images" if spec.image_shape else "tables" if spec.is_table else "texts"
    if rows != network.reads:
        raise DataError(
            f"{network.name} reads {network.reads}, but the features are {rows}. Take a network "
            f"for {rows}, or give it {network.reads}."
        )


def _trained_names(network: Pretrained, trained: str | Sequence[str]) -> tuple[str, ...]:
    """Keys of the weights that are trained, in the order of the weights."""
    existing = tuple(network.params)
    if trained == "all":
        return existing
    if trained == "none":
        return ()
    chosen = (trained,) if isinstance(trained, str) else tuple(trained)
    unknown = [name for name in chosen if name not in existing]
    if unknown:
        raise DataError(
            f"{network.name}: {len(unknown)} of {len(chosen)} layers to train do not exist, the "
            f"first is {unknown[0]!r}. Take all, none, or some of {', '.join(existing)}."
        )
    return tuple(name for name in existing if name in chosen)


def _layers_of(layers: Layers, names: tuple[str, ...]) -> Layers:
    """The layers without what is not trained."""
    kept = [tuple(key for key in keys if key in names) for keys in layers]
    return tuple(keys for keys in kept if keys)


def _applied(network: Pretrained, remat: bool) -> Callable[[PyTree, PyTree], Array]:
    if not remat:
        return network.apply
    if "remat" not in inspect.signature(network.apply).parameters:
        raise DataError(
            f"{network.name} has no layers whose inside can be computed again. Leave remat out."
        )
    return partial(network.apply, remat=True)
