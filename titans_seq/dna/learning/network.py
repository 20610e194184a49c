"""The network of the DNA estimators: codes and mask in, outputs for each sequence out.

Three branches read a sequence, and their outputs are added with weights:

* *titans*: motif detectors (a convolution over the bases), tokens, a
  :class:`~titans_seq.backbone.TitansBackbone` over the tokens, and several poolings;
* *words*: logistic regression on how often each k-mer of 3 to 8 bases occurs, with or without
  a gap;
* *places*: logistic regression on the base at each position, counted from both ends.

Which branch is best depends on the data: positions for splice sites, k-mers for binding sites,
the sequence model for coding sequence. Each branch is trained by itself, the two regressions first
(:mod:`titans_seq.dna.learning.fitting`); their weights are then fitted to held-out sequences
(``mixing``).
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
from titans_seq.dna.learning.gapped_kmers import KmerLogits
from titans_seq.dna.learning.pooling import (
    AttentionPool,
    PhasePool,
    PositionLogits,
    PositionPool,
    masked_max,
    masked_mean,
)
from titans_seq.dna.learning.tasks import DNATask, combined, normalized
from titans_seq.dna.learning.tokens import EncoderConfig, make_tokens

BRANCHES = ("titans", "words", "places")
"""Names of the three branches, in the order of ``TitansDNANetwork.branch_outputs``."""

StrandMode = Literal["none", "augment", "average", "equivariant"]
"""Use of the reverse strand, see ``DNANetworkConfig.strands``."""

STRAND_MODES: tuple[str, ...] = get_args(StrandMode)


@dataclass(frozen=True, kw_only=True, slots=True)
class DNANetworkConfig(EncoderConfig):
    """Settings of a :class:`TitansDNANetwork`."""

    outputs: int
    """Number of classes, labels, or values."""

    places: int
    """Bases from either end whose positions are distinguished."""

    task: DNATask = "classes"
    """Kind of outputs, see :mod:`titans_seq.dna.learning.tasks`."""

    strands: StrandMode = "none"
    """``augment``: train on both strands. ``average``: that, and predict the mean over both.
    ``equivariant``: read both with the same weights and average their features."""

    @property
    def augments(self) -> bool:
        """Whether half of the training sequences are reverse-complemented in each epoch."""
        return self.strands in ("augment", "average")


class EncodedStrand(NamedTuple):
    """One strand of a batch; padding follows the letters."""

    codes: Int[Tensor, "batch time"]
    """See :mod:`titans_seq.dna.alphabet`."""

    bases: Float[Tensor, "batch time 4"]
    """Share of each base; zero for padding."""

    mask: Bool[Tensor, "batch time"]
    """True where there is a letter."""

    def reverse_complement(self) -> EncodedStrand:
        """Return the reverse strand; padding stays behind the letters."""
        steps = torch.arange(self.mask.shape[1], device=self.mask.device)
        index = (self.mask.sum(dim=1, keepdim=True) - 1 - steps).clamp(min=0)
        codes = self.codes.gather(1, index) * self.mask
        # The complement of a code is its four bits in reverse order.
        codes = (codes & 1) << 3 | (codes & 2) << 1 | (codes & 4) >> 1 | (codes & 8) >> 3
        # A pairs with T and C with G: the four columns in reverse order.
        bases = self.bases.gather(1, index[..., None].expand(-1, -1, 4)).flip(-1)
        return EncodedStrand(codes, bases * self.mask[..., None], self.mask)


class TitansBranch(nn.Module):
    """Motifs, backbone and pooling: the branch that models the order of bases.

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
        self.place = PositionPool(config.dim, math.gcd(config.dim, 16), reach)
        self.phase = PhasePool(config.motifs, config.dim)
        width = 5 * config.dim + 2 * config.motifs  # of the seven poolings in ``features``
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
        """Return the pooled features of each sequence."""
        tokens, token_mask, motifs = self.tokens(bases, mask)
        tokens, _ = self.backbone(tokens, mask=token_mask, keep_state=False)
        pooled = [
            masked_mean(tokens, token_mask),
            masked_max(tokens, token_mask),
            self.attend(tokens, token_mask),
            self.place(tokens, token_mask),
            masked_mean(motifs, mask),
            masked_max(motifs, mask),
            self.phase(motifs, mask),
        ]
        return torch.cat(pooled, dim=-1)


class TitansDNANetwork(nn.Module):
    """Three branches that read DNA, and the weights of their outputs.

    Shapes
    ------
    codes    (batch, time), see :mod:`titans_seq.dna.alphabet`
    mask     (batch, time), True where there is a letter
    returns  combined outputs (batch, outputs): log-probabilities of classes, log-odds of
             labels, or values
    """

    shares: Tensor
    mixing: Tensor

    def __init__(self, config: DNANetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.from_numpy(SHARES.copy()), persistent=False)
        self.register_buffer("mixing", torch.full((len(BRANCHES),), 1 / len(BRANCHES)))
        self.titans = TitansBranch(config)
        both = config.strands != "none"
        self.words = KmerLogits(config.outputs, config.dropout, both_strands=both)
        self.places = PositionLogits(config.outputs, config.places, config.dropout)

    def encode(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> EncodedStrand:
        """Return a batch with the share of each base."""
        index = codes.long()
        return EncodedStrand(index, self.shares[index], mask)

    def branch_logits(
        self, strand: EncodedStrand, branches: tuple[str, ...] = BRANCHES
    ) -> Float[Tensor, "branches batch outputs"]:
        """Return the outputs of each branch, not yet normalised."""
        return torch.stack([self.logits_of(branch, strand) for branch in branches])

    def logits_of(self, branch: str, strand: EncodedStrand) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of one branch, not yet normalised."""
        both = self.config.strands == "equivariant"
        strands = [strand, strand.reverse_complement()] if both else [strand]
        if branch == "titans":
            features = [self.titans.features(one.bases, one.mask) for one in strands]
            logits: Tensor = self.titans.head(_strand_mean(features))
            return logits
        if branch == "words":
            return _strand_mean([self.words(one.codes) for one in strands])
        return _strand_mean([self.places(one.bases, one.mask) for one in strands])

    def branch_outputs(
        self,
        codes: UInt8[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
        branches: tuple[str, ...] = BRANCHES,
    ) -> Float[Tensor, "branches batch outputs"]:
        """Return the normalised outputs of each branch."""
        logits = self.branch_logits(self.encode(codes, mask), branches)
        return normalized(logits, self.config.task)

    def forward(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch outputs"]:
        """Return the combined outputs of the branches."""
        return combined(self.branch_outputs(codes, mask), self.mixing, self.config.task)


def _strand_mean(by_strand: list[Tensor]) -> Tensor:
    """Return the mean over the strands, exactly the same in either order."""
    return by_strand[0] if len(by_strand) == 1 else 0.5 * (by_strand[0] + by_strand[1])
