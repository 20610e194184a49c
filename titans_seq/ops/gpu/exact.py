"""A linear memory on the GPU as one differentiable function, exact or chunked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.gpu.blocks import Plan, Scalars, Tokens
from titans_seq.ops.gpu.host import backward_plan, fits, launch_options, state_slots
from titans_seq.ops.gpu.linear import Found, LinearState, linear_forward
from titans_seq.ops.gpu.linear_backward import Backward, linear_backward
from titans_seq.ops.gpu.twins import (
    LinearInputs,
    LinearResult,
    TwinRule,
    linear_twin,
    twin_gradients,
)


def linear_memory(inputs: LinearInputs, plan: Plan) -> LinearResult:
    """Write and read whole chunks with a linear memory; see :func:`linear_twin`."""
    contiguous = [None if one is None else one.contiguous() for one in inputs]
    save = torch.is_grad_enabled() and any(
        one is not None and one.requires_grad for one in contiguous
    )
    results = _LinearMemory.apply(plan, save, *contiguous)  # type: ignore[no-untyped-call]
    return LinearResult(*results)


class _LinearMemory(torch.autograd.Function):
    """The kernels; gradients of gradients, and what does not fit, come from the torch twin."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, save: bool, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        inputs = LinearInputs(*tensors)  # type: ignore[arg-type]
        rows, chunks = inputs.vectors.shape[:2]
        state = LinearState(*(state_slots(one, chunks, save) for one in inputs[-2:]))
        slots = state.weights.shape[1]
        found = Found(
            torch.empty_like(inputs.queries),
            inputs.vectors.new_empty(inputs.queries.shape[:2]),
            inputs.vectors.new_empty(inputs.queries.shape),
        )
        handed = (*_shared(inputs), state, found, (chunks, len(inputs.base), slots))
        ctx.plan = plan
        ctx.kernel = fits(
            lambda: linear_forward[(rows,)](*handed, plan=plan, **launch_options(plan))
        )
        ctx.save_for_backward(*tensors, *((*state, found.errors) if save else (None,) * 3))
        if not ctx.kernel:
            return tuple(linear_twin(inputs, _twin_rule(plan)))
        last, previous = chunks % slots, (chunks - 1) % slots
        return (
            found.outputs,
            found.losses,
            state.weights[:, last].clone(),
            state.momentum[:, last].clone(),
            state.weights[:, previous].clone(),
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        *tensors, weights, momentum, errors = ctx.saved_tensors
        inputs = LinearInputs(*tensors)
        if ctx.kernel and not torch.is_grad_enabled():
            saved = (LinearState(weights, momentum), errors)
            found = _backward_by_kernel(inputs, saved, grads, ctx.plan)
            if found is not None:
                return (None, None, *found)

        def twin(*tensors: Tensor) -> LinearResult:
            return linear_twin(LinearInputs(*tensors), _twin_rule(ctx.plan))

        return (None, None, *twin_gradients(twin, inputs, grads))


def _shared(inputs: LinearInputs) -> tuple[Tokens, Scalars, Tensor]:
    """Return what both kernels are handed."""
    before = inputs.mix if inputs.before is None else inputs.before
    return Tokens(*inputs[:3]), Scalars(inputs.vectors, inputs.mix, before), inputs.base


def _twin_rule(plan: Plan) -> TwinRule:
    return TwinRule(plan.bound if plan.bounded else None)


def _backward_by_kernel(
    inputs: LinearInputs,
    saved: tuple[LinearState, Tensor],
    grads: tuple[Tensor, ...],
    plan: Plan,
) -> tuple[Tensor | None, ...] | None:
    """Return the gradients by every input; ``None`` if the kernel does not fit."""
    rows, chunks = inputs.vectors.shape[:2]
    heads = len(inputs.base)
    by_state = [one.clone(memory_format=torch.contiguous_format) for one in grads[2:4]]
    handed = Backward(
        outputs=grads[0].contiguous(),
        losses=grads[1].contiguous(),
        weights=by_state[0],
        momentum=by_state[1],
        previous=grads[4].contiguous(),
        base=torch.empty_like(by_state[0]),
    )
    by_tokens = Tokens(*(torch.empty_like(one) for one in inputs[:3]))
    by_mix = torch.empty_like(inputs.mix)
    by_before = None if inputs.before is None else torch.empty_like(inputs.before)
    by_scalars = Scalars(
        torch.empty_like(inputs.vectors), by_mix, by_mix if by_before is None else by_before
    )
    plan = backward_plan(plan)
    given = (*_shared(inputs), saved, handed, (by_tokens, by_scalars), (chunks, heads))
    if not fits(lambda: linear_backward[(rows,)](*given, plan=plan, **launch_options(plan))):
        return None
    by_base = handed.base.unflatten(0, (-1, heads)).sum(0)
    return (*by_tokens, by_scalars.vectors, by_mix, by_before, by_base, *by_state)
