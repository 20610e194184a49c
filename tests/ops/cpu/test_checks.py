"""The compiled functions refuse a buffer that is smaller than the call needs, and touch nothing."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq import NeuralMemory
from titans_seq.exceptions import DataError
from titans_seq.ops.cpu import features
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.cpu.call import Begun, Call, Given, run
from titans_seq.ops.cpu.journal import Sizes
from titans_seq.ops.rules.rule import UpdateRule

pytestmark = pytest.mark.skipif(
    kernels.library() is None, reason="the package was installed without a C compiler"
)

BATCH, HEADS, TIME, WIDTH, HIDDEN, OPEN = 2, 3, 5, 4, 6, 8

BUFFERS = (
    "keep", "decay", "headroom", "step", "write", "out", "loss", "base", "weights", "momentum",
    "weights_end", "momentum_end", "anchor", "units", "spent",
)  # fmt: skip


KEPT: list[Tensor] = []
"""Tensors of the last call, which its buffers do not keep alive."""


def _call(**changed: Any) -> tuple[Given, kernels.Forward]:
    """Return a call that reads some tokens of an open chunk, and its buffers."""
    shapes = [(WIDTH, HIDDEN), (HIDDEN, WIDTH)]
    tokens = [torch.randn(BATCH, HEADS, TIME, WIDTH) for _ in range(3)]
    rates = [-torch.rand(BATCH, HEADS, TIME) for _ in range(2)]
    rates += [torch.rand(BATCH, HEADS, TIME), torch.ones(BATCH, HEADS, TIME)]
    start = [torch.randn(HEADS, *shape) for shape in shapes]
    carried = [torch.randn(HEADS, BATCH, *shape) for shape in shapes * 2]
    given = Given(
        Call(UpdateRule(), TIME, OPEN, 2, True, False), (*tokens, *rates, *start, *carried)
    )
    units = [torch.zeros(HEADS, BATCH, OPEN, inner) for inner, _ in shapes]
    spent = [torch.zeros(HEADS, BATCH, OPEN) for _ in shapes]
    begun = Begun(given.weights, units, spent, changed.get("slot", 1), OPEN)
    out, loss = torch.empty(tokens[0].shape), torch.empty(tokens[0].shape[:3])
    after = given.states() + given.states()
    KEPT[:] = [out, loss, *after, *units, *spent]
    return given, given.forward(out, loss, after, None, begun)


def test_a_call_whose_buffers_fit_is_run() -> None:
    run(*_call(), None)


@pytest.mark.parametrize("name", BUFFERS)
def test_a_call_refuses_each_buffer_that_is_a_byte_short(name: str) -> None:
    given, forward = _call()
    buffer = getattr(forward, name)
    (buffer if isinstance(buffer, kernels.Buffer) else buffer[1]).bytes -= 1
    with pytest.raises(DataError, match=rf"compiled memory got '{name}' of a wrong size"):
        run(given, forward, None)


@pytest.mark.parametrize("name", ["queries", "keys", "values"])
@pytest.mark.parametrize(("field", "change"), [("bytes", -1), ("time", 1), ("batch", -99)])
def test_a_call_refuses_vectors_beyond_their_memory(name: str, field: str, change: int) -> None:
    given, forward = _call()
    vectors = getattr(forward, name)
    setattr(vectors, field, getattr(vectors, field) + change)
    with pytest.raises(DataError, match=rf"compiled memory got '{name}'"):
        run(given, forward, None)


@pytest.mark.parametrize("slot", [-1, OPEN - TIME + 1, 2**40])
def test_a_call_refuses_tokens_beyond_their_chunk(slot: int) -> None:
    with pytest.raises(DataError, match="got 'slot'"):
        run(*_call(slot=slot), None)


@pytest.mark.parametrize(
    ("field", "number", "match"),
    [
        ("layers", 0, "layers"), ("layers", 5, "layers"), ("chunk", 0, "chunk or heads"),
        ("heads", -1, "chunk or heads"), ("batch", 2**40, "batch"), ("chunks", -1, "chunks"),
        ("chunk", 2**30, "chunk or widths"), ("exact", 1, "layers"), ("heads", 2**30, "queries"),
    ],
)  # fmt: skip
def test_a_call_refuses_sizes_out_of_range(field: str, number: int, match: str) -> None:
    given, forward = _call()
    sizes = given.sizes()
    setattr(sizes, field, number)
    library = kernels.library()
    assert library is not None
    arguments = (ctypes.byref(sizes), ctypes.byref(forward))
    with pytest.raises(DataError, match=f"got '{match}'"):
        kernels.check(library.titans_forward(*arguments, 0, 1, False))


def test_a_call_refuses_rows_that_it_does_not_have() -> None:
    given, forward = _call()
    library = kernels.library()
    assert library is not None
    arguments = (ctypes.byref(given.sizes()), ctypes.byref(forward))
    for first, last in ((-1, 1), (2, 1), (0, BATCH * HEADS + 1)):
        refused = library.titans_forward(*arguments, first, last, False)
        assert refused == b"rows"


def _token(monkeypatch: pytest.MonkeyPatch, part: int, field: str) -> None:
    """Read three tokens, the last with one buffer a byte short."""
    memory = NeuralMemory(8, heads=2, chunk_size=4)
    with torch.no_grad():
        _, state = memory(torch.randn(2, 2, 8))
        _, state = memory(torch.randn(2, 1, 8), state)
    assert state.chunk is not None
    sizes: Sizes = state.chunk.sizes
    read = sizes.compiled.titans_token

    class Short:
        @staticmethod
        def titans_token(*arguments: Any) -> Any:
            structure = arguments[part]._obj
            value = getattr(structure, field)
            if isinstance(value, int):
                setattr(structure, field, value - 1)
            elif isinstance(value[0], int):
                value[1] -= 1
            else:
                value[0].bytes -= 1
            return read(*arguments)

    monkeypatch.setattr(sizes, "compiled", Short)
    with torch.no_grad():
        memory(torch.randn(2, 1, 8), state)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        *((1, name) for name in ("anchor", "weights", "momentum")),
        *((2, name) for name in ("enter", "taps", "rates", "rates_bias", "gain", "gate", "leave")),
        (2, "base"),
        *((3, name) for name in ("token", "tail", "tail_end", "out", "loss", "journal", "space")),
    ],
)
def test_a_token_refuses_each_buffer_that_is_a_byte_short(
    part: int, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = part == 1 or field == "base"
    with pytest.raises(DataError, match=f"got '{field}' of a wrong size"):
        _token(monkeypatch, part, field if whole else f"{field}_bytes")


def test_features_refuse_tensors_of_other_sizes() -> None:
    x, taps = torch.randn(2, 5, 24), torch.randn(4, 24)
    with pytest.raises(DataError, match="got 'taps'"):
        features.mix(x, None, taps[:3], 2, None)
    with pytest.raises(DataError, match="got 'tail'"):
        features.mix(x, torch.randn(1, 3, 24), taps, 2, None)
    by: list[Tensor] = [torch.randn(2, 2, 5, 4) for _ in range(2)]
    with pytest.raises(DataError, match="got 'by_values'"):
        features.unmix(x, None, taps, (*by, by[0][:1]), 2)
    reads, gate, gain = torch.randn(2, 2, 5, 4), torch.randn(2, 5, 8), torch.randn(8)
    with pytest.raises(DataError, match="got 'gain'"):
        features.compiled_leave(reads, gate, gain[:7], 1e-6)
    with pytest.raises(DataError, match="got 'by_out'"):
        features.unleave(reads, gate, gain, gate[:1], 1e-6)
