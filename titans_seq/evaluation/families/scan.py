"""Runs along a genome: a classifier reads it window by window, at constant memory.

The classifier is trained on the data set that ``train_on`` names, or loaded from the folder
``model``. It reads the user's file in a process of its own; measured are throughput, the peak
memory of that process, and its growth after the first 1,000,000 letters. There are no true labels
along the genome: the shares of classes are reported, not scored. Trainings can be resumed after a
kill; an interrupted scan starts again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from titans_seq.dna import TitansDNAClassifier
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.classification import ClassificationExperiment
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.families.scan_worker import Scan, ScanResult, scan_in_process
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError

_RUN_SETTINGS: dict[str, Any] = {
    "train_on": "ecoli_coding_vs_intergenic",
    "model": "",
    "scan_window": 1000,
    "scan_stride": 0,
    "carry": True,
}
"""Settings beside those of the estimator; a stride of 0 means that of the window."""

_NOT_TRAINED = {"epochs": [], "best_epoch": 0, "best_loss": None, "steps": 0,
                "stopped_by": "not trained", "device": "cpu"}  # fmt: skip
"""History of a model that was loaded from a folder."""


def scan_settings() -> dict[str, Any]:
    """Return the settings that a recipe may have, with their defaults."""
    return {**TitansDNAClassifier().get_params(), **_RUN_SETTINGS}


@dataclass(frozen=True)
class ScanModel:
    """A classifier to scan with."""

    classifier: TitansDNAClassifier

    @property
    def history_(self) -> Any:
        """History of its training."""
        return getattr(self.classifier, "history_", None) or _NOT_TRAINED

    def save(self, folder: Path) -> None:
        """Write the classifier."""
        self.classifier.save(folder)


class ScanExperiment:
    """A scan of one genome.

    Parameters
    ----------
    recipe
        What to train, or which model to use.
    inputs
        The genome, and the data set to train on.
    """

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        card = inputs.card
        if card.own is None:
            raise ConfigError(f"data set {card.name} is not a file of sequences without labels")
        self.recipe, self.path = recipe, inputs.paths[card.own]
        settings = {**_RUN_SETTINGS, **recipe.settings}
        self.run_settings = {name: settings.pop(name) for name in _RUN_SETTINGS}
        if self.run_settings["carry"] and self.run_settings["scan_stride"]:
            raise ConfigError(
                "scan_stride must be 0 if carry is true: overlapping windows cannot carry the "
                "memory"
            )
        self.training = None
        if not self.run_settings["model"]:
            self.training = self._training(settings, inputs)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)
        self._results: dict[Trial, ScanResult] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Scores that tables print."""
        return ("bp_per_second", "peak_rss_mb", "grew_mb", "letters", "rows",
                *(f"share({name})" for name in self._classes()))  # fmt: skip

    def train(self, trial: Trial) -> ScanModel:
        """Return a classifier: trained, or loaded from its folder."""
        if self.training is None:
            return ScanModel(TitansDNAClassifier.load(self.run_settings["model"]))
        return ScanModel(self.training.train(trial))

    def score(self, model: ScanModel, trial: Trial) -> Scored:
        """Scan the genome."""
        output = Path(tempfile.mkdtemp(prefix="titans-scan-"))
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            result = scan_in_process(Scan(
                model=str(Path(folder) / "model"), path=str(self.path),
                rows=str(output / "rows.tsv.gz"), window=self.run_settings["scan_window"],
                stride=self.run_settings["scan_stride"] or None,
                carry=self.run_settings["carry"], threads=torch.get_num_threads(),
            ))  # fmt: skip
        self._results[trial] = result
        return Scored(result.scores, output / "rows.tsv.gz", result.measured)

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return nothing: there is no simple method to compare with."""
        return {}

    def plot(self, model: ScanModel, trial: Trial, path: Path) -> None:
        """Draw the probability of the last class along the file."""
        from titans_seq.evaluation.scores.plots import plot_lines

        track = self._results[trial].track
        lines = {f"p({track['class']})": (track["ends"], track["values"])}
        axes = ("position in the file", "probability")
        plot_lines(lines, path, title=self.title(trial), axes=axes)

    def borders(self) -> dict[str, Any]:
        """Return the rows of the training data, and the size of the file that is scanned."""
        rows = {} if self.training is None else self.training.borders()
        return {**rows, "bytes": self.path.stat().st_size}

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        carried = self.run_settings["carry"]
        memory = "memory carried from window to window" if carried else "independent windows"
        return f"{self.path.name}: windows of {self.run_settings['scan_window']} letters, {memory}"

    def _classes(self) -> list[str]:
        if self.training is not None:
            labels = self.training.train_part.labels + self.training.dev_part.labels
            return sorted(set(labels))
        classifier = TitansDNAClassifier.load(self.run_settings["model"])
        return [str(name) for name in classifier.classes_]

    def _training(self, settings: Mapping[str, Any], inputs: RunInputs) -> ClassificationExperiment:
        """Return the experiment that trains the classifier."""
        name = self.run_settings["train_on"]
        recipe = RecipeCard(
            name=self.recipe.name, summary="", dataset=name, estimator="TitansDNAClassifier",
            seeds=self.recipe.seeds, settings=dict(settings),
        )  # fmt: skip
        return ClassificationExperiment(recipe, inputs.others[name])
