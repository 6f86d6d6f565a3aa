"""Synthetic tables with planted relatedness, group bias and group sizes, whose Bayes scores and gaps are known.

Scores of the tasks are ``s_t = w_t . z + e_k``, with unit directions ``w_t . w_u = relatedness`` and a level ``k`` of
the column ``grade``; ``y_t = 1`` where ``s_t + noise * eps > cut``. In group ``a`` the latent ``z`` is normal with unit
variance, and shifted in group B such that ``E[s_t]`` is lower by ``bias_t``. What is observed: a rotation of ``z``,
``grade``, two columns that tell of the group but not of the label, and two of noise. The group itself is no feature.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from fairjax.data.read import Table
from fairjax.data.roles import Roles
from fairjax.data.table import Prepared, prepare

GRADES = {"low": -0.5, "middle": 0.0, "high": 0.5}
REGIONS = ("north", "south", "east", "west")
_NOISE_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Population:
    """The law from which rows are drawn. Group 0 is ``A``, group 1 is ``B``."""

    tasks: int = 2
    relatedness: float = 0.5  # correlation of two tasks' scores within a group, in [0, 1)
    bias: tuple[float, ...] = (
        1.0,
        0.6,
    )  # how much lower B's mean score is, per task; repeated when tasks are more
    group_fraction: float = 0.35  # share of group B
    noise: float = 0.6  # of the label; larger makes every score less certain
    cut: float = 0.0  # label 1 above it
    proxy: float = 1.5  # how well the region and one numeric column tell the group
    label_missing: float = 0.0  # share of labels unknown, per task
    group_missing: float = 0.0  # share of rows of unknown group

    def __post_init__(self):
        object.__setattr__(
            self, "bias", (self.bias,) if isinstance(self.bias, (int, float)) else tuple(self.bias)
        )
        for name, low, high in (
            ("relatedness", 0, 1),
            ("label_missing", 0, 1),
            ("group_missing", 0, 1),
        ):
            if not low <= getattr(self, name) < high:
                raise ValueError(
                    f"synthetic: {name} is {getattr(self, name)}, expected from {low} to below {high}"
                )
        if self.tasks < 1 or self.noise <= 0 or not 0 < self.group_fraction < 1 or not self.bias:
            raise ValueError(
                "synthetic: expected tasks >= 1, noise > 0, group_fraction in (0, 1), and a bias"
            )

    @property
    def directions(self) -> np.ndarray:
        """``[T, T + 1]`` unit rows with pairwise inner product ``relatedness``."""
        own = math.sqrt(1 - self.relatedness) * np.eye(self.tasks)
        return np.concatenate([np.full((self.tasks, 1), math.sqrt(self.relatedness)), own], 1)

    @property
    def shift(self) -> np.ndarray:
        """``[T + 1]`` the smallest shift of B's latent that lowers every mean score by its bias."""
        bias = np.resize(np.asarray(self.bias, float), self.tasks)
        return -np.linalg.pinv(self.directions) @ bias

    @property
    def rotation(self) -> np.ndarray:
        """``[T + 1, T + 1]`` orthogonal, the same for every draw: what is observed is ``z @ rotation``."""
        return np.linalg.qr(np.random.RandomState(7).standard_normal((self.tasks + 1,) * 2))[0]

    def draw(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        """``n`` rows as columns: ``x0..``, ``proxy``, ``noise0..``, ``grade``, ``region``, ``group``, ``task0..``."""
        rng = np.random.RandomState(seed)
        group = (rng.random_sample(n) < self.group_fraction).astype(int)
        latent = rng.standard_normal((n, self.tasks + 1)) + group[:, None] * self.shift
        grade = rng.randint(len(GRADES), size=n)
        score = latent @ self.directions.T + np.array(list(GRADES.values()))[grade, None]
        label = (score + self.noise * rng.standard_normal(score.shape) > self.cut).astype(float)
        label[rng.random_sample(label.shape) < self.label_missing] = np.nan
        proxy = self.proxy * group + rng.standard_normal(n)
        noise = rng.standard_normal((n, _NOISE_COLUMNS))
        region = self._region(rng, group)
        known = rng.random_sample(n) >= self.group_missing
        observed = latent @ self.rotation
        return (
            {f"x{i}": column for i, column in enumerate(observed.T)}
            | {"proxy": proxy}
            | {f"noise{i}": column for i, column in enumerate(noise.T)}
            | {"grade": np.array(list(GRADES), dtype=object)[grade], "region": region}
            | {"group": np.where(known, np.where(group == 1, "B", "A"), "").astype(object)}
            | {f"task{t}": column for t, column in enumerate(label.T)}
        )

    def _region(self, rng: np.random.RandomState, group: np.ndarray) -> np.ndarray:
        """A region per row, whose odds tilt with the group by ``proxy`` times 0.5 from one to the next."""
        tilt = 0.5 * self.proxy * (np.arange(len(REGIONS)) - 1.5)
        odds = np.exp(np.where(group[:, None] == 1, tilt, -tilt))
        below = (
            np.cumsum(odds / odds.sum(1, keepdims=True), 1) < rng.random_sample(len(group))[:, None]
        )
        return np.array(REGIONS, dtype=object)[np.minimum(below.sum(1), len(REGIONS) - 1)]

    def bayes_scores(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """``P(y_t = 1 | features) = Phi((s_t - cut) / noise)``, the best any score can be.

        Args:
            columns: raw columns as :meth:`draw` gives them, N rows.

        Returns:
            ``[N, T]`` probabilities. They do not depend on the group once the features are known.
        """
        observed = np.stack([columns[f"x{i}"] for i in range(self.tasks + 1)], 1)
        effect = np.array([GRADES[word] for word in columns["grade"]])
        score = observed @ self.rotation.T @ self.directions.T + effect[:, None]
        return normal_cdf((score - self.cut) / self.noise)

    def bayes_rates(self) -> dict[str, np.ndarray]:
        """Rates of the Bayes decision ``bayes_scores > 0.5`` in each group, in closed form.

        With ``h = cut - e_k - E[s_t | a]`` and ``r = sqrt(1 + noise^2)``: selected ``Phi(-h)``, positive
        ``Phi(-h / r)``, and both ``Phi(-h) / 2 + Phi(-h / r) / 2 - T(h / r, noise)`` with Owen's T; then the mean over
        levels k (Owen, Annals of Mathematical Statistics 27, 1956).

        Returns:
            ``base``, ``selection``, ``tpr``, ``fpr``, each ``[2, T]``, and ``error`` ``[T]`` over both groups.
        """
        mean = np.stack([np.zeros(self.tasks), self.directions @ self.shift])
        h = self.cut - np.array(list(GRADES.values()))[:, None, None] - mean
        root = math.sqrt(1 + self.noise**2)
        selected, positive = normal_cdf(-h), normal_cdf(-h / root)
        both = (selected + positive) / 2 - owens_t(h / root, self.noise)
        selected, positive, both = selected.mean(0), positive.mean(0), both.mean(0)
        share = np.array([1 - self.group_fraction, self.group_fraction])
        rates = {"base": positive, "selection": selected, "tpr": both / positive}
        rates["fpr"] = (selected - both) / (1 - positive)
        return rates | {"error": share @ (selected + positive - 2 * both)}


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """Standard normal distribution function, any shape."""
    return 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(np.asarray(x, float) / math.sqrt(2)))


def owens_t(h: np.ndarray, a: float) -> np.ndarray:
    """Owen's ``T(h, a) = 1/(2 pi) int_0^a exp(-h^2 (1 + x^2) / 2) / (1 + x^2) dx``, by 64-point Gauss-Legendre."""
    node, weight = np.polynomial.legendre.leggauss(64)
    x = a * (node + 1) / 2
    inside = np.exp(-0.5 * np.asarray(h)[..., None] ** 2 * (1 + x**2)) / (1 + x**2)
    return inside @ weight * a / (4 * math.pi)


def synthetic(n: int = 6000, *, seed: int = 0, **law) -> Prepared:
    """A synthetic data set, split 60/20/20, with a visible trade-off between accuracy and rate gaps.

    Args:
        n: rows.
        seed: of the draw and of the split.
        **law: fields of :class:`Population`, such as ``tasks``, ``relatedness``, ``bias``, ``group_fraction``.

    Returns:
        Prepared with ``tasks`` binary tasks ``task0..`` and the attribute ``group`` of levels A, B.

    Raises:
        ValueError: an impossible law.
        DataError: so few rows that a group or a label is absent from a split.
    """
    population = Population(**law)
    names = tuple(f"task{t}" for t in range(population.tasks))
    roles = Roles(tasks=names, sensitive=("group",), levels={"group": ("A", "B")})
    law = dataclasses.asdict(population)
    source = {"kind": "synthetic", "n": n, "seed": int(seed), **law, "bias": list(population.bias)}
    table = Table("synthetic", population.draw(n, seed))
    return prepare(
        table, roles, fractions=(0.6, 0.2, 0.2), seed=seed, name="synthetic", source=source
    )
