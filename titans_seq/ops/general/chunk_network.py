"""The memory's network for many tokens at fixed weights, and its backward by hand.

By hand, because a memory that learns in its forward pass must do so under ``no_grad`` and
``inference_mode`` too, where autograd does not answer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rule import TINY, OutputNorm, UpdateRule, activate, activate_slope

_LAYER_NORM_EPS = 1e-6
"""Epsilon of the LayerNorm of a memory with ``residual_norm``."""


class Written(NamedTuple):
    """What the keys of a chunk write: per layer the inputs z and the errors d.

    The gradient of token s by the matrix of layer l is the outer product of ``inputs[l][s]``
    and ``errors[l][s]``.
    """

    inputs: list[Float[Tensor, "*rows time inner"]]
    errors: list[Float[Tensor, "*rows time outer"]]
    loss: Float[Tensor, "*rows time"]
    steepness: Float[Tensor, "*rows time"] | None = None
    """As :meth:`titans_seq.ops.rules.bias.Bias.steepness` of the errors at the output."""


def through(
    x: Float[Tensor, "heads batch time inner"],
    weight: Float[Tensor, "heads one_or_batch inner outer"],
) -> Float[Tensor, "heads batch time outer"]:
    """Return ``x`` through weights of each sequence, or through ones that all share."""
    if weight.shape[1] == x.shape[1]:
        return x @ weight
    heads, batch, time, inner = x.shape
    flat = x.reshape(heads, batch * time, inner) @ weight.squeeze(1)
    return flat.reshape(heads, batch, time, -1)


def finish(
    output: Tensor, x: Tensor, norm: OutputNorm | None
) -> Float[Tensor, "heads batch time dim"]:
    """Return the memory's answer from its last layer's output."""
    if norm is None:
        return output
    normed = F.layer_norm(output, output.shape[-1:], eps=_LAYER_NORM_EPS)
    return x + normed * norm.gain[:, None, None] + norm.bias[:, None, None]


def gradients_at(
    weights: tuple[Tensor, ...],
    keys: Float[Tensor, "heads batch time dim"],
    values: Float[Tensor, "heads batch time dim"],
    rule: UpdateRule,
    norm: OutputNorm | None,
) -> Written:
    """Return the factors of every token's gradient, all at the same weights."""
    inputs, before = [keys], []
    for weight in weights[:-1]:
        before.append(through(inputs[-1], weight))
        inputs.append(activate(before[-1], rule.activation))
    output = through(inputs[-1], weights[-1])
    error = finish(output, keys, norm) - values
    loss, steepness = rule.bias.loss(error), rule.bias.steepness(error)
    error = rule.bias.slope(error)
    if norm is not None:
        error = _norm_backward(error * norm.gain[:, None, None], output)
    errors = [error]
    for layer in range(len(weights) - 1, 0, -1):
        slope = activate_slope(before[layer - 1], rule.activation)
        errors.insert(0, through(errors[0], weights[layer].mT) * slope)
    return Written(inputs, errors, loss, steepness)


def bound_gradient(
    inputs: Float[Tensor, "*rows time inner"],
    errors: Float[Tensor, "*rows time outer"],
    bound: float | None,
) -> Float[Tensor, "*rows time outer"]:
    """Shrink errors smoothly so that no token's gradient is longer than ``bound``."""
    if bound is None:
        return errors
    square = inputs.square().sum(-1, keepdim=True) * errors.square().sum(-1, keepdim=True)
    return errors * (bound / (bound + torch.sqrt(square + TINY)))


def _norm_backward(error: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of a LayerNorm without gain by its input ``x``."""
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + _LAYER_NORM_EPS)
    normed = centred * scale
    projection = (error * normed).mean(-1, keepdim=True)
    return scale * (error - error.mean(-1, keepdim=True) - normed * projection)


def read_at(
    weights: tuple[Float[Tensor, "heads batch inner outer"], ...],
    queries: Float[Tensor, "heads batch time dim"],
    rule: UpdateRule,
    norm: OutputNorm | None,
) -> Float[Tensor, "heads batch time dim"]:
    """Read fixed weights (arXiv 2501.00663, equation 15): a forward pass that writes nothing."""
    h = queries
    for weight in weights[:-1]:
        h = activate(h @ weight, rule.activation)
    return finish(h @ weights[-1], queries, norm)
