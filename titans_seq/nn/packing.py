"""Masked tokens are as if absent: rows are packed to the left, and put back afterwards.

A layer that carries a state sees only real tokens, so what stands in a masked place, the
amount of padding and the other rows of the batch cannot change a result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.exceptions import DataError


class Packed(NamedTuple):
    """Tokens with the real ones first in each row."""

    tokens: Float[Tensor, "batch time dim"]
    lengths: Int[Tensor, "batch"] | None
    """Real tokens a row, on the CPU; ``None`` if every token of every row is real."""

    order: Int[Tensor, "batch time"] | None
    """Original column of each packed token; ``None`` if nothing moved."""

    not_finite: Bool[Tensor, "batch all_time"] | None = None
    """Tokens left out because they are NaN or infinite; ``None`` if there are none."""


def pack_finite(
    tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"] | None
) -> Packed:
    """Pack the real tokens that are finite; see :func:`pack`.

    In a chunk or a window, products with a later token's NaN would reach the tokens before it,
    and a state would keep it for good. Nothing is searched while a compiler traces, nor in
    training on other devices than CPUs, which would have to wait for the answer.
    """
    searched = tokens.device.type == "cpu" or not torch.is_grad_enabled()
    if not searched or torch.compiler.is_compiling() or tokens.is_meta:
        return pack(tokens, mask)
    # the sum of finite numbers may overflow: only then is each of them looked at
    if math.isfinite(tokens.detach().sum().item()):
        return pack(tokens, mask)
    finite = tokens.detach().isfinite().all(-1)
    if bool(finite.all()):
        return pack(tokens, mask)
    packed = pack(tokens, finite if mask is None else mask.bool() & finite)
    return packed._replace(not_finite=~finite if mask is None else mask.bool() & ~finite)


def pack(
    tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"] | None
) -> Packed:
    """Move each row's real tokens to its front, in their order; fill the rest with zeros.

    Parameters
    ----------
    mask
        True where a token is real; all are if left out.

    Raises
    ------
    DataError
        If the mask is not of the tokens' batch and time.
    """
    if mask is None:
        return Packed(tokens, None, None)
    if mask.shape != tokens.shape[:2]:
        raise DataError(
            f"mask has shape {tuple(mask.shape)}, tokens {tuple(tokens.shape)}: "
            f"a mask is (batch, time) = {tuple(tokens.shape[:2])}"
        )
    mask = mask.bool()
    counts = mask.sum(1)
    # counters live on the CPU: control flow reads them without waiting for the device
    lengths = counts.cpu()
    if bool((lengths == mask.shape[1]).all()):
        return Packed(tokens, None, None)
    # at least one column, so that no layer meets an empty time axis
    longest = max(int(lengths.max()), 1)
    front = torch.arange(mask.shape[1], device=mask.device) < counts.unsqueeze(1)
    if bool((front == mask).all()):
        order = None
    else:
        # a stable sort of False before True keeps the real tokens in their order
        order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)
        tokens = tokens.gather(1, order.unsqueeze(-1).expand_as(tokens))
    # zeros, not the masked values: 0 * NaN would still be NaN
    tokens = tokens[:, :longest].masked_fill(~front[:, :longest].unsqueeze(-1), 0.0)
    return Packed(tokens, lengths, order)


def unpack(
    outputs: Float[Tensor, "batch packed dim"], packed: Packed, time: int
) -> Float[Tensor, "batch time dim"]:
    """Undo :func:`pack`: return outputs in their tokens' original columns.

    They are zero where a token was masked, and NaN where it was not finite.
    """
    if packed.lengths is None:
        return outputs
    outputs = _unpacked(outputs, packed, packed.lengths, time)
    if packed.not_finite is None:
        return outputs
    return outputs.masked_fill(packed.not_finite.unsqueeze(-1), torch.nan)


def _unpacked(outputs: Tensor, packed: Packed, lengths: Tensor, time: int) -> Tensor:
    """Return packed outputs at their tokens' places, zero elsewhere."""
    # before the scatter: columns behind a row's length hold the layer's answer to padding
    outputs = outputs.masked_fill(~real(lengths, outputs).unsqueeze(-1), 0.0)
    missing = time - outputs.shape[1]
    if missing:
        outputs = torch.nn.functional.pad(outputs, (0, 0, 0, missing))
    if packed.order is None:
        return outputs
    target = packed.order.unsqueeze(-1).expand_as(outputs)
    return torch.zeros_like(outputs).scatter(1, target, outputs)


