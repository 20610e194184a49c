"""A call of the compiled form: its tensors by their roles, and its rows shared among threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.rules.rule import TINY, Rates, UpdateRule
from titans_seq.ops.state import split_start

ALIGNMENT = 64
"""Bytes to which each thread's working memory is aligned: a cache line."""


class Call(NamedTuple):
    """Settings of one call: all but its tensors."""

    rule: UpdateRule
    chunk: int
    """Tokens in each chunk of the call."""
    full_chunk: int
    """Tokens between two refreshes of the gradient's point."""
    layers: int
    states: bool
    """Whether the state after the last token is wanted."""
    learns: bool
    """Whether a backward pass may follow."""


class Begun(NamedTuple):
    """A chunk that earlier calls have partly read."""

    anchor: list[Tensor]
    """Weights at its start; one tensor a layer, like the others."""
    units: list[Tensor]
    """(heads, batch, open, inner): unit inputs of its tokens; those read now are added."""
    spent: list[Tensor]
    """(heads, batch, open): what each of them has written, likewise."""
    slot: int
    """Tokens read before."""
    open: int
    """Tokens that the chunk has room for."""


class Given:
    """The tensors of one call by role, in the layout that the compiled code requires."""

    def __init__(self, call: Call, tensors: tuple[Tensor, ...]) -> None:
        self.call = call
        # order of `tensors`: queries, keys, values; 4 rates; first weights; carried state
        self.tokens = [x if x.stride(-1) == 1 else x.contiguous() for x in tensors[:3]]
        self.rates = Rates(*(rate.contiguous() for rate in tensors[3:7]))
        layers = call.layers
        self.start = [weight.contiguous() for weight in tensors[7 : 7 + layers]]
        carried = [matrix.contiguous() for matrix in tensors[7 + layers :]]
        self.weights, self.momentum = carried[:layers], carried[layers:]
        self.batch, self.heads, self.time, self.dim = tensors[0].shape
        self.like = tensors[0]
        self.keep, self.decay = self.rates.log_keep.exp(), self.rates.log_momentum.exp()
        # 1 - momentum; expm1 keeps its digits where momentum is near 1
        self.headroom = -torch.expm1(self.rates.log_momentum)
        base, first = split_start(tuple(self.start), call.rule)
        self.base: list[Tensor | None] = list(base) if call.rule.forget_to == "start" else []
        self.initial: list[Tensor] = self.weights
        # nothing carried and no base: memories begin at the first weights themselves
        if not self.weights and not self.base:
            self.initial = [
                weight.unsqueeze(1).expand(-1, self.batch, -1, -1).contiguous() for weight in first
            ]

    def sizes(self) -> kernels.CallSizes:
        """Return the sizes of the call."""
        widths = [self.dim, *(weight.shape[-1] for weight in self.start)]
        chunks = self.time // self.call.chunk
        return sizes_of(self.call, chunks, self.heads, self.batch, widths)

    def states(self) -> list[Tensor]:
        """Return uninitialised buffers for the weights, or the momentum, of each layer."""
        return [self.like.new_empty(w.shape[0], self.batch, *w.shape[1:]) for w in self.start]

    def forward(
        self,
        out: Tensor,
        loss: Tensor,
        after: list[Tensor],
        tape: Tensor | None,
        begun: Begun | None = None,
    ) -> kernels.Forward:
        """Return what the compiled forward pass reads and writes."""
        layers = self.call.layers
        begun = begun or Begun([], [], [], 0, 0)
        return kernels.Forward(
            *(kernels.vectors(tensor) for tensor in self.tokens),
            *(
                kernels.pointer(rate)
                for rate in
                (self.keep, self.decay, self.headroom, self.rates.step, self.rates.write)
            ),
            *(kernels.pointers(matrices) for matrices in (self.base, self.initial, self.momentum)),
            kernels.pointer(out), kernels.pointer(loss),
            kernels.pointers(after[:layers]), kernels.pointers(after[layers:]),
            *(kernels.pointers(tensors) for tensors in begun[:3]), *begun[3:],
            kernels.pointer(tape), kernels.Buffer(),
        )  # fmt: skip


def sizes_of(
    call: Call, chunks: int, heads: int, batch: int, widths: Sequence[int]
) -> kernels.CallSizes:
    """Return the sizes of a call as the compiled code takes them.

    Parameters
    ----------
    widths
        Of the memory's layers: the input's, then each output's.
    """
    rule = call.rule
    # divisor of the steps; the triangular step bounds them instead and takes none
    shared = {"triangular": 0, "raw": 1, "mean": call.full_chunk}[rule.step]
    return kernels.CallSizes(
        call.layers, call.chunk, chunks, heads, batch,
        (ctypes.c_long * (kernels.MOST_LAYERS + 1))(*widths), rule.step == "triangular",
        rule.activation == "gelu", rule.gradient_point == "token", rule.decay_first,
        shared or 1, rule.gradient_bound or 0, TINY,
    )  # fmt: skip


def run(given: Given, forward: kernels.Forward, backward: kernels.BackwardBuffers | None) -> None:
    """Run the compiled pass over all rows, shared among threads."""
    library, sizes = kernels.library(), given.sizes()
    assert library is not None
    rows, is_double = given.batch * given.heads, given.like.dtype == torch.float64
    workspace = library.titans_workspace(ctypes.byref(sizes), backward is not None, is_double)
    if workspace < 0:
        kernels.check(b"sizes")
    threads = kernels.number_of_threads(rows)
    # one byte row a thread, with slack to move its start to a cache line
    spaces = torch.empty(threads, workspace + ALIGNMENT, dtype=torch.uint8)

    def work(number: int) -> None:
        # a copy of the structure a thread: only its working memory differs
        mine = kernels.Forward.from_buffer_copy(forward)
        aligned = -(-spaces[number].data_ptr() // ALIGNMENT) * ALIGNMENT
        mine.space = kernels.Buffer(aligned, workspace)
        first, last = rows * number // threads, rows * (number + 1) // threads
        if backward is None:
            refused = library.titans_forward(
                ctypes.byref(sizes), ctypes.byref(mine), first, last, is_double
            )
        else:
            refused = library.titans_backward(
                ctypes.byref(sizes), ctypes.byref(mine), ctypes.byref(backward),
                first, last, is_double,
            )  # fmt: skip
        kernels.check(refused)

    _share(work, threads)


def _share(work: Callable[[int], None], threads: int) -> None:
    """Call ``work`` with each thread's number; compiled code lets other threads run."""
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
