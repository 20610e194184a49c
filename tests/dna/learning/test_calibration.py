"""Readers are weighed by what they are worth, and probabilities made to mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from titans_seq.dna.learning.calibration import calibration_error, fit_mixing, judge_mixing
from titans_seq.dna.learning.tasks import Task, errors, mix, probabilities, settle


def problem(task: Task, rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three readers' answers: a good one, one of noise, one that is far too sure."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(rows, 3, generator=draw)
    if task == "classes":
        target = truth.softmax(-1).multinomial(1, generator=draw).squeeze(1)
    elif task == "labels":
        target = (torch.rand(rows, 3, generator=draw) < truth.sigmoid()).float()
    else:
        target = truth + 0.1 * torch.randn(rows, 3, generator=draw)
    noise = torch.randn(rows, 3, generator=draw)
    return settle(torch.stack([truth, noise, 5 * truth]), task), target


@pytest.mark.parametrize("task", ["classes", "labels", "values"])
def test_what_knows_nothing_weighs_nothing_and_what_is_too_sure_is_held_back(task: Task) -> None:
    readings, target = problem(task, rows=4000)
    weights = fit_mixing(readings, target, torch.ones(len(target)), task)
    assert weights[1] < 0.15
    assert float(weights[0] + 5 * weights[2]) == pytest.approx(1, abs=0.35)
    loss = errors(mix(readings, weights, task), target, task).mean()
    equal = errors(mix(readings, torch.full((3,), 1 / 3), task), target, task).mean()
    assert loss < equal


@pytest.mark.parametrize("task", ["classes", "labels", "values"])
def test_rows_are_judged_by_weights_that_did_not_see_them(task: Task) -> None:
    readings, target = problem(task)
    judged = judge_mixing(readings, target, torch.ones(len(target)), task)
    weights = fit_mixing(readings, target, torch.ones(len(target)), task)
    seen = errors(mix(readings, weights, task), target, task).mean()
    assert judged["rows"] == 400
    assert judged["loss"] > float(seen) - 1e-3
    assert ("ece" in judged) == (task != "values")
    assert judged.get("ece", 0) < 0.1


def test_errors_are_those_of_scikit_learn() -> None:
    for task in ("classes", "labels", "values"):
        readings, target = problem(task)
        mine = float(errors(readings[0], target, task).double().mean())
        chances = None if task == "values" else probabilities(readings[0], task)
        if task == "classes":
            wanted = log_loss(target.numpy(), chances)
        elif task == "labels":
            assert chances is not None
            wanted = np.mean([log_loss(target[:, i], chances[:, i]) for i in range(3)])
        else:
            wanted = mean_squared_error(target, readings[0]) / 2
        assert mine == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("chances", "actual", "error"),
    [
        ([[0.75, 0.25]] * 4, [0, 0, 0, 1], 0.0),
        ([[1.0, 0.0]] * 4, [0, 0, 0, 1], 0.25),
        ([[0.75], [0.75], [0.75], [0.75]], [[1], [1], [1], [0]], 0.0),
        ([[0.1], [0.1]], [[0], [1]], 0.4),
    ],
)
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(
    chances: Any, actual: Any, error: float
) -> None:
    assert calibration_error(np.array(chances), np.array(actual)) == pytest.approx(error)
