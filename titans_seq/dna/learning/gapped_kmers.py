"""k-mers, contiguous and gapped, and a logistic regression on how often each occurs.

A gapped k-mer is two short k-mers at a fixed distance, as the half-sites of a binding motif often
are; the bases between them do not matter (Ghandi et al. 2014, doi:10.1371/journal.pcbi.1003711).
Where the strand does not matter, a k-mer and its reverse complement are one.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.training import ParameterGroup

_TABLE_RATE = 5.0
"""Learning rate of the k-mer table relative to that of a network: its logits are a sum of many
small terms, which would move slowly at the rate of a network."""


class KmerShape(NamedTuple):
    """Positions of a k-mer that count: ``left`` bases, a ``gap``, then ``right`` bases."""

    left: int
    gap: int = 0
    right: int = 0

    @property
    def letters(self) -> int:
        """Number of bases that count."""
        return self.left + self.right

    @property
    def span(self) -> int:
        """Number of bases from the first to the last."""
        return self.left + self.gap + self.right

    @property
    def offsets(self) -> list[int]:
        """Offsets of the bases that count within the span."""
        return [*range(self.left), *range(self.left + self.gap, self.span)]

    @property
    def mirror(self) -> KmerShape:
        """Shape of the same k-mers on the reverse strand."""
        return KmerShape(self.right, self.gap, self.left) if self.right else self


SHAPES = (
    *(KmerShape(k) for k in range(3, 9)),
    *(KmerShape(3, gap, 3) for gap in range(1, 9)),
    *(KmerShape(left, gap, right) for left, right in ((2, 4), (4, 2), (4, 4)) for gap in (1, 2, 3)),
)
"""Shapes of the k-mers that are counted."""


class KmerIndices(NamedTuple):
    """k-mers of one shape in a batch of sequences, by the position of their first base."""

    forward: Int[Tensor, "batch kmers"]
    """Bases as digits to base 4: A 0, C 1, G 2, T 3."""

    reverse: Int[Tensor, "batch kmers"]
    """The same of the reverse complement."""

    known: Bool[Tensor, "batch kmers"]
    """Whether no letter of the k-mer is ambiguous or padding."""


def index_kmers(
    codes: Int[Tensor, "batch time"], shapes: tuple[KmerShape, ...]
) -> dict[KmerShape, KmerIndices]:
    """Return the k-mers of each shape that fits into the sequences; indices are 32-bit."""
    contiguous: dict[int, KmerIndices] = {}
    longest = max(max(shape.left, shape.right) for shape in shapes)
    single = _single_bases(codes)
    # k-mers are built from (k - 1)-mers, and gapped k-mers from two contiguous ones.
    for k in range(1, min(longest, codes.shape[1]) + 1):
        contiguous[k] = single if k == 1 else _joined(contiguous[k - 1], k - 1, 0, single, 1)
    by_shape = {}
    for shape in shapes:
        if shape.span > codes.shape[1]:
            continue
        kmers = contiguous[shape.left]
        if shape.right:
            kmers = _joined(kmers, shape.left, shape.gap, contiguous[shape.right], shape.right)
        by_shape[shape] = kmers
    return by_shape


def _single_bases(codes: Int[Tensor, "batch time"]) -> KmerIndices:
    """Return the 1-mers; a code has one bit for each base that the letter may stand for."""
    known = (codes > 0) & (codes & (codes - 1) == 0)
    base = ((codes > 1).int() + (codes > 2) + (codes > 4)).int()
    return KmerIndices(base, 3 - base, known)


def _joined(
    left: KmerIndices, left_size: int, gap: int, right: KmerIndices, right_size: int
) -> KmerIndices:
    """Return each left k-mer joined with the right one that begins after the gap."""
    offset = left_size + gap
    count = right.forward.shape[1] - offset
    forward, reverse, known = (tensor[:, :count] for tensor in left)
    return KmerIndices(
        forward * 4**right_size + right.forward[:, offset:],
        right.reverse[:, offset:] * 4**left_size + reverse,
        known & right.known[:, offset:],
    )


class KmerLogits(nn.Module):
    """Logistic regression on how often each k-mer occurs, at any position (exact tables).

    k-mers with an ambiguous letter are left out. Counts are divided by the square root of the
    number of k-mers, so that the spread of the logits does not depend on the length.

    Parameters
    ----------
    outputs
        Number of logits.
    dropout
        Share of k-mers dropped in training.
    both_strands
        Count a k-mer and its reverse complement as one.
    shapes
        Shapes of the k-mers to count.
    """

    def __init__(
        self,
        outputs: int,
        dropout: float,
        *,
        both_strands: bool = False,
        shapes: tuple[KmerShape, ...] = SHAPES,
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.dropout = dropout
        self.both_strands = both_strands
        canonical = tuple(dict.fromkeys(map(self._canonical, shapes)))
        ends = list(accumulate(4**shape.letters for shape in canonical))
        self.first_rows = dict(zip(canonical, [0, *ends], strict=False))
        """First row in the table of each shape's k-mers."""
        self.table = nn.Parameter(torch.zeros(ends[-1], outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the table with its learning rate."""
        return [ParameterGroup([self.table], lr_scale=_TABLE_RATE)]

    def forward(self, codes: Int[Tensor, "batch time"]) -> Float[Tensor, "batch outputs"]:
        """Return the logits; ``codes`` as in :mod:`titans_seq.dna.alphabet`, 0 for padding."""
        rows, known = self.rows(codes)
        if not rows.shape[1]:
            return self.bias.expand(len(codes), -1)
        weights = F.dropout(_kmer_weights(known, self.table.dtype), self.dropout, self.training)
        total: Tensor = F.embedding_bag(rows, self.table, mode="sum", per_sample_weights=weights)
        return total + self.bias

    def rows(
        self, codes: Int[Tensor, "batch time"]
    ) -> tuple[Int[Tensor, "batch kmers"], Bool[Tensor, "batch kmers"]]:
        """Return the table row of every k-mer of every shape, and whether it counts."""
        by_shape = index_kmers(codes, self.shapes)
        if not by_shape:
            none = codes.new_zeros(len(codes), 0)
            return none, none.bool()
        rows = [self._rows(shape, *kmers[:2]) for shape, kmers in by_shape.items()]
        known = [kmers.known for kmers in by_shape.values()]
        return torch.cat(rows, dim=1), torch.cat(known, dim=1)

    def _canonical(self, shape: KmerShape) -> KmerShape:
        """Return the shape whose rows count the k-mers of ``shape``."""
        return min(shape, shape.mirror) if self.both_strands else shape

    def _rows(
        self, shape: KmerShape, forward: Int[Tensor, "*kmers"], reverse: Int[Tensor, "*kmers"]
    ) -> Int[Tensor, "*kmers"]:
        """Return the table rows of k-mers by their indices on either strand."""
        canonical = self._canonical(shape)
        if self.both_strands and shape == shape.mirror:
            forward = torch.minimum(forward, reverse)
        elif canonical != shape:
            forward = reverse
        rows: Tensor = forward + self.first_rows[canonical]
        return rows

    def base_gradients(
        self, codes: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time 4 outputs"]:
        """Return the gradient of the logits along each base at each position.

        The logits are a sum over k-mers, and linear in each base of a k-mer by itself; so this
        is the sum over the k-mers at the position, with that base put in.
        """
        gradients = self.table.new_zeros((*codes.shape, 4, len(self.bias)))
        by_shape = index_kmers(codes, self.shapes)
        if not by_shape:
            return gradients
        all_known = torch.cat([kmers.known for kmers in by_shape.values()], dim=1)
        weights = _kmer_weights(all_known, gradients.dtype).split(
            [kmers.known.shape[1] for kmers in by_shape.values()], dim=1
        )
        bases = torch.arange(4, dtype=torch.int32, device=codes.device)
        for (shape, kmers), weight in zip(by_shape.items(), weights, strict=True):
            for digit, offset in enumerate(shape.offsets):
                # Clear one digit of the index on either strand, and put each base there.
                unit, reverse_unit = 4 ** (shape.letters - 1 - digit), 4**digit
                forward = kmers.forward - kmers.forward // unit % 4 * unit
                reverse = kmers.reverse - kmers.reverse // reverse_unit % 4 * reverse_unit
                rows = self._rows(
                    shape,
                    forward[..., None] + bases * unit,
                    reverse[..., None] + (3 - bases) * reverse_unit,
                )
                terms = F.embedding(rows, self.table)  # (batch, kmers, 4, outputs)
                gradients[:, offset : offset + rows.shape[1]] += terms * weight[..., None, None]
        return gradients


def _kmer_weights(
    known: Bool[Tensor, "batch kmers"], dtype: torch.dtype
) -> Float[Tensor, "batch kmers"]:
    """Return the weight of each k-mer; those of a sequence have a Euclidean norm of 1."""
    weights = known.to(dtype)
    return weights * weights.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()


def kmer_bases(shape: KmerShape, index: int) -> list[int | None]:
    """Return the bases of a k-mer along its span, 0 to 3; None where any base may stand."""
    bases = iter([index // 4**digit % 4 for digit in reversed(range(shape.letters))])
    counted = set(shape.offsets)
    return [next(bases) if offset in counted else None for offset in range(shape.span)]
