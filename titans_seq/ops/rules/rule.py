"""The update rule of a memory, and the rates of its tokens, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.bias import SQUARED_ERROR, Bias
from titans_seq.ops.rules.boundary import Boundary
from titans_seq.ops.rules.retention import Retention

TINY = 1e-24
"""Added under a root or a quotient that may be zero; its power -1.5 is still a float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateRule:
    """One way to learn at test time (arXiv 2501.00663, equations 13 and 14, and relatives)."""

    gradient_point: Literal["chunk", "token"] = "chunk"
    """Weights at which a token's gradient is taken: those at the start of its chunk (eq. 16,
    any depth), or those after the token before it (eq. 14, linear memory only)."""

    schedule: Literal["momentum", "mean"] = "momentum"
    """``momentum``: equations 13 and 14. ``mean``: start of the chunk minus the mean of the
    chunk's steps so far, as TTT does (arXiv 2407.04620)."""

    step: Literal["triangular", "mean", "raw"] = "triangular"
    """How a token's step is bounded where the gradient is taken at the chunk's start:
    shrunk by what the chunk has already written along its key, divided by the chunk's
    length, or not at all."""

    gradient_bound: float | None = 10.0
    """Smooth bound on the size of one token's gradient; ``None`` leaves it unbounded."""

    forget_to: Literal["start", "zero"] = "start"
    """Where forgetting leads: the learned start, or zero (the letter of eq. 13). A deep
    memory at zero has no gradient and never learns again."""

    decay_first: bool = False
    """Predict with the decayed weights, as Gated DeltaNet does (arXiv 2412.06464)."""

    activation: Literal["silu", "gelu"] = "silu"
    """Non-linearity between the layers of a deep memory."""

    residual_norm: bool = False
    """Read ``x + LayerNorm(f(x))`` instead of ``f(x)``, as TTT does."""

    bias: Bias = SQUARED_ERROR
    """Loss of the memory's error whose gradient is written."""

    window: int = 1
    """Tokens of a chunk, the present one last, whose gradients each step along the way takes
    together (arXiv 2505.23735, equation 9); 1 is a step along the token's own."""

    boundary: Boundary | None = None
    """What becomes of a chunk's writes when the next chunk opens; ``None`` leaves them."""

    retention: Retention | None = None
    """Size of the weights that are read, from the sum of what was written; ``None``: they are
    the sum. Only without momentum."""

    def torch_only_feature(self) -> str | None:
        """Name a feature that only the torch form computes; ``None`` if the rule has none."""
        if self.schedule == "mean":
            return "the mean schedule"
        if self.residual_norm:
            return "the residual LayerNorm"
        if self.bias != SQUARED_ERROR:
            return "a loss other than the squared error"
        if self.window > 1:
            return "windows of several tokens"
        if self.boundary is not None:
            return "a change of the weights between two chunks"
        if self.retention is not None:
            return "a retention"
        return None


class Rates(NamedTuple):
    """The rates of each token, one set a head.

    Shapes
    ------
    each (batch, heads, time)
    """

    log_keep: Float[Tensor, "batch heads time"]
    """log(1 - alpha): log of the share of the memory that stays; -inf clears it."""

    log_momentum: Float[Tensor, "batch heads time"]
    """log(eta): log of the share of the last surprise that stays; -inf drops it."""

    step: Float[Tensor, "batch heads time"]
    """theta: size of the step along the gradient, at least 0."""

    write: Float[Tensor, "batch heads time"]
    """1 for a real token; 0 for one that must leave no trace."""


class OutputNorm(NamedTuple):
    """Gain and bias of the LayerNorm of a memory with ``residual_norm``, each (heads, dim)."""

    gain: Float[Tensor, "heads dim"]
    bias: Float[Tensor, "heads dim"]


def activate(u: Tensor, activation: str) -> Tensor:
    """Return the non-linearity of a deep memory."""
    return F.silu(u) if activation == "silu" else F.gelu(u)


def activate_slope(u: Tensor, activation: str) -> Tensor:
    """Return the derivative of :func:`activate` at ``u``."""
    if activation == "silu":
        gate = torch.sigmoid(u)
        return gate * (1 + u * (1 - gate))
    density = torch.exp(-0.5 * u * u) * 0.3989422804014327
    return 0.5 * (1 + torch.erf(u * 0.7071067811865476)) + u * density
