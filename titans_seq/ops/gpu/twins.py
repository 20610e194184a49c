"""The GPU kernels' torch twins: the same functions of the same tensors, by plain autograd.

They answer where a kernel cannot, when a gradient is differentiated again, and they state
what each kernel computes. A row is one head of one sequence; weights are differences from
the base that forgetting leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.general.chunk_network import bound_gradient
from titans_seq.ops.rules.rule import TINY, activate, activate_slope

KEEP, CARRY, MIX_LAST, DECAY_LAST, MOMENTUM, STEP = range(6)
KEEP_BEFORE, CARRY_BEFORE = SECOND_STEP, ROOM = 6, 7


class LinearInputs(NamedTuple):
    """What a linear memory's kernel is handed."""

    queries: Float[Tensor, "rows time width"]
    keys: Float[Tensor, "rows time width"]
    values: Float[Tensor, "rows time width"]
    vectors: Float[Tensor, "rows chunks vectors chunk"]
    mix: Float[Tensor, "rows chunks chunk chunk"]
    before: Float[Tensor, "rows chunks chunk chunk"] | None
    """``mix`` of the state before each token, where the gradient is taken at every token."""

    base: Float[Tensor, "heads width width"]
    weights: Float[Tensor, "rows width width"]
    momentum: Float[Tensor, "rows width width"]


class LinearResult(NamedTuple):
    """What it returns."""

    outputs: Float[Tensor, "rows time width"]
    losses: Float[Tensor, "rows time"]
    weights: Float[Tensor, "rows width width"]
    momentum: Float[Tensor, "rows width width"]
    previous: Float[Tensor, "rows width width"]
    """Weights at the start of the last chunk."""


class TwinRule(NamedTuple):
    """What a twin must know of the rule."""

    bound: float | None
    """Bound on the size of one token's gradient."""

    triangular: bool = False
    """Whether the second layer's step is bounded by what the chunk has written."""

    activation: str = "silu"


