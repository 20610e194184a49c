"""The gated feed-forward layer of a block."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): a hidden layer gated by another.

    Parameters
    ----------
    dim
        Width of a token.
    expansion
        Hidden width over ``dim``.
    """

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = max(1, round(expansion * dim))
        self.enter = nn.Linear(dim, 2 * hidden, bias=False)
        self.leave = nn.Linear(hidden, dim, bias=False)

    def forward(self, tokens: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the layer's answer for each token by itself."""
        value, gate = self.enter(tokens).chunk(2, dim=-1)
        out: Tensor = self.leave(value * F.silu(gate))
        return out
