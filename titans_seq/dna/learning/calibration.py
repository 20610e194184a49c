"""Weights of the branches and calibrated probabilities, fitted to held-out sequences.

The branches' outputs are added with positive weights, fitted to rows that no branch was trained
on. The sum of the weights is free and acts as an inverse temperature: below one it lowers the
confidence, above one it raises it (temperature scaling, Guo et al. 2017, arXiv 1706.04599, for
several models at once).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from titans_seq.dna.learning.tasks import DNATask, combined, probabilities, row_losses

CALIBRATION_BINS = 15
"""Bins of equal width of the expected calibration error."""

_PRIOR_ROWS = 2.0
"""Strength of the prior for equal weights, in rows: a few held-out rows change little."""


def fit_branch_weights(
    outputs: Float[Tensor, "branches rows outputs"],
    targets: Shaped[Tensor, "rows *outputs"],
    weights: Float[Tensor, " rows"],
    task: DNATask = "classes",
) -> Float[Tensor, " branches"]:
    """Return the positive weights that minimise the loss of the combined outputs.

    Parameters
    ----------
    outputs
        Outputs of each branch for rows that none was trained on.
    targets
        See :func:`titans_seq.dna.learning.tasks.row_losses`.
    weights
        Weight of each row.
    task
        Kind of outputs.
    """
    outputs = outputs.double()
    equal = torch.full((len(outputs),), 1 / len(outputs), dtype=torch.float64)
    log_weights = equal.log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = row_losses(combined(outputs, log_weights.exp(), task), targets, task)
        penalty = _PRIOR_ROWS * (log_weights - equal.log()).square().sum()
        loss = (losses * weights).sum() + penalty
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return log_weights.detach().exp().float()


def evaluate_branch_weights(
    outputs: Float[Tensor, "branches rows outputs"],
    targets: Shaped[Tensor, "rows *outputs"],
    weights: Float[Tensor, " rows"],
    task: DNATask,
) -> dict[str, float]:
    """Cross-validate the combined outputs on held-out rows.

    Even rows are predicted with branch weights fitted to the odd rows, and the other way round,
    so that no row is evaluated with weights that were fitted to it.

    Returns
    -------
        ``rows``, ``loss`` (mean of :func:`titans_seq.dna.learning.tasks.row_losses`) and, except
        for values, ``ece``, the expected calibration error.
    """
    parity = torch.arange(outputs.shape[1]) % 2
    predicted = torch.zeros_like(outputs[0], dtype=torch.float64)
    for half in (0, 1):
        test, fit = parity == half, parity != half
        branch_weights = fit_branch_weights(outputs[:, fit], targets[fit], weights[fit], task)
        predicted[test] = combined(outputs[:, test].double(), branch_weights.double(), task)
    loss = (row_losses(predicted, targets, task) * weights).sum() / weights.sum()
    scores = {"rows": int(outputs.shape[1]), "loss": float(loss)}
    if task == "values":
        return scores
    return scores | {"ece": calibration_error(probabilities(predicted, task), targets.numpy())}


def describe_calibration(scores: Mapping[str, float]) -> str:
    """Return the ``calibration_`` of a fitted estimator as text."""
    error = f", expected calibration error {scores['ece']:.3f}" if "ece" in scores else ""
    return (
        f"loss {scores['loss']:.4f}{error} on {scores['rows']:.0f} held-out rows, "
        f"temperature {scores['temperature']:.2f}"
    )


def calibration_error(predicted: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    Parameters
    ----------
    predicted
        Probabilities, (rows, outputs): of classes, or of each label by itself.
    actual
        Index of each row's class, or 0 and 1 for each label.
    """
    if actual.ndim == 2:
        positive = predicted >= 0.5
        confidence = np.where(positive, predicted, 1 - predicted).ravel()
        correct = (positive == (actual > 0.5)).ravel()
    else:
        confidence, correct = predicted.max(axis=1), predicted.argmax(axis=1) == actual
    bins = confidence_bins(confidence)
    gaps = [abs(confidence[bins == b].sum() - correct[bins == b].sum()) for b in np.unique(bins)]
    return float(np.sum(gaps) / len(correct))


def confidence_bins(confidence: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence."""
    bins: npt.NDArray[np.int64] = (confidence * CALIBRATION_BINS).astype(np.int64)
    return np.minimum(bins, CALIBRATION_BINS - 1)
