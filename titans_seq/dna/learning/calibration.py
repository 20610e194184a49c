"""Whether probabilities can be taken at their word, and how they are made so.

The readers' answers are added with positive weights that are fitted on rows which none of
them has learnt from. The sum of the weights is free and acts as one over a temperature:
below one it takes back confidence, above one it adds to it (temperature scaling, Guo et al.
2017, arXiv 1706.04599, for several readers at once).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from titans_seq.dna.learning.tasks import Task, errors, mix, probabilities

CALIBRATION_BINS = 15
"""Bins of equal width of the expected calibration error."""

_PRIOR = 2.0
"""Sequences' worth of pull towards equal weights: few held-out rows change little."""


def fit_mixing(
    readings: Float[Tensor, "readers rows outputs"],
    targets: Shaped[Tensor, "rows *outputs"],
    weights: Float[Tensor, " rows"],
    task: Task = "classes",
) -> Float[Tensor, " readers"]:
    """Return the positive weights under which the mixed readings are likeliest to be right.

    Parameters
    ----------
    readings
        Answers of each reader on rows that none has learnt from.
    targets
        What is right, see :func:`titans_seq.dna.learning.tasks.errors`.
    weights
        What each row counts.
    task
        What was asked.
    """
    readings = readings.double()
    equal = torch.full((len(readings),), 1 / len(readings), dtype=torch.float64)
    log_weights = equal.log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        each = errors(mix(readings, log_weights.exp(), task), targets, task)
        loss = (each * weights).sum() + _PRIOR * (log_weights - equal.log()).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return log_weights.detach().exp().float()


def judge_mixing(
    readings: Float[Tensor, "readers rows outputs"],
    targets: Shaped[Tensor, "rows *outputs"],
    weights: Float[Tensor, " rows"],
    task: Task,
) -> dict[str, float]:
    """Return how good the mixed answers are on held-out rows.

    Every second row is answered with weights that were fitted to the others, so that no row
    is judged by weights that saw it.

    Returns
    -------
        ``rows``, ``loss`` (mean of :func:`titans_seq.dna.learning.tasks.errors`) and, but for
        values, ``ece``, the expected calibration error.
    """
    halves = torch.arange(readings.shape[1]) % 2
    answers = torch.zeros_like(readings[0], dtype=torch.float64)
    for half in (0, 1):
        mine, other = halves == half, halves != half
        found = fit_mixing(readings[:, other], targets[other], weights[other], task)
        answers[mine] = mix(readings[:, mine].double(), found.double(), task)
    loss = (errors(answers, targets, task) * weights).sum() / weights.sum()
    judged = {"rows": int(readings.shape[1]), "loss": float(loss)}
    if task == "values":
        return judged
    return judged | {"ece": calibration_error(probabilities(answers, task), targets.numpy())}


def calibration_error(chances: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    Parameters
    ----------
    chances
        Probabilities, (rows, outputs): of classes, or of each label by itself.
    actual
        Index of each row's class, or 0 and 1 for each label.
    """
    if actual.ndim == 2:
        called = chances >= 0.5
        confidence = np.where(called, chances, 1 - chances).ravel()
        right = (called == (actual > 0.5)).ravel()
    else:
        confidence, right = chances.max(axis=1), chances.argmax(axis=1) == actual
    bins = confidence_bins(confidence)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins)]
    return float(np.sum(gaps) / len(right))


def confidence_bins(confidence: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence."""
    bins: npt.NDArray[np.int64] = (confidence * CALIBRATION_BINS).astype(np.int64)
    return np.minimum(bins, CALIBRATION_BINS - 1)
