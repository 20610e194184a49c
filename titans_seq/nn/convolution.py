"""Depthwise causal convolution with a carried tail."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class _Taps(torch.autograd.Function):
    """Weighted sum of shifted inputs; autograd's own graph of it copies every shift."""

    @staticmethod
    def forward(weight: Tensor, padded: Tensor) -> Tensor:
        kernel = len(weight)
        time = padded.shape[1] - kernel + 1
        mixed = weight[0] * padded[:, :time]
        for tap in range(1, kernel):
            mixed.addcmul_(weight[tap], padded[:, tap : tap + time])
        return mixed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, padded = ctx.saved_tensors
        kernel, time = len(weight), grad.shape[1]
        by_weight = [(grad * padded[:, tap : tap + time]).sum(dim=(0, 1)) for tap in range(kernel)]
        spread = torch.nn.functional.pad(grad, (0, 0, kernel - 1, kernel - 1))
        by_input = _Taps.apply(weight.flip(0), spread)  # type: ignore[no-untyped-call]
        return torch.stack(by_weight), by_input


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
        padded = torch.cat([tail.to(x.dtype), x], dim=1)
        mixed = _Taps.apply(self.weight.to(x.dtype), padded)  # type: ignore[no-untyped-call]
        return mixed, last_rows(padded, past, lengths)


def last_rows(
    padded: Float[Tensor, "batch past_and_time dim"],
    count: int,
    lengths: Int[Tensor, "batch"] | None,
) -> Float[Tensor, "batch count dim"]:
    """Return each row's last ``count`` real values; the first ``count`` columns are the past.

    They are a copy: a view would keep all of ``padded`` alive in the state.
    """
    if lengths is None:
        return padded[:, padded.shape[1] - count :].clone()
    index = lengths.unsqueeze(1) + torch.arange(count)
    index = index.to(padded.device).unsqueeze(-1).expand(-1, -1, padded.shape[-1])
    return padded.gather(1, index)
