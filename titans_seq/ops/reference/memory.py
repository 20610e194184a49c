"""The paper's update token by token, its gradients by autograd: the truth of every test.

Nothing here is fast, and nothing of the fast forms is used: weights are updated one token
at a time, as arXiv 2501.00663, equations 12 to 15, is written. Tokens that must leave no
trace are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rule import TINY, OutputNorm, Rates, UpdateRule, activate


@dataclass
class _Memory:
    """One memory, of one head and sequence, between two tokens."""

    weights: list[Tensor]
    momentum: list[Tensor]
    anchor: list[Tensor]
    count: int = 0
    keys: list[list[Tensor]] = field(default_factory=list)
    spent: list[list[Tensor]] = field(default_factory=list)
    sums: list[Tensor] = field(default_factory=list)
    """Accumulators of a retention; ``weights`` follow from them."""
    scales: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)
    """What forgetting has left of the chunk's first weights, for a boundary."""
    changes: list[list[Tensor]] = field(default_factory=list)
    """Every token's write at each step of its windows, in the open chunk."""


def memory_reference(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    rule: UpdateRule,
    chunk_size: int,
    norm: OutputNorm | None = None,
) -> tuple[Tensor, Tensor, list[list[list[Tensor]]]]:
    """Read and write a memory token by token, from its start.

    Returns
    -------
    outputs
        (batch, heads, time, dim); zero where ``rates.write`` is 0.
    losses
        (batch, heads, time): half the squared error at the gradient's point, before the write.
    states
        By batch and head: the last weights, then the last momentum (of a rule with a
        retention the accumulator), a tensor a layer.
    """
    batch, heads, time, _ = queries.shape
    outputs = [[[torch.zeros_like(queries[0, 0, 0])] * time for _ in range(heads)]
               for _ in range(batch)]  # fmt: skip
    losses = [[[queries.new_zeros(())] * time for _ in range(heads)] for _ in range(batch)]
    states: list[list[list[Tensor]]] = []
    for b in range(batch):
        for h in range(heads):
            first = [one[h] for one in start]
            memory = _Memory(first, [torch.zeros_like(one) for one in first], first)
            head_norm = None if norm is None else OutputNorm(norm.gain[h], norm.bias[h])
            for t in range(time):
                if rates.write[b, h, t] == 0:
                    continue
                token = [one[b, h, t] for one in (queries, keys, values, *rates[:3])]
                output, loss = _step(memory, token, first, rule, chunk_size, head_norm)
                outputs[b][h][t], losses[b][h][t] = output, loss
            states.append([memory.weights, memory.sums or memory.momentum])
    stack = torch.stack
    return (
        stack([stack([stack(row) for row in rows]) for rows in outputs]),
        stack([stack([stack(row) for row in rows]) for rows in losses]),
        states,
    )


def _step(
    memory: _Memory,
    token: list[Tensor],
    start: list[Tensor],
    rule: UpdateRule,
    chunk_size: int,
    norm: OutputNorm | None,
) -> tuple[Tensor, Tensor]:
    """Write one token, then read with its query."""
    query, key, value, log_keep, log_momentum, step = token
    keep, momentum = log_keep.exp(), log_momentum.exp()
    base = start if rule.forget_to == "start" else [torch.zeros_like(one) for one in start]
    if memory.count % chunk_size == 0:
        _open_chunk(memory, start, rule)
    memory.count += 1

    point = memory.anchor
    if rule.gradient_point == "token":
        point = memory.weights
        if rule.decay_first:
            point = [b + keep * (w - b) for w, b in zip(point, base, strict=True)]
    loss, gradients, inputs, error = _gradients(point, key, value, rule, norm)

    # how often the gradient is written, and how much longer than the error it may be
    times = min(rule.window, chunk_size - (memory.count - 1) % chunk_size)
    steepness = rule.bias.steepness(error)
    ratio = times if steepness is None else times * steepness
    for layer, (gradient, z) in enumerate(zip(gradients, inputs, strict=True)):
        theta = _bounded_step(memory, layer, z, step * ratio, log_momentum, rule, chunk_size)
        theta = theta / ratio
        if rule.gradient_bound is not None and rule.gradient_point == "chunk":
            size = (gradient.square().sum() + TINY).sqrt()
            gradient = gradient * rule.gradient_bound / (rule.gradient_bound + size)
        _write(memory, layer, theta * gradient, keep, momentum, base[layer], rule, chunk_size)
    output, _ = _network(memory.weights, query, rule, norm)
    return output, loss


