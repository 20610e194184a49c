"""Learning bases: how long, on what, and how well those are told that were not learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.learning.corpus import LEAST, Corpus, HeldWindows, WindowBatches
from titans_seq.dna.learning.language import TitansDNALanguage, base_losses
from titans_seq.exceptions import ConfigError
from titans_seq.training import History, Term, TrainSettings, train, world


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


class BaseScore(NamedTuple):
    """How well bases were told that had not been learnt."""

    perplexity: float
    """As unsure as among this many bases, 4 at worst."""
    accuracy: float
    """Share of the bases that were the likeliest ones."""
    asked: list[tuple[Codes, npt.NDArray[np.bool_]]]
    """The windows, and which bases of each were asked for."""


def train_bases(
    network: TitansDNALanguage,
    corpus: Corpus,
    settings: PretrainSettings,
    device: str,
) -> History:
    """Train, and keep the weights that were best on the held-out windows."""
    masks = hidden_share(network, settings)
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
        validation=held_windows(network, corpus, settings),
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


def hidden_share(network: TitansDNALanguage, settings: PretrainSettings) -> float | None:
    """Return the share of the bases that is hidden; None hides none."""
    return settings.mask_share if network.config.objective == "masked" else None


def held_windows(
    network: TitansDNALanguage, corpus: Corpus, settings: PretrainSettings
) -> HeldWindows:
    """Return the held-out windows in batches."""
    return HeldWindows(corpus.held, settings.batch_size, hidden_share(network, settings))


def _mean_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> list[Term]:
    return [Term(*_summed_loss(network, batch))]


def _summed_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return base_losses(network(batch["codes"], batch["mask"]), batch["truth"], batch["asked"])


@torch.inference_mode()
def score_bases(
    network: TitansDNALanguage, settings: PretrainSettings, windows: Sequence[Codes]
) -> BaseScore:
    """Score a trained network on windows that it has not seen.

    Parameters
    ----------
    network, settings
        What was trained, and how.
    windows
        Codes; with the objective ``masked`` the same bases are hidden each time.
    """
    held = HeldWindows(windows, settings.batch_size, hidden_share(network, settings))
    loss = right = count = 0.0
    for batch in held:
        said = network(batch["codes"], batch["mask"])
        total, number = base_losses(said, batch["truth"], batch["asked"])
        loss, count = loss + float(total), count + int(number)
        shares = network.shares[batch["truth"].long()]
        sure = batch["asked"] & (shares.max(dim=-1).values == 1)
        guess = said.argmax(dim=-1)
        right += int((shares.argmax(dim=-1) == guess)[sure].sum())
    return BaseScore(float(np.exp(loss / count)), right / count, held.asked())
