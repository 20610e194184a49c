"""Learning from sequences without labels, as a beginning for those with few."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from titans_seq.config import table_from_record
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.corpus import LEAST, Corpus, HeldWindows, WindowBatches, make_corpus
from titans_seq.dna.learning.initial import PRETRAINED_KIND
from titans_seq.dna.learning.language import LanguageConfig, TitansDNALanguage, base_losses
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import CONFIG, check_new_folder, save_bundle
from titans_seq.training import (
    History,
    Term,
    TrainSettings,
    checkpointing,
    has_checkpoints,
    remove_checkpoints,
    seeded,
    train,
    world,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainSettings:
    """How long and on what a model is pre-trained."""

    window: int = 1024
    """Letters of a window."""

    batch_size: int = 16
    """Windows of a batch."""

    steps: int = 2000
    """Batches in all."""

    check_every: int = 200
    """Batches after which held-out windows are scored and a checkpoint is written."""

    learning_rate: float = 2e-3
    """Peak step of AdamW."""

    weight_decay: float = 0.05
    """Decay of AdamW."""

    mask_share: float = 0.15
    """Share of the bases that are hidden, with the objective ``masked``."""

    held_share: float = 0.05
    """Share of the letters that are held out."""

    seed: int = 0
    """Of all that is random."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        for name in ("batch_size", "steps", "check_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: at least 1")
        if self.window < LEAST:
            raise ConfigError(f"window={self.window}: at least {LEAST}")
        for name in ("mask_share", "held_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: above 0 and below 1")


class Pretrained(NamedTuple):
    """What pre-training came to."""

    network: TitansDNALanguage
    history: History
    perplexity: float
    """Of the held-out bases asked for: as unsure as among this many bases, 4 at worst."""
    corpus: Corpus
    asked: list[tuple[Codes, npt.NDArray[np.bool_]]]
    """Held-out windows, and which bases of each were asked for."""


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
    with seeded(settings.seed):
        network = TitansDNALanguage(config)
    with checkpointing(kept, resume=resume, about=_about(config, settings, corpus)):
        history = _train(network, corpus, settings, device)
        network.cpu()
        perplexity = float(np.exp(history.best_loss or 0.0))
        _save(folder, network, settings, corpus, history, force=force)
    remove_checkpoints(kept)
    held = _held_windows(network, corpus, settings)
    return Pretrained(network, history, perplexity, corpus, held.asked())


def _train(
    network: TitansDNALanguage,
    corpus: Corpus,
    settings: PretrainSettings,
    device: str,
) -> History:
    """Train, and keep the weights that were best on the held-out windows."""
    masks = _hidden(network, settings)
    batches = WindowBatches(
        corpus.learn,
        window=settings.window,
        size=(min(settings.check_every, settings.steps), settings.batch_size * world().size),
        seed=settings.seed,
        mask_share=masks,
    )
    return train(
        network,
        _mean_loss,
        batches,
        validation=_held_windows(network, corpus, settings),
        settings=TrainSettings(
            max_epochs=-(-settings.steps // len(batches)),
            max_steps=settings.steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            device=device,
            average_weights=True,
        ),
        validation_loss=_summed_loss,
        seed=settings.seed,
    )


def _hidden(network: TitansDNALanguage, settings: PretrainSettings) -> float | None:
    """Return the share of the bases that is hidden; None hides none."""
    return settings.mask_share if network.config.objective == "masked" else None


def _held_windows(
    network: TitansDNALanguage, corpus: Corpus, settings: PretrainSettings
) -> HeldWindows:
    """Return the held-out windows in batches."""
    return HeldWindows(corpus.held, settings.batch_size, _hidden(network, settings))


def _mean_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> list[Term]:
    return [Term(*_summed_loss(network, batch))]


def _summed_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return base_losses(network(batch["codes"], batch["mask"]), batch["truth"], batch["asked"])


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
