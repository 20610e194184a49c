"""Scalars of a chunk against products written out one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.ops.rules.rates import (
    chunk_scalars,
    mean_scalars,
    products_to_end,
    segment_products,
)


def _rates(chunk: int, seed: int = 0) -> Tensor:
    """Rates in [0, 1] with some exact zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(3, chunk, generator=generator, dtype=torch.float64)
    hard = torch.rand(3, chunk, generator=generator)
    return torch.where(hard < 0.15, 0.0, torch.where(hard > 0.85, 1.0, rates))


def _product(rates: Tensor, first: int, last: int) -> Tensor:
    """Product of rates first..last, 1 if there are none."""
    return rates[:, first : last + 1].prod(-1)


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_segment_products_are_the_products(chunk: int) -> None:
    rates = _rates(chunk)
    products = segment_products(rates.log())
    for t in range(chunk):
        for s in range(chunk):
            right = _product(rates, s + 1, t) if s <= t else torch.zeros(3).double()
            torch.testing.assert_close(products[:, t, s], right)


@pytest.mark.parametrize("chunk", [1, 7])
def test_products_to_the_end_are_the_last_row(chunk: int) -> None:
    log_rates = _rates(chunk).log()
    torch.testing.assert_close(products_to_end(log_rates), segment_products(log_rates)[..., -1, :])


def test_gradients_of_products_are_autograds_own() -> None:
    logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    call = lambda x: segment_products(torch.nn.functional.logsigmoid(x))  # noqa: E731
    assert torch.autograd.gradcheck(call, logits)
    assert torch.autograd.gradgradcheck(call, logits)


def test_float32_keeps_its_precision_with_gates_near_zero() -> None:
    logits = torch.randn(8, 64, dtype=torch.float64) * 3
    exact = chunk_scalars(*(torch.nn.functional.logsigmoid(logits),) * 2)
    single = chunk_scalars(*(torch.nn.functional.logsigmoid(logits.float()),) * 2)
    error = (single.mix.double() - exact.mix).abs() / (exact.mix.abs() + 1e-6 * exact.mix.max())
    assert error.max() < 1e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_scalars_reproduce_the_recurrence(seed: int) -> None:
    keep, momentum = _rates(9, seed), _rates(9, seed + 10)
    write = (torch.rand(3, 9) < 0.7).double()
    gradients = torch.randn(3, 9, dtype=torch.float64)
    weight, surprise = torch.randn(2, 3, dtype=torch.float64)
    scalars = chunk_scalars(keep.log(), momentum.log(), write)
    w, s = weight, surprise
    for t in range(9):
        s = momentum[:, t] * s - gradients[:, t]
        w = keep[:, t] * w + write[:, t] * s
        fast = scalars.keep_product[:, t] * weight + scalars.carry[:, t] * surprise
        fast = fast - (scalars.mix[:, t] * gradients).sum(-1)
        torch.testing.assert_close(fast, w)
    last = scalars.momentum_product[:, -1] * surprise - (scalars.decay_last * gradients).sum(-1)
    torch.testing.assert_close(last, s)
    torch.testing.assert_close(scalars.mix_last, scalars.mix[:, -1])


@pytest.mark.parametrize("first_slot", [0, 3])
def test_mean_scalars_divide_by_the_tokens_so_far(first_slot: int) -> None:
    write = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    scalars = mean_scalars(write, first_slot)
    for row, real in enumerate((3, 2)):
        for t in range(4):
            share = 1 / (first_slot + min(t + 1, real))
            assert scalars.carry[row, t].item() == pytest.approx(share)
            assert scalars.mix[row, t, 0].item() == pytest.approx(share)
