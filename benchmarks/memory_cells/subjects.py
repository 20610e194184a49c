"""Every subject as one call that does the job of its cell.

Only the package that a subject needs is imported, so that peers may live in an environment
where titans-seq is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Job = Callable[[int], Tensor]
"""Reads that many tokens, and returns what it read."""

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""Tokens and a state (``None`` at first) to outputs and the next state."""

KEEP, MOMENTUM, STEP = 0.995, 0.5, 0.5
"""Means of the rates that the operators are given."""


def build(subject: str, mode: str, sizes: dict[str, Any], seed: int) -> Job:
    """Return the job of one cell.

    Parameters
    ----------
    subject, mode
        Of :data:`memory_cells.cells.SUBJECTS` and :data:`memory_cells.cells.MODES`.
    sizes
        Fields of a :class:`memory_cells.cells.Shape`.
    """
    torch.manual_seed(seed)
    if subject == "matmul":
        return _matmul()
    if subject in OPERATOR_MAKERS:
        return OPERATOR_MAKERS[subject](sizes, mode == "train")
    module, step = LAYER_MAKERS[subject](sizes)
    x = torch.randn(sizes["batch"], sizes["time"], sizes["dim"])
    if mode == "train":
        return training(module, step, x)
    if mode == "decode":
        return decoding(step, x, torch.randn(sizes["batch"], sizes["chunk"], sizes["dim"]))
    return reading(step, x)


def reading(step: Step, x: Tensor) -> Job:
    """Forward without a graph."""

    def job(time: int) -> Tensor:
        with torch.no_grad():
            return step(x[:, :time], None)[0]

    return job


def training(module: nn.Module, step: Step, x: Tensor) -> Job:
    """Forward and backward, gradients to the parameters and the input."""

    def job(time: int) -> Tensor:
        module.zero_grad(set_to_none=True)
        tokens = x[:, :time].detach().requires_grad_()
        y = step(tokens, None)[0]
        torch.autograd.backward(y.square().sum())
        assert tokens.grad is not None
        return y.detach()

    return job


def decoding(step: Step, x: Tensor, past: Tensor) -> Job:
    """One token a call, from the state that a chunk of tokens has left."""
    with torch.no_grad():
        _, ready = step(past, None)

    def job(time: int) -> Tensor:
        state = ready
        with torch.no_grad():
            for place in range(time):
                y, state = step(x[:, place : place + 1], state)
        return y

    return job


def _matmul(size: int = 1024) -> Job:
    """One product of two square matrices: what the core can do."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return lambda _: left @ right


def _ours(sizes: dict[str, Any], rule: str) -> tuple[nn.Module, Step]:
    from titans_seq import NeuralMemory

    memory = NeuralMemory(
        sizes["dim"], sizes["heads"], sizes["depth"], sizes["expansion"], sizes["chunk"], rule
    )
    return memory, lambda tokens, state: memory(tokens, state)


def _titans_pytorch(sizes: dict[str, Any], refresh: bool) -> tuple[nn.Module, Step]:
    """titans-pytorch 0.5.5; with ``refresh`` gradients are taken where ours are."""
    from titans_pytorch import MemoryMLP, NeuralMemory

    width = sizes["dim"] // sizes["heads"]
    memory = NeuralMemory(
        sizes["dim"],
        heads=sizes["heads"],
        dim_head=width,
        chunk_size=sizes["chunk"],
        batch_size=sizes["chunk"] if refresh else None,
        model=MemoryMLP(width, sizes["depth"], expansion_factor=sizes["expansion"]),
    )
    return memory, lambda tokens, state: memory(tokens, state=state)


def _titans_unofficial(sizes: dict[str, Any]) -> tuple[nn.Module, Step]:
    """titans-unofficial 2.0.0: one head as wide as the token, hidden layers likewise.

    At expansion 4 and 4 heads its state is as large as that of the others.
    """
    from titans.utils.memory import NeuralMemoryModule

    memory = NeuralMemoryModule(sizes["dim"], memory_depth=sizes["depth"])
    return memory, lambda tokens, state: memory(tokens, state)


LAYER_MAKERS: dict[str, Callable[[dict[str, Any]], tuple[nn.Module, Step]]] = {
    "ours-titans": lambda sizes: _ours(sizes, "titans"),
    "ours-exact": lambda sizes: _ours(sizes, "titans-exact"),
    "titans-pytorch-refresh": lambda sizes: _titans_pytorch(sizes, refresh=True),
    "titans-pytorch-default": lambda sizes: _titans_pytorch(sizes, refresh=False),
    "titans-unofficial": _titans_unofficial,
}


def problem(sizes: dict[str, Any]) -> list[Tensor]:
    """Return queries, keys, values (batch, time, heads, width), and three rates.

    The rates are log keep, log momentum and step, each (batch, time, heads).
    """
    shape = (sizes["batch"], sizes["time"], sizes["heads"])
    width = sizes["dim"] // sizes["heads"]
    q, k, v = (torch.randn(*shape, width) for _ in range(3))
    keep, momentum, step = (
        torch.sigmoid(torch.randn(shape) * 0.2 + torch.logit(torch.tensor(mean)))
        for mean in (KEEP, MOMENTUM, STEP)
    )
    unit = nn.functional.normalize
    return [unit(q, dim=-1), unit(k, dim=-1), v, keep.log(), momentum.log(), step]


def ours_exact(q: Tensor, k: Tensor, v: Tensor, rates: list[Tensor], chunk: int) -> Tensor:
    """Read with our operator, (batch, heads, time, width); the memory starts at zero."""
    from titans_seq.ops.memory import learn_and_read
    from titans_seq.ops.rules.rule import Rates, UpdateRule

    start = (q.new_zeros(q.shape[1], q.shape[-1], v.shape[-1]),)
    rule = UpdateRule(gradient_point="token", forget_to="zero")
    log_keep, log_momentum, step = rates
    filled = Rates(log_keep, log_momentum, step, torch.ones_like(step))
    out: Tensor = learn_and_read(q, k, v, filled, start, None, rule, chunk_size=chunk)[0]
    return out


def fla_reference(q: Tensor, k: Tensor, v: Tensor, rates: list[Tensor], chunk: int) -> Tensor:
    """Read with fla-core's chunked reference, (batch, time, heads, width)."""
    from fla.ops.momentum_delta_rule.naive import chunk_momentum_delta_rule_ref

    log_keep, log_momentum, step = rates
    out: Tensor = chunk_momentum_delta_rule_ref(
        q, k, v, k, log_keep, log_momentum, torch.ones_like(step), step, scale=1.0,
        chunk_size=chunk,
    )[0]  # fmt: skip
    return out


def _operator(
    read: Callable[..., Tensor], heads_first: bool, sizes: dict[str, Any], train: bool
) -> Job:
    """Return the job of an operator, its inputs laid out as it wants them."""
    tensors = problem(sizes)
    if heads_first:
        tensors = [one.transpose(1, 2).contiguous() for one in tensors]

    def job(time: int) -> Tensor:
        parts = [one.narrow(2 if heads_first else 1, 0, time).detach() for one in tensors]
        for one in parts:
            one.requires_grad_(train)
        with torch.set_grad_enabled(train):
            y = read(*parts[:3], parts[3:], sizes["chunk"])
            if train:
                torch.autograd.backward(y.square().sum())
        return y.detach()

    return job


OPERATOR_MAKERS: dict[str, Callable[[dict[str, Any], bool], Job]] = {
    "ours-exact-op": lambda sizes, train: _operator(ours_exact, True, sizes, train),
    "fla-op": lambda sizes, train: _operator(fla_reference, False, sizes, train),
}
