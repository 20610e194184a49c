"""Division by the root of the mean square, with a gradient of few operations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rms_norm(
    x: Float[Tensor, "*rows dim"], gain: Float[Tensor, "dim"], tiny: float
) -> Float[Tensor, "*rows dim"]:
    """Return each vector over the root of its mean square, times ``gain``.

    Parameters
    ----------
    tiny
        Added to the mean square.
    """
    learns = torch.is_grad_enabled() and (x.requires_grad or gain.requires_grad)
    if torch.compiler.is_compiling() or not learns or x.device.type != "cpu":
        plain: Tensor = F.rms_norm(x, x.shape[-1:], gain, tiny)
        return plain
    normed: Tensor = _RMSNorm.apply(x, gain, tiny)  # type: ignore[no-untyped-call]
    return normed


class _RMSNorm(torch.autograd.Function):
    """PyTorch has no kernel of it for processors, and autograd's graph of it is twice as dear."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, tiny: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = square.div_(x.shape[-1]).add_(tiny).rsqrt_()
        ctx.tiny = tiny
        ctx.save_for_backward(x, gain, scale)
        normed: Tensor = (x * scale).mul_(gain)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, gain, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            normed = F.rms_norm(x, x.shape[-1:], gain, ctx.tiny)
            wanted = [one for one in (x, gain) if one.requires_grad]
            found = iter(torch.autograd.grad(normed, wanted, grad, create_graph=True))
            by = [next(found) if one.requires_grad else None for one in (x, gain)]
            return by[0], by[1], None
        normed = x * scale
        agreement = grad * normed
        by_gain = agreement.reshape(-1, x.shape[-1]).sum(0)
        pull = (agreement @ gain).div_(-x.shape[-1]).unsqueeze(-1)
        return torch.addcmul(grad * gain, normed, pull).mul_(scale), by_gain, None
