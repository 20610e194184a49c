"""Runs along a genome: a classifier reads it window by window, at constant memory.

The classifier is trained on the set that ``train_on`` names, or taken from the folder ``model``.
It then reads the user's file in a process of its own; what is scored is what a user waits for and
pays: letters a second, the peak of that process's memory, and what it grew by after the first
1,000,000 letters. Nothing says what is right along the genome: the shares of classes are told, not
judged. Trainings go on after a kill; a scan that was killed begins anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from titans_seq.dna import TitansDNAClassifier
from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.classification import DNAHead
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.families.registry import files_of
from titans_seq.evaluation.families.scanning import Found, Scan, scan_apart
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError

OWN: dict[str, Any] = {
    "train_on": "ecoli_coding_vs_intergenic",
    "model": "",
    "scan_window": 1000,
    "scan_stride": 0,
    "carry": True,
}
"""Settings of the run itself, with their defaults: a stride of 0 is as long as the window."""

NOT_TRAINED = {"epochs": [], "best_epoch": 0, "best_loss": None, "steps": 0,
               "stopped_by": "not trained", "device": "cpu"}  # fmt: skip
"""History of a model that was taken from a folder."""


def settings() -> dict[str, Any]:
    """Return the names that a recipe may set, with their defaults."""
    return {**TitansDNAClassifier().get_params(), **OWN}


@dataclass(frozen=True)
class Reader:
    """A classifier that is ready to scan."""

    classifier: TitansDNAClassifier

    @property
    def history_(self) -> Any:
        """What happened in its training."""
        return getattr(self.classifier, "history_", None) or NOT_TRAINED

    def save(self, folder: Path) -> None:
        """Write the classifier."""
        self.classifier.save(folder)


class ScanHead:
    """One genome to be read.

    Parameters
    ----------
    recipe, card
        What to train, and what to read.
    files
        Where the files lie: the genome, and those of the set to train on.
    """

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if card.own is None:
            raise ConfigError(f"data set {card.name} is no file of sequences without labels")
        self.recipe, self.card, self.path = recipe, card, files[card.own]
        given = {**OWN, **recipe.settings}
        self.own = {name: given.pop(name) for name in OWN}
        if self.own["carry"] and self.own["scan_stride"]:
            raise ConfigError("scan_stride: windows that overlap cannot carry the memory")
        self.labelled = None if self.own["model"] else self._labelled(given, files)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)
        self._found: dict[Trial, Found] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures that tables print."""
        return ("bp_per_second", "peak_rss_mb", "grew_mb", "letters", "rows",
                *(f"share({name})" for name in self._classes()))  # fmt: skip

    def learn(self, trial: Trial) -> Reader:
        """Return a classifier: trained, or from its folder."""
        if self.labelled is None:
            return Reader(TitansDNAClassifier.load(self.own["model"]))
        return Reader(self.labelled.learn(trial))

    def score(self, model: Reader, trial: Trial) -> Scored:
        """Read the genome."""
        place = Path(tempfile.mkdtemp(prefix="titans-scan-"))
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            found = scan_apart(Scan(
                model=str(Path(folder) / "model"), path=str(self.path),
                rows=str(place / "rows.tsv.gz"), window=self.own["scan_window"],
                stride=self.own["scan_stride"] or None, carry=self.own["carry"],
                threads=torch.get_num_threads(),
            ))  # fmt: skip
        self._found[trial] = found
        return Scored(found.scores, place / "rows.tsv.gz", found.measured)

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return nothing: no simple method has to do this."""
        return {}

    def plot(self, model: Reader, trial: Trial, path: Path) -> None:
        """Draw the probability of the last class along the file."""
        from titans_seq.evaluation.scores.plots import plot_lines

        track = self._found[trial].track
        lines = {f"p({track['class']})": (track["ends"], track["values"])}
        plot_lines(lines, path, title=self.title(trial), axes=("letter of the file", "probability"))

    def borders(self) -> dict[str, Any]:
        """Return the rows that are learnt from, and the size of the file that is read."""
        learnt = {} if self.labelled is None else self.labelled.borders()
        return {**learnt, "bytes": self.path.stat().st_size}

    def title(self, trial: Trial) -> str:
        """Return what is read and how, in one line."""
        how = "the memory carried" if self.own["carry"] else "each by itself"
        return f"{self.path.name}: windows of {self.own['scan_window']} letters, {how}"

    def _classes(self) -> list[str]:
        if self.labelled is not None:
            return sorted({*self.labelled.train.labels, *self.labelled.dev.labels})
        return [str(name) for name in TitansDNAClassifier.load(self.own["model"]).classes_]

    def _labelled(self, given: Mapping[str, Any], files: Mapping[str, Path]) -> DNAHead:
        """Return the sequences that the classifier is trained on."""
        name = self.own["train_on"]
        recipe = RecipeCard(
            name=self.recipe.name, summary="", dataset=name, estimator="TitansDNAClassifier",
            seeds=self.recipe.seeds, settings=dict(given),
        )  # fmt: skip
        return DNAHead(recipe, read_card(name), files_of(name, files))
