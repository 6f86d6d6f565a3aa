"""Rows that are never formed: the Jacobian J of K losses through products with it.

``J' w`` is one backward pass, and ``J v`` the derivative of ``J' w`` by w, read backwards: a pass
through the same operations in forward order. So column j of ``G = J J'`` is ``J (J' e_j)``, and at
any time one gradient is held in place of K.

Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation, 1994: G is the
Hessian of ``|J' w|^2 / 2`` by w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

Refusal = Callable[..., NoReturn]


class Jacobian(NamedTuple):
    """K losses by all parameters; ``scale`` is the loss scale of the rows."""

    pull_back: Callable[[Array], list[Array]]  # w[K] -> J' w, leaf by leaf, without the scale
    values: Array  # [K]
    scale: Array  # []
    chunk: int  # columns of the Gram matrix at a time


class ImplicitRows:
    """One leaf ``[K, ...]`` of rows that are never formed.

    It has a shape and a dtype and no entries. Links and ``sum_rows``, ``take_row`` and ``route``
    take it; whatever reads entries is refused, here or by JAX, which quotes ``repr``.
    """

    def __init__(self, jacobian: Jacobian, index: int, shape: tuple[int, ...], dtype: jnp.dtype):
        self.jacobian = jacobian
        self.index = index
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return (
            "rows of value_and_rows(mode='gram'), which have no entries: they serve sum_rows, "
            "take_row, route and links with a rule in task space, in the function that made them; "
            "for anything else take another mode, such as 'map'"
        )

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"entries are read of {self!r}")

    __array__: Refusal = _refuse
    __getitem__: Refusal = _refuse
    __neg__: Refusal = _refuse
    __pow__: Refusal = _refuse
    __add__: Refusal = _refuse
    __radd__: Refusal = _refuse
    __sub__: Refusal = _refuse
    __rsub__: Refusal = _refuse
    __mul__: Refusal = _refuse
    __rmul__: Refusal = _refuse
    __truediv__: Refusal = _refuse
    astype: Refusal = _refuse


def are_implicit(leaves: Sequence[Any]) -> bool:
    """Whether these are leaves of rows that are never formed."""
    return any(isinstance(leaf, ImplicitRows) for leaf in leaves)


def pull(leaves: Sequence[ImplicitRows], weights: Array) -> list[Array]:
    """``sum_k w_k g_k`` for each leaf, by one backward pass."""
    jacobian = leaves[0].jacobian
    cotangent = (weights * jacobian.scale).astype(jacobian.values.dtype)
    gradient = jacobian.pull_back(cotangent)
    return [gradient[leaf.index] for leaf in leaves]


def products(
    leaves: Sequence[ImplicitRows], scales: Sequence[Array | float] | None = None
) -> Array:
    """``G_ij = <g_i, g_j>`` over these leaves, each times its scale, ``[K, K]``.

    The diagonal is summed in float32 or better; the rest is as exact as the network's own
    arithmetic.
    """
    jacobian = leaves[0].jacobian

    def column(unit: Array) -> Array:
        def row_of(cotangent: Array) -> list[Array]:
            gradient = jacobian.pull_back(cotangent)
            return [gradient[leaf.index] for leaf in leaves]

        cotangent = (unit * jacobian.scale).astype(jacobian.values.dtype)
        row, push_forward = jax.vjp(row_of, cotangent)
        square = _squared_norm(row, scales)
        # A direction of length 1 keeps half precision within its range.
        length = jnp.sqrt(square)
        inverse = divide(jnp.ones_like(length), length)
        direction = []
        for i, leaf in enumerate(row):
            factor = inverse if scales is None else jnp.asarray(scales[i], square.dtype) * inverse
            direction.append((factor * leaf).astype(leaf.dtype))
        (slopes,) = push_forward(direction)
        entries = jacobian.scale * length * slopes.astype(square.dtype)
        return jnp.where(unit > 0, square, entries)

    basis = jnp.eye(len(jacobian.values), dtype=jnp.float32)
    columns = jax.lax.map(column, basis, batch_size=jacobian.chunk)
    return (columns + columns.T) / 2


def squared_norms(
    leaves: Sequence[ImplicitRows], scales: Sequence[Array | float] | None = None
) -> Array:
    """``||g_k||^2``, ``[K]``: the diagonal of :func:`products`, for half of its cost."""
    jacobian = leaves[0].jacobian

    def squared_norm(unit: Array) -> Array:
        return _squared_norm(pull(leaves, unit), scales)

    basis = jnp.eye(len(jacobian.values), dtype=jnp.float32)
    return jax.lax.map(squared_norm, basis, batch_size=jacobian.chunk)


def _squared_norm(row: list[Array], scales: Sequence[Array | float] | None) -> Array:
    total = 0.0
    for i, leaf in enumerate(row):
        square = jnp.sum(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) ** 2)
        if scales is not None:
            square = jnp.asarray(scales[i], square.dtype) * square
        total = total + square
    return total
