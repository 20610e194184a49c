"""Runs of DNA classification: train and test part of a labelled data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from titans_seq.dna import TitansDNAClassifier, read_labelled
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.data.regions import labelled_sequences
from titans_seq.evaluation.dna.classification import score_classifier
from titans_seq.evaluation.dna.controls import score_dna_controls
from titans_seq.evaluation.dna.overlap import grouped_split, overlaps
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError


class LabelledPart(NamedTuple):
    """Sequences and their labels."""

    sequences: list[str]
    labels: list[str]

    def joined(self, other: LabelledPart) -> LabelledPart:
        """Return the rows of both."""
        return LabelledPart(self.sequences + other.sequences, self.labels + other.labels)


class ClassificationExperiment:
    """Classification of one data set: trained on its train part, scored on its test part.

    A part ``dev`` is joined to the train part, of which the classifier then holds out as many
    rows to choose the epoch: the test part is not used for any choice.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        Card and files of the data set.
    """

    columns = ("accuracy", "f1", "mcc", "auroc", "auprc")

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        card = inputs.card
        if not card.intervals and not {"train", "test"} <= card.files.keys():
            raise ConfigError(
                f"data set {card.name} has no files train and test, and no intervals: "
                "TitansDNAClassifier cannot be run on it by a recipe"
            )
        self.recipe, self.card, self.paths = recipe, card, inputs.paths
        self.train_part, self.test_part = (self._read(part) for part in ("train", "test"))
        self.dev_part = self._read("dev") if "dev" in card.files else LabelledPart([], [])
        self.trials = tuple(
            Trial(seed, split=split) for split in recipe.splits for seed in recipe.seeds
        )
        self._grouped: tuple[LabelledPart, LabelledPart] | None = None

    def train(self, trial: Trial) -> TitansDNAClassifier:
        """Return a classifier trained on the train part, and on dev if there is one."""
        return self.train_with(trial, self.recipe.settings)

    def train_with(self, trial: Trial, settings: Mapping[str, Any]) -> TitansDNAClassifier:
        """Return a classifier with other settings than the recipe's."""
        settings = dict(settings)
        learn, _ = self._parts(trial)
        dev_rows = len(self.dev_part.labels)
        if dev_rows and trial.split == "given":
            settings.setdefault("validation_fraction", dev_rows / len(learn.labels))
        classifier = TitansDNAClassifier(random_state=trial.seed, **settings)
        return classifier.fit(learn.sequences, learn.labels)

    def score(self, model: TitansDNAClassifier, trial: Trial) -> Scored:
        """Score every sequence of the test part."""
        _, test = self._parts(trial)
        chances = model.predict_proba(test.sequences)
        scores = score_classifier(test.labels, chances, model.classes_)
        table = {
            "label": test.labels,
            "predicted": model.classes_[chances.argmax(axis=1)],
            **{f"p({name})": chances[:, i] for i, name in enumerate(model.classes_)},
        }
        return Scored(scores, pd.DataFrame(table))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score simple classifiers, trained on the train part."""
        learn, test = self._parts(trial)
        if trial.split == "given":
            learn = self.train_part  # without dev, as published controls are
        return score_dna_controls(learn, test)

    def plot(self, model: TitansDNAClassifier, trial: Trial, path: Path) -> None:
        """Draw scores by class, ROC curves and the confusion matrix."""
        from titans_seq.dna.plots import plot_scores

        _, test = self._parts(trial)
        chances = model.predict_proba(test.sequences)
        title = f"{self.card.name}, test part" + ("" if trial.split == "given" else ", grouped")
        plot_scores(test.labels, chances, list(model.classes_), path, title=title)

    def borders(self) -> dict[str, Any]:
        """Return the rows of each part; with a grouped split also the overlap of the given one."""
        parts = {"train": self.train_part, "dev": self.dev_part, "test": self.test_part}
        rows: dict[str, Any] = {
            name: len(part.labels) for name, part in parts.items() if part.labels
        }
        if "grouped" in self.recipe.splits:
            learn, test = self._parts(Trial(0, split="grouped"))
            known = self.train_part.joined(self.dev_part).sequences
            rows["test_rows_that_overlap"] = int(overlaps(self.test_part.sequences, known).sum())
            rows["grouped"] = {"train": len(learn.labels), "test": len(test.labels)}
        return rows

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        learn, test = self._parts(trial)
        classes = sorted(set(learn.labels))
        return (
            f"{self.card.name}: {' or '.join(classes)}; {len(learn.labels):,} training sequences, "
            f"{len(test.labels):,} test sequences"
        )

    def _parts(self, trial: Trial) -> tuple[LabelledPart, LabelledPart]:
        """Return the training rows (with dev) and the test rows of a trial."""
        learn = self.train_part.joined(self.dev_part)
        if trial.split == "given":
            return learn, self.test_part
        if self._grouped is None:
            pooled = learn.joined(self.test_part)
            test_share = len(self.test_part.labels) / len(pooled.labels)
            new_train, new_test = (
                LabelledPart([pooled.sequences[i] for i in rows], [pooled.labels[i] for i in rows])
                for rows in grouped_split(pooled.sequences, pooled.labels, test_share)
            )
            self._grouped = new_train, new_test
        return self._grouped

    def _read(self, part: str) -> LabelledPart:
        """Read one part: a file of that name, or lists of regions of a genome."""
        if not self.card.intervals:
            data = read_labelled(self.paths[part])
            return LabelledPart(list(data.sequences), [str(label) for label in data.labels])
        lists = [interval for interval in self.card.intervals if interval.part == part]
        genomes = {entry.genome: self.paths[entry.genome] for entry in lists}
        return LabelledPart(*labelled_sequences(
            [(self.paths[entry.file], entry.label, entry.genome) for entry in lists], genomes
        ))  # fmt: skip
