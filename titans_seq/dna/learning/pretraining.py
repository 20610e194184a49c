"""Pre-train a language model on windows of unlabelled sequences, and score it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.dna.alphabet import PAD, Codes, encode, reverse_complement
from titans_seq.dna.learning.batches import batch_indices, pad
from titans_seq.dna.learning.language import TitansDNALanguage, base_losses
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.training import History, RandomBatches, Term, TrainSettings, train, world

WINDOWS_PER_BLOCK = 16
"""Consecutive windows held out together, because neighbouring windows are similar."""

MIN_WINDOW = 32
"""Letters of the shortest sequence that is used."""

_MASKED = encode("N")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainSettings:
    """Data and duration of a pre-training."""

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
    """Share of the bases that are masked, with the objective ``masked``."""

    held_share: float = 0.05
    """Share of the letters that are held out."""

    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        minimum = {"batch_size": 1, "steps": 1, "check_every": 1, "window": MIN_WINDOW}
        for name, lowest in minimum.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} must be at least {lowest}, got {getattr(self, name)}")
        for name in ("mask_share", "held_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


class Corpus(NamedTuple):
    """Unlabelled sequences to train on, and held-out windows."""

    train: list[Codes]
    validation: list[Codes]

    @property
    def letters(self) -> int:
        """Letters to train on."""
        return sum(map(len, self.train))


def split_corpus(sequences: Sequence[Codes], window: int, held_share: float, seed: int) -> Corpus:
    """Split sequences into blocks to train on and windows to hold out.

    Parameters
    ----------
    sequences
        Codes of the sequences.
    window
        Letters of a window.
    held_share
        Share of the letters to hold out, at least one block.
    seed
        Seed of the choice.

    Raises
    ------
    DataError
        If there are too few letters.
    """
    size = window * WINDOWS_PER_BLOCK
    blocks = [codes[at : at + size] for codes in sequences for at in range(0, len(codes), size)]
    blocks = [block for block in blocks if len(block) >= MIN_WINDOW]
    if len(blocks) == 1:
        border = len(blocks[0]) * 9 // 10
        parts = (blocks[0][:border], blocks[0][border:])
        blocks = [part for part in parts if len(part) >= MIN_WINDOW]
    if len(blocks) < 2:
        raise DataError(f"too few letters to train on: at least {20 * MIN_WINDOW} are needed")
    order = np.random.default_rng(seed).permutation(len(blocks))
    held_out = set(order[: max(1, round(held_share * len(blocks)))].tolist())
    training = [block for i, block in enumerate(blocks) if i not in held_out]
    windows = [
        blocks[i][at : at + window]
        for i in sorted(held_out)
        for at in range(0, len(blocks[i]), window)
    ]
    return Corpus(training, [codes for codes in windows if len(codes) >= MIN_WINDOW])


def window_batches(
    sequences: Sequence[Codes],
    *,
    window: int,
    batch_size: int,
    batches: int,
    seed: int,
    mask_share: float | None,
) -> RandomBatches:
    """Return batches of random windows of either strand, see :func:`masked_batch`.

    Parameters
    ----------
    sequences
        Sequences to draw from, each in proportion to its length.
    window, batch_size, batches
        Letters of a window, windows of a batch, and batches of an epoch.
    seed
        Seed of everything that is drawn.
    mask_share
        Share of the bases that are masked; None masks none and scores all.
    """
    sources = [codes for codes in sequences if len(codes) >= MIN_WINDOW]
    lengths = np.array([len(codes) for codes in sources], dtype=np.float64)
    shares = lengths / lengths.sum()

    def draw(generator: np.random.Generator) -> dict[str, Tensor]:
        chosen = generator.choice(len(sources), batch_size, p=shares)
        windows = [_random_window(sources[i], window, generator) for i in chosen]
        return masked_batch(windows, mask_share, generator)

    return RandomBatches(draw, batches=batches, seed=seed)


def _random_window(codes: Codes, window: int, generator: np.random.Generator) -> Codes:
    """Return a random window of a sequence, from either strand."""
    start = int(generator.integers(0, max(len(codes) - window, 0) + 1))
    forward = codes[start : start + window]
    return reverse_complement(forward) if generator.random() < 0.5 else forward


def held_out_batches(
    windows: Sequence[Codes], batch_size: int, mask_share: float | None
) -> list[dict[str, Tensor]]:
    """Return held-out windows in batches, with the same masks each time."""
    generator = np.random.default_rng(0)
    return [
        masked_batch([windows[i] for i in index], mask_share, generator)
        for index in batch_indices([len(codes) for codes in windows], batch_size)
    ]


def masked_batch(
    windows: Sequence[Codes], mask_share: float | None, generator: np.random.Generator
) -> dict[str, Tensor]:
    """Return windows as a batch of four tensors, all (batch x time).

    ``codes`` and ``mask`` are the input of the network, in which masked bases are N; ``targets``
    are the original codes; ``scored`` is True for bases that count in the loss.
    """
    batch = pad(windows)
    targets = batch["codes"]
    if mask_share is None:
        return {**batch, "targets": targets, "scored": batch["mask"]}
    drawn: npt.NDArray[np.bool_] = generator.random(tuple(targets.shape)) < mask_share
    scored = torch.from_numpy(drawn) & (targets != PAD)
    codes = torch.where(scored, torch.tensor(_MASKED, dtype=targets.dtype), targets)
    return {"codes": codes, "mask": batch["mask"], "targets": targets, "scored": scored}


def scored_bases(
    batches: Sequence[dict[str, Tensor]],
) -> list[tuple[Codes, npt.NDArray[np.bool_]]]:
    """Return the codes of each window without padding, and which of them are scored."""
    return [
        (targets[: int(mask.sum())].numpy(), scored[: int(mask.sum())].numpy())
        for batch in batches
        for targets, scored, mask in zip(
            batch["targets"], batch["scored"], batch["mask"], strict=True
        )
    ]


def train_language_model(
    network: TitansDNALanguage, corpus: Corpus, settings: PretrainSettings, device: str
) -> History:
    """Train, and keep the weights with the lowest loss on the held-out windows."""
    batches = window_batches(
        corpus.train,
        window=settings.window,
        batch_size=settings.batch_size * world().size,
        batches=min(settings.check_every, settings.steps),
        seed=settings.seed,
        mask_share=mask_share(network, settings),
    )
    return train(
        network,
        _mean_loss,
        batches,
        validation=validation_batches(network, corpus.validation, settings),
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


def mask_share(network: TitansDNALanguage, settings: PretrainSettings) -> float | None:
    """Return the share of the bases that are masked; None for the objective ``next``."""
    return settings.mask_share if network.config.objective == "masked" else None


def validation_batches(
    network: TitansDNALanguage, windows: Sequence[Codes], settings: PretrainSettings
) -> list[dict[str, Tensor]]:
    """Return held-out windows in batches, masked as the objective requires."""
    return held_out_batches(windows, settings.batch_size, mask_share(network, settings))


def _mean_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> list[Term]:
    return [Term(*_summed_loss(network, batch))]


def _summed_loss(network: TitansDNALanguage, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    log_probabilities = network(batch["codes"], batch["mask"])
    return base_losses(log_probabilities, batch["targets"], batch["scored"])


class LanguageScore(NamedTuple):
    """Scores of predicted bases on held-out windows."""

    perplexity: float
    """Exponential of the mean loss: 1 if certain and right, 4 for uniform guesses."""
    accuracy: float
    """Share of the bases to which the model gave the highest probability."""
    scored: list[tuple[Codes, npt.NDArray[np.bool_]]]
    """The windows, and which bases of each were scored."""


@torch.inference_mode()
def score_language_model(
    network: TitansDNALanguage, settings: PretrainSettings, windows: Sequence[Codes]
) -> LanguageScore:
    """Score a trained network on windows that it was not trained on.

    Parameters
    ----------
    network, settings
        Trained network, and the settings of its training.
    windows
        Codes; with the objective ``masked`` the same bases are masked each time.
    """
    batches = validation_batches(network, windows, settings)
    loss = correct = count = 0.0
    for batch in batches:
        log_probabilities = network(batch["codes"], batch["mask"])
        total, number = base_losses(log_probabilities, batch["targets"], batch["scored"])
        loss, count = loss + float(total), count + int(number)
        shares = network.shares[batch["targets"].long()]  # (batch, time, 4)
        unambiguous = batch["scored"] & (shares.max(dim=-1).values == 1)
        predicted = log_probabilities.argmax(dim=-1)
        correct += int((shares.argmax(dim=-1) == predicted)[unambiguous].sum())
    return LanguageScore(float(np.exp(loss / count)), correct / count, scored_bases(batches))
