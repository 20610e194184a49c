"""Words of bases, whole and with a gap, and a logistic regression on how often each occurs.

A word with a gap is two short words some bases apart, as the halves of a binding site often
are; what stands between does not matter (gapped k-mers: Ghandi et al. 2014,
doi:10.1371/journal.pcbi.1003711). Where both strands mean the same, a word and its reverse
complement are one word.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.training import ParameterGroup


class Shape(NamedTuple):
    """Which bases make a word: ``left`` of them, ``gap`` that do not count, then ``right``."""

    left: int
    gap: int = 0
    right: int = 0

    @property
    def letters(self) -> int:
        """Bases that count."""
        return self.left + self.right

    @property
    def span(self) -> int:
        """Bases from the first to the last."""
        return self.left + self.gap + self.right

    @property
    def places(self) -> list[int]:
        """Where in the span the bases that count stand."""
        return [*range(self.left), *range(self.left + self.gap, self.span)]

    @property
    def mirror(self) -> Shape:
        """The shape of the same words on the other strand."""
        return Shape(self.right, self.gap, self.left) if self.right else self


SHAPES = (
    *(Shape(k) for k in range(3, 9)),
    *(Shape(3, gap, 3) for gap in range(1, 9)),
    *(Shape(left, gap, right) for left, right in ((2, 4), (4, 2), (4, 4)) for gap in (1, 2, 3)),
)
"""Words that are counted."""


class Words(NamedTuple):
    """The words of one shape in a batch of sequences, by the place of their first base."""

    number: Int[Tensor, "batch words"]
    """Bases as digits to base 4: A 0, C 1, G 2, T 3."""

    turned: Int[Tensor, "batch words"]
    """The same of the reverse complement."""

    known: Bool[Tensor, "batch words"]
    """Whether no letter of the word is ambiguous or padding."""


def find_words(codes: Int[Tensor, "batch time"], shapes: tuple[Shape, ...]) -> dict[Shape, Words]:
    """Return the words of each shape that fits into the sequences; numbers are 32-bit."""
    parts: dict[int, Words] = {}
    longest = max(max(shape.left, shape.right) for shape in shapes)
    single = _single(codes)
    for size in range(1, min(longest, codes.shape[1]) + 1):
        parts[size] = single if size == 1 else _joined(parts[size - 1], size - 1, 0, single, 1)
    found = {}
    for shape in shapes:
        if shape.span > codes.shape[1]:
            continue
        words = parts[shape.left]
        if shape.right:
            words = _joined(words, shape.left, shape.gap, parts[shape.right], shape.right)
        found[shape] = words
    return found


def _single(codes: Int[Tensor, "batch time"]) -> Words:
    """Return the words of one base."""
    known = (codes > 0) & (codes & (codes - 1) == 0)
    base = ((codes > 1).int() + (codes > 2) + (codes > 4)).int()
    return Words(base, 3 - base, known)


def _joined(left: Words, size: int, gap: int, right: Words, more: int) -> Words:
    """Return words of ``size`` bases, each with the word of ``more`` bases after the gap."""
    begin = size + gap
    count = right.number.shape[1] - begin
    number, turned, known = (part[:, :count] for part in left)
    return Words(
        number * 4**more + right.number[:, begin:],
        right.turned[:, begin:] * 4**size + turned,
        known & right.known[:, begin:],
    )


class WordLogits(nn.Module):
    """Logistic regression on how often each word occurs, wherever it stands (exact tables).

    Words with an ambiguous letter are left out. Counts are divided by the root of the number
    of words, which keeps the spread of the logits alike for all lengths.

    Parameters
    ----------
    outputs
        Logits.
    dropout
        Share of words that is dropped in training.
    both_strands
        Take a word and its reverse complement for the same.
    shapes
        Words to count.
    """

    def __init__(
        self,
        outputs: int,
        dropout: float,
        *,
        both_strands: bool = False,
        shapes: tuple[Shape, ...] = SHAPES,
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.dropout = dropout
        self.both_strands = both_strands
        own = tuple(dict.fromkeys(map(self._home, shapes)))
        ends = list(accumulate(4**shape.letters for shape in own))
        self.begins = dict(zip(own, [0, *ends], strict=False))
        """First row of each shape's words in the table."""
        self.table = nn.Parameter(torch.zeros(ends[-1], outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the table with its learning rate."""
        # As a sum of many small terms the logits move slowly at the rate of a network.
        return [ParameterGroup([self.table], lr_scale=_RATE)]

    def forward(self, codes: Int[Tensor, "batch time"]) -> Float[Tensor, "batch outputs"]:
        """Return the logits; ``codes`` as in :mod:`titans_seq.dna.alphabet`, 0 for padding."""
        rows, known = self.rows(codes)
        if not rows.shape[1]:
            return self.bias.expand(len(codes), -1)
        share = F.dropout(_share(known, self.table.dtype), self.dropout, self.training)
        found: Tensor = F.embedding_bag(rows, self.table, mode="sum", per_sample_weights=share)
        return found + self.bias

    def rows(
        self, codes: Int[Tensor, "batch time"]
    ) -> tuple[Int[Tensor, "batch words"], Bool[Tensor, "batch words"]]:
        """Return the row of the table for each word of each shape, and whether it counts."""
        found = find_words(codes, self.shapes)
        if not found:
            none = codes.new_zeros(len(codes), 0)
            return none, none.bool()
        rows = [self._rows(shape, words.number, words.turned) for shape, words in found.items()]
        return torch.cat(rows, dim=1), torch.cat([words.known for words in found.values()], dim=1)

    def _home(self, shape: Shape) -> Shape:
        """Return the shape in whose rows words of ``shape`` are counted."""
        return min(shape, shape.mirror) if self.both_strands else shape

    def _rows(
        self, shape: Shape, number: Int[Tensor, "*words"], turned: Int[Tensor, "*words"]
    ) -> Int[Tensor, "*words"]:
        """Return the rows of the table for words by their numbers on either strand."""
        home = self._home(shape)
        if self.both_strands and shape == shape.mirror:
            number = torch.minimum(number, turned)
        elif home != shape:
            number = turned
        rows: Tensor = number + self.begins[home]
        return rows

    def letter_slopes(
        self, codes: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time 4 outputs"]:
        """Return the slope of the logits along each base at each place.

        Logits are a sum over words, and linear in each letter of a word by itself; so this is
        what the words there would add, had they that base in that place.
        """
        slopes = self.table.new_zeros((*codes.shape, 4, len(self.bias)))
        found = find_words(codes, self.shapes)
        if not found:
            return slopes
        share = _share(torch.cat([one.known for one in found.values()], dim=1), slopes.dtype)
        shares = share.split([one.known.shape[1] for one in found.values()], dim=1)
        bases = torch.arange(4, dtype=torch.int32, device=codes.device)
        for (shape, words), each in zip(found.items(), shares, strict=True):
            for digit, place in enumerate(shape.places):
                unit, turned = 4 ** (shape.letters - 1 - digit), 4**digit
                number = words.number - words.number // unit % 4 * unit
                other = words.turned - words.turned // turned % 4 * turned
                rows = self._rows(
                    shape, number[..., None] + bases * unit, other[..., None] + (3 - bases) * turned
                )
                there = F.embedding(rows, self.table)
                slopes[:, place : place + rows.shape[1]] += there * each[..., None, None]
        return slopes


_RATE = 5.0


def _share(known: Bool[Tensor, "batch words"], dtype: torch.dtype) -> Float[Tensor, "batch words"]:
    """Return what each word counts: all of a sequence together have length 1."""
    share = known.to(dtype)
    return share * share.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()


def spell(shape: Shape, number: int) -> list[int | None]:
    """Return the bases of a word along its span, 0 to 3; None where any base may stand."""
    letters = iter([number // 4**digit % 4 for digit in reversed(range(shape.letters))])
    counted = set(shape.places)
    return [next(letters) if place in counted else None for place in range(shape.span)]
