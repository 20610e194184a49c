"""Runs of the DNA head: the official parts of the data set of a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from titans_seq.dna import TitansDNAClassifier, read_labelled
from titans_seq.evaluation.card_records import DatasetCard, RecipeCard
from titans_seq.evaluation.classification import Metrics, score_classifier
from titans_seq.evaluation.dna_controls import score_dna_controls
from titans_seq.evaluation.genome import cut_all
from titans_seq.evaluation.heads import Scored, Trial
from titans_seq.evaluation.places import data_path
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
    recipe, card, folder
        As for :func:`titans_seq.evaluation.heads.read_head`.
    """

    columns = ("accuracy", "f1", "mcc", "auroc", "auprc")

    def __init__(self, recipe: RecipeCard, card: DatasetCard, folder: Path | None = None) -> None:
        if not card.intervals and not {"train", "test"} <= card.files.keys():
            raise ConfigError(
                f"data set {card.name} has no files train and test, and no intervals: "
                "TitansDNAClassifier cannot be run on it by a recipe"
            )
        self.recipe, self.card = recipe, card
        self.train, self.test = (self._read(part, folder) for part in ("train", "test"))
        self.dev = self._read("dev", folder) if "dev" in card.files else Part([], [])
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    def learn(self, trial: Trial) -> TitansDNAClassifier:
        """Return a classifier that has seen the train part, and dev if there is one."""
        settings = dict(self.recipe.settings)
        rows = len(self.train.labels) + len(self.dev.labels)
        if self.dev.labels:
            settings.setdefault("validation_fraction", len(self.dev.labels) / rows)
        classifier = TitansDNAClassifier(random_state=trial.seed, **settings)
        return classifier.fit(
            [*self.train.sequences, *self.dev.sequences], [*self.train.labels, *self.dev.labels]
        )

    def score(self, model: TitansDNAClassifier, trial: Trial) -> Scored:
        """Score every sequence of the test part."""
        chances = model.predict_proba(self.test.sequences)
        scores = score_classifier(self.test.labels, chances, model.classes_)
        table = {
            "label": self.test.labels,
            "predicted": model.classes_[chances.argmax(axis=1)],
            **{f"p({name})": chances[:, i] for i, name in enumerate(model.classes_)},
        }
        return Scored(scores, pd.DataFrame(table))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score simple classifiers, trained on the train part."""
        return score_dna_controls(self.train, self.test)

    def plot(self, model: TitansDNAClassifier, trial: Trial, path: Path) -> None:
        """Draw scores by class, ROC curves and the confusion matrix."""
        from titans_seq.dna.plots import plot_scores

        chances = model.predict_proba(self.test.sequences)
        title = f"{self.card.name}, test part"
        plot_scores(self.test.labels, chances, list(model.classes_), path, title=title)

    def borders(self) -> dict[str, Any]:
        """Return the rows of each part."""
        parts = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: len(part.labels) for name, part in parts.items() if part.labels}

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        classes = sorted(set(self.train.labels))
        return (
            f"{self.card.name}: {' or '.join(classes)}; {len(self.train.labels):,} sequences to "
            f"learn from, {len(self.test.labels):,} to test"
        )

    def _read(self, part: str, folder: Path | None) -> Part:
        """Read one part: a file of that name, or lists of places in a genome."""
        if not self.card.intervals:
            found = read_labelled(data_path(self.card, part, folder))
            return Part(list(found.sequences), [str(label) for label in found.labels])
        chosen = [one for one in self.card.intervals if one.part == part]
        lists = [(data_path(self.card, one.file, folder), one.label, one.genome) for one in chosen]
        names = dict.fromkeys(one.genome for one in chosen)
        genomes = {name: data_path(self.card, name, folder) for name in names}
        return Part(*cut_all(lists, genomes))
