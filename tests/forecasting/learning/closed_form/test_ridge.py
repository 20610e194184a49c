"""Ridge regression from sums, against the stacked least-squares problem it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.ridge import (
    RidgeSums,
    ridge_with_intercept,
    solve_ridge,
)

INPUTS, OUTPUTS, FOLDS = 4, 3, 3


def _rows(seed: int, count: int = 40) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, INPUTS, generator=source, dtype=torch.double)
    return inputs, torch.randn(count, OUTPUTS, generator=source, dtype=torch.double)


def _stacked(inputs: Tensor, targets: Tensor, ridge: Tensor) -> Tensor:
    """Solve the same problem as ordinary least squares with one more row for each penalty."""
    rows = torch.cat([inputs, ridge.sqrt().diag()])
    solution: Tensor = torch.linalg.lstsq(
        rows, torch.cat([targets, torch.zeros(INPUTS, OUTPUTS).double()])
    ).solution
    return solution


def _folds() -> RidgeSums:
    sums = RidgeSums.zeros((FOLDS,), INPUTS, OUTPUTS)
    for fold in range(FOLDS):
        sums.group(fold).add(*_rows(fold))
    return sums


def test_each_input_has_its_own_penalty() -> None:
    inputs, targets = _rows(0)
    ridge = torch.tensor([0.0, 0.5, 3.0, 100.0]).double()
    found = solve_ridge(inputs.T @ inputs, inputs.T @ targets, ridge)
    torch.testing.assert_close(found, _stacked(inputs, targets, ridge))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_the_penalty_is_in_units_of_the_mean_square_of_a_block(blocks: int) -> None:
    inputs, targets = _rows(0)
    inputs = inputs * torch.tensor([1.0, 2.0, 30.0, 40.0])
    sums = RidgeSums.zeros((), INPUTS, OUTPUTS)
    sums.add(inputs, targets)
    square = inputs.square().sum(0).view(blocks, -1).mean(1)
    ridge = 0.1 * square.repeat_interleave(INPUTS // blocks)
    torch.testing.assert_close(sums.solve(0.1, blocks), _stacked(inputs, targets, ridge))


def test_sums_over_batches_and_folds_are_those_over_all_rows() -> None:
    sums = _folds()
    inputs, targets = (torch.cat(part) for part in zip(*map(_rows, range(FOLDS)), strict=True))
    whole, others = sums.total(), sums.leave_one_out()
    assert whole.rows == len(inputs)
    torch.testing.assert_close(whole.inner, inputs.T @ inputs)
    torch.testing.assert_close(others.outer[1], inputs.T @ targets - sums.outer[1])


def test_the_change_in_error_needs_no_rows() -> None:
    sums = _folds()
    coefficients = sums.leave_one_out().solve(0.1)
    for fold in range(FOLDS):
        inputs, targets = _rows(fold)
        missed = (targets - inputs @ coefficients[fold]).square().sum()
        expected = missed - targets.square().sum()
        torch.testing.assert_close(sums.change_in_error(coefficients)[fold], expected)


def test_a_group_without_rows_has_coefficients_of_zero() -> None:
    assert not RidgeSums.zeros((2,), INPUTS, OUTPUTS).solve(0.1).any()


def test_the_intercept_is_not_penalised() -> None:
    inputs, targets = _rows(0)
    before = ridge_with_intercept(inputs, targets, 5.0)
    moved = ridge_with_intercept(inputs + 100, targets - 50, 5.0)
    torch.testing.assert_close(moved[0], before[0])
    shifted = before[1] - 50 - 100 * before[0].sum(0)
    torch.testing.assert_close(moved[1], shifted, rtol=1e-4, atol=1e-4)
