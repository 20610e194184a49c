"""Depthwise causal convolution with a carried tail."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class CausalConvolution(nn.Module):
    """Mix each channel with its own last few values (arXiv 2501.00663, section 4.4).

    Starts as a near copy of its input: the newest tap is 1, the others are small.
    """

    def __init__(self, dim: int, kernel: int = 4) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(kernel, dim) * 0.1)
        with torch.no_grad():
            self.weight[-1] += 1.0

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        tail: Float[Tensor, "batch past dim"] | None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch time dim"], Float[Tensor, "batch past dim"]]:
        """Return the mixed values and the tail that the next call needs.

        Parameters
        ----------
        tail
            Last ``kernel - 1`` inputs of the call before; zeros if left out.
        lengths
            Real values a row, if not all are.
        """
        past = self.kernel - 1
        if tail is None:
            tail = x.new_zeros(x.shape[0], past, x.shape[2])
        time = x.shape[1]
        padded = torch.cat([tail.to(x.dtype), x], dim=1)
        mixed = self.weight[past] * x
        for tap in range(past):
            mixed = mixed + self.weight[tap] * padded[:, tap : tap + time]
        return mixed, last_rows(padded, past, lengths)


def last_rows(
    padded: Float[Tensor, "batch past_and_time dim"],
    count: int,
    lengths: Int[Tensor, "batch"] | None,
) -> Float[Tensor, "batch count dim"]:
    """Return each row's last ``count`` real values; the first ``count`` columns are the past."""
    if lengths is None:
        return padded[:, padded.shape[1] - count :]
    index = lengths.unsqueeze(1) + torch.arange(count)
    index = index.to(padded.device).unsqueeze(-1).expand(-1, -1, padded.shape[-1])
    return padded.gather(1, index)
