"""Branches are weighted by their worth on held-out rows, and probabilities are calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from titans_seq.dna.learning.calibration import (
    calibration_error,
    evaluate_branch_weights,
    fit_branch_weights,
)
from titans_seq.dna.learning.tasks import DNATask, combined, normalized, probabilities, row_losses


def problem(task: DNATask, rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Return outputs of three branches: a good one, noise, and an overconfident one."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(rows, 3, generator=draw)
    if task == "classes":
        target = truth.softmax(-1).multinomial(1, generator=draw).squeeze(1)
    elif task == "labels":
        target = (torch.rand(rows, 3, generator=draw) < truth.sigmoid()).float()
    else:
        target = truth + 0.1 * torch.randn(rows, 3, generator=draw)
    noise = torch.randn(rows, 3, generator=draw)
    return normalized(torch.stack([truth, noise, 5 * truth]), task), target


@pytest.mark.parametrize("task", ["classes", "labels", "values"])
def test_noise_gets_no_weight_and_overconfidence_is_reduced(task: DNATask) -> None:
    outputs, target = problem(task, rows=4000)
    weights = fit_branch_weights(outputs, target, torch.ones(len(target)), task)
    assert weights[1] < 0.15
    assert float(weights[0] + 5 * weights[2]) == pytest.approx(1, abs=0.35)
    loss = row_losses(combined(outputs, weights, task), target, task).mean()
    equal = row_losses(combined(outputs, torch.full((3,), 1 / 3), task), target, task).mean()
    assert loss < equal


@pytest.mark.parametrize("task", ["classes", "labels", "values"])
def test_rows_are_scored_with_weights_fitted_to_other_rows(task: DNATask) -> None:
    outputs, target = problem(task)
    scores = evaluate_branch_weights(outputs, target, torch.ones(len(target)), task)
    weights = fit_branch_weights(outputs, target, torch.ones(len(target)), task)
    seen = row_losses(combined(outputs, weights, task), target, task).mean()
    assert scores["rows"] == 400
    assert scores["loss"] > float(seen) - 1e-3
    assert ("ece" in scores) == (task != "values")
    assert scores.get("ece", 0) < 0.1


def test_losses_are_those_of_scikit_learn() -> None:
    for task in ("classes", "labels", "values"):
        outputs, target = problem(task)
        mine = float(row_losses(outputs[0], target, task).double().mean())
        predicted = None if task == "values" else probabilities(outputs[0], task)
        if task == "classes":
            wanted = log_loss(target.numpy(), predicted)
        elif task == "labels":
            assert predicted is not None
            wanted = np.mean([log_loss(target[:, i], predicted[:, i]) for i in range(3)])
        else:
            wanted = mean_squared_error(target, outputs[0]) / 2
        assert mine == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("predicted", "actual", "error"),
    [
        ([[0.75, 0.25]] * 4, [0, 0, 0, 1], 0.0),
        ([[1.0, 0.0]] * 4, [0, 0, 0, 1], 0.25),
        ([[0.75], [0.75], [0.75], [0.75]], [[1], [1], [1], [0]], 0.0),
        ([[0.1], [0.1]], [[0], [1]], 0.4),
    ],
)
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(
    predicted: Any, actual: Any, error: float
) -> None:
    assert calibration_error(np.array(predicted), np.array(actual)) == pytest.approx(error)
