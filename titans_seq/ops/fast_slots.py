"""Working memory of whole chunks, with every view that the products need made once.

A chunk of 16 tokens is little arithmetic: naming its buffers anew, and cutting views from
them, would take longer than its products.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_space import Space
from titans_seq.ops.rule import UpdateRule


class Sizes(NamedTuple):
    """Sizes of a call; a row is one head of one sequence."""

    rows: int
    chunk: int
    widths: tuple[int, ...]
    """Width of each layer's input, then of the last one's output."""

    @property
    def layers(self) -> int:
        """Layers of the memory."""
        return len(self.widths) - 1


    @property
    def nbytes(self) -> int:
        """Bytes of float32 that a chunk's forward pass leaves for its backward pass."""
        rows, chunk, widths = self
        dim, pairs = widths[0], list(itertools.pairwise(widths))
        group = chunk * (10 * dim + 7 * chunk + 10)
        weights = (3 * dim + chunk) * widths[1] + sum(3 * a * b for a, b in pairs[1:])
        hidden = sum(4 * chunk * width for width in widths[1:-1])
        later = sum(chunk * (2 * a + 6 * b + 4 * chunk) for a, b in pairs[1:])
        return 4 * rows * (group + weights + hidden + later + 2 * chunk * dim)


class Fixed(NamedTuple):
    """What all groups share."""

    sizes: Sizes
    rule: UpdateRule
    full_chunk: int
    """Tokens between two refreshes of the gradient's point; the last chunk may hold fewer."""
    base: tuple[Float[Tensor, "rows inner outer"], ...]

    @property
    def shared(self) -> int | None:
        """What plain steps are divided by; ``None`` for triangular ones."""
        if self.rule.step == "triangular":
            return None
        return self.full_chunk if self.rule.step == "mean" else 1


class LayerState(NamedTuple):
    """Weights of one layer at a chunk's start, as views of one buffer.

    The first layer's are stacked, (rows, 3 inner + chunk, outer), with room for the chunk's
    change below; the others' stand side by side, (rows, inner, 3 outer).
    """

    whole: Tensor
    weights: Tensor
    """W: what the chunk's gradients are taken at."""
    drift: Tensor
    """D: W less the base that forgetting leads to."""
    momentum: Tensor
    both: Tensor
    """Drift and momentum."""
    transposed: Tensor
    """W, transposed."""
    written: Tensor
    """Of the shape of ``both``: what a chunk writes; all states share it."""


class State(NamedTuple):
    """Weights and momentum of every layer."""

    layers: list[LayerState]
    room: Float[Tensor, "rows chunk outer"]
    """Where the first layer's change stands, below its weights."""


def state(sizes: Sizes, space: Space, name: str) -> State:
    """Return an uninitialised state."""
    rows, chunk, widths = sizes
    dim, outer = widths[0], widths[1]
    whole = space.take(f"{name} 0", (rows, 3 * dim + chunk, outer))
    w, d, s = (whole[:, dim * one : dim * (one + 1)] for one in range(3))
    written = space.take("written 0", (rows, 2 * dim, outer))
    layers = [LayerState(whole, w, d, s, whole[:, dim : 3 * dim], w.mT, written)]
    for layer in range(1, sizes.layers):
        inner, outer = widths[layer], widths[layer + 1]
        side = space.take(f"{name} {layer}", (rows, inner, 3 * outer))
        w, d, s = (side[..., outer * one : outer * (one + 1)] for one in range(3))
        written = space.take(f"written {layer}", (rows, inner, 2 * outer))
        layers.append(LayerState(side, w, d, s, side[..., outer:], w.mT, written))
    return State(layers, whole[:, 3 * dim :])


class Hidden(NamedTuple):
    """What stands between a layer and the next; each (rows, chunk, width)."""

    before: Tensor
    """Keys before the non-linearity."""
    queries: Tensor
    """Queries before the non-linearity: what the layer read."""
    pulled: Tensor
    """Errors of the next layer, pulled back through its weights."""
    errors: Tensor


class Later(NamedTuple):
    """Working memory of a layer other than the first."""

    both: Float[Tensor, "rows twice_chunk inner"]
    """Inputs of the queries, then of the keys."""
    queries: Tensor
    keys: Tensor
    keys_transposed: Tensor
    cross: Float[Tensor, "rows twice_chunk chunk"]
    """Both times the keys' inputs."""
    seen: Tensor
    """The queries' part of it."""
    gram: Tensor
    """The keys' part of it."""
    square: Tensor
    """The diagonal of ``gram``."""
    system: Float[Tensor, "rows chunk chunk"]
    mixed: Float[Tensor, "rows chunk chunk"]
    reads: Float[Tensor, "rows chunk three_outer"]
    """The queries' inputs times [W | D | S]."""
    parts: tuple[Tensor, ...]
    """The three parts of ``reads``."""
    change: Float[Tensor, "rows chunk outer"]
    """The errors times their steps."""
    ends: Float[Tensor, "rows chunk twice_outer"]
    """[mix_last change | decay_last change]."""
    end_parts: tuple[Tensor, ...]


class Slot(NamedTuple):
    """Working memory of one chunk."""

    hidden: list[Hidden]
    later: list[Later]
    error: Float[Tensor, "rows chunk dim"]
    """Of the last layer."""
    output: Float[Tensor, "rows chunk dim"]


def slot(sizes: Sizes, space: Space, name: str) -> Slot:
    """Return the working memory of one chunk, uninitialised."""
    rows, chunk, widths = sizes

    def take(what: str, *shape: int) -> Tensor:
        return space.take(f"{name} {what}", (rows, *shape))

    hidden = [
        Hidden(*(take(f"{what} {layer}", chunk, widths[layer]) for what in Hidden._fields))
        for layer in range(1, sizes.layers)
    ]
    later = [_later(sizes, take, layer) for layer in range(1, sizes.layers)]
    dim = widths[-1]
    return Slot(hidden, later, take("error", chunk, dim), take("output", chunk, dim))


def _later(sizes: Sizes, take: object, layer: int) -> Later:
    """Return the working memory of one layer other than the first."""
    assert callable(take)
    chunk, inner, outer = sizes.chunk, sizes.widths[layer], sizes.widths[layer + 1]
    both = take(f"both {layer}", 2 * chunk, inner)
    keys = both[:, chunk:]
    cross = take(f"cross {layer}", 2 * chunk, chunk)
    gram = cross[:, chunk:]
    reads = take(f"reads {layer}", chunk, 3 * outer)
    ends = take(f"ends {layer}", chunk, 2 * outer)
    return Later(
        both, both[:, :chunk], keys, keys.mT,
        cross, cross[:, :chunk], gram, gram.diagonal(dim1=-2, dim2=-1),
        take(f"system {layer}", chunk, chunk), take(f"mixed {layer}", chunk, chunk),
        reads, reads.split(outer, dim=-1),
        take(f"change {layer}", chunk, outer), ends, ends.split(outer, dim=-1),
    )  # fmt: skip
