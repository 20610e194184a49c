"""Runs of a model of DNA itself: bases told from those before them, or hidden ones from both sides.

Windows of a genome are held out in stretches of 16: a share of them is the test part, as large a
share chooses the weights, the others are learnt from, on either strand. ``perplexity`` is that of
the test part's bases: as unsure as among so many, 4 at worst. k-mer models, counted over what was
learnt and what chose, are told beside. With ``fine_tune``, the name of a set of labelled
sequences, a classifier then begins from what was learnt, and another one of the same settings
from nothing: ``fine_tuned_mcc`` beside ``untaught_mcc``, both on that set's test part.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.config import record_from_table
from titans_seq.dna import LanguageConfig, PretrainSettings, TitansDNAClassifier, read_sequences
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.bases import score_bases
from titans_seq.dna.learning.corpus import HeldWindows, make_corpus
from titans_seq.dna.pretraining import Pretrained, learn_bases
from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.dna.markov import kmer_perplexities
from titans_seq.evaluation.families.classification import DNAHead
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.families.registry import files_of
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.training import History

FIXED = ("seed", "heads", "motifs", "motif_width", "stride")
"""What recipes do not set: the seed is the run's, the others are those of every classifier."""

OWN: dict[str, Any] = {"fine_tune": "", "fine_tune_epochs": 0, "device": "auto"}
"""Settings of the run itself, with their defaults; 0 epochs are as many as the classifier
finds right."""


def settings() -> dict[str, Any]:
    """Return the names that a recipe may set, with their defaults."""
    fields = [*dataclasses.fields(LanguageConfig), *dataclasses.fields(PretrainSettings)]
    return {**{f.name: f.default for f in fields if f.name not in FIXED}, **OWN}


class NextBaseHead:
    """One genome, of which stretches are held out.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    files
        Where the card's files lie: one, sequences without labels.
    """

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if card.own is None:
            raise ConfigError(f"data set {card.name} is no file of sequences without labels")
        self.recipe, self.card = recipe, card
        self.path = files[card.own]
        given = {**settings(), **recipe.settings}
        self.own = {name: given.pop(name) for name in OWN}
        where = f"recipe {recipe.name}, settings"
        known = {field.name for field in dataclasses.fields(LanguageConfig)}
        self.config = record_from_table(
            LanguageConfig, {name: given.pop(name) for name in [*given] if name in known}, where
        )
        self.settings = record_from_table(PretrainSettings, given, where)
        self.rows = encode_all(read_sequences(self.path).sequences)
        outer = make_corpus(self.rows, self.settings.window, self.settings.held_share, 0)
        self.test = outer.held
        self.corpus = make_corpus(outer.learn, self.settings.window, self.settings.held_share, 1)
        self.labelled = _labelled(recipe, self.own["fine_tune"], files)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures that tables print."""
        further = () if self.labelled is None else ("fine_tuned_mcc", "untaught_mcc")
        return ("perplexity", "bits_per_base", "accuracy", *further)

    def learn(self, trial: Trial) -> Taught:
        """Return a model of the bases, and the classifiers that begin from it and from nothing."""
        chosen = dataclasses.replace(self.settings, seed=trial.seed)
        found = learn_bases(self.corpus, self.config, chosen, self.own["device"])
        if self.labelled is None:
            return Taught(found)
        names = ("tokens", "variant", "dim", "layers")
        same = {name: getattr(self.config, name) for name in names}
        epochs = self.own["fine_tune_epochs"]
        same |= {"device": self.own["device"]} | ({"max_epochs": epochs} if epochs else {})
        with tempfile.TemporaryDirectory() as folder:
            begin = Path(folder) / "pretrained"
            found.save(begin)
            tuned = self.labelled.train_with(trial, {**same, "init": str(begin)})
        tuned.set_params(init=None)  # the folder is gone
        return Taught(found, tuned, self.labelled.train_with(trial, same))

    def score(self, model: Taught, trial: Trial) -> Scored:
        """Tell the bases of the test part, and score the classifiers."""
        told = score_bases(model.found.network, model.found.settings, self.test)
        scores: Metrics = {
            "perplexity": told.perplexity,
            "bits_per_base": float(np.log2(told.perplexity)),
            "accuracy": told.accuracy,
            "bases": int(sum(asked.sum() for _, asked in told.asked)),
        }
        for name, classifier in (("fine_tuned", model.tuned), ("untaught", model.untaught)):
            if classifier is not None and self.labelled is not None:
                found = self.labelled.score(classifier, trial).scores
                scores |= {f"{name}_{figure}": found[figure] for figure in ("mcc", "accuracy")}
        return Scored(scores, self._by_window(model.found))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Tell the same bases by k-mer models."""
        return self._counted

    @cached_property
    def _counted(self) -> dict[str, Metrics]:
        """Return what k-mer models know, which takes a while to count."""
        masked = self.config.objective == "masked"
        asked = HeldWindows(
            self.test, self.settings.batch_size, self.settings.mask_share if masked else None
        ).asked()
        known = [*self.corpus.learn, *self.corpus.held]
        found = {"any base alike": 4.0, **kmer_perplexities(known, asked, masked=masked)}
        return {
            name: {"perplexity": value, "bits_per_base": float(np.log2(value))}
            for name, value in found.items()
        }

    def plot(self, model: Taught, trial: Trial, path: Path) -> None:
        """Draw the perplexity beside those of k-mer models."""
        from titans_seq.evaluation.scores.plots import plot_bars

        told = score_bases(model.found.network, model.found.settings, self.test)
        bars = {"titans-seq": told.perplexity}
        bars |= {name: one["perplexity"] for name, one in self.controls(trial).items()}
        plot_bars(bars, path, title=self.title(trial), axis="perplexity")

    def borders(self) -> dict[str, Any]:
        """Return the letters of each part."""
        parts = {"train": self.corpus.learn, "validation": self.corpus.held, "test": self.test}
        return {name: sum(map(len, rows)) for name, rows in parts.items()}

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        held = sum(map(len, self.test))
        return (
            f"{self.path.name}: {held:,} bases held out in stretches, told one by one "
            f"({self.config.objective}) after {self.corpus.letters:,} were learnt"
        )

    def _by_window(self, found: Pretrained) -> pd.DataFrame:
        """Return the perplexity of each held-out window."""
        told = [score_bases(found.network, found.settings, [window]) for window in self.test]
        return pd.DataFrame({
            "window": range(len(told)),
            "letters": [len(window) for window in self.test],
            "perplexity": [one.perplexity for one in told],
        })  # fmt: skip


@dataclass(frozen=True)
class Taught:
    """What was trained: a model of bases, and the classifiers of a run that fine-tunes."""

    found: Pretrained
    tuned: TitansDNAClassifier | None = None
    untaught: TitansDNAClassifier | None = None

    @property
    def history_(self) -> History:
        """What happened in pre-training."""
        return self.found.history

    def save(self, folder: Path) -> None:
        """Write the model of bases, and the classifier that began from it inside."""
        self.found.save(folder)
        if self.tuned is not None:
            self.tuned.save(folder / "fine-tuned")


def _labelled(recipe: RecipeCard, name: str, files: Mapping[str, Path]) -> DNAHead | None:
    """Return the labelled sequences that a classifier is fine-tuned on, if there are any."""
    if not name:
        return None
    tuned = RecipeCard(
        name=recipe.name, summary="", dataset=name, estimator="TitansDNAClassifier",
        seeds=recipe.seeds,
    )  # fmt: skip
    return DNAHead(tuned, read_card(name), files_of(name, files))
