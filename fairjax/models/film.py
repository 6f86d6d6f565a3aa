"""Networks that know the weights of their losses: feature-wise modulation (FiLM) by a condition.

The inputs are B rows and a condition: ``[W]`` for all rows, or ``[R, W]`` where R divides B and row
i has condition ``i mod R`` (so ``[B, W]`` is one per row). The result is a
:class:`fairjax.core.types.Model` whose ``represent`` takes that condition. The trunk's parameters
are ``{"body": those of the network without a condition, "film": those of the modulation}``.

Scale and shift are computed once per condition, not once per row, and the first layer's product
does not depend on the condition. So many conditions of the same rows cost little more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, glorot_uniform

from fairjax.core.types import Array, Model, PyTree, Spec
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.tabular import heads_of, trunk_of

_INIT = glorot_uniform()
Films = list[tuple[Array, Array]]  # scale and shift of every layer, [F or 1, R]


class Form(NamedTuple):
    """How a condition becomes a scale and a shift per layer, and where in a layer they act.

    ``init(key, width of the condition, widths of the layers) -> params``;
    ``apply(params, condition [R, W]) -> Films``;
    ``activate(sums of a layer [F, B], scale, shift) -> activations``.
    """

    init: Callable[[Array, int, tuple[int, ...]], PyTree]
    apply: Callable[[PyTree, Array], Films]
    activate: Callable[[Array, Array, Array], Array]


def per_channel(
    hidden: int = 64,
    gain: float = 0.1,
    floor: float = 1e-2,
) -> Form:
    """The original form: ``relu((1 + gain f(log c)) z + gain g(log c))``.

    It has a scale and a shift for every channel. ``f`` and ``g`` are networks of one hidden ReLU
    layer, two for each layer of the trunk.

    Args:
      hidden: width of their hidden layers.
      gain: strength of the modulation; at 0 the network ignores the condition. With the original's
        0.1 the network learns slowly to distinguish conditions: in a short training 1 did better
        (experiments/yoto.py).
      floor: smaller entries of a condition count as the floor, because 0 has no logarithm.

    Source: Dosovitskiy and Djolonga, You Only Train Once: Loss-conditional training of deep
    networks, ICLR 2020; 256 hidden units there, and no floor, since weights are drawn from an
    interval above 0.
    """

    def init(
        key: Array,
        condition: int,
        widths: tuple[int, ...],
    ) -> PyTree:
        keys = jax.random.split(key, (len(widths), 2))
        params = {}
        for i, width in enumerate(widths):
            params[f"layer_{i}"] = {
                "scale": _init_mlp(keys[i, 0], condition, hidden, width),
                "shift": _init_mlp(keys[i, 1], condition, hidden, width),
            }
        return params

    def apply(params: PyTree, condition: Array) -> Films:
        logarithm = jnp.log(jnp.maximum(condition, floor))
        films = []
        for i in range(len(params)):
            layer = params[f"layer_{i}"]
            scale = 1.0 + gain * _apply_mlp(layer["scale"], logarithm)
            shift = gain * _apply_mlp(layer["shift"], logarithm)
            films.append((scale, shift))
        return films

    return Form(init, apply, lambda z, scale, shift: nn.relu(scale * z + shift))


def scalar(hidden: int = 10) -> Form:
    """The form of the fair multi-task paper's code: ``f_l(c) relu(z) + g_l(c)``.

    It has one scale and one shift per layer l. ``f`` and ``g`` take the condition itself through
    one hidden ReLU layer each, with one output per layer. Nothing centres the scale at 1.

    Args:
      hidden: width of their hidden layers.

    Source: Hu, Ratz and Charpentier, Fairness in multi-task learning via Wasserstein barycenters,
    ECML-PKDD 2023, their code; there with dropout before, and with PyTorch's initialisation, not
    Glorot's.
    """

    def init(
        key: Array,
        condition: int,
        widths: tuple[int, ...],
    ) -> PyTree:
        scale_key, shift_key = jax.random.split(key)
        return {
            "scale": _init_mlp(scale_key, condition, hidden, len(widths)),
            "shift": _init_mlp(shift_key, condition, hidden, len(widths)),
        }

    def apply(params: PyTree, condition: Array) -> Films:
        scales = _apply_mlp(params["scale"], condition)[:, None]
        shifts = _apply_mlp(params["shift"], condition)[:, None]
        return list(zip(scales, shifts, strict=True))

    return Form(init, apply, lambda z, scale, shift: scale * nn.relu(z) + shift)


def _init_mlp(
    key: Array,
    inputs: int,
    hidden: int,
    outputs: int,
) -> PyTree:
    hidden_key, output_key = jax.random.split(key)
    return {
        "hidden": _INIT(hidden_key, (inputs, hidden)),
        "hidden_bias": jnp.zeros(hidden),
        "output": _INIT(output_key, (hidden, outputs)),
        "output_bias": jnp.zeros(outputs),
    }


def _apply_mlp(params: PyTree, x: Array) -> Array:
    """``[R, inputs] -> [outputs, R]``."""
    hidden_bias = params["hidden_bias"][:, None]
    output_bias = params["output_bias"][:, None]
    z = nn.relu(params["hidden"].T @ x.T + hidden_bias)
    return params["output"].T @ z + output_bias


def _spread(film: Array, rows: int) -> Array:
    """Repeat the columns, ``[F, R] -> [F, B]``; a single column stays as it is."""
    count = film.shape[1]
    if rows % count:
        raise ValueError(
            f"{count} conditions for {rows} rows; give one, one per row, or a number that divides "
            "the rows"
        )
    if count == 1:
        return film
    return jnp.tile(film, (1, rows // count))


def _films(
    form: Form,
    params: PyTree,
    condition: Array | None,
    width: int,
    layers: int,
) -> Films:
    if condition is None:
        raise ValueError(
            "a conditioned model needs a condition: represent(trunk, x, condition), or "
            "with_default_condition(model, ...)"
        )
    condition = jnp.asarray(condition, jnp.float32)
    if condition.ndim not in (1, 2) or condition.shape[-1] != width:
        raise ValueError(
            f"expected a condition [{width}] or [R, {width}], got shape {condition.shape}"
        )
    films = form.apply(params, jnp.atleast_2d(condition))
    if len(films) != layers:
        raise ValueError(f"the form modulates {len(films)} layers of {layers}")
    return films


def conditioned_network(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    condition: int,
    form: Form | None = None,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
    kernel_init: Initializer | None = None,
    embedding_init: Initializer | None = None,
) -> Model:
    """A :func:`fairjax.models.shared_bottom` network; a condition modulates every shared layer.

    Args:
      spec: names the columns and tasks.
      trunk: widths of the shared layers, at least one.
      head: widths of each task's layers; the condition reaches them through the trunk.
      embedding: dimension of every categorical embedding.
      condition: width W of a condition.
      form: default :func:`per_channel`; :func:`scalar` is the fair multi-task paper's.
      dropout: as in ``shared_bottom``, after the modulation.
      number_encoding: as in ``shared_bottom``.
      kernel_init: as in ``shared_bottom``. Body and heads are initialised as there: the same key
        gives the same numbers.
      embedding_init: as in ``shared_bottom``.

    Returns:
      A :class:`Model` whose ``represent(trunk, x, condition)`` takes a condition as in this file's
      docstring.

    Raises:
      ValueError: if the trunk has no layer; when called, without a condition or with one of another
        shape.
      DataError: for a dropout outside [0, 1), or an unknown encoding.
    """
    has_masks = drops_out(dropout)
    form = form or per_channel()
    kernel_init = kernel_init or glorot_uniform()
    init_trunk, body = trunk_of(
        spec, trunk, embedding, True, kernel_init, embedding_init, number_encoding
    )
    init_heads, predict = heads_of(spec, trunk[-1], tuple(head), kernel_init)
    width = condition

    def init(key: Array) -> PyTree:
        trunk_key, head_key = jax.random.split(key)
        film = form.init(jax.random.fold_in(key, 1), width, tuple(trunk))
        return {
            "trunk": {"body": init_trunk(trunk_key), "film": film},
            "heads": init_heads(head_key),
        }

    def represent(
        params: PyTree,
        x: PyTree,
        condition: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        films = _films(form, params["film"], condition, width, len(trunk))

        def activate(layer: int, z: Array) -> Array:
            scale, shift = films[layer]
            rows = z.shape[1]
            row_scale = _spread(scale, rows)
            row_shift = _spread(shift, rows)
            return form.activate(z, row_scale, row_shift)

        return body(params["body"], x, dropping(activate, dropout, key)).T

    return Model(init, represent, predict, dropout=has_masks)


def modulated(
    model: Model,
    features: int,
    *,
    condition: int,
    form: Form | None = None,
) -> Model:
    """Modulate the representation of any model: ``scale * represent(trunk, x) + shift``.

    Args:
      model: its ``represent`` gives ``[B, F]``.
      features: F.
      condition: width W of a condition.
      form: default :func:`per_channel`.

    Returns:
      A :class:`Model` as of :func:`conditioned_network`, of one layer.
    """
    form = form or per_channel()
    width = condition

    def init(key: Array) -> PyTree:
        params = model.init(key)
        film = form.init(jax.random.fold_in(key, 1), width, (features,))
        return {**params, "trunk": {"body": params["trunk"], "film": film}}

    def represent(
        params: PyTree,
        x: PyTree,
        condition: Array | None = None,
        **key: Array,
    ) -> Array:
        z = model.represent(params["body"], x, **key)
        ((scale, shift),) = _films(form, params["film"], condition, width, 1)
        rows = z.shape[0]
        row_scale = _spread(scale, rows).T
        row_shift = _spread(shift, rows).T
        return row_scale * z + row_shift

    return Model(init, represent, model.predict, dropout=model.dropout)


def with_default_condition(model: Model, condition: Array) -> Model:
    """Give a conditioned model a default condition, so that it can be called without one.

    Args:
      model: takes a condition.
      condition: ``[W]``; it holds if ``represent`` gets none.
    """
    default = condition

    def represent(
        params: PyTree,
        x: PyTree,
        condition: Array | None = None,
        **key: Array,
    ) -> PyTree:
        if condition is None:
            condition = default
        return model.represent(params, x, condition, **key)

    return model._replace(represent=represent)
