"""Runs of a DNA language model: bases predicted from those before, or masked ones from both sides.

Windows of a genome are held out in stretches of 16: some are the test part, as many choose the
weights, the others are trained on, on either strand. ``perplexity`` is that of the test part's
bases, at most 4 for a useful model. k-mer models, counted on all windows but the test part, are the
controls. With ``fine_tune``, the name of a labelled data set, one classifier is then initialised
from the language model and another from scratch: ``fine_tuned_mcc`` and ``untaught_mcc`` are their
scores on that set's test part.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.config import record_from_table
from titans_seq.dna import LanguageConfig, PretrainSettings, TitansDNAClassifier, read_sequences
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.pretraining import (
    held_out_batches,
    score_language_model,
    scored_bases,
    split_corpus,
)
from titans_seq.dna.pretraining import Pretrained, pretrain_on_corpus
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.dna.markov import kmer_perplexities
from titans_seq.evaluation.families.classification import ClassificationExperiment
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.training import History

_FIXED = ("seed", "heads", "motifs", "motif_width", "stride")
"""Settings that recipes cannot change: the seed is the run's, the others those of the classifier
that is initialised from the model."""

_RUN_SETTINGS: dict[str, Any] = {"fine_tune": "", "fine_tune_epochs": 0, "device": "auto"}
"""Settings beside those of the model; 0 epochs means the classifier's default."""


def next_base_settings() -> dict[str, Any]:
    """Return the settings that a recipe may have, with their defaults."""
    fields = [*dataclasses.fields(LanguageConfig), *dataclasses.fields(PretrainSettings)]
    return {**{f.name: f.default for f in fields if f.name not in _FIXED}, **_RUN_SETTINGS}


@dataclass(frozen=True)
class LanguageRunModel:
    """A language model, and the two classifiers of a run that fine-tunes."""

    pretrained: Pretrained
    fine_tuned: TitansDNAClassifier | None = None
    from_scratch: TitansDNAClassifier | None = None

    @property
    def history_(self) -> History:
        """History of pre-training."""
        return self.pretrained.history

    def save(self, folder: Path) -> None:
        """Write the language model, with the fine-tuned classifier in a folder inside."""
        self.pretrained.save(folder)
        if self.fine_tuned is not None:
            self.fine_tuned.save(folder / "fine-tuned")


