"""The size of weights that follow from an accumulator."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.rules.retention import NormRetention


def _weights(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("power", [2.0, 3.0, 4.0])
def test_the_start_is_read_as_it_is(power: float) -> None:
    start = _weights(0)
    scale = NormRetention(power).scale(start, start)
    torch.testing.assert_close(scale, torch.ones_like(scale))


@pytest.mark.parametrize("power", [3.0, 4.0])
def test_large_accumulators_are_divided_by_a_power_of_their_norm(power: float) -> None:
    start, summed = _weights(0), 1e4 * _weights(1)
    norm = torch.linalg.vector_norm(summed, power, dim=(-2, -1), keepdim=True)
    unit = torch.linalg.vector_norm(start, power, dim=(-2, -1), keepdim=True)
    right = 2 ** ((power - 2) / power) / (norm / unit) ** (power - 2)
    torch.testing.assert_close(NormRetention(power).scale(summed, start), right)


@pytest.mark.parametrize("size", [1e-3, 0.5, 1.0, 3.0, 1e3])
def test_weights_never_outgrow_the_start(size: float) -> None:
    start, summed = _weights(0), size * _weights(1)
    weights = summed * NormRetention().scale(summed, start)
    largest = torch.linalg.vector_norm(start, 4, dim=(-2, -1))
    assert (torch.linalg.vector_norm(weights, 4, dim=(-2, -1)) <= largest * (1 + 1e-12)).all()


def test_a_power_of_two_keeps_the_accumulator() -> None:
    start, summed = _weights(0), _weights(1)
    scale = NormRetention(2.0).scale(summed, start)
    torch.testing.assert_close(scale, torch.ones_like(scale))
