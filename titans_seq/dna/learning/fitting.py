"""How the DNA network learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from titans_seq.dna.learning.calibration import fit_mixing, judge_mixing
from titans_seq.dna.learning.network import TitansDNANetwork
from titans_seq.dna.learning.readers import (
    PREDICT_BATCH,
    mixed_loss,
    read,
    reader_loss,
    readers_loss,
)
from titans_seq.dna.learning.windows import Labelled, LabelledBatches
from titans_seq.training import History, TrainSettings, train


class Fitted(NamedTuple):
    """How a training went."""

    history: History
    """Losses and times of the epochs."""

    calibration: dict[str, float]
    """How good the joint answer is on held-out rows, see
    :func:`titans_seq.dna.learning.calibration.judge_mixing`; empty without such rows."""


def fit_network(
    network: TitansDNANetwork,
    learn: Labelled,
    held: Labelled,
    settings: TrainSettings,
    *,
    batch_size: int,
    seed: int,
) -> Fitted:
    """Train the titans reader, then settle what each reader is worth.

    Parameters
    ----------
    network
        Trained in place; its simple readers stay as
        :func:`titans_seq.dna.learning.start.fit_simple` left them.
    learn
        What to train on.
    held
        What to choose the epoch and weigh the readers by; may be empty.
    settings
        How long and how fast.
    batch_size
        Sequences of a batch.
    seed
        Of order, strands and dropout.
    """
    validation = LabelledBatches(held, batch_size=PREDICT_BATCH) if held.rows else None
    with _still(network.words, network.places):
        history = train(
            network,
            titans_loss,
            _batches(network, learn, batch_size, seed),
            validation=validation,
            settings=settings,
            validation_loss=mixed_loss,
            seed=seed,
        )
    calibration = settle_weights(network, held) if held.rows else {}
    return Fitted(history, calibration)


def pass_once(
    network: TitansDNANetwork,
    learn: Labelled,
    settings: TrainSettings,
    *,
    batch_size: int,
    seed: int,
) -> Fitted:
    """Let every reader learn from some rows; what each is worth stays as it was."""
    batches = _batches(network, learn, batch_size, seed)
    return Fitted(train(network, readers_loss, batches, settings=settings, seed=seed), {})


def titans_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of the titans reader alone."""
    return reader_loss(network, "titans")(network, batch)


@torch.no_grad()
def settle_weights(network: TitansDNANetwork, held: Labelled) -> dict[str, float]:
    """Weigh the readers by what they are worth on held-out rows; return how good that is."""
    readings = read(network, held.rows)
    targets, weights = torch.from_numpy(held.targets), torch.from_numpy(held.weights)
    task = network.config.task
    network.mixing.copy_(fit_mixing(readings, targets, weights, task))
    judged = judge_mixing(readings, targets, weights, task)
    return judged | {"temperature": 1 / float(network.mixing.sum())}


def _batches(
    network: TitansDNANetwork, learn: Labelled, batch_size: int, seed: int
) -> LabelledBatches:
    """Return batches in new order each epoch, of both strands if the network is to see both."""
    return LabelledBatches(learn, batch_size=batch_size, seed=seed, turn=network.config.turned)


@contextmanager
def _still(*parts: nn.Module) -> Iterator[None]:
    """Let nothing train these parts."""
    for part in parts:
        part.requires_grad_(False)
    try:
        yield
    finally:
        for part in parts:
            part.requires_grad_(True)
