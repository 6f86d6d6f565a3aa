"""The names of ``__init__.py`` for type checkers, which cannot follow names that load when used."""

from fairjax import cli as cli
from fairjax import core as core
from fairjax import data as data
from fairjax import gradients as gradients
from fairjax import losses as losses
from fairjax import methods as methods
from fairjax import metrics as metrics
from fairjax import models as models
from fairjax import notions as notions
from fairjax import objectives as objectives
from fairjax import postprocess as postprocess
from fairjax import pretrained as pretrained
from fairjax import report as report
from fairjax import study as study
from fairjax import training as training
from fairjax.core.types import Components as Components
from fairjax.core.types import DataError as DataError
from fairjax.core.types import Dataset as Dataset
from fairjax.core.types import Model as Model
from fairjax.core.types import Objective as Objective
from fairjax.core.types import Range as Range
from fairjax.core.types import Recipe as Recipe
from fairjax.core.types import Spec as Spec
from fairjax.data import Roles as Roles
from fairjax.data import from_images as from_images
from fairjax.data import from_sentences as from_sentences
from fairjax.data import from_table as from_table
from fairjax.data import load as load
from fairjax.gradients import link_states as link_states
from fairjax.gradients import pcgrad as pcgrad
from fairjax.gradients import route as route
from fairjax.gradients import sum_rows as sum_rows
from fairjax.gradients import validated as validated
from fairjax.gradients import value_and_rows as value_and_rows
from fairjax.methods import Context as Context
from fairjax.methods import baseline as baseline
from fairjax.methods import mta_f as mta_f
from fairjax.methods import vanilla as vanilla
from fairjax.models import from_equinox as from_equinox
from fairjax.models import from_linen as from_linen
from fairjax.models import from_nnx as from_nnx
from fairjax.models import shared_bottom as shared_bottom
from fairjax.notions import from_distance as from_distance
from fairjax.notions import negatives as negatives
from fairjax.notions import positives as positives
from fairjax.notions import rate_gap as rate_gap
from fairjax.postprocess import Repair as Repair
from fairjax.study import StudyConfig as StudyConfig
from fairjax.study import constrain as constrain
from fairjax.study import load_model as load_model
from fairjax.study import run_study as run_study
from fairjax.training import TrainConfig as TrainConfig
from fairjax.training import make_train as make_train

__version__: str
ROOMS: tuple[str, ...]
