"""Data at the door: tables, frames, arrays and named data sets become a Dataset and a Spec. numpy only."""

from __future__ import annotations

from fairjax.core.types import DataError
from fairjax.data._join import join
from fairjax.data.encoder import Encoder
from fairjax.data.named import NAMED, load, reload
from fairjax.data.partial import Part, mask_supervision
from fairjax.data.roles import Roles
from fairjax.data.sentences import from_sentences, token_column
from fairjax.data.sets.synthetic import Population, synthetic
from fairjax.data.table import Prepared, from_table

__all__ = [
    "NAMED",
    "DataError",
    "Encoder",
    "Part",
    "Population",
    "Prepared",
    "Roles",
    "mask_supervision",
    "from_sentences",
    "from_table",
    "join",
    "load",
    "reload",
    "synthetic",
    "token_column",
]
