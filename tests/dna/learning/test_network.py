"""The DNA network: padding and neighbours change nothing, and each pool sees what it should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.dna.alphabet import decode, encode
from titans_seq.dna.learning.batches import pad
from titans_seq.dna.learning.network import DNANetworkConfig, TitansDNANetwork
from titans_seq.dna.learning.pooling import (
    AttentionPool,
    PositionLogits,
    PositionPool,
    masked_max,
    masked_mean,
)
from titans_seq.dna.learning.tasks import combined
from titans_seq.training import seeded

SEQUENCES = ["ACGTTGCANNRY" * 4, "A", "AC", "GATTACA", "TTTTTACGTAC" * 9]


def _network(variant: str = "mag", **changes: object) -> TitansDNANetwork:
    config = DNANetworkConfig(
        **{"outputs": 3, "places": 40, "dim": 8, "layers": 1, "heads": 2, "motifs": 6}
        | {"variant": variant}
        | changes
    )
    with seeded(0):
        network = TitansDNANetwork(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.mark.parametrize("variant", ["mag", "mac", "mal", "lmm", "attention"])
def test_padding_and_neighbours_change_nothing(variant: str) -> None:
    network = _network(variant).double()
    rows = [encode(sequence) for sequence in SEQUENCES]
    together = network.branch_outputs(**pad(rows))
    for index, row in enumerate(rows):
        alone = network.branch_outputs(**pad([row]))
        torch.testing.assert_close(together[:, index], alone[:, 0], rtol=0, atol=1e-10)


def test_every_reader_learns_and_probabilities_sum_to_one() -> None:
    network = _network()
    batch = pad([encode(sequence) for sequence in SEQUENCES])
    answer = network(**batch)
    torch.testing.assert_close(answer.exp().sum(dim=-1), torch.ones(len(SEQUENCES)))
    (answer[:, 0].sum()).backward()
    silent = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()
    ]
    assert not silent


def test_the_memory_is_part_of_the_answer() -> None:
    network = _network()
    batch = pad([encode(SEQUENCES[0])])
    before = network.branch_outputs(**batch)[0]
    memory = [p for name, p in network.named_parameters() if ".memory." in name]
    assert memory
    with torch.no_grad():
        for parameter in memory:
            parameter.mul_(-1.5)
    assert not torch.allclose(before, network.branch_outputs(**batch)[0])


def test_mixing_by_one_reader_is_that_reader() -> None:
    readings = torch.randn(3, 5, 4).log_softmax(dim=-1)
    for index, weights in enumerate(torch.eye(3)):
        torch.testing.assert_close(combined(readings, weights), readings[index])


@pytest.mark.parametrize("length", [1, 3, 5, 9])
def test_place_logits_read_both_ends(length: int) -> None:
    reader = PositionLogits(1, 4, 0.0)
    torch.nn.init.normal_(reader.start)
    torch.nn.init.normal_(reader.end)
    sequence = "GATTACAGT"[:length]
    batch = pad([encode(sequence), encode("C" * 12)])
    bases = _one_hot(sequence, 12)
    expected = 0.0
    for place, base in enumerate(sequence):
        for table, at in ((reader.start, place), (reader.end, length - 1 - place)):
            if at < 4:
                expected += float(table[at, "ACGT".index(base), 0].detach())
    found = reader(bases, batch["mask"][:1])
    assert float(found.detach()) == pytest.approx(expected, abs=1e-5)


def _one_hot(sequence: str, time: int) -> Tensor:
    bases = torch.zeros(1, time, 4)
    for place, base in enumerate(decode(encode(sequence))):
        bases[0, place, "ACGT".index(base)] = 1
    return bases


@pytest.mark.parametrize("length", [1, 4, 7])
def test_pools_see_the_real_tokens_only(length: int) -> None:
    tokens = torch.randn(2, 7, 8)
    mask = torch.arange(7)[None] < torch.tensor([[length], [7]])
    for pool in (masked_mean, masked_max, AttentionPool(8, 2, 3), PositionPool(8, 4, 3)):
        found = pool(tokens, mask)[0]
        alone = pool(tokens[:1, :length], mask[:1, :length])[0]
        torch.testing.assert_close(found, alone)
    torch.testing.assert_close(masked_mean(tokens, mask)[0], tokens[0, :length].mean(dim=0))
    torch.testing.assert_close(masked_max(tokens, mask)[0], tokens[0, :length].amax(dim=0))


def test_the_place_pool_knows_where_a_feature_stands() -> None:
    pool = PositionPool(8, 4, 6)
    tokens = torch.randn(1, 6, 8)
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert not torch.allclose(pool(tokens, mask), pool(tokens.flip(1), mask))
