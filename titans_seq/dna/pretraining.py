"""Pre-train on sequences without labels, as a starting point when labels are few."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.bundles import CONFIG, load_bundle, load_weights, save_bundle
from titans_seq.config import table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.language import LanguageConfig, TitansDNALanguage
from titans_seq.dna.learning.network import TitansDNANetwork
from titans_seq.dna.learning.pretraining import (
    Corpus,
    PretrainSettings,
    scored_bases,
    split_corpus,
    train_language_model,
    validation_batches,
)
from titans_seq.dna.learning.tokens import EncoderConfig
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import check_new_folder
from titans_seq.training import (
    History,
    checkpointing,
    has_checkpoints,
    remove_checkpoints,
    seeded,
)

_PRETRAINED_KIND = "titans-dna-pretrained"
"""Kind of a pre-trained model in its ``config.json``."""


class Pretrained(NamedTuple):
    """A pre-trained model and its scores."""

    network: TitansDNALanguage
    history: History
    perplexity: float
    """Perplexity of the scored bases of held-out windows; 4 for uniform guesses."""
    corpus: Corpus
    asked: list[tuple[Codes, npt.NDArray[np.bool_]]]
    """Held-out windows, and which bases of each are scored."""
    settings: PretrainSettings

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model folder that ``TitansDNAClassifier(init=...)`` takes.

        Raises
        ------
        BundleError
            If the folder contains something that may not be replaced.
        """
        config, history, settings = self.network.config, self.history, self.settings
        letters = self.corpus.letters
        perplexity = _perplexity(history)
        save_bundle(
            folder,
            kind=_PRETRAINED_KIND,
            config={"network": table_from_record(config), "settings": table_from_record(settings)},
            tensors=self.network.state_dict(),
            preprocess={
                "letters": letters,
                "held_letters": sum(map(len, self.corpus.validation)),
            },
            metrics={"training": history.to_table(), "perplexity": perplexity},
            card=f"# DNA, pre-trained\n\nObjective: {config.objective}; tokens: {config.tokens}; "
            f"backbone: {config.variant}, {config.layers} layers of width {config.dim}.\n"
            f"Trained on {letters:,} letters in {history.steps:,} batches of "
            f"{settings.batch_size} windows of {settings.window}.\n"
            f"Perplexity on held-out windows: {perplexity:.4f}.\n",
            force=force,
        )


def pretrain(
    sequences: Any,
    folder: str | os.PathLike[str],
    *,
    config: LanguageConfig | None = None,
    settings: PretrainSettings | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
) -> Pretrained:
    """Pre-train tokens and backbone on sequences and write them to a model folder.

    ``TitansDNAClassifier(init=folder)`` starts from it. During the training, checkpoints are
    written to ``<folder>.checkpoints``.

    Parameters
    ----------
    sequences
        As for ``TitansDNAClassifier.fit``: genomes, reads, any DNA.
    folder
        A new or empty folder.
    config
        Sizes of the network, and whether it predicts the next base or masked bases.
    settings
        Windows and duration of the training.
    resume
        Continue from the checkpoint, if there is one, to the same result.
    force
        Replace an existing model, and ignore a checkpoint.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    DataError
        If a sequence is not DNA, or there are too few letters.
    ConfigError
        If a setting is outside its range, or the checkpoint belongs to other settings or data.
    BundleError
        If the folder contains something that may not be replaced.
    """
    config, settings = config or LanguageConfig(), settings or PretrainSettings()
    try:
        check_new_folder(folder, force=force, marker=CONFIG)
    except ConfigError as error:
        raise BundleError(str(error)) from error
    codes = encode_all(sequences)
    corpus = split_corpus(codes, settings.window, settings.held_share, settings.seed)
    checkpoints = Path(folder).with_name(f"{Path(folder).name}.checkpoints")
    if has_checkpoints(checkpoints) and not (resume or force):
        raise ConfigError(f"{checkpoints} contains an interrupted training: resume it")
    with checkpointing(checkpoints, resume=resume, about=_identity(config, settings, corpus)):
        pretrained = pretrain_on_corpus(corpus, config, settings, device)
        pretrained.save(folder, force=force)
    remove_checkpoints(checkpoints)
    return pretrained


def pretrain_on_corpus(
    corpus: Corpus, config: LanguageConfig, settings: PretrainSettings, device: str = "auto"
) -> Pretrained:
    """Train a network on a corpus, without files; it is left on the CPU.

    Parameters
    ----------
    corpus
        Sequences to train on, and the windows that choose the weights.
    config, settings, device
        As for :func:`pretrain`.
    """
    with seeded(settings.seed):
        network = TitansDNALanguage(config)
    history = train_language_model(network, corpus, settings, device)
    network.cpu()
    scored = scored_bases(validation_batches(network, corpus.validation, settings))
    return Pretrained(network, history, _perplexity(history), corpus, scored, settings)


def _perplexity(history: History) -> float:
    """Return the perplexity of the best epoch."""
    return float(np.exp(history.best_loss or 0.0))


def _identity(
    config: LanguageConfig, settings: PretrainSettings, corpus: Corpus
) -> dict[str, str | int]:
    """Return the settings and data that a checkpoint must have been written for."""
    tables = {"network": table_from_record(config), "settings": table_from_record(settings)}
    flat = {f"{name}.{key}": str(v) for name, table in tables.items() for key, v in table.items()}
    return {**flat, "letters": corpus.letters}


def load_pretrained(network: TitansDNANetwork, folder: str | os.PathLike[str]) -> None:
    """Load the tokens and the backbone of a pre-trained model into a network.

    Raises
    ------
    BundleError
        If the folder was not written by :func:`pretrain`, or is damaged.
    ConfigError
        If the network has other sizes than the pre-trained model; the message names them.
    """
    bundle = load_bundle(folder, _PRETRAINED_KIND)
    names = [field.name for field in dataclasses.fields(EncoderConfig) if field.name != "dropout"]
    try:
        saved = {name: bundle.config["network"][name] for name in names}
    except (KeyError, TypeError) as error:
        raise BundleError(f"{folder} is damaged: its settings lack {error}") from error
    different = {
        name: value for name, value in saved.items() if getattr(network.config, name) != value
    }
    if different:
        expected = ", ".join(f"{name}={value!r}" for name, value in different.items())
        raise ConfigError(f"init={str(folder)!r} was pre-trained with {expected}: set the same")
    for module in ("tokens", "backbone"):
        weights = {
            name.removeprefix(f"{module}."): value
            for name, value in bundle.tensors.items()
            if name.startswith(f"{module}.")
        }
        try:
            load_weights(getattr(network.titans, module), weights)
        except ValueError as error:
            raise BundleError(f"{folder} is damaged: {error}") from error
