"""What a recipe says, as frozen records that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from titans_seq.exceptions import ConfigError

Estimator = Literal[
    "TitansForecaster",
    "TitansDNAClassifier",
    "TitansDNALanguage",
    "TitansByteModel",
    "TitansRecall",
]

Family = Literal["windows", "m4", "labels", "scan", "next-base", "bytes", "recall"]
"""Kinds of runs, see :mod:`titans_seq.evaluation.families`."""

SplitName = Literal["given", "grouped"]
SPLITS: tuple[str, ...] = get_args(SplitName)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What the mean of a run must come to in one figure."""

    at_least: float | None = None
    """It may not be lower."""

    at_most: float | None = None
    """It may not be higher."""

    value: float | None = None
    """What was reached before."""

    tolerance: float | None = None
    """How far from ``value`` it may be, on either side."""

    seeds: tuple[int, ...] = ()
    """What ``value`` is the mean of."""

    source: str | None = None
    """Who measured it, on what."""

    def __post_init__(self) -> None:
        """Refuse what expects nothing, or half of something."""
        if self.at_least is None and self.at_most is None and self.value is None:
            raise ConfigError("give at_least, at_most, or value and tolerance")
        if (self.value is None) != (self.tolerance is None):
            raise ConfigError("value and tolerance belong together")
        if self.tolerance is not None and self.tolerance < 0:
            raise ConfigError(f"tolerance = {self.tolerance}: at least 0")

    def parts(self) -> list[tuple[str, float, float]]:
        """Return each demand in words, and the lowest and highest figure that meets it."""
        found = []
        if self.at_least is not None:
            found.append((f"at least {self.at_least:g}", self.at_least, float("inf")))
        if self.at_most is not None:
            found.append((f"at most {self.at_most:g}", float("-inf"), self.at_most))
        if self.value is not None and self.tolerance is not None:
            words = f"{self.value:g} within {self.tolerance:g}"
            if self.source:
                words += f" ({self.source})"
            low, high = self.value - self.tolerance, self.value + self.tolerance
            found.append((words, low, high))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCard:
    """One benchmark run: every setting that is not a default, and what to expect."""

    name: str
    """The card's own name, that of its file."""

    summary: str
    """One sentence."""

    dataset: str
    """Name of a data set's card."""

    estimator: Estimator
    """What is trained."""

    family: Family | None = None
    """What is done with it, and how it is scored; left out, what is usual for the estimator."""

    input: str | None = None
    """File of the user's, for a data set whose card has none."""

    seeds: tuple[int, ...] = (0,)
    """``random_state`` of the estimator; one training for each."""

    horizons: tuple[int, ...] = ()
    """Horizons, one training for each; left out, the one among the settings."""

    splits: tuple[SplitName, ...] = ("given",)
    """``given``: the parts as the data set's card has them. ``grouped``: rows pooled and parted
    anew, those that share a 24-letter word on one side; a further training for each seed."""

    max_steps: int | None = None
    """Optimizer steps of each training, at most."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the estimator, apart from column names, which the data set's card has."""

    expect: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By metric an :class:`Expectation`: what the mean of a run must reach."""

    def __post_init__(self) -> None:
        """Refuse a recipe that trains nothing, or the same twice."""
        for name in ("seeds", "horizons", "splits"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} = {list(values)} names one twice")
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError(f"seeds = {list(self.seeds)}: one or more numbers of at least 0")
        if self.horizons and min(self.horizons) < 1:
            raise ConfigError(f"horizons = {list(self.horizons)}: at least 1 each")
        if not self.splits:
            raise ConfigError(f"splits = []: one or both of {', '.join(SPLITS)}")
