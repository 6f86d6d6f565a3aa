"""Synthetic tables with known Bayes scores and gaps.

Relatedness of tasks, group bias and group sizes are planted. The score of task t is ``s_t = w_t . z
+ e_k`` with unit directions ``w_t . w_u = relatedness`` and the effect ``e_k`` of level k of the
column ``grade``. The label is ``y_t = 1`` where ``s_t + noise * eps > cut``. In each group the
latent ``z`` is normal with unit variance; in group B it is shifted so that ``E[s_t]`` is lower by
``bias_t``. The columns are a rotation of ``z``, ``grade``, two columns that tell the group but not
the label, and two columns of noise. The group itself is no feature.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from fairjax.data.entry import Entry
from fairjax.data.prepared import Prepared
from fairjax.data.read import as_table
from fairjax.data.roles import Roles
from fairjax.data.table import prepare

GRADES = {"low": -0.5, "middle": 0.0, "high": 0.5}
REGIONS = ("north", "south", "east", "west")
_GRADE_NAMES = np.array(list(GRADES), dtype=object)
_GRADE_EFFECTS = np.array(list(GRADES.values()))
_NOISE_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Population:
    """The distribution of the rows. Group 0 is ``A``, group 1 is ``B``."""

    tasks: int = 2
    # correlation of two tasks' scores within a group, in [0, 1)
    relatedness: float = 0.5
    # how much lower B's mean score is, per task; repeated if there are more tasks
    bias: tuple[float, ...] = (1.0, 0.6)
    # share of group B
    group_fraction: float = 0.35
    # noise of the label; more noise makes every score less certain
    noise: float = 0.6
    # a noisy score above it has label 1
    cut: float = 0.0
    # how well the region and one numeric column tell the group
    proxy: float = 1.5
    # share of unknown labels, per task
    label_missing: float = 0.0
    # share of rows of unknown group
    group_missing: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.bias, (int, float)):
            bias = (self.bias,)
        else:
            bias = tuple(self.bias)
        object.__setattr__(self, "bias", bias)
        for name in ("relatedness", "label_missing", "group_missing"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"synthetic: {name} is {value}, expected from 0 to below 1")
        if self.tasks < 1:
            raise ValueError(f"synthetic: tasks is {self.tasks}, expected at least 1")
        if self.noise <= 0:
            raise ValueError(f"synthetic: noise is {self.noise}, expected above 0")
        if not 0 < self.group_fraction < 1:
            fraction = self.group_fraction
            raise ValueError(f"synthetic: group_fraction is {fraction}, expected inside (0, 1)")
        if not self.bias:
            raise ValueError("synthetic: bias is empty, expected a number per task")

    @property
    def directions(self) -> np.ndarray:
        """``[T, T + 1]`` unit rows with pairwise inner product ``relatedness``."""
        common_part = math.sqrt(self.relatedness)
        own_part = math.sqrt(1 - self.relatedness)
        common_axis = np.full((self.tasks, 1), common_part)
        own_axes = own_part * np.eye(self.tasks)
        return np.concatenate([common_axis, own_axes], axis=1)

    @property
    def shift(self) -> np.ndarray:
        """``[T + 1]`` the smallest shift of B's latent that lowers every mean score by its bias."""
        bias = np.asarray(self.bias, float)
        bias_of_task = np.resize(bias, self.tasks)
        latent_of_score = np.linalg.pinv(self.directions)
        return -latent_of_score @ bias_of_task

    @property
    def rotation(self) -> np.ndarray:
        """``[T + 1, T + 1]`` orthogonal, the same for every draw; columns are ``z @ rotation``."""
        size = self.tasks + 1
        rng = np.random.RandomState(7)
        matrix = rng.standard_normal((size, size))
        orthogonal, _ = np.linalg.qr(matrix)
        return orthogonal

    def draw(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        """``n`` rows as columns.

        They are ``x0..``, ``proxy``, ``noise0..``, ``grade``, ``region``, ``group``, ``task0..``.
        """
        # The order of the calls of rng fixes the rows of a seed.
        rng = np.random.RandomState(seed)
        in_b = rng.random_sample(n) < self.group_fraction
        group = in_b.astype(int)
        centred = rng.standard_normal((n, self.tasks + 1))
        latent = centred + group[:, None] * self.shift
        grade = rng.randint(len(GRADES), size=n)
        effect = _GRADE_EFFECTS[grade]
        score = latent @ self.directions.T + effect[:, None]
        score_noise = rng.standard_normal(score.shape)
        noisy_score = score + self.noise * score_noise
        label = (noisy_score > self.cut).astype(float)
        is_missing = rng.random_sample(label.shape) < self.label_missing
        label[is_missing] = np.nan
        proxy_noise = rng.standard_normal(n)
        proxy = self.proxy * group + proxy_noise
        noise = rng.standard_normal((n, _NOISE_COLUMNS))
        region = self._region(rng, in_b)
        group_known = rng.random_sample(n) >= self.group_missing

        group_name = np.where(in_b, "B", "A")
        columns = _numbered("x", latent @ self.rotation)
        columns["proxy"] = proxy
        columns |= _numbered("noise", noise)
        columns["grade"] = _GRADE_NAMES[grade]
        columns["region"] = region
        columns["group"] = np.where(group_known, group_name, "").astype(object)
        return columns | _numbered("task", label)

    def _region(self, rng: np.random.RandomState, in_b: np.ndarray) -> np.ndarray:
        """A region per row. Log-odds change by ``proxy / 2`` from one region to the next.

        They rise in group B and fall in group A.
        """
        steps = np.arange(len(REGIONS)) - 1.5
        tilt = 0.5 * self.proxy * steps
        log_odds = np.where(in_b[:, None], tilt, -tilt)
        odds = np.exp(log_odds)
        total_odds = odds.sum(axis=1, keepdims=True)
        cumulative = np.cumsum(odds / total_odds, axis=1)
        level = rng.random_sample(len(in_b))
        is_below = cumulative < level[:, None]
        index = is_below.sum(axis=1)
        # rounding may leave the last cumulative probability below 1
        index = np.minimum(index, len(REGIONS) - 1)
        names = np.array(REGIONS, dtype=object)
        return names[index]

    def bayes_scores(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """``P(y_t = 1 | features) = Phi((s_t - cut) / noise)``, the best possible score.

        Args:
            columns: raw columns of :meth:`draw`, N rows.

        Returns:
            ``[N, T]`` probabilities. Given the features, they do not depend on the group.
        """
        from scipy.special import ndtr  # here, because this import takes most of a second

        names = [f"x{i}" for i in range(self.tasks + 1)]
        observed = np.stack([columns[name] for name in names], axis=1)
        latent = observed @ self.rotation.T
        effect = np.array([GRADES[grade] for grade in columns["grade"]])
        score = latent @ self.directions.T + effect[:, None]
        margin = score - self.cut
        return ndtr(margin / self.noise)

    def bayes_rates(self) -> dict[str, np.ndarray]:
        """Rates of the Bayes decision ``bayes_scores > 0.5`` in each group, in closed form.

        Let ``h = cut - e_k - E[s_t | a]`` and ``r = sqrt(1 + noise^2)``. The probability of a
        positive decision is ``Phi(-h)``, of a positive label ``Phi(-h / r)``, and of both
        ``Phi(-h) / 2 + Phi(-h / r) / 2 - T(h / r, noise)`` with Owen's T. The rates average over
        the levels k (Owen, Annals of Mathematical Statistics 27, 1956).

        Returns:
            ``base``, ``selection``, ``tpr``, ``fpr``, each ``[2, T]``, and ``error`` ``[T]`` over
            both groups.
        """
        from scipy.special import ndtr, owens_t  # here, because this import takes most of a second

        mean_a_t = np.zeros(self.tasks)
        mean_b_t = self.directions @ self.shift
        mean_gt = np.stack([mean_a_t, mean_b_t])
        effect_kgt = _GRADE_EFFECTS[:, None, None]
        h_kgt = self.cut - effect_kgt - mean_gt
        root = math.sqrt(1 + self.noise**2)
        selected_kgt = ndtr(-h_kgt)
        positive_kgt = ndtr(-h_kgt / root)
        correction_kgt = owens_t(h_kgt / root, self.noise)
        true_positive_kgt = (selected_kgt + positive_kgt) / 2 - correction_kgt

        selected_gt = selected_kgt.mean(axis=0)
        positive_gt = positive_kgt.mean(axis=0)
        true_positive_gt = true_positive_kgt.mean(axis=0)
        false_positive_gt = selected_gt - true_positive_gt
        wrong_gt = selected_gt + positive_gt - 2 * true_positive_gt
        share_g = np.array([1 - self.group_fraction, self.group_fraction])
        return {
            "base": positive_gt,
            "selection": selected_gt,
            "tpr": true_positive_gt / positive_gt,
            "fpr": false_positive_gt / (1 - positive_gt),
            "error": share_g @ wrong_gt,
        }


def _numbered(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of an array by name and number."""
    return {f"{name}{i}": column for i, column in enumerate(array.T)}


def synthetic(n: int = 6000, *, seed: int = 0, **law: Any) -> Prepared:
    """A synthetic data set, split 60/20/20, in which accuracy and rate gaps trade off.

    Args:
        n: rows.
        seed: of the draw and of the split.
        **law: fields of :class:`Population`, such as ``tasks``, ``relatedness``, ``bias``,
            ``group_fraction``.

    Returns:
        Prepared with ``tasks`` binary tasks ``task0..`` and the attribute ``group`` of levels A, B.

    Raises:
        ValueError: an impossible population.
        DataError: too few rows, so that a group or a label is absent from a split.
    """
    population = Population(**law)
    names = tuple(f"task{t}" for t in range(population.tasks))
    roles = Roles(tasks=names, sensitive=("group",), levels={"group": ("A", "B")})
    source = {"kind": "synthetic", "n": n, "seed": int(seed)}
    source |= dataclasses.asdict(population)
    source["bias"] = list(population.bias)
    table = dataclasses.replace(as_table(population.draw(n, seed)), where="synthetic")
    return prepare(
        table,
        roles,
        fractions=(0.6, 0.2, 0.2),
        seed=seed,
        name="synthetic",
        source=source,
    )


ENTRY = Entry(
    name="synthetic",
    about="planted relatedness and group bias, two tasks, known Bayes gaps",
    terms="made here",
    draw=lambda seed: synthetic(seed=seed),
)
