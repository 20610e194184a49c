"""Runs of the DNA head: the official parts of the data set of a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from titans_seq.dna import TitansDNAClassifier, read_labelled
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.data.regions import labelled_sequences
from titans_seq.evaluation.dna.classification import score_classifier
from titans_seq.evaluation.dna.controls import score_dna_controls
from titans_seq.evaluation.dna.overlap import grouped_split, overlaps
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError


class Part(NamedTuple):
    """Sequences and their labels."""

    sequences: list[str]
    labels: list[str]


class DNAHead:
    """Classification of one data set: learnt from its train part, scored on its test part.

    A part ``dev`` is joined to the train part, of which the classifier then holds out as many
    rows to choose the epoch by: the test part chooses nothing.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    files
        Where the card's files lie.
    """

    columns = ("accuracy", "f1", "mcc", "auroc", "auprc")

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if not card.intervals and not {"train", "test"} <= card.files.keys():
            raise ConfigError(
                f"data set {card.name} has no files train and test, and no intervals: "
                "TitansDNAClassifier cannot be run on it by a recipe"
            )
        self.recipe, self.card, self.files = recipe, card, files
        self.train, self.test = (self._read(part) for part in ("train", "test"))
        self.dev = self._read("dev") if "dev" in card.files else Part([], [])
        self.trials = tuple(
            Trial(seed, split=split) for split in recipe.splits for seed in recipe.seeds
        )
        self._grouped: tuple[Part, Part] | None = None

    def learn(self, trial: Trial) -> TitansDNAClassifier:
        """Return a classifier that has seen the train part, and dev if there is one."""
        return self.train_with(trial, self.recipe.settings)

    def train_with(self, trial: Trial, settings: Mapping[str, Any]) -> TitansDNAClassifier:
        """Return a classifier of other settings than the recipe's."""
        settings = dict(settings)
        learn, _ = self._parts(trial)
        if self.dev.labels and trial.split == "given":
            settings.setdefault("validation_fraction", len(self.dev.labels) / len(learn.labels))
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
            learn = self.train  # without dev, as published controls are
        return score_dna_controls(learn, test)

    def plot(self, model: TitansDNAClassifier, trial: Trial, path: Path) -> None:
        """Draw scores by class, ROC curves and the confusion matrix."""
        from titans_seq.dna.plots import plot_scores

        _, test = self._parts(trial)
        chances = model.predict_proba(test.sequences)
        title = f"{self.card.name}, test part" + ("" if trial.split == "given" else ", grouped")
        plot_scores(test.labels, chances, list(model.classes_), path, title=title)

    def borders(self) -> dict[str, Any]:
        """Return the rows of each part; beside a grouped split, how far the given ones overlap."""
        parts = {"train": self.train, "dev": self.dev, "test": self.test}
        found: dict[str, Any] = {
            name: len(part.labels) for name, part in parts.items() if part.labels
        }
        if "grouped" in self.recipe.splits:
            learn, test = self._parts(Trial(0, split="grouped"))
            known = [*self.train.sequences, *self.dev.sequences]
            found["test_rows_that_overlap"] = int(overlaps(self.test.sequences, known).sum())
            found["grouped"] = {"train": len(learn.labels), "test": len(test.labels)}
        return found

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        learn, test = self._parts(trial)
        classes = sorted(set(learn.labels))
        return (
            f"{self.card.name}: {' or '.join(classes)}; {len(learn.labels):,} sequences to "
            f"learn from, {len(test.labels):,} to test"
        )

    def _parts(self, trial: Trial) -> tuple[Part, Part]:
        """Return what is learnt from, and what is tested on."""
        known = Part([*self.train.sequences, *self.dev.sequences],
                     [*self.train.labels, *self.dev.labels])  # fmt: skip
        if trial.split == "given":
            return known, self.test
        if self._grouped is None:
            texts = [*known.sequences, *self.test.sequences]
            labels = [*known.labels, *self.test.labels]
            rows = grouped_split(texts, labels, len(self.test.labels) / len(labels))
            learn, held = (
                Part([texts[i] for i in part], [labels[i] for i in part]) for part in rows
            )
            self._grouped = learn, held
        return self._grouped

    def _read(self, part: str) -> Part:
        """Read one part: a file of that name, or lists of places in a genome."""
        if not self.card.intervals:
            found = read_labelled(self.files[part])
            return Part(list(found.sequences), [str(label) for label in found.labels])
        chosen = [one for one in self.card.intervals if one.part == part]
        lists = [(self.files[one.file], one.label, one.genome) for one in chosen]
        names = dict.fromkeys(one.genome for one in chosen)
        genomes = {name: self.files[name] for name in names}
        return Part(*labelled_sequences(lists, genomes))
