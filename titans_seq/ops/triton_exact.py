"""A linear memory on the GPU as one differentiable function, exact or chunked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.triton_blocks import Plan, Scalars, Tokens
from titans_seq.ops.triton_host import launch_options, state_slots
from titans_seq.ops.triton_linear import Found, LinearState, linear_forward
from titans_seq.ops.triton_linear_backward import Backward, linear_backward
from titans_seq.ops.triton_twins import (
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
    """The kernels; gradients of gradients come from the torch twin."""

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
        before = inputs.mix if inputs.before is None else inputs.before
        linear_forward[(rows,)](
            Tokens(*inputs[:3]), Scalars(inputs.vectors, inputs.mix, before), inputs.base,
            state, found, (chunks, len(inputs.base), slots), plan=plan, **launch_options(plan),
        )  # fmt: skip
        if save:
            ctx.plan = plan
            ctx.save_for_backward(*tensors, *state, found.errors)
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
        plan: Plan = ctx.plan
        if torch.is_grad_enabled():
            rule = TwinRule(plan.bound if plan.bounded else None)

            def twin(*alone: Tensor) -> LinearResult:
                return linear_twin(LinearInputs(*alone), rule)

            return (None, None, *twin_gradients(twin, inputs, grads))
        rows, chunks = inputs.vectors.shape[:2]
        heads = len(inputs.base)
        by_state = [one.clone(memory_format=torch.contiguous_format) for one in grads[2:4]]
        by_base = torch.empty_like(by_state[0])
        handed = Backward(
            grads[0].contiguous(), grads[1].contiguous(), *by_state, grads[4].contiguous(), by_base
        )
        by_tokens = Tokens(*(torch.empty_like(one) for one in inputs[:3]))
        by_mix = torch.empty_like(inputs.mix)
        before = inputs.mix if inputs.before is None else inputs.before
        by_before = by_mix if inputs.before is None else torch.empty_like(before)
        by_scalars = Scalars(torch.empty_like(inputs.vectors), by_mix, by_before)
        linear_backward[(rows,)](
            Tokens(*inputs[:3]), Scalars(inputs.vectors, inputs.mix, before), inputs.base,
            (LinearState(weights, momentum), errors, (chunks, heads)), handed,
            by_tokens, by_scalars, plan=plan, **launch_options(plan),
        )  # fmt: skip
        return (
            None,
            None,
            *by_tokens,
            by_scalars.vectors,
            by_mix,
            None if inputs.before is None else by_before,
            by_base.unflatten(0, (-1, heads)).sum(0),
            *by_state,
        )