def twin_gradients(
    twin: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the twin's gradients, differentiable where gradients are being recorded.

    Each input stands for itself alone here, also where one was computed from another.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(grads[0].device.type, enabled=False):
        leaves = [None if x is None else x.view_as(x) for x in inputs]
        results = twin(*leaves)
        wanted = [x for x in leaves if x is not None and x.requires_grad]
        found = iter(
            torch.autograd.grad(results, wanted, grads, create_graph=again, allow_unused=True)
        )
        return [
            next(found) if x is not None and x.requires_grad else None for x in leaves
        ]  # fmt: skip


def linear_twin(inputs: LinearInputs, rule: TwinRule) -> LinearResult:
    """Return what the kernels of the linear memory compute."""
    base = _per_row(inputs.base, len(inputs.queries))
    weights, momentum, previous = inputs.weights, inputs.momentum, inputs.weights
    cut = _cut(inputs[:3], inputs.mix)
    outputs, losses = [], []
    befores = [None] * inputs.mix.shape[1] if inputs.before is None else inputs.before.unbind(1)
    for q, k, v, vectors, mix, before in zip(
        *cut, inputs.vectors.unbind(1), inputs.mix.unbind(1), befores, strict=True
    ):
        vector = [one.unsqueeze(-1) for one in vectors.unbind(1)]
        if before is None:
            errors = k @ (base + weights) - v
        else:
            right = k @ base - v + vector[KEEP_BEFORE] * (k @ weights)
            right = right + vector[CARRY_BEFORE] * (k @ momentum)
            system = before * vector[STEP].mT * (k @ k.mT)
            errors = torch.linalg.solve_triangular(
                system, right, upper=False, unitriangular=True
            )  # fmt: skip
        losses.append(0.5 * errors.square().sum(-1))
        bounded = bound_gradient(k, errors, rule.bound) if before is None else errors
        change = vector[STEP] * bounded
        state = (weights, momentum)
        outputs.append(_read(q, k, change, base, state, vector, mix))
        previous = weights
        weights, momentum = _write(k, change, state, vector)
    joined = torch.cat(outputs, 1).to(inputs.queries.dtype)
    return LinearResult(joined, torch.cat(losses, 1), weights, momentum, previous)


def _cut(tokens: Sequence[Tensor], mix: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the tokens of each chunk, in the type of the scalars."""
    chunks, chunk = mix.shape[1:3]
    return [one.to(mix.dtype).unflatten(1, (chunks, chunk)).unbind(1) for one in tokens]


def _per_row(base: Tensor, rows: int) -> Tensor:
    """Return the base of each row; rows count heads fastest."""
    return base.repeat(rows // len(base), 1, 1)


def _read(
    h: Tensor,
    z: Tensor,
    change: Tensor,
    base: Tensor,
    state: tuple[Tensor, Tensor],
    vector: list[Tensor],
    mix: Tensor,
) -> Tensor:
    """Return one layer's output for the queries, each through the weights after its token."""
    weights, momentum = state
    carried = vector[KEEP] * (h @ weights) + vector[CARRY] * (h @ momentum)
    return h @ base + carried - (mix * (h @ z.mT)) @ change


def _write(
    z: Tensor, change: Tensor, state: tuple[Tensor, Tensor], vector: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return one layer's weights and momentum after the chunk's last token."""
    weights, momentum = state
    keep, carry, decay = (vector[which][:, -1:] for which in (KEEP, CARRY, MOMENTUM))
    return (
        keep * weights + carry * momentum - z.mT @ (vector[MIX_LAST] * change),
        decay * momentum - z.mT @ (vector[DECAY_LAST] * change),
    )


class DeepInputs(NamedTuple):
    """What the kernel of a memory of two layers is handed."""

    queries: Float[Tensor, "rows time width"]
    keys: Float[Tensor, "rows time width"]
    values: Float[Tensor, "rows time width"]
    vectors: Float[Tensor, "rows chunks vectors chunk"]
    mix: Float[Tensor, "rows chunks chunk chunk"]
    first_base: Float[Tensor, "heads width hidden"]
    second_base: Float[Tensor, "heads hidden width"]
    first_weights: Float[Tensor, "rows width hidden"]
    first_momentum: Float[Tensor, "rows width hidden"]
    second_weights: Float[Tensor, "rows hidden width"]
    second_momentum: Float[Tensor, "rows hidden width"]


class DeepResult(NamedTuple):
    """What it returns."""

    outputs: Float[Tensor, "rows time width"]
    losses: Float[Tensor, "rows time"]
    first_weights: Float[Tensor, "rows width hidden"]
    first_momentum: Float[Tensor, "rows width hidden"]
    second_weights: Float[Tensor, "rows hidden width"]
    second_momentum: Float[Tensor, "rows hidden width"]
    first_previous: Float[Tensor, "rows width hidden"]
    """Weights at the start of the last chunk."""

    second_previous: Float[Tensor, "rows hidden width"]


def deep_twin(inputs: DeepInputs, rule: TwinRule) -> DeepResult:
    """Return what the kernels of the memory of two layers compute."""
    rows = len(inputs.queries)
    base1, base2 = _per_row(inputs.first_base, rows), _per_row(inputs.second_base, rows)
    first = (inputs.first_weights, inputs.first_momentum)
    second = (inputs.second_weights, inputs.second_momentum)
    previous = (first[0], second[0])
    cut = _cut(inputs[:3], inputs.mix)
    outputs, losses = [], []
    for q, k, v, vectors, mix in zip(
        *cut, inputs.vectors.unbind(1), inputs.mix.unbind(1), strict=True
    ):
        vector = [one.unsqueeze(-1) for one in vectors.unbind(1)]
        weights2 = base2 + second[0]
        u = k @ (base1 + first[0])
        z = activate(u, rule.activation)
        errors = z @ weights2 - v
        losses.append(0.5 * errors.square().sum(-1))
        behind = (errors @ weights2.mT) * activate_slope(u, rule.activation)
        change1 = vector[STEP] * bound_gradient(k, behind, rule.bound)
        step2 = _second_step(z, vector) if rule.triangular else vector[SECOND_STEP]
        change2 = step2 * bound_gradient(z, errors, rule.bound)
        h = activate(_read(q, k, change1, base1, first, vector, mix), rule.activation)
        outputs.append(_read(h, z, change2, base2, second, vector, mix))
        previous = (first[0], second[0])
        first = _write(k, change1, first, vector)
        second = _write(z, change2, second, vector)
    joined = torch.cat(outputs, 1).to(inputs.queries.dtype)
    return DeepResult(joined, torch.cat(losses, 1), *first, *second, *previous)


def _second_step(z: Tensor, vector: list[Tensor]) -> Tensor:
    """Return the triangular step of the second of two layers."""
    step, room = vector[SECOND_STEP], vector[ROOM]
    square = z.square().sum(-1, keepdim=True)
    unit = z * torch.rsqrt(square + TINY)
    demand = step * square
    limit = torch.maximum(demand, room).clamp_min(TINY)
    wanted = demand / limit / 2
    left: Tensor = torch.linalg.solve_triangular(
        (unit @ unit.mT).square() * wanted.mT, torch.ones_like(wanted),
        upper=False, unitriangular=True,
    )  # fmt: skip
    shrunk: Tensor = step * (room / (limit * 2)) * left.clamp_min(0)
    return shrunk