def real(lengths: Int[Tensor, "batch"], like: Tensor) -> Bool[Tensor, "batch time"]:
    """Return the mask of packed tokens of the given lengths, on the device of ``like``."""
    return torch.arange(like.shape[1], device=like.device) < lengths.to(like.device).unsqueeze(1)


class Grid(NamedTuple):
    """Map of packed tokens to columns, so that all rows begin segments in the same ones."""

    slot: int
    """Slot, within the first segment, of the first column."""

    first: Int[Tensor, "batch"] | None
    """Slot of each row's first token; ``None`` if it is ``slot`` in every row."""

    source: Int[Tensor, "batch slots"] | None
    """Packed token that stands in each column; ``None`` if nothing moves."""

    filled: Bool[Tensor, "batch slots"] | None
    """Columns that hold a real token; ``None`` if all do."""


Position = int | Int[Tensor, "batch"]
"""Tokens read: one number if every row has read as many, else one a row, on the CPU."""


def advance(position: Position, lengths: Int[Tensor, "batch"] | None, time: int) -> Position:
    """Return the position after ``time`` tokens, or ``lengths`` of them, were read."""
    return position + (time if lengths is None else lengths)


def slots_of(
    position: Position,
    lengths: Int[Tensor, "batch"] | None,
    time: int,
    period: int,
    batch: int,
) -> tuple[Int[Tensor, "batch"], Int[Tensor, "batch"]]:
    """Return each row's first slot in its segment of ``period``, and the slot after its last."""
    first = torch.as_tensor(position % period).expand(batch)
    return first, first + (time if lengths is None else lengths)


def grid(position: Position, lengths: Int[Tensor, "batch"] | None, time: int, period: int) -> Grid:
    """Find where rows that have read ``position`` tokens stand in segments of ``period``.

    Rows that stand at different places of their segment are shifted, so that every
    segment of every row begins in the same column.

    Parameters
    ----------
    time
        Packed tokens of the longest row.
    """
    offset = position % period
    slot = offset if isinstance(offset, int) else int(offset.min())
    if isinstance(offset, int) or bool((offset == slot).all()):
        filled = None if lengths is None else torch.arange(time) < lengths.unsqueeze(1)
        return Grid(slot, None, None, filled)
    if lengths is None:
        lengths = torch.full_like(offset, time)
    # columns from the earliest first slot to the latest last one
    width = int((offset + lengths).max()) - slot
    # (batch, width): out of 0..length - 1 where the row has no token in the column
    source = torch.arange(width).unsqueeze(0) - (offset - slot).unsqueeze(1)
    filled = (source >= 0) & (source < lengths.unsqueeze(1))
    return Grid(slot, offset, source.clamp(0, time - 1), filled)


def to_grid(x: Tensor, places: Grid, dim: int) -> Tensor:
    """Move packed tokens, along ``dim``, to their columns; the empty ones hold zeros."""
    if places.source is not None:
        index = _spread(places.source, x, dim)
        shape = list(x.shape)
        shape[dim] = index.shape[dim]
        x = x.gather(dim, index.expand(shape))
    if places.filled is not None:
        x = torch.where(_spread(places.filled, x, dim), x, torch.zeros_like(x))
    return x


def from_grid(x: Tensor, places: Grid, time: int, dim: int) -> Tensor:
    """Undo :func:`to_grid`: return packed tokens from their columns."""
    if places.source is None or places.first is None:
        return x
    width = x.shape[dim]
    shift = (places.first - places.slot).unsqueeze(1)
    # clamped: packed columns behind a row's length may lie outside the grid
    index = _spread((torch.arange(time).unsqueeze(0) + shift).clamp(max=width - 1), x, dim)
    shape = list(x.shape)
    shape[dim] = time
    return x.gather(dim, index.expand(shape))


def _spread(rows: Tensor, x: Tensor, dim: int) -> Tensor:
    """Shape (batch, columns) so that it broadcasts against ``x`` with columns along ``dim``."""
    shape = [1] * x.dim()
    shape[0], shape[dim] = rows.shape
    return rows.to(x.device).reshape(shape)
