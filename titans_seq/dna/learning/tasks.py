"""What the network is asked for: one class of several, any number of labels, or values.

Every reader states its answer in the same terms (log-probabilities of classes, log-odds of
labels, values in units of their spread), so that answers can be added with weights.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

Task = Literal["classes", "labels", "values"]
"""``classes``: exactly one of several. ``labels``: each holds or not. ``values``: numbers."""

TASKS: tuple[str, ...] = get_args(Task)


def settle(raw: Float[Tensor, "*rows outputs"], task: Task) -> Float[Tensor, "*rows outputs"]:
    """Return raw outputs as answers: normalised for classes, as they stand for the others."""
    return raw.log_softmax(dim=-1) if task == "classes" else raw


def mix(
    readings: Float[Tensor, "readers batch outputs"],
    weights: Float[Tensor, " readers"],
    task: Task = "classes",
) -> Float[Tensor, "batch outputs"]:
    """Return the joint answer: the readings added with weights, and settled again."""
    joint = torch.einsum("rbc,r->bc", readings, weights.to(readings.dtype))
    return settle(joint, task)


def errors(
    answers: Float[Tensor, "*some batch outputs"],
    target: Shaped[Tensor, "batch *outputs"],
    task: Task,
) -> Float[Tensor, "*some batch"]:
    """Return the loss of every row.

    Parameters
    ----------
    answers
        What one or several readers say.
    target
        Index of the class; or 0 and 1 for each label; or the values, in the answers' units.
    task
        Negative log-likelihood for classes, its mean over labels, half the squared error,
        mean over values.
    """
    if task == "classes":
        index = target.expand(answers.shape[:-1])
        return -answers.gather(-1, index[..., None]).squeeze(-1)
    wanted = target.expand_as(answers)
    if task == "labels":
        each = F.binary_cross_entropy_with_logits(answers, wanted, reduction="none")
    else:
        each = 0.5 * (answers - wanted).square()
    return each.mean(dim=-1)


def probabilities(answer: Float[Tensor, "rows outputs"], task: Task) -> npt.NDArray[np.float64]:
    """Return the probability of each class (rows add up to 1), or of each label by itself."""
    if task == "labels":
        return _array(answer.double().sigmoid())
    likely = answer.double().exp()
    return _array(likely / likely.sum(dim=-1, keepdim=True))


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.numpy()
    return array
