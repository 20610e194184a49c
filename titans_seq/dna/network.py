"""The network of the DNA head: codes and mask in, logits of the classes out.

Three readers look at a sequence, and their log-probabilities are added with weights:

* *titans*: motif detectors (a convolution over the bases), one token for every few bases, a
  :class:`~titans_seq.backbone.TitansBackbone` over the tokens, and pooled in several ways;
* *words*: how often each word of 3 to 6 bases occurs, wherever it stands;
* *places*: which base stands where, counted from both ends.

Tasks differ in which of them knows most: splice sites are told by place, binding sites by
words, coding sequence by what only a sequence model sees. Each learns by itself; what each
is worth is settled afterwards on sequences that none has seen (``mixing``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.backbone import TitansBackbone
from titans_seq.config import TitansConfig, Variant
from titans_seq.dna.alphabet import SHARES
from titans_seq.dna.pooling import (
    AttentionPool,
    PhasePool,
    PlaceLogits,
    PlacePool,
    WordLogits,
    masked_max,
    masked_mean,
)

READERS = ("titans", "words", "places")
"""What the three readers are called, in the order of ``TitansDNANetwork.readings``."""

WORD_WIDTHS = (3, 4, 5, 6)
"""Bases of the words that are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DNANetworkConfig:
    """Settings of a :class:`TitansDNANetwork`."""

    classes: int
    """Classes to tell apart."""

    places: int
    """Bases from either end whose place is told apart; beyond, only words and order count."""

    variant: Variant = "mag"
    """How the backbone joins memory and attention."""

    dim: int = 64
    """Width of a token."""

    layers: int = 2
    """Blocks of the backbone."""

    heads: int = 2
    """Heads of the backbone."""

    motifs: int = 128
    """Motif detectors."""

    motif_width: int = 11
    """Bases that a detector sees."""

    stride: int = 6
    """Bases of one token."""

    dropout: float = 0.2
    """Share of features that is dropped in training."""

    @property
    def backbone(self) -> TitansConfig:
        """Settings of the backbone."""
        return TitansConfig(
            dim=self.dim,
            layers=self.layers,
            heads=self.heads,
            variant=self.variant,
            dropout=self.dropout / 2,
        )


class MotifTokens(nn.Module):
    """Motif detectors at every base, gathered into one token for each ``stride`` bases.

    Shapes
    ------
    bases    (batch, time, 4), the share of each base
    returns  tokens (batch, ceil(time / stride), dim) and their mask
    """

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.detect = nn.Conv1d(
            4, config.motifs, config.motif_width, padding=config.motif_width // 2
        )
        self.dropout = nn.Dropout(config.dropout / 2)
        self.gather = nn.Conv1d(config.motifs, config.dim, config.stride, stride=config.stride)

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> tuple[
        Float[Tensor, "batch tokens dim"],
        Bool[Tensor, "batch tokens"],
        Float[Tensor, "batch time motifs"],
    ]:
        """Return tokens, their mask, and what the detectors saw at every base."""
        missing = -bases.shape[1] % self.stride
        seen = F.relu(self.detect(bases.mT)) * mask[:, None]
        tokens = self.gather(self.dropout(F.pad(seen, (0, missing)))).mT
        real = F.pad(mask, (0, missing)).unflatten(1, (-1, self.stride)).any(dim=-1)
        return tokens, real, seen.mT


class TitansReader(nn.Module):
    """Motifs, backbone and pooling: the reader that sees order.

    Shapes
    ------
    bases    (batch, time, 4), the share of each base
    returns  logits (batch, classes)
    """

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        reach = -(-config.places // config.stride)
        self.tokens = MotifTokens(config)
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
            nn.Linear(config.dim, config.classes),
        )

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes."""
        tokens, real, motifs = self.tokens(bases, mask)
        tokens, _ = self.backbone(tokens, mask=real, keep_state=False)
        features = [
            masked_mean(tokens, real),
            masked_max(tokens, real),
            self.attend(tokens, real),
            self.place(tokens, real),
            masked_mean(motifs, mask),
            masked_max(motifs, mask),
            self.phase(motifs, mask),
        ]
        logits: Tensor = self.head(torch.cat(features, dim=-1))
        return logits


class TitansDNANetwork(nn.Module):
    """Three readers of DNA and the weights of their answers.

    Shapes
    ------
    codes    (batch, time), see :mod:`titans_seq.dna.alphabet`
    mask     (batch, time), True where there is a letter
    returns  log-probabilities (batch, classes)
    """

    shares: Tensor
    mixing: Tensor

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.from_numpy(SHARES.copy()), persistent=False)
        self.register_buffer("mixing", torch.full((len(READERS),), 1 / len(READERS)))
        self.titans = TitansReader(config)
        self.words = WordLogits(config.classes, WORD_WIDTHS, config.dropout)
        self.places = PlaceLogits(config.classes, config.places, config.dropout)

    def readings(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "readers batch classes"]:
        """Return the log-probabilities of each reader by itself."""
        index = codes.long()
        bases = self.shares[index]
        logits = torch.stack(
            [self.titans(bases, mask), self.words(index), self.places(bases, mask)]
        )
        return logits.log_softmax(dim=-1)

    def forward(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the log-probabilities on which the readers agree."""
        return mix(self.readings(codes, mask), self.mixing)


def mix(
    readings: Float[Tensor, "readers batch classes"], weights: Float[Tensor, " readers"]
) -> Float[Tensor, "batch classes"]:
    """Return log-probabilities: the readings added with weights, and normalised again."""
    return torch.einsum("rbc,r->bc", readings, weights.to(readings.dtype)).log_softmax(dim=-1)
