"""Recipe cards as frozen records that validate themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from titans_seq.exceptions import ConfigError

EstimatorName = Literal[
    "TitansForecaster",
    "TitansDNAClassifier",
    "TitansDNALanguage",
    "TitansByteModel",
    "TitansRecall",
]

Family = Literal["windows", "m4", "labels", "scan", "next-base", "bytes", "recall"]
"""Kinds of benchmarks, see :mod:`titans_seq.evaluation.families`."""

SplitName = Literal["given", "grouped"]
SPLITS: tuple[str, ...] = get_args(SplitName)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """Expected range of one score, a mean over a run."""

    at_least: float | None = None
    """Lowest accepted score."""

    at_most: float | None = None
    """Highest accepted score."""

    value: float | None = None
    """Score of an earlier run."""

    tolerance: float | None = None
    """Accepted deviation from ``value``, in either direction."""

    seeds: tuple[int, ...] = ()
    """Seeds that ``value`` is the mean of."""

    source: str | None = None
    """Who measured ``value``, on which machine."""

    def __post_init__(self) -> None:
        """Refuse an expectation without a bound, or with half of one."""
        if self.at_least is None and self.at_most is None and self.value is None:
            raise ConfigError("give at_least, at_most, or value and tolerance")
        if (self.value is None) != (self.tolerance is None):
            raise ConfigError("value and tolerance must be given together")
        if self.tolerance is not None and self.tolerance < 0:
            raise ConfigError(f"tolerance must be at least 0, got {self.tolerance}")

    def demands(self) -> list[tuple[str, float, float]]:
        """Return a description, the lowest and the highest accepted score of each demand."""
        demands = []
        if self.at_least is not None:
            demands.append((f"at least {self.at_least:g}", self.at_least, float("inf")))
        if self.at_most is not None:
            demands.append((f"at most {self.at_most:g}", float("-inf"), self.at_most))
        if self.value is not None and self.tolerance is not None:
            text = f"{self.value:g} within {self.tolerance:g}"
            if self.source:
                text += f" ({self.source})"
            low, high = self.value - self.tolerance, self.value + self.tolerance
            demands.append((text, low, high))
        return demands


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCard:
    """One benchmark run: the settings that are not defaults, and the expected scores."""

    name: str
    """Name of the card, the same as that of its file."""

    summary: str
    """One sentence."""

    dataset: str
    """Name of the data set."""

    estimator: EstimatorName
    """Estimator to train."""

    family: Family | None = None
    """Kind of benchmark; the default depends on the estimator."""

    input: str | None = None
    """Path of the user's file, for a data set that has none."""

    seeds: tuple[int, ...] = (0,)
    """Values of ``random_state``; one training for each."""

    horizons: tuple[int, ...] = ()
    """Horizons, one training for each; the one in the settings if left out."""

    splits: tuple[SplitName, ...] = ("given",)
    """``given``: the split of the data set. ``grouped``: rows pooled and split again, rows that
    share a 24-mer on the same side; a further training for each seed."""

    max_steps: int | None = None
    """Limit of optimizer steps of each training."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Parameters of the estimator, except column names, which come from the data set's card."""

    expect: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By metric, an :class:`Expectation` of the mean of a run."""

    def __post_init__(self) -> None:
        """Refuse a recipe that trains nothing, or the same twice."""
        for name in ("seeds", "horizons", "splits"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} must not contain duplicates, got {list(values)}")
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be one or more numbers from 0, got {list(self.seeds)}")
        if self.horizons and min(self.horizons) < 1:
            raise ConfigError(f"horizons must be at least 1 each, got {list(self.horizons)}")
        if not self.splits:
            raise ConfigError(f"splits must not be empty; choose from {', '.join(SPLITS)}")
