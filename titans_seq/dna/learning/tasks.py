"""Tasks of the DNA network: one of several classes, any number of labels, or values.

Each branch of the network gives its outputs on the same scale (log-probabilities of classes,
log-odds of labels, values in units of their spread), so that they can be added with weights.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

DNATask = Literal["classes", "labels", "values"]
"""``classes``: exactly one of several. ``labels``: each holds or not. ``values``: numbers."""


def normalized(
    logits: Float[Tensor, "*rows outputs"], task: DNATask
) -> Float[Tensor, "*rows outputs"]:
    """Return log-probabilities of classes; outputs of other tasks unchanged."""
    return logits.log_softmax(dim=-1) if task == "classes" else logits


def combined(
    outputs: Float[Tensor, "branches batch outputs"],
    weights: Float[Tensor, " branches"],
    task: DNATask = "classes",
) -> Float[Tensor, "batch outputs"]:
    """Return the weighted sum of the branches' outputs, normalised again."""
    total = torch.einsum("rbc,r->bc", outputs, weights.to(outputs.dtype))
    return normalized(total, task)


def row_losses(
    outputs: Float[Tensor, "*some batch outputs"],
    target: Shaped[Tensor, "batch *outputs"],
    task: DNATask,
) -> Float[Tensor, "*some batch"]:
    """Return the loss of every row.

    Parameters
    ----------
    outputs
        Outputs of one or several branches, normalised.
    target
        Index of the class; or 0 and 1 for each label; or the values, in units of the outputs.
    task
        Negative log-likelihood for classes, its mean over labels, half the squared error,
        mean over values.
    """
    if task == "classes":
        index = target.expand(outputs.shape[:-1])
        return -outputs.gather(-1, index[..., None]).squeeze(-1)
    expected = target.expand_as(outputs)
    if task == "labels":
        losses = F.binary_cross_entropy_with_logits(outputs, expected, reduction="none")
    else:
        losses = 0.5 * (outputs - expected).square()
    return losses.mean(dim=-1)


def probabilities(outputs: Float[Tensor, "rows outputs"], task: DNATask) -> npt.NDArray[np.float64]:
    """Return the probability of each class (rows add up to 1), or of each label by itself."""
    if task == "labels":
        return np.asarray(outputs.double().sigmoid().numpy())
    unnormalized = outputs.double().exp()
    return np.asarray((unnormalized / unnormalized.sum(dim=-1, keepdim=True)).numpy())
