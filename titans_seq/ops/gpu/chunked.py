"""A memory of two layers on the GPU as one differentiable function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.gpu.blocks import Plan, Scalars, Tokens
from titans_seq.ops.gpu.deep import DeepBase, DeepFound, DeepState, deep_forward
from titans_seq.ops.gpu.deep_backward import SCRATCH, DeepBackward, deep_backward
from titans_seq.ops.gpu.host import backward_plan, fits, launch_options, state_slots
from titans_seq.ops.gpu.twins import (
    DeepInputs,
    DeepResult,
    TwinRule,
    deep_twin,
    twin_gradients,
)


def deep_memory(inputs: DeepInputs, plan: Plan) -> DeepResult:
    """Write and read whole chunks with a memory of two layers; see :func:`deep_twin`."""
    contiguous = [one.contiguous() for one in inputs]
    save = torch.is_grad_enabled() and any(one.requires_grad for one in contiguous)
    return DeepResult(*_DeepMemory.apply(plan, save, *contiguous))  # type: ignore[no-untyped-call]


class _DeepMemory(torch.autograd.Function):
    """The kernels; gradients of gradients, and what does not fit, come from the torch twin."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, save: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = DeepInputs(*tensors)
        rows, chunks = inputs.vectors.shape[:2]
        state = DeepState(*(state_slots(one, chunks, save) for one in inputs[7:]))
        slots = state.first_weights.shape[1]
        found = DeepFound(
            torch.empty_like(inputs.queries), inputs.vectors.new_empty(inputs.queries.shape[:2])
        )
        handed = (*_shared(inputs), state, found, (chunks, len(inputs.first_base), slots))
        ctx.plan = plan
        ctx.kernel = fits(lambda: deep_forward[(rows,)](*handed, plan=plan, **launch_options(plan)))
        ctx.save_for_backward(*tensors, *(state if save else (None,) * len(state)))
        if not ctx.kernel:
            return tuple(deep_twin(inputs, _twin_rule(plan)))
        last = [one[:, chunks % slots].clone() for one in state]
        previous = [one[:, (chunks - 1) % slots].clone() for one in state[::2]]
        return (*found, *last, *previous)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        tensors = ctx.saved_tensors
        inputs = DeepInputs(*tensors[:-4])
        if ctx.kernel and not torch.is_grad_enabled():
            found = _backward_by_kernel(inputs, DeepState(*tensors[-4:]), grads, ctx.plan)
            if found is not None:
                return (None, None, *found)

        def twin(*tensors: Tensor) -> DeepResult:
            return deep_twin(DeepInputs(*tensors), _twin_rule(ctx.plan))

        return (None, None, *twin_gradients(twin, inputs, grads))


def _shared(inputs: DeepInputs) -> tuple[Tokens, Scalars, DeepBase]:
    """Return what both kernels are handed."""
    scalars = Scalars(inputs.vectors, inputs.mix, inputs.mix)
    return Tokens(*inputs[:3]), scalars, DeepBase(*inputs[5:7])


def _twin_rule(plan: Plan) -> TwinRule:
    bound = plan.bound if plan.bounded else None
    return TwinRule(bound, plan.triangular, "gelu" if plan.gelu else "silu")


def _backward_by_kernel(
    inputs: DeepInputs, state: DeepState, grads: tuple[Tensor, ...], plan: Plan
) -> tuple[Tensor, ...] | None:
    """Return the gradients by every input; ``None`` if the kernel does not fit."""
    rows, chunks = inputs.vectors.shape[:2]
    heads = len(inputs.first_base)
    by_state = DeepState(*(state_slots(one, chunks, save=False) for one in grads[2:6]))
    by_base = DeepBase(*(torch.zeros_like(one) for one in inputs[7::2]))
    handed = DeepBackward(
        outputs=grads[0].contiguous(),
        losses=grads[1].contiguous(),
        state=by_state,
        base=by_base,
        previous=DeepBase(*(one.contiguous() for one in grads[6:])),
        scratch=inputs.vectors.new_empty(rows, SCRATCH.value, plan.chunk, plan.hidden),
    )
    by_tokens = Tokens(*(torch.empty_like(one) for one in inputs[:3]))
    by_mix = torch.empty_like(inputs.mix)
    by_scalars = Scalars(torch.empty_like(inputs.vectors), by_mix, by_mix)
    plan = backward_plan(plan)
    given = (*_shared(inputs), state, handed, (by_tokens, by_scalars), (chunks, heads))
    if not fits(lambda: deep_backward[(rows,)](*given, plan=plan, **launch_options(plan))):
        return None
    return (
        *by_tokens,
        by_scalars.vectors,
        by_mix,
        *(one.unflatten(0, (-1, heads)).sum(0) for one in by_base),
        *(one[:, chunks % 2] for one in by_state),
    )