class NextBaseExperiment:
    """A language model of one genome.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        The genome, and the labelled data set to fine-tune on, if any.
    """

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        card = inputs.card
        if card.own is None:
            raise ConfigError(f"data set {card.name} is not a file of sequences without labels")
        self.path = inputs.paths[card.own]
        settings = {**next_base_settings(), **recipe.settings}
        self.run_settings = {name: settings.pop(name) for name in _RUN_SETTINGS}
        where = f"recipe {recipe.name}, settings"
        of_model = {field.name for field in dataclasses.fields(LanguageConfig)}
        config = {name: settings.pop(name) for name in [*settings] if name in of_model}
        self.config = record_from_table(LanguageConfig, config, where)
        self.settings = record_from_table(PretrainSettings, settings, where)
        window, held_share = self.settings.window, self.settings.held_share
        sequences = encode_all(read_sequences(self.path).sequences)
        # Held out twice: the outer windows are the test part, the inner ones choose the weights.
        outer = split_corpus(sequences, window, held_share, 0)
        self.test_windows = outer.validation
        self.corpus = split_corpus(outer.train, window, held_share, 1)
        self.fine_tuning = _fine_tuning(recipe, self.run_settings["fine_tune"], inputs)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Scores that tables print."""
        of_classifiers = () if self.fine_tuning is None else ("fine_tuned_mcc", "untaught_mcc")
        return ("perplexity", "bits_per_base", "accuracy", *of_classifiers)

    def train(self, trial: Trial) -> LanguageRunModel:
        """Return a language model, and classifiers initialised from it and from scratch."""
        settings = dataclasses.replace(self.settings, seed=trial.seed)
        device = self.run_settings["device"]
        pretrained = pretrain_on_corpus(self.corpus, self.config, settings, device)
        if self.fine_tuning is None:
            return LanguageRunModel(pretrained)
        # Both classifiers have the architecture of the model, so that only the start differs.
        same: dict[str, Any] = {
            name: getattr(self.config, name) for name in ("tokens", "variant", "dim", "layers")
        }
        epochs = self.run_settings["fine_tune_epochs"]
        same |= {"device": device} | ({"max_epochs": epochs} if epochs else {})
        with tempfile.TemporaryDirectory() as folder:
            initial = Path(folder) / "pretrained"
            pretrained.save(initial)
            fine_tuned = self.fine_tuning.train_with(trial, {**same, "init": str(initial)})
        fine_tuned.set_params(init=None)  # the folder no longer exists
        return LanguageRunModel(pretrained, fine_tuned, self.fine_tuning.train_with(trial, same))

    def score(self, model: LanguageRunModel, trial: Trial) -> Scored:
        """Score the bases of the test part, and the classifiers."""
        network, settings = model.pretrained.network, model.pretrained.settings
        result = score_language_model(network, settings, self.test_windows)
        scores: Metrics = {
            "perplexity": result.perplexity,
            "bits_per_base": float(np.log2(result.perplexity)),
            "accuracy": result.accuracy,
            "bases": int(sum(targets.sum() for _, targets in result.scored)),
        }
        classifiers = {"fine_tuned": model.fine_tuned, "untaught": model.from_scratch}
        for name, classifier in classifiers.items():
            if classifier is not None and self.fine_tuning is not None:
                of_classifier = self.fine_tuning.score(classifier, trial).scores
                scores |= {f"{name}_{key}": of_classifier[key] for key in ("mcc", "accuracy")}
        by_window = [
            score_language_model(network, settings, [window]) for window in self.test_windows
        ]
        table = pd.DataFrame({
            "window": range(len(by_window)),
            "letters": [len(window) for window in self.test_windows],
            "perplexity": [window.perplexity for window in by_window],
        })  # fmt: skip
        return Scored(scores, table)

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score k-mer models on the same bases."""
        return self._kmer_scores

    @cached_property
    def _kmer_scores(self) -> dict[str, Metrics]:
        """Scores of k-mer models, the same for all trials."""
        masked = self.config.objective == "masked"
        mask_share = self.settings.mask_share if masked else None
        batches = held_out_batches(self.test_windows, self.settings.batch_size, mask_share)
        test = scored_bases(batches)
        train = [*self.corpus.train, *self.corpus.validation]
        perplexities = {"any base alike": 4.0, **kmer_perplexities(train, test, masked=masked)}
        return {
            name: {"perplexity": value, "bits_per_base": float(np.log2(value))}
            for name, value in perplexities.items()
        }

    def plot(self, model: LanguageRunModel, trial: Trial, path: Path) -> None:
        """Draw the perplexity beside those of k-mer models."""
        from titans_seq.evaluation.scores.plots import plot_bars

        pretrained = model.pretrained
        result = score_language_model(pretrained.network, pretrained.settings, self.test_windows)
        bars = {"titans-seq": result.perplexity}
        bars |= {name: scores["perplexity"] for name, scores in self.controls(trial).items()}
        plot_bars(bars, path, title=self.title(trial), axis="perplexity")

    def borders(self) -> dict[str, Any]:
        """Return the letters of each part."""
        parts = {**self.corpus._asdict(), "test": self.test_windows}
        return {name: sum(map(len, windows)) for name, windows in parts.items()}

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        test_letters = sum(map(len, self.test_windows))
        return (
            f"{self.path.name}: {test_letters:,} test bases, predicted one by one "
            f"({self.config.objective}), {self.corpus.letters:,} training bases"
        )


def _fine_tuning(
    recipe: RecipeCard, name: str, inputs: RunInputs
) -> ClassificationExperiment | None:
    """Return the experiment that fine-tunes classifiers, if the recipe names a data set."""
    if not name:
        return None
    fine_tuning = RecipeCard(
        name=recipe.name, summary="", dataset=name, estimator="TitansDNAClassifier",
        seeds=recipe.seeds,
    )  # fmt: skip
    return ClassificationExperiment(fine_tuning, inputs.others[name])
