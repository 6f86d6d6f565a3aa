"""All networks by name. To add one, write its file and add one line to ``REGISTRY``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairjax.core.types import Array, DataError, Model, Spec
from fairjax.models._cross_stitch import cross_stitch
from fairjax.models._ensemble import ensemble
from fairjax.models._mmoe import mmoe
from fairjax.models._ple import ple
from fairjax.models._residual import residual
from fairjax.models.tabular import shared_bottom
from fairjax.models.text import text_encoder
from fairjax.models.vision import image_encoder

_STAGES = 3  # of the default network for images


def network(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """The default network of a spec.

    It is :func:`text_encoder` for texts, :func:`image_encoder` for images, else
    :func:`shared_bottom`.

    Args:
      spec: names the columns and tasks.
      trunk: widths of the shared layers. For texts: one convolution per entry, all of one width.
        For images: one stage per entry; a single entry w stands for the stages w, 2 w, 4 w.
      head: widths of each task's layers.
      embedding: dimension of the embeddings; images have none.
      dropout: share of units that a step of training leaves out: of every shared layer, for texts
        and images of the representation.
      number_encoding: of the numbers of a table, a key of :data:`fairjax.models.NUMBER_ENCODINGS`.

    Raises:
      DataError: for an encoding of texts or images; for texts, if the widths of the trunk differ;
        for a dropout outside [0, 1).
    """
    if number_encoding != "plain" and not spec.is_table:
        raise DataError(
            f"number encoding {number_encoding!r} is for numbers of a table. Leave it out for "
            "texts and images."
        )
    if spec.image_shape:
        first, *others = trunk
        widths = trunk if others else tuple(first * 2**i for i in range(_STAGES))
        return image_encoder(spec, widths=widths, head=head, dropout=dropout)
    if spec.is_table:
        return shared_bottom(
            spec, trunk, head, embedding, dropout=dropout, number_encoding=number_encoding
        )
    if len(set(trunk)) != 1:
        raise DataError(
            f"trunk {trunk}: the convolutions of a text have one width. Repeat it, as in (64, 64), "
            "or give one."
        )
    return text_encoder(
        spec,
        embedding=embedding,
        width=trunk[0],
        layers=len(trunk),
        head=head,
        dropout=dropout,
    )


REGISTRY: dict[str, Callable[..., Model]] = {  # (spec, **options) -> Model
    "cross_stitch": cross_stitch,
    "ensemble": ensemble,
    "image_encoder": image_encoder,
    "mmoe": mmoe,
    "network": network,
    "ple": ple,
    "residual": residual,
    "shared_bottom": shared_bottom,
    "text_encoder": text_encoder,
}

# what a network reads; one without an entry reads anything
_FEATURES = {
    "cross_stitch": "tables",
    "ensemble": "tables",
    "image_encoder": "images",
    "mmoe": "tables",
    "ple": "tables",
    "residual": "tables",
    "shared_bottom": "tables",
    "text_encoder": "texts",
}


def build(name: str, spec: Spec, **options: Any) -> Model:
    """The network of a name.

    Args:
      name: a key of ``REGISTRY``.
      spec: names the columns and tasks.
      options: of the network.

    Raises:
      DataError: the network is for other features than those of the spec, or refuses its options.
    """
    features = "images" if spec.image_shape else "tables" if spec.is_table else "texts"
    own = _FEATURES.get(name, features)
    if own != features:
        raise DataError(
            f"model {name!r} is for {own}, but the features are {features}. Take --model network, "
            "which fits any features, or leave --model out."
        )
    return REGISTRY[name](spec, **options)
