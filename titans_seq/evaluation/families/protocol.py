"""Interface between a recipe's run and its family: data, training, scores, controls, plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from titans_seq.evaluation.cards.recipes import SplitName
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.data.locations import StoredFile
from titans_seq.evaluation.scores.report import Metrics


class Trial(NamedTuple):
    """One training of a run."""

    seed: int
    """``random_state`` of the estimator."""

    horizon: int | None = None
    """Rows ahead; None if nothing is forecast."""

    split: SplitName = "given"
    """Which rows are the test part."""

    @property
    def name(self) -> str:
        """Name of the trial's files."""
        horizon = "" if self.horizon is None else f"horizon-{self.horizon}-"
        return f"{'' if self.split == 'given' else f'{self.split}-'}{horizon}seed-{self.seed}"

    @property
    def group(self) -> str:
        """Key of the controls, which trials of the same horizon or split have in common."""
        if self.split != "given":
            return self.split
        return "all" if self.horizon is None else str(self.horizon)


@dataclass(frozen=True)
class RunInputs:
    """The card and the verified files that a recipe reads, each read and hashed once a run."""

    card: DatasetCard
    files: Mapping[str, StoredFile]
    """By their name on the card."""

    others: Mapping[str, RunInputs] = field(default_factory=dict)
    """By name, further data sets that a setting refers to."""

    @property
    def paths(self) -> dict[str, Path]:
        """Paths of the files by their name on the card."""
        return {name: file.path for name, file in self.files.items()}

    def all_files(self) -> dict[str, StoredFile]:
        """Return all files; those of a further data set are called ``set/name``."""
        further = {
            f"{name}/{key}": file
            for name, inputs in self.others.items()
            for key, file in inputs.files.items()
        }
        return {**self.files, **further}


class Scored(NamedTuple):
    """Scores and predictions of a trained model on the test part."""

    scores: Metrics
    """Scores that are the same whenever the run is repeated."""

    predictions: pd.DataFrame | Path
    """Predictions beside true values, a row each; or the file that holds them, which is moved into
    the run's folder (its own folder is removed if that leaves it empty)."""

    measured: Mapping[str, float] = {}
    """Measurements that depend on the machine, such as throughput."""

    files: Mapping[str, bytes] = {}
    """Further output files by the suffix of their name."""


class Model(Protocol):
    """A trained model, as a run stores it."""

    history_: Any
    """A :class:`titans_seq.training.History`, or its table."""

    def save(self, folder: Path) -> None:
        """Write a model folder."""


class Experiment(Protocol):
    """The task of a run, with its data read and checked.

    An implementation is constructed with the recipe and its :class:`RunInputs`.
    """

    trials: tuple[Trial, ...]
    """Every training, in order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Scores that tables print, the main one first."""

    def train(self, trial: Trial) -> Any:
        """Return a trained :class:`Model`."""

    def score(self, model: Any, trial: Trial) -> Scored:
        """Score a model on the test part."""

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return the scores of simple methods on the same test part."""

    def plot(self, model: Any, trial: Trial, path: Path) -> None:
        """Draw the model's predictions of the test part."""

    def borders(self) -> dict[str, Any]:
        """Return the sizes or borders of train and test part, as plain values."""

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
