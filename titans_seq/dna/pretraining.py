"""Learning from sequences without labels, as a beginning for those with few."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.bundles import CONFIG, save_bundle
from titans_seq.config import table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.bases import PretrainSettings, held_windows, train_bases
from titans_seq.dna.learning.corpus import Corpus, make_corpus
from titans_seq.dna.learning.initial import PRETRAINED_KIND
from titans_seq.dna.learning.language import LanguageConfig, TitansDNALanguage
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import check_new_folder
from titans_seq.training import (
    History,
    checkpointing,
    has_checkpoints,
    remove_checkpoints,
    seeded,
)


class Pretrained(NamedTuple):
    """What pre-training came to."""

    network: TitansDNALanguage
    history: History
    perplexity: float
    """Of the held-out bases asked for: as unsure as among this many bases, 4 at worst."""
    corpus: Corpus
    asked: list[tuple[Codes, npt.NDArray[np.bool_]]]
    """Held-out windows, and which bases of each were asked for."""
    settings: PretrainSettings

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write what ``TitansDNAClassifier(init=...)`` takes.

        Raises
        ------
        BundleError
            If the folder holds something that may not be replaced.
        """
        _save(folder, self.network, self.settings, self.corpus, self.history, force=force)


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

    The folder is what ``TitansDNAClassifier(init=...)`` takes. While it works, checkpoints stand
    in ``<folder>.checkpoints``.

    Parameters
    ----------
    sequences
        As for ``TitansDNAClassifier.fit``: genomes, reads, anything that is DNA.
    folder
        A new or empty folder.
    config
        Sizes, and whether the next base or hidden bases are learnt.
    settings
        How long, and on what windows.
    resume
        Go on from the checkpoint, if there is one. The result is what it would have been.
    force
        Replace a model that stands there, and begin anew though there is a checkpoint.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    DataError
        If a sequence is no DNA, or there are too few letters.
    ConfigError
        If a setting is outside its range, or the checkpoint is of other settings or data.
    BundleError
        If the folder holds something that may not be replaced.
    """
    config, settings = config or LanguageConfig(), settings or PretrainSettings()
    try:
        check_new_folder(folder, force=force, marker=CONFIG)
    except ConfigError as error:
        raise BundleError(str(error)) from error
    rows = encode_all(sequences)
    corpus = make_corpus(rows, settings.window, settings.held_share, settings.seed)
    kept = Path(folder).with_name(f"{Path(folder).name}.checkpoints")
    if has_checkpoints(kept) and not (resume or force):
        raise ConfigError(f"{kept} holds a training that was cut off: resume it")
    with checkpointing(kept, resume=resume, about=_about(config, settings, corpus)):
        found = learn_bases(corpus, config, settings, device)
        found.save(folder, force=force)
    remove_checkpoints(kept)
    return found


def learn_bases(
    corpus: Corpus, config: LanguageConfig, settings: PretrainSettings, device: str = "auto"
) -> Pretrained:
    """Train a network on a corpus, without files; it is left on the CPU.

    Parameters
    ----------
    corpus
        What is learnt, and the windows that choose the weights.
    config, settings, device
        As for :func:`pretrain`.
    """
    with seeded(settings.seed):
        network = TitansDNALanguage(config)
    history = train_bases(network, corpus, settings, device)
    network.cpu()
    perplexity = float(np.exp(history.best_loss or 0.0))
    held = held_windows(network, corpus, settings)
    return Pretrained(network, history, perplexity, corpus, held.asked(), settings)


def _about(
    config: LanguageConfig, settings: PretrainSettings, corpus: Corpus
) -> dict[str, str | int]:
    """Return what a checkpoint must have been written for."""
    tables = {"network": table_from_record(config), "settings": table_from_record(settings)}
    flat = {f"{name}.{key}": str(v) for name, table in tables.items() for key, v in table.items()}
    return {**flat, "letters": corpus.letters}


def _save(
    folder: str | os.PathLike[str],
    network: TitansDNALanguage,
    settings: PretrainSettings,
    corpus: Corpus,
    history: History,
    *,
    force: bool,
) -> None:
    """Write the model folder."""
    perplexity = float(np.exp(history.best_loss or 0.0))
    config = network.config
    save_bundle(
        folder,
        kind=PRETRAINED_KIND,
        config={"network": table_from_record(config), "settings": table_from_record(settings)},
        tensors=network.state_dict(),
        preprocess={"letters": corpus.letters, "held_letters": sum(map(len, corpus.held))},
        metrics={"training": history.to_table(), "perplexity": perplexity},
        card=f"# DNA, pre-trained\n\nObjective: {config.objective}; tokens: {config.tokens}; "
        f"backbone: {config.variant}, {config.layers} layers of width {config.dim}.\n"
        f"Learnt from {corpus.letters:,} letters in {history.steps:,} batches of "
        f"{settings.batch_size} windows of {settings.window}.\n"
        f"Perplexity on held-out windows: {perplexity:.4f}.\n",
        force=force,
    )
