"""How readers are asked, one by one or together, and how far they are from what is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.learning.network import READERS, TitansDNANetwork
from titans_seq.dna.learning.tasks import errors, settle
from titans_seq.dna.learning.windows import Rows, pad, plan
from titans_seq.training import shared_map

SIMPLE = ("words", "places")
"""The readers that are logistic regressions."""

PREDICT_BATCH = 256
"""Sequences of a batch that nothing is learnt from."""

Batch = dict[str, Tensor]


def reader_loss(network: TitansDNANetwork, reader: str) -> Callable[[object, Batch], Tensor]:
    """Return the loss of one reader of a network, a mean over the batch."""

    def loss(_: object, batch: Batch) -> Tensor:
        each = _errors_of(network, reader, batch)
        return (each * batch["weight"]).mean()

    return loss


def reader_validation(
    network: TitansDNANetwork, reader: str
) -> Callable[[object, Batch], tuple[Tensor, Tensor]]:
    """Return the summed loss of one reader, with the weight of the rows."""

    def loss(_: object, batch: Batch) -> tuple[Tensor, Tensor]:
        each = _errors_of(network, reader, batch)
        return (each * batch["weight"]).sum(), batch["weight"].sum()

    return loss


def _errors_of(network: TitansDNANetwork, reader: str, batch: Batch) -> Tensor:
    """Return the loss of each row."""
    raw = network.raw_of(reader, network.strand(batch["codes"], batch["mask"]))
    task = network.config.task
    return errors(settle(raw, task), batch["target"], task)


def readers_loss(network: TitansDNANetwork, batch: Batch) -> Tensor:
    """Return the sum of the readers' own losses: each learns as if it were alone."""
    readings = network.readings(batch["codes"], batch["mask"])
    each = errors(readings, batch["target"], network.config.task)
    loss: Tensor = (each.sum(dim=0) * batch["weight"]).mean()
    return loss


def mixed_loss(network: TitansDNANetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed loss of the joint answer, and the weight of the rows."""
    answer = network(batch["codes"], batch["mask"])
    each = errors(answer, batch["target"], network.config.task)
    return (each * batch["weight"]).sum(), batch["weight"].sum()


@torch.no_grad()
def read(
    network: TitansDNANetwork, rows: Sequence[Codes], readers: tuple[str, ...] = READERS
) -> Float[Tensor, "readers rows outputs"]:
    """Return each reader's answer for every sequence, on the CPU.

    A mean over both strands where ``network.config.strands`` says ``average``.

    Parameters
    ----------
    network
        Used as it stands, in eval mode, where it is.
    rows
        Codes of the sequences; their order and neighbours change nothing.
    readers
        Whom to ask.
    """
    device = network.mixing.device
    average = network.config.strands == "average"
    network.eval()
    batches = plan([len(row) for row in rows], PREDICT_BATCH)

    def ask(index: Rows) -> Tensor:
        batch = [rows[i] for i in index]
        strands = [batch, [reverse_complement(row) for row in batch]] if average else [batch]
        readings = []
        for strand in strands:
            tensors = {name: value.to(device) for name, value in pad(strand).items()}
            readings.append(network.readings(**tensors, readers=readers))
        return settle(torch.stack(readings).mean(dim=0), network.config.task).cpu()

    found = list(shared_map(ask, batches))
    order = torch.cat([torch.from_numpy(index) for index in batches])
    return torch.cat(found, dim=1)[:, order.argsort()]
