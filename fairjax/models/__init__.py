"""Networks behind the :class:`fairjax.core.types.Model` triple: our own, and any other."""

from fairjax.core.layers import Layers, by_layer, tie
from fairjax.models._branched import (
    branch_text,
    branched,
    compact,
    compact_shapes,
    equal_copies,
    expanded,
    parameter_count,
    shared_labels,
    trunk_layers,
)
from fairjax.models._cross_stitch import cross_stitch
from fairjax.models._ensemble import ensemble
from fairjax.models._fine_tuned import fine_tuned
from fairjax.models._mmoe import mmoe
from fairjax.models._ple import ple
from fairjax.models._residual import residual
from fairjax.models.adapters import from_equinox, from_linen, from_nnx
from fairjax.models.dropout import check_dropout, dropped, represent
from fairjax.models.film import (
    Form,
    conditioned_network,
    modulated,
    per_channel,
    scalar,
    with_default_condition,
)
from fairjax.models.number_encodings import NUMBER_ENCODINGS
from fairjax.models.registry import REGISTRY, build, network
from fairjax.models.tabular import scores, shared_bottom
from fairjax.models.text import text_encoder
from fairjax.models.vision import image_encoder

__all__ = [
    "NUMBER_ENCODINGS",
    "Form",
    "Layers",
    "REGISTRY",
    "branch_text",
    "branched",
    "build",
    "by_layer",
    "check_dropout",
    "compact",
    "compact_shapes",
    "conditioned_network",
    "cross_stitch",
    "dropped",
    "ensemble",
    "equal_copies",
    "expanded",
    "fine_tuned",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "image_encoder",
    "mmoe",
    "modulated",
    "network",
    "parameter_count",
    "per_channel",
    "ple",
    "represent",
    "residual",
    "scalar",
    "scores",
    "shared_bottom",
    "shared_labels",
    "text_encoder",
    "tie",
    "trunk_layers",
    "with_default_condition",
]
