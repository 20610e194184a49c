"""Normalisation that is the same function in every floating type."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.ops.norms import rms_norm

NORM_EPS = torch.finfo(torch.float32).eps
"""Added to the mean square. PyTorch's default depends on the input's type: in bfloat16 it is
0.008, which flattens whatever is small, such as what a young memory recalls."""


class RMSNorm(nn.RMSNorm):
    """Division by the root of the mean square, with learned gains, in the gains' own type.

    Under autocast that is float32, whatever the projection before it has left.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=NORM_EPS)

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the normalised values."""
        return rms_norm(x.to(self.weight.dtype), self.weight, NORM_EPS)
