"""A shared-bottom network for tables: ``Columns`` in, one head per task out.

Numeric columns and one embedding per categorical column are concatenated. They go through a shared
trunk of ReLU layers, then per task through a head of ReLU layers and a linear output.

The embedding lookup is *folded* into the first layer: with a one-hot row ``e``,
``(e @ table) @ kernel`` is ``e @ (table @ kernel)``, the same function and the same gradients. The
one-hot design does not depend on the parameters. So under ``vmap`` over members it is made once,
and the first layer of all members becomes one product. It grows with the levels: columns of more
than :data:`WIDEST` are looked up.

Activations are feature-major inside, ``[features, B]``. The gradient of a kernel is then a product
of two arrays that are contiguous along the rows of their sum, two to three times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import Initializer, glorot_uniform, truncated_normal, zeros_init
from jax.typing import DTypeLike

from fairjax.core.types import Array, Columns, Model, PyTree, Spec
from fairjax.models._blocks import in_blocks
from fairjax.models.dropout import dropping, drops_out, represent
from fairjax.models.number_encodings import encoding_of

ROWS = 4096  # that are scored together, so that their activations stay in a CPU's cache
WIDEST = 128  # levels of a column that is one-hot; the rows look up those of a wider one


class Dense(nn.Module):
    """``kernel.T @ x + bias`` on feature-major rows: ``[inputs, B] -> [width, B]``."""

    width: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[0], self.width)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", zeros_init(), (self.width,))
        return kernel.T @ x + bias[:, None]


def rectify(layer: int, z: Array) -> Array:
    """The default activation of a layer: ReLU, the same for every layer."""
    del layer
    return nn.relu(z)


class Trunk(nn.Module):
    """Embeddings and shared layers: ``Columns`` of B rows -> ``[widths[-1], B]``.

    ``activate(i, z)`` turns the sums ``z [widths[i], B]`` of layer i into activations.
    """

    levels: tuple[int, ...]
    widths: tuple[int, ...]
    embedding: int
    fold: bool
    kernel_init: Initializer
    embedding_init: Initializer
    encoding: nn.Module

    @nn.compact
    def __call__(self, x: Columns, activate: Callable[[int, Array], Array] = rectify) -> Array:
        x = x._replace(numeric=self.encoding(x.numeric))
        # one table for the levels of all columns: one draw to compile, one leaf to update
        table_shape = (sum(self.levels), self.embedding)
        table = self.param("embedding", self.embedding_init, table_shape)
        tables = []
        if self.levels:
            last_rows = np.cumsum(self.levels)
            tables = jnp.split(table, last_rows[:-1])
        first_width = self.widths[0]
        inputs = x.numeric.shape[-1] + len(self.levels) * self.embedding
        kernel = self.param("kernel", self.kernel_init, (inputs, first_width))
        bias = self.param("bias", zeros_init(), (first_width,))
        product = _first_product(x, tables, kernel, WIDEST if self.fold else 0)
        z = activate(0, product + bias[:, None])
        for i, width in enumerate(self.widths[1:], start=1):
            layer = Dense(width, self.kernel_init, name=f"dense_{i}")
            z = activate(i, layer(z))
        return z


def _first_product(x: Columns, tables: list[Array], kernel: Array, widest: int) -> Array:
    """The product of the first layer, of the numbers and of the columns' embeddings.

    Tables of at most ``widest`` levels are folded into the kernel; of others the rows look up their
    embeddings.
    """
    widths = [x.numeric.shape[-1], *(table.shape[1] for table in tables)]
    # a split: its gradient is one concatenation, where slices add up padded arrays
    of_numbers, *of_tables = jnp.split(kernel, np.cumsum(widths)[:-1])
    levels = tuple(len(table) for table in tables)
    narrow, wide = narrow_and_wide(levels, widest)
    folded_kernel = jnp.concatenate([of_numbers, *(tables[j] @ of_tables[j] for j in narrow)])
    product = folded_kernel.T @ design(x, levels, kernel.dtype, narrow)
    if not wide:
        return product
    found = jnp.concatenate([look_up(tables[j], x.codes[:, j]) for j in wide], axis=1)
    return product + jnp.concatenate([of_tables[j] for j in wide]).T @ found.T


def narrow_and_wide(levels: tuple[int, ...], widest: int = WIDEST) -> tuple[list[int], list[int]]:
    """The columns of at most ``widest`` levels, and the others."""
    narrow = [j for j, count in enumerate(levels) if count <= widest]
    wide = [j for j, count in enumerate(levels) if count > widest]
    return narrow, wide


def design(
    x: Columns,
    levels: tuple[int, ...],
    dtype: DTypeLike,
    columns: Sequence[int],
) -> Array:
    """Numbers and, of these columns, a row per level, feature-major: ``[P + sum of levels, B]``.

    A level that was not seen in training (-1) is all zeros.
    """
    blocks = [x.numeric.astype(dtype).T]
    for j in columns:
        blocks.append(jax.nn.one_hot(x.codes[:, j], levels[j], dtype=dtype, axis=0))
    return jnp.concatenate(blocks)


def look_up(table: Array, code: Array) -> Array:
    """Rows ``[B, E]`` of a table, zeros for a level that was not seen in training (-1)."""
    return jnp.where(code[:, None] >= 0, table[code], 0.0)


class Head(nn.Module):
    """The layers of one task: ``[D, B] -> [outputs, B]``."""

    widths: tuple[int, ...]
    outputs: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, z: Array) -> Array:
        for i, width in enumerate(self.widths):
            layer = Dense(width, self.kernel_init, name=f"dense_{i}")
            z = nn.relu(layer(z))
        output = Dense(self.outputs, self.kernel_init, name="output")
        return output(z)


def heads_of(
    spec: Spec,
    features: int,
    widths: tuple[int, ...],
    kernel_init: Initializer,
) -> tuple[Callable[[Array], PyTree], Callable[[PyTree, Array], Array]]:
    """Build one head per task.

    Returns:
      ``init(key)``, which gives one subtree per task, and ``predict(params, z)``, which gives
      scores ``[B, C]`` from ``z [B, D]``, or from a tuple with one such array per task.
    """
    heads = {task.name: Head(widths, task.score_width, kernel_init) for task in spec.tasks}

    def init(key: Array) -> PyTree:
        params = {}
        example = jnp.zeros((features, 1))
        # heads of one shape are drawn together, which halves the work to compile
        score_widths = {task.score_width for task in spec.tasks}
        for width in sorted(score_widths):
            names = [task.name for task in spec.tasks if task.score_width == width]
            width_key = jax.random.fold_in(key, width)
            keys = jax.random.split(width_key, len(names))
            head = heads[names[0]]
            stacked = jax.vmap(lambda k, head=head: head.init(k, example)["params"])(keys)
            for i, name in enumerate(names):
                params[name] = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
        return params

    def predict(params: PyTree, z: Array) -> Array:
        # one transpose, so that the heads' gradients meet in this layout
        inputs = [own.T for own in z] if isinstance(z, tuple) else [z.T] * len(heads)
        rows_of_tasks = []
        for own, (name, head) in zip(inputs, heads.items(), strict=True):
            variables = {"params": params[name]}
            rows_of_tasks.append(head.apply(variables, own))
        return jnp.concatenate(rows_of_tasks).T

    return init, predict


def trunk_of(
    spec: Spec,
    widths: tuple[int, ...],
    embedding: int,
    fold: bool,
    kernel_init: Initializer,
    embedding_init: Initializer | None = None,
    number_encoding: str = "plain",
) -> tuple[Callable[[Array], PyTree], Callable[..., Array]]:
    """Build the shared layers.

    Returns:
      ``init(key)``, which gives parameters, and ``apply(params, x, activate=rectify)``, which gives
      features ``[D, B]``.
    """
    if not widths:
        raise ValueError("the trunk needs at least one layer, got trunk=()")
    embedding_init = embedding_init or truncated_normal(stddev=embedding**-0.5)
    levels = tuple(count for _, count in spec.categorical)
    encode = encoding_of(spec, number_encoding)
    body = Trunk(levels, tuple(widths), embedding, fold, kernel_init, embedding_init, encode)
    numeric = np.zeros((1, len(spec.numeric)), np.float32)
    codes = np.zeros((1, len(levels)), np.int32)
    example = Columns(numeric, codes)  # pyright: ignore[reportArgumentType] - numpy does too

    def init(key: Array) -> PyTree:
        variables = body.init(key, example)
        return variables["params"]

    def apply(
        params: PyTree,
        x: Columns,
        activate: Callable[[int, Array], Array] = rectify,
    ) -> Array:
        variables = {"params": params}
        return cast(Array, body.apply(variables, x, activate))

    return init, apply


def shared_bottom(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
    fold: bool = True,
    kernel_init: Initializer | None = None,
    embedding_init: Initializer | None = None,
) -> Model:
    """The shared-bottom multi-task network of Caruana (1997) for tables.

    Args:
      spec: names the columns and tasks; fixes input and output widths.
      trunk: widths of the shared ReLU layers, at least one.
      head: widths of each task's ReLU layers; may be empty.
      embedding: dimension of every categorical embedding.
      dropout: share of the units of every shared layer that a step of training leaves out; may be
        traced.
      number_encoding: of the numbers, a key of :data:`fairjax.models.NUMBER_ENCODINGS`.
      fold: True folds the embeddings of columns of up to 128 levels into the first layer (the same
        function, faster); False looks all of them up.
      kernel_init: initialiser of all kernels. Default: Glorot uniform, as in the MTA-F code.
      embedding_init: initialiser of the embeddings. Default: normal, truncated at two deviations,
        scaled by ``1/sqrt(embedding)``, as in the MTA-F code.

    Returns:
      A :class:`Model`; ``represent`` takes :class:`Columns`, ``predict`` gives scores ``[B, C]``
      (logits for classification). ``params["heads"]`` has one subtree per task name.

    Raises:
      ValueError: if the trunk has no layer.
      DataError: for a dropout outside [0, 1), or an unknown encoding.
    """
    has_masks = drops_out(dropout)
    kernel_init = kernel_init or glorot_uniform()
    init_trunk, body = trunk_of(
        spec, trunk, embedding, fold, kernel_init, embedding_init, number_encoding
    )
    init_heads, predict = heads_of(spec, trunk[-1], tuple(head), kernel_init)

    def init(key: Array) -> PyTree:
        trunk_key, head_key = jax.random.split(key)
        return {
            "trunk": init_trunk(trunk_key),
            "heads": init_heads(head_key),
        }

    def represent(
        params: PyTree,
        x: Columns,
        condition: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        if condition is not None:
            raise ValueError("shared_bottom takes no condition; use a conditioned model")
        return body(params, x, dropping(rectify, dropout, key)).T

    deeper = tuple((f"dense_{i}",) for i in range(1, len(trunk)))
    learned = ("encoding",) if number_encoding == "periodic" else ()
    layers = ((*learned, "embedding", "kernel", "bias"), *deeper)
    return Model(init, represent, predict, layers, own_inputs=True, dropout=has_masks)


def scores(
    model: Model,
    params: PyTree,
    x: PyTree,
    key: Array | None = None,
) -> Array:
    """Scores ``[N, C]`` of a model: ``predict(heads, represent(trunk, x))``.

    With a key they are those of a step of training, see :func:`fairjax.models.represent`. Without
    one, :data:`ROWS` rows at a time go through the network.
    """

    def of_rows(x: PyTree) -> Array:
        z = represent(model, params["trunk"], x, key=key)
        return model.predict(params["heads"], z)

    return of_rows(x) if key is not None else in_blocks(of_rows, x, ROWS)
