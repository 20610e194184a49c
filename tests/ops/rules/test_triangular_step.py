"""The triangular step: what a chunk writes along one direction stays a single correction."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.rules.triangular_step import triangular_step


def _inputs(time: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(time)
    z = torch.randn(2, time, 5, generator=generator, dtype=torch.float64)
    step, logit = torch.rand(2, 2, time, generator=generator, dtype=torch.float64)
    return z, step * 3, torch.nn.functional.logsigmoid(logit)


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_later_tokens_change_no_earlier_step_and_a_split_changes_none(cut: int) -> None:
    z, step, momentum = _inputs(9)
    whole = triangular_step(z, step, momentum, 2)
    first = triangular_step(z[:, :cut], step[:, :cut], momentum[:, :cut], 2)
    rest = triangular_step(z[:, cut:], step[:, cut:], momentum[:, cut:], 2, first.keys, first.spent)
    torch.testing.assert_close(torch.cat([first.step, rest.step], 1), whole.step)
    torch.testing.assert_close(torch.cat([first.spent, rest.spent], 1), whole.spent)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_repeated_key_is_corrected_at_most_once(layers: int) -> None:
    z = _inputs(1)[0][:1].expand(1, 64, 5)
    momentum = torch.full((1, 64), 0.9, dtype=torch.float64).log()
    step = torch.ones(1, 64, dtype=torch.float64)
    spent = triangular_step(z, step, momentum, layers).spent
    assert (spent >= -1e-12).all()
    assert spent.sum() <= 1 + 1e-12


def test_new_orthogonal_keys_keep_the_step_they_ask_for() -> None:
    z = torch.eye(5, dtype=torch.float64).unsqueeze(0)
    step = torch.full((1, 5), 0.3, dtype=torch.float64)
    log_momentum = torch.full((1, 5), 0.5, dtype=torch.float64).log()
    torch.testing.assert_close(triangular_step(z, step, log_momentum, 1).step, step)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_extreme_rates_and_empty_keys_stay_finite(momentum: float) -> None:
    z = torch.zeros(1, 4, 3, requires_grad=True)
    step = torch.tensor([[0.0, 1.0, 1e3, 0.0]], requires_grad=True)
    result = triangular_step(z, step, torch.full((1, 4), momentum).log(), 2)
    assert result.step.isfinite().all()
    gradients = torch.autograd.grad(result.step.sum() + result.spent.sum(), (z, step))
    assert all(one.isfinite().all() for one in gradients)
