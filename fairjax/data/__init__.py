"""Data at the door: tables, frames, arrays and named data sets become a Dataset and a Spec. numpy only."""

from __future__ import annotations

from fairjax.data.encoder import Encoder
from fairjax.data.join import join
from fairjax.data.named import NAMED, load, reload
from fairjax.data.partial import Part, dealt
from fairjax.data.roles import Roles
from fairjax.data.sentences import from_sentences, token_column
from fairjax.data.synthetic import Population, synthetic
from fairjax.data.table import Prepared, from_table
from fairjax.types import DataError

__all__ = [
    "NAMED",
    "DataError",
    "Encoder",
    "Part",
    "Population",
    "Prepared",
    "Roles",
    "dealt",
    "from_sentences",
    "from_table",
    "join",
    "load",
    "reload",
    "synthetic",
    "token_column",
]
