"""Networks behind the :class:`fairjax.core.types.Model` triple: ours from flax modules, and anybody's."""

from fairjax.models.adapters import from_equinox, from_linen, from_nnx
from fairjax.models.film import (
    Form,
    conditioned,
    modulated,
    per_channel,
    scalar,
    with_default_condition,
)
from fairjax.models.tabular import scores, shared_bottom
from fairjax.models.text import network, text_encoder

__all__ = [
    "Form",
    "with_default_condition",
    "conditioned",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "modulated",
    "network",
    "per_channel",
    "scalar",
    "scores",
    "shared_bottom",
    "text_encoder",
]
