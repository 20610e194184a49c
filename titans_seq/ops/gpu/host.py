"""How the GPU kernels are compiled and launched; every tuning choice stands here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

from titans_seq.ops.gpu.blocks import Plan

_logger = logging.getLogger(__name__)

_LEAST_SIDE = 16
"""Least side of a product on the tensor cores."""

WIDEST = 64
"""Hidden units of a deep memory computed at once."""

_TYPES = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
}


def interpreted() -> bool:
    """Return whether triton's interpreter stands in for a device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def padded(size: int) -> int:
    """Return the power of two, at least 16, that a side is padded to."""
    power: int = triton.next_power_of_2(size)
    return max(_LEAST_SIDE, power)


def state_type(tokens: Tensor) -> torch.dtype:
    """Return the type of sums, scalars and states."""
    return torch.float64 if tokens.dtype == torch.float64 else torch.float32


def make_plan(
    tokens: Tensor,
    vectors: Tensor,
    hidden: int,
    *,
    exact: bool = False,
    triangular: bool = False,
    bound: float | None = None,
    activation: str = "silu",
) -> Plan:
    """Return what to compile for.

    float16 tokens are multiplied as tf32: its precision with the range of float32, which the
    memory's weights may need. float32 ones take three such products, together as precise as
    float32, unless ``torch.set_float32_matmul_precision`` says that one will do.
    """
    chunk, width = vectors.shape[-1], tokens.shape[-1]
    half = tokens.dtype == torch.float16
    product = _TYPES[torch.float32 if half else tokens.dtype]
    rough = half or torch.get_float32_matmul_precision() != "highest"
    double = tokens.dtype == torch.float64
    return Plan(
        chunk=chunk,
        width=width,
        hidden=hidden,
        block_chunk=padded(chunk),
        block_width=padded(width),
        block_hidden=min(WIDEST, padded(hidden)),
        vectors=vectors.shape[2],
        exact=exact,
        triangular=triangular,
        bounded=bound is not None,
        bound=bound or 1.0,
        gelu=activation == "gelu",
        product=product,
        factor=tl.float32 if product == tl.bfloat16 and interpreted() else product,
        state=_TYPES[state_type(tokens)],
        precision="ieee" if double else "tf32" if rough else "tf32x3",
        solving="ieee" if double else "tf32x3",
    )


def backward_plan(plan: Plan) -> Plan:
    """Return what to compile a backward kernel for.

    It holds many operands at once. In float32 its tiles of hidden units are half as wide, and
    for wide heads products are made of bfloat16 parts, three a product and precise to 1e-5:
    three of tf32 would not fit on the chip.
    """
    if plan.product != tl.float32:
        return plan
    wide = plan.precision == "tf32x3" and plan.block_width > WIDEST // 2
    return plan._replace(
        block_hidden=min(plan.block_hidden, WIDEST // 2),
        precision="bf16x3" if wide else plan.precision,
    )


def launch_options(plan: Plan) -> dict[str, Any]:
    """Return how many warps share a program, and how deep its loops are pipelined.

    Not at all: a program's operands fill the chip's memory as they are.
    """
    large = max(plan.block_chunk, plan.block_width) >= 64
    return {"num_warps": 8 if large else 4, "num_stages": 1}


def fits(launch: Callable[[], object]) -> bool:
    """Launch a kernel; return whether the chip's memory holds its operands."""
    try:
        launch()
    except OutOfResources as problem:
        _logger.warning("a kernel of the memory does not fit, torch computes it: %s", problem)
        return False
    return True


def state_slots(first: Tensor, chunks: int, save: bool) -> Tensor:
    """Return room for the states at the chunks' starts, the first of them filled in.

    Without ``save`` there are two slots, which the chunks fill by turns.
    """
    slots = chunks + 1 if save else 2
    room = first.new_empty(first.shape[0], slots, *first.shape[1:])
    room[:, 0] = first
    return room
