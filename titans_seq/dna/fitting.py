"""How the DNA network learns, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.network import TitansDNANetwork, mix
from titans_seq.dna.windows import Labelled, LabelledBatches, pad, plan
from titans_seq.training import History, TrainSettings, train

_PREDICT_BATCH = 256
_PRIOR = 2.0
"""Sequences' worth of pull towards equal weights: few held-out rows change little."""


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
) -> History:
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
    if held.rows:
        readings = read(network, held.rows, average=average)
        network.mixing.copy_(
            fit_mixing(readings, torch.from_numpy(held.targets), torch.from_numpy(held.weights))
        )
    return history


def readers_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the sum of the readers' own losses: each learns as if it were alone."""
    readings = network.readings(batch["codes"], batch["mask"])
    target = batch["target"].expand(len(readings), -1)
    errors = F.nll_loss(readings.flatten(0, 1), target.flatten(), reduction="none")
    loss: Tensor = (errors.unflatten(0, target.shape).sum(dim=0) * batch["weight"]).mean()
    return loss


def mixed_loss(network: TitansDNANetwork, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed loss of the joint answer, and the weight of the rows."""
    answer = network(batch["codes"], batch["mask"])
    errors = F.nll_loss(answer, batch["target"], reduction="none")
    return (errors * batch["weight"]).sum(), batch["weight"].sum()


@torch.no_grad()
def read(
    network: TitansDNANetwork, rows: Sequence[Codes], *, average: bool
) -> Float[Tensor, "readers rows classes"]:
    """Return each reader's log-probabilities of every sequence, on the CPU.

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
        found.append(torch.stack(readings).mean(dim=0).log_softmax(dim=-1).cpu())
    order = torch.cat([torch.from_numpy(index) for index in batches])
    return torch.cat(found, dim=1)[:, order.argsort()]


def fit_mixing(
    readings: Float[Tensor, "readers rows classes"],
    targets: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
) -> Float[Tensor, " readers"]:
    """Return the positive weights under which the mixed readings are likeliest to be right.

    The sum of the weights is free, so the result is calibrated too: a sum below one takes
    back confidence, one above adds to it.

    Parameters
    ----------
    readings
        Log-probabilities of each reader on rows that none has learnt from.
    targets
        Index of each row's class.
    weights
        What each row counts.
    """
    readings = readings.double()
    equal = torch.full((len(readings),), 1 / len(readings), dtype=torch.float64)
    log_weights = equal.log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        errors = F.nll_loss(mix(readings, log_weights.exp()), targets, reduction="none")
        loss = (errors * weights).sum() + _PRIOR * (log_weights - equal.log()).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_weights.detach().exp().float()
