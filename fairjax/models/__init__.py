"""Networks behind the :class:`fairjax.core.types.Model` triple: our own, and any other."""

from fairjax.models.adapters import from_equinox, from_linen, from_nnx
from fairjax.models.film import (
    Form,
    conditioned_network,
    modulated,
    per_channel,
    scalar,
    with_default_condition,
)
from fairjax.models.registry import REGISTRY, network
from fairjax.models.tabular import scores, shared_bottom
from fairjax.models.text import text_encoder
from fairjax.models.vision import image_encoder

__all__ = [
    "REGISTRY",
    "Form",
    "conditioned_network",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "image_encoder",
    "modulated",
    "network",
    "per_channel",
    "scalar",
    "scores",
    "shared_bottom",
    "text_encoder",
    "with_default_condition",
]
