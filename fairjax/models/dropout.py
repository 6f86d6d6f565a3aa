"""Dropout: in a step of training some units of a layer are zero, drawn anew from the step's key.

``h' = m h / (1 - p)`` with ``m`` 1 or 0 and ``E[m] = 1 - p``, so that the mean over masks is ``h``.
Without a key there is no mask: that is the network of evaluation and prediction.

A step has one key and a layer one mask, whichever losses and copies of a branched trunk are asked.

Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout, JMLR 2014.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fairjax.core.types import Array, DataError, Model, PyTree

# numbers that no split of the step's key reaches: split(key)[i] is fold_in(key, i)
_MASKS = 0x6D61736B


def check_dropout(rate: Array | float) -> None:
    """Refuse a rate outside [0, 1). A traced one is not looked at.

    Raises:
      DataError: it is outside, or no number.
    """
    if not isinstance(rate, Tracer) and not 0 <= rate < 1:
        raise DataError(
            f"dropout {rate:g}: the share of units that a step leaves out is at least 0 and below "
            "1. Take 0.1, or 0 for none."
        )


def drops_out(rate: Array | float) -> bool:
    """Whether a network with this rate takes a key; with a traced rate it always does.

    Raises:
      DataError: see :func:`check_dropout`.
    """
    check_dropout(rate)
    return isinstance(rate, Tracer) or bool(rate > 0)


def dropped(h: Array, rate: Array | float, key: Array) -> Array:
    """``m h / (1 - p)`` with a mask of the shape of ``h``; the precision is that of ``h``.

    Args:
      h: activations of any shape.
      rate: p, at least 0 and below 1; may be traced.
      key: of the layer in this step.
    """
    # in single precision, so that a mask is the same at any precision of the activations
    u = jax.random.uniform(key, h.shape, jnp.float32)
    kept_share = jnp.asarray(1.0 - rate, h.dtype)
    return jnp.where(u >= rate, h / kept_share, jnp.zeros_like(h))


def dropping(
    activate: Callable[[int, Array], Array],
    rate: Array | float,
    key: Array | None,
) -> Callable[[int, Array], Array]:
    """The activation, with a mask for each layer; without a key the activation as it is.

    Args:
      activate: ``(layer, sums) -> activations``.
      rate: see :func:`dropped`.
      key: of the step.
    """
    if key is None:
        return activate

    def activate_and_drop(layer: int, z: Array) -> Array:
        layer_key = jax.random.fold_in(key, layer)
        return dropped(activate(layer, z), rate, layer_key)

    return activate_and_drop


def represent(
    model: Model,
    trunk: PyTree,
    x: PyTree,
    *condition: Array,
    key: Array | None = None,
) -> PyTree:
    """The representation ``z``; in a step of training, under the masks of the step.

    Args:
      model: with or without dropout.
      trunk: its parameters.
      x: inputs of B rows.
      condition: of a model that takes one.
      key: of the step, as an objective gets it. It may draw other things too. None, and any model
        without dropout: no masks.
    """
    if key is None or not model.dropout:
        return model.represent(trunk, x, *condition)
    return model.represent(trunk, x, *condition, key=jax.random.fold_in(key, _MASKS))