def _open_chunk(memory: _Memory, start: list[Tensor], rule: UpdateRule) -> None:
    """Take the gradients of the next chunk at the weights as they are, or are made to be."""
    if rule.boundary is not None and memory.count:
        memory.weights = [
            left + rule.boundary.close(now - left)
            for now, left in zip(memory.weights, memory.left, strict=True)
        ]
    if rule.retention is not None:
        memory.sums = memory.sums or memory.weights
        memory.scales = [
            rule.retention.scale(one[None, None], first[None, None])[0, 0]
            for one, first in zip(memory.sums, start, strict=True)
        ]
        memory.weights = [
            one * scale for one, scale in zip(memory.sums, memory.scales, strict=True)
        ]
    memory.anchor = memory.left = memory.weights
    memory.changes = [[] for _ in memory.weights]
    memory.keys = [[] for _ in memory.weights]
    memory.spent = [[] for _ in memory.weights]
    if rule.schedule == "mean":
        memory.momentum = [torch.zeros_like(one) for one in memory.weights]


def _write(
    memory: _Memory,
    layer: int,
    change: Tensor,
    keep: Tensor,
    momentum: Tensor,
    base: Tensor,
    rule: UpdateRule,
    chunk_size: int,
) -> None:
    """Change one layer's momentum and weights by one token."""
    memory.weights, memory.momentum = list(memory.weights), list(memory.momentum)
    if rule.schedule == "mean":
        in_chunk = (memory.count - 1) % chunk_size + 1
        memory.momentum[layer] = memory.momentum[layer] - change
        memory.weights[layer] = memory.anchor[layer] + memory.momentum[layer] / in_chunk
        return
    memory.changes[layer].append(change)
    together = torch.stack(memory.changes[layer][-rule.window :]).sum(0)
    memory.momentum[layer] = momentum * memory.momentum[layer] - together
    before = memory.weights if rule.retention is None else memory.sums
    after = base + keep * (before[layer] - base) + memory.momentum[layer]
    memory.left = list(memory.left)
    memory.left[layer] = base + keep * (memory.left[layer] - base)
    if rule.retention is not None:
        memory.sums = list(memory.sums)
        memory.sums[layer] = after
        after = after * memory.scales[layer]
    memory.weights[layer] = after


def _bounded_step(
    memory: _Memory,
    layer: int,
    z: Tensor,
    step: Tensor,
    log_momentum: Tensor,
    rule: UpdateRule,
    chunk_size: int,
) -> Tensor:
    """Return the step of one layer, and remember what the chunk has written."""
    if rule.gradient_point == "token" or rule.step == "raw":
        return step
    if rule.step == "mean":
        return step / chunk_size
    layers = len(memory.weights)
    unit = z / (z.square().sum() + TINY).sqrt()
    left = 1 - sum(
        (spent * (unit @ key) ** 2
         for key, spent in zip(memory.keys[layer], memory.spent[layer], strict=True)),
        start=step.new_zeros(()),
    )  # fmt: skip
    demand = step * z.square().sum()
    room = -torch.expm1(log_momentum)
    limit = torch.maximum(demand, room).clamp_min(TINY)
    memory.keys[layer].append(unit)
    memory.spent[layer].append(demand / limit / layers * left)
    return step * (room / limit) / layers * left.clamp_min(0)


def _gradients(
    point: list[Tensor], key: Tensor, value: Tensor, rule: UpdateRule, norm: OutputNorm | None
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Return the inner loss, its gradient by each matrix, each layer's input, and the error."""
    with torch.enable_grad():
        weights = [w if w.requires_grad else w.detach().requires_grad_() for w in point]
        output, inputs = _network(weights, key, rule, norm)
        loss = rule.bias.loss(output - value)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
    return loss, list(gradients), inputs, output - value


def _network(
    weights: list[Tensor], x: Tensor, rule: UpdateRule, norm: OutputNorm | None
) -> tuple[Tensor, list[Tensor]]:
    """Return the memory's output for one vector, and the input of each layer."""
    inputs = [x]
    for weight in weights[:-1]:
        inputs.append(activate(inputs[-1] @ weight, rule.activation))
    output = inputs[-1] @ weights[-1]
    if norm is not None:
        output = x + F.layer_norm(output, output.shape, norm.gain, norm.bias, eps=1e-6)
    return output, inputs
