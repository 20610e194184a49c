"""The network of the DNA head: codes and mask in, an answer for each sequence out.

Three readers look at a sequence, and their answers are added with weights:

* *titans*: motif detectors (a convolution over the bases), tokens, a
  :class:`~titans_seq.backbone.TitansBackbone` over the tokens, and pooled in several ways;
* *words*: how often each word of 3 to 8 bases, with or without a gap, occurs anywhere;
* *places*: which base stands where, counted from both ends.

Tasks differ in which of them knows most: splice sites are told by place, binding sites by
words, coding sequence by what only a sequence model sees. Each learns by itself, the two
simple ones first (:mod:`titans_seq.dna.learning.start`); what each is worth is settled
afterwards on sequences that none has seen (``mixing``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from titans_seq.backbone import TitansBackbone
from titans_seq.dna.alphabet import SHARES
from titans_seq.dna.learning.pooling import (
    AttentionPool,
    PhasePool,
    PlaceLogits,
    PlacePool,
    masked_max,
    masked_mean,
)
from titans_seq.dna.learning.tasks import Task, mix, settle
from titans_seq.dna.learning.tokens import EncoderConfig, make_tokens
from titans_seq.dna.learning.words import WordLogits

READERS = ("titans", "words", "places")
"""What the three readers are called, in the order of ``TitansDNANetwork.readings``."""

Strands = Literal["none", "augment", "average", "equivariant"]
"""What the other strand is: another sequence, one to train on too, or the same sequence."""

STRANDS: tuple[str, ...] = get_args(Strands)


@dataclass(frozen=True, kw_only=True, slots=True)
class DNANetworkConfig(EncoderConfig):
    """Settings of a :class:`TitansDNANetwork`."""

    outputs: int
    """Classes to tell apart, or labels, or values."""

    places: int
    """Bases from either end whose place is told apart; beyond, only words and order count."""

    task: Task = "classes"
    """What the outputs are, see :mod:`titans_seq.dna.learning.tasks`."""

    strands: Strands = "none"
    """``augment``: learn from both strands. ``average``: that, and answer with the mean over
    both. ``equivariant``: read both with the same weights and join what was found."""

    @property
    def turned(self) -> bool:
        """Whether training sees half of the sequences from the other strand."""
        return self.strands in ("augment", "average")


class Strand(NamedTuple):
    """One strand of a batch, padding behind the letters."""

    codes: Int[Tensor, "batch time"]
    """See :mod:`titans_seq.dna.alphabet`."""

    bases: Float[Tensor, "batch time 4"]
    """Share of each base; zero for padding."""

    mask: Bool[Tensor, "batch time"]
    """True where there is a letter."""

    def other(self) -> Strand:
        """Return the other strand, read in its own direction."""
        steps = torch.arange(self.mask.shape[1], device=self.mask.device)
        index = (self.mask.sum(dim=1, keepdim=True) - 1 - steps).clamp(min=0)
        codes = self.codes.gather(1, index) * self.mask
        # The complement of a code is its four bits backwards.
        codes = (codes & 1) << 3 | (codes & 2) << 1 | (codes & 4) >> 1 | (codes & 8) >> 3
        # A pairs with T and C with G: the four columns, read backwards.
        bases = self.bases.gather(1, index[..., None].expand(-1, -1, 4)).flip(-1)
        return Strand(codes, bases * self.mask[..., None], self.mask)


class TitansReader(nn.Module):
    """Motifs, backbone and pooling: the reader that sees order.

    Shapes
    ------
    bases    (batch, time, 4), the share of each base
    returns  features (batch, ...); ``head`` makes logits (batch, outputs) of them
    """

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        self.tokens = make_tokens(config)
        reach = -(-config.places // self.tokens.stride)
        self.backbone = TitansBackbone(config.backbone)
        self.attend = AttentionPool(config.dim, math.gcd(config.dim, 8), reach)
        self.place = PlacePool(config.dim, math.gcd(config.dim, 16), reach)
        self.phase = PhasePool(config.motifs, config.dim)
        width = 5 * config.dim + 2 * config.motifs
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Dropout(config.dropout),
            nn.Linear(width, config.dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.dim, config.outputs),
        )

    def features(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch features"]:
        """Return what was found in the sequence, pooled."""
        tokens, real, motifs = self.tokens(bases, mask)
        tokens, _ = self.backbone(tokens, mask=real, keep_state=False)
        found = [
            masked_mean(tokens, real),
            masked_max(tokens, real),
            self.attend(tokens, real),
            self.place(tokens, real),
            masked_mean(motifs, mask),
            masked_max(motifs, mask),
            self.phase(motifs, mask),
        ]
        return torch.cat(found, dim=-1)


class TitansDNANetwork(nn.Module):
    """Three readers of DNA and the weights of their answers.

    Shapes
    ------
    codes    (batch, time), see :mod:`titans_seq.dna.alphabet`
    mask     (batch, time), True where there is a letter
    returns  the joint answer (batch, outputs): log-probabilities of classes, log-odds of
             labels, or values
    """

    shares: Tensor
    mixing: Tensor

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.from_numpy(SHARES.copy()), persistent=False)
        self.register_buffer("mixing", torch.full((len(READERS),), 1 / len(READERS)))
        self.titans = TitansReader(config)
        both = config.strands != "none"
        self.words = WordLogits(config.outputs, config.dropout, both_strands=both)
        self.places = PlaceLogits(config.outputs, config.places, config.dropout)

    def strand(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Strand:
        """Return a batch as its readers see it."""
        index = codes.long()
        return Strand(index, self.shares[index], mask)

    def raw(
        self, given: Strand, readers: tuple[str, ...] = READERS
    ) -> Float[Tensor, "readers batch outputs"]:
        """Return what each reader finds by itself, not yet normalised."""
        return torch.stack([self.raw_of(reader, given) for reader in readers])

    def raw_of(self, reader: str, given: Strand) -> Float[Tensor, "batch outputs"]:
        """Return what one reader finds by itself, not yet normalised."""
        both = self.config.strands == "equivariant"
        strands = [given, given.other()] if both else [given]
        if reader == "titans":
            found = [self.titans.features(strand.bases, strand.mask) for strand in strands]
            logits: Tensor = self.titans.head(_mean(found))
            return logits
        if reader == "words":
            return _mean([self.words(strand.codes) for strand in strands])
        return _mean([self.places(strand.bases, strand.mask) for strand in strands])

    def readings(
        self,
        codes: UInt8[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
        readers: tuple[str, ...] = READERS,
    ) -> Float[Tensor, "readers batch outputs"]:
        """Return the answer of each reader by itself."""
        return settle(self.raw(self.strand(codes, mask), readers), self.config.task)

    def forward(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch outputs"]:
        """Return the answer on which the readers agree."""
        return mix(self.readings(codes, mask), self.mixing, self.config.task)


def _mean(found: list[Tensor]) -> Tensor:
    """Return the mean over the strands; in either order the same to the last bit."""
    return found[0] if len(found) == 1 else 0.5 * (found[0] + found[1])
