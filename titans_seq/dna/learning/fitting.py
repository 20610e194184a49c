"""How the DNA network learns, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.learning.calibration import fit_mixing, judge_mixing
from titans_seq.dna.learning.network import TitansDNANetwork
from titans_seq.dna.learning.tasks import errors, settle
from titans_seq.dna.learning.windows import Labelled, LabelledBatches, pad, plan
from titans_seq.training import History, TrainSettings, train

_PREDICT_BATCH = 256


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
    augment: bool,
    average: bool,
    seed: int,
) -> Fitted:
    """Train every reader, then settle what each is worth.

    Parameters
    ----------
    network
        Trained in place.
    learn
        What to train on.
    held
        What to choose the epoch and weigh the readers by; may be empty.
    settings
        How long and how fast.
    batch_size
        Sequences of a batch.
    augment
        Learn from both strands.
    average
        Weigh the readers by their means over both strands, as predictions will be made.
    seed
        Of order, strands and dropout.
    """
    batches = LabelledBatches(learn, batch_size=batch_size, seed=seed, turn=augment)
    validation = LabelledBatches(held, batch_size=_PREDICT_BATCH) if held.rows else None
    history = train(
        network,
        readers_loss,
        batches,
        validation=validation,
        settings=settings,
        validation_loss=mixed_loss,
        seed=seed,
    )
    calibration = settle_weights(network, held, average=average) if held.rows else {}
    return Fitted(history, calibration)


@torch.no_grad()
def settle_weights(network: TitansDNANetwork, held: Labelled, *, average: bool) -> dict[str, float]:
    """Weigh the readers by what they are worth on held-out rows; return how good that is."""
    readings = read(network, held.rows, average=average)
    targets, weights = torch.from_numpy(held.targets), torch.from_numpy(held.weights)
    task = network.config.task
    network.mixing.copy_(fit_mixing(readings, targets, weights, task))
    judged = judge_mixing(readings, targets, weights, task)
    return judged | {"temperature": 1 / float(network.mixing.sum())}


def readers_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the sum of the readers' own losses: each learns as if it were alone."""
    readings = network.readings(batch["codes"], batch["mask"])
    each = errors(readings, batch["target"], network.config.task)
    loss: Tensor = (each.sum(dim=0) * batch["weight"]).mean()
    return loss


def mixed_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed loss of the joint answer, and the weight of the rows."""
    answer = network(batch["codes"], batch["mask"])
    each = errors(answer, batch["target"], network.config.task)
    return (each * batch["weight"]).sum(), batch["weight"].sum()


@torch.no_grad()
def read(
    network: TitansDNANetwork, rows: Sequence[Codes], *, average: bool
) -> Float[Tensor, "readers rows outputs"]:
    """Return each reader's answer for every sequence, on the CPU.

    Parameters
    ----------
    network
        Used as it stands, in eval mode, where it is.
    rows
        Codes of the sequences; their order and neighbours change nothing.
    average
        Take the mean over both strands.
    """
    device = network.mixing.device
    network.eval()
    found: list[Tensor] = []
    batches = plan([len(row) for row in rows], _PREDICT_BATCH)
    for index in batches:
        batch = [rows[i] for i in index]
        strands = [batch, [reverse_complement(row) for row in batch]] if average else [batch]
        readings = []
        for strand in strands:
            tensors = {name: value.to(device) for name, value in pad(strand).items()}
            readings.append(network.readings(**tensors))
        found.append(settle(torch.stack(readings).mean(dim=0), network.config.task).cpu())
    order = torch.cat([torch.from_numpy(index) for index in batches])
    return torch.cat(found, dim=1)[:, order.argsort()]
