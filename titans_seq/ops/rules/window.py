"""Steps along the gradients of a window of tokens: ATLAS's Omega rule.

Each token t of a chunk moves the momentum by the gradients of the last ``window`` tokens
together (arXiv 2505.23735, equation 9; equation 16 with the chunk's start as the gradients'
point)::

    S[t] = momentum[t] S[t-1] - sum over t - window < s <= t of step[s] g[s]

so a token's gradient is written once a step while it stands in the window: a banded matrix of
ones behind ``mix``. The window does not reach back over the chunk's start, as in that paper's
parallel form, where the band lies within the chunk. A gradient from before it would have to be
taken again at the new start, from keys and values of tokens that no longer belong to the open
chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rates import ChunkScalars


class Earlier(NamedTuple):
    """Writes of the open chunk's earlier tokens, in their slots; zero elsewhere."""

    inputs: Float[Tensor, "*rows chunk inner"]
    changes: Float[Tensor, "*rows chunk outer"]


def times_written(slot: int, tokens: int, window: int, chunk_size: int, like: Tensor) -> Tensor:
    """Return how many steps take each token along before its chunk ends.

    Parameters
    ----------
    slot
        Place of the first token in its chunk.
    """
    places = torch.arange(slot, slot + tokens, device=like.device)
    return (chunk_size - places).clamp_max(window).to(like.dtype)


def windowed(
    scalars: ChunkScalars,
    write: Float[Tensor, "*rows tokens"],
    slot: int,
    window: int,
    earlier: int,
) -> ChunkScalars:
    """Return scalars by which each token's write reaches every later one through its windows.

    Parameters
    ----------
    write
        1 for a real token; an empty slot takes no step.
    earlier
        Slots of the chunk whose writes stand before this part's own: all, or 0.
    """
    tokens = write.shape[-1]
    reader = torch.arange(slot, slot + tokens, device=write.device)
    writer = torch.cat([torch.arange(earlier, device=write.device), reader])
    age = reader.unsqueeze(1) - writer
    band = ((age >= 0) & (age < window)).to(write.dtype)
    real = write.unsqueeze(-2)
    return scalars._replace(
        mix=(scalars.mix * real) @ band,
        mix_last=(scalars.mix_last * write) @ band,
        decay_last=(scalars.decay_last * write) @ band,
    )


def record_written(
    inputs: Tensor, changes: Tensor, slot: int, chunk_size: int, before: Earlier | None
) -> Earlier:
    """Return the writes of the open chunk so far, each in its slot."""
    behind = chunk_size - slot - inputs.shape[-2]
    padding = (0, 0, slot, behind)
    mine = Earlier(F.pad(inputs, padding), F.pad(changes, padding))
    if before is None:
        return mine
    return Earlier(before.inputs + mine.inputs, before.changes + mine.changes)
