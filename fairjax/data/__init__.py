"""Data: tables, frames, arrays and data sets by name become a Dataset and a Spec. On the host."""

from __future__ import annotations

from fairjax.core.types import DataError
from fairjax.data._join import join
from fairjax.data.encoder import Encoder
from fairjax.data.entry import Entry
from fairjax.data.images import from_images
from fairjax.data.loading import load, reload
from fairjax.data.masking import Part, mask_supervision
from fairjax.data.prepared import Prepared
from fairjax.data.registry import REGISTRY
from fairjax.data.roles import Roles
from fairjax.data.sentences import from_sentences, token_column
from fairjax.data.sets.synthetic import Population, synthetic
from fairjax.data.table import from_table

__all__ = [
    "REGISTRY",
    "DataError",
    "Encoder",
    "Entry",
    "Part",
    "Population",
    "Prepared",
    "Roles",
    "from_images",
    "from_sentences",
    "from_table",
    "join",
    "load",
    "mask_supervision",
    "reload",
    "synthetic",
    "token_column",
]
