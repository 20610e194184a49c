"""Losses of the memory's error: slopes by hand against autograd of the loss."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.rules.bias import Bias, Huber, PowerError, SquaredError

BIASES = [SquaredError(), Huber(), Huber(0.3), PowerError(), PowerError(4.0, width=0.8)]


def _errors() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    errors[0] = 0.0
    errors[1] *= 100
    return errors.requires_grad_()


@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_the_slope_is_the_gradient_of_the_loss(bias: Bias) -> None:
    errors = _errors()
    (right,) = torch.autograd.grad(bias.loss(errors).sum(), errors)
    torch.testing.assert_close(bias.slope(errors), right)


@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_slopes_have_right_gradients_twice(bias: Bias) -> None:
    errors = _errors()[2:]
    assert torch.autograd.gradcheck(bias.slope, errors)
    assert torch.autograd.gradgradcheck(bias.slope, errors)


@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_no_slope_is_longer_than_its_steepness_says(bias: Bias) -> None:
    errors = _errors()
    steepness = bias.steepness(errors)
    limit = 1.0 if steepness is None else steepness
    assert (bias.slope(errors).norm(dim=-1) <= limit * errors.norm(dim=-1) + 1e-12).all()


@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_absurd_errors_stay_finite_in_float32(bias: Bias) -> None:
    errors = torch.full((1, 64), 1e12, requires_grad=True)
    loss, slope = bias.loss(errors), bias.slope(errors)
    (gradient,) = torch.autograd.grad(loss.sum() + slope.sum(), errors)
    assert loss.isfinite().all()
    assert slope.isfinite().all()
    assert gradient.isfinite().all()


def test_an_outlier_writes_no_more_than_the_hubers_width() -> None:
    errors = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(Huber(2.0).slope(errors), torch.tensor([[1.2, 1.6], [0.3, 0.4]]))


def test_the_cubic_errors_slope_is_the_signed_square() -> None:
    errors = torch.tensor([[-3.0, 0.5]])
    torch.testing.assert_close(PowerError(3.0).slope(errors), torch.tensor([[-9.0, 0.25]]))
