from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from titans_seq.ops.norms import rms_norm

TINY = 1e-7


def _problem(*rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(*rows, 5, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(5, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("rows", [(), (1,), (7,), (2, 3), (2, 0, 3)])
def test_agrees_with_torch_in_values_and_gradients(rows: tuple[int, ...]) -> None:
    x, gain = _problem(*rows)
    ours, theirs = rms_norm(x, gain, TINY), F.rms_norm(x, (5,), gain, TINY)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), (x, gain)),
        torch.autograd.grad((theirs * weight).sum(), (x, gain)),
    )


def test_has_a_second_derivative() -> None:
    x, gain = _problem(3)
    assert torch.autograd.gradgradcheck(lambda x, gain: rms_norm(x, gain, TINY), (x, gain))


def test_a_vector_of_zeros_stays_finite() -> None:
    x, gain = torch.zeros(2, 5, requires_grad=True), torch.ones(5, requires_grad=True)
    rms_norm(x, gain, TINY).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
