"""The memory's inputs and outputs as compiled code: the mirror of ``src/layer.h``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from titans_seq.ops.cpu import library as kernels

TAPS = 4
"""Taps of the convolution that the compiled code is written for."""

WORTH_A_THREAD = 1 << 16
"""Numbers, of the output, below which another thread costs more than it saves."""


def _structure(name: str, **fields: str) -> type[ctypes.Structure]:
    """Return a C structure, given the names of its fields by their type."""
    types = {
        "sizes": ctypes.c_long,
        "pointers": kernels.Buffer,
        "numbers": ctypes.c_double,
    }
    listed = [(one, types[kind]) for kind, names in fields.items() for one in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": listed})


_Mix = _structure(
    "Mix", sizes="batch heads time width",
    pointers="x tail taps queries keys values tail_end space",
)  # fmt: skip
_ByMix = _structure("ByMix", pointers="by_queries by_keys by_values by_x by_tail by_taps")
_Leave = _structure(
    "Leave", sizes="batch heads time width", pointers="reads gate gain out", numbers="tiny"
)
_ByLeave = _structure("ByLeave", pointers="by_out by_reads by_gate by_gain")


def mix(
    x: Tensor, tail: Tensor | None, taps: Tensor, heads: int, tail_end: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values; fill ``tail_end`` where it is given."""
    batch, time, width = _sizes(x, heads)
    q, k, v = (x.new_empty(batch, heads, time, width) for _ in range(3))
    fixed = (batch, heads, time, width, *(_at(one) for one in (x, tail, taps, q, k, v, tail_end)))
    room = 3 * x.shape[2] + 2 * width

    def work(first: int, last: int) -> None:
        space = x.new_zeros(room)
        _call("titans_mix", x, first, last, _Mix(*fixed, _at(space)))

    _share(work, batch * heads, q.numel())
    return q, k, v


def unmix(
    x: Tensor, tail: Tensor | None, taps: Tensor, by: tuple[Tensor, ...], heads: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return gradients by ``x``, ``tail`` and ``taps``, given those by what :func:`mix` returns."""
    batch, time, width = _sizes(x, heads)
    by_x = torch.empty_like(x)
    by_tail = None if tail is None else torch.empty_like(tail)
    fixed = (batch, heads, time, width, _at(x), _at(tail), _at(taps), *[_at(None)] * 4)
    room = 5 * x.shape[2] + 2 * width
    by_taps: list[Tensor] = []

    def work(first: int, last: int) -> None:
        space, mine = x.new_zeros(room), torch.zeros_like(taps)
        wanted = _ByMix(*(_at(one) for one in (*by, by_x, by_tail, mine)))
        _call("titans_unmix", x, first, last, _Mix(*fixed, _at(space)), wanted)
        by_taps.append(mine)

    _share(work, batch * heads, by_x.numel())
    return by_x, by_tail, _sum(by_taps)


def compiled_leave(reads: Tensor, gate: Tensor, gain: Tensor, tiny: float) -> Tensor:
    """Return what was read, (batch, time, dim), normalised and gated."""
    out = torch.empty_like(gate)
    given = _Leave(*_reads_sizes(reads), *(_at(one) for one in (reads, gate, gain, out)), tiny)

    def work(first: int, last: int) -> None:
        _call("titans_leave", reads, first, last, given)

    _share(work, reads.shape[0] * reads.shape[1], out.numel())
    return out


def unleave(
    reads: Tensor, gate: Tensor, gain: Tensor, by_out: Tensor, tiny: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients by ``reads``, ``gate`` and ``gain``, given those by :func:`leave`'s."""
    by_reads, by_gate = torch.empty_like(reads), torch.empty_like(gate)
    given = _Leave(*_reads_sizes(reads), _at(reads), _at(gate), _at(gain), _at(None), tiny)
    by_gain: list[Tensor] = []

    def work(first: int, last: int) -> None:
        mine = torch.zeros_like(gain)
        wanted = _ByLeave(*(_at(one) for one in (by_out, by_reads, by_gate, mine)))
        _call("titans_unleave", reads, first, last, given, wanted)
        by_gain.append(mine)

    _share(work, reads.shape[0] * reads.shape[1], by_gate.numel())
    return by_reads, by_gate, _sum(by_gain)


def _sizes(x: Tensor, heads: int) -> tuple[int, int, int]:
    """Return batch, time and a head's width of a projection of queries, keys and values."""
    batch, time, all_three = x.shape
    return batch, time, all_three // (3 * heads)


def _reads_sizes(reads: Tensor) -> tuple[int, int, int, int]:
    batch, heads, time, width = reads.shape
    return batch, heads, time, width


def _at(tensor: Tensor | None) -> kernels.Buffer:
    return kernels.pointer(tensor)


def _sum(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _call(name: str, like: Tensor, first: int, last: int, *structures: ctypes.Structure) -> None:
    """Call a compiled function for some rows, the heads of the sequences."""
    library = kernels.library()
    assert library is not None
    function = getattr(library, name)
    is_double = like.dtype == torch.float64
    arguments = (ctypes.byref(structure) for structure in structures)
    kernels.check(function(*arguments, first, last, is_double))


def _share(work: Callable[[int, int], None], rows: int, numbers: int) -> None:
    """Share rows among as many threads as ``numbers`` are worth."""
    threads = min(kernels.number_of_threads(rows), 1 + numbers // WORTH_A_THREAD)
    if threads <= 1:
        work(0, rows)
        return
    cuts = [rows * one // threads for one in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))
