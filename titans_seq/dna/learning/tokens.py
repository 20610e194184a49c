"""From bases to the tokens that the backbone reads.

Three ways: *motifs* (detectors over the bases, gathered into one token for every few bases),
*bases* (one token a base), and *k-mers* (one token for every k bases, with a vector of its
own for each word). Motif detectors look at every base in all three: what they saw is pooled
beside the tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.config import TitansConfig, Variant
from titans_seq.exceptions import ConfigError

TokenParts = tuple[
    Float[Tensor, "batch tokens dim"],
    Bool[Tensor, "batch tokens"],
    Float[Tensor, "batch time motifs"],
]
"""Tokens, their mask, and what the detectors saw at every base."""

LONGEST_WORD = 6
"""Bases of a k-mer token, at most: there are 4**k vectors to learn."""


def word_length(tokens: str) -> int:
    """Return the bases of one token: 1 for ``base``, k for ``k-mer``, 0 for ``motif``.

    Raises
    ------
    ConfigError
        If the word is none of these.
    """
    fixed = {"motif": 0, "base": 1}
    if tokens in fixed:
        return fixed[tokens]
    match = re.fullmatch(r"([0-9]+)-mer", str(tokens))
    if match and 2 <= int(match[1]) <= LONGEST_WORD:
        return int(match[1])
    raise ConfigError(
        f"tokens={tokens!r}: choose motif, base, or 2-mer to {LONGEST_WORD}-mer, such as 3-mer"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Settings of tokens and backbone, which pre-training and the estimators share."""

    tokens: str = "motif"
    """What the backbone reads: ``motif``, ``base``, or ``2-mer`` to ``6-mer``."""

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
    """Bases of one ``motif`` token."""

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


def make_tokens(config: EncoderConfig) -> MotifTokens | WordTokens:
    """Return the tokens that the settings ask for."""
    return MotifTokens(config) if config.tokens == "motif" else WordTokens(config)


class MotifTokens(nn.Module):
    """Motif detectors at every base, gathered into one token for each ``stride`` bases.

    Shapes
    ------
    bases    (batch, time, 4), the share of each base
    returns  see :data:`TokenParts`; there are ceil(time / stride) tokens
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.reach = config.motif_width // 2
        self.detect = _detectors(config)
        self.dropout = nn.Dropout(config.dropout / 2)
        self.gather = nn.Conv1d(config.motifs, config.dim, config.stride, stride=config.stride)

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> TokenParts:
        """Return tokens, their mask, and what the detectors saw."""
        seen = F.relu(self.detect(bases.mT)) * mask[:, None]
        padded = self.dropout(F.pad(seen, (0, -bases.shape[1] % self.stride)))
        return self.gather(padded).mT, _token_mask(mask, self.stride), seen.mT


class WordTokens(nn.Module):
    """One token for every k bases; with k = 1, one token a base.

    It is the sum of a vector for each letter at its place in the word and, where no letter is
    ambiguous, one for the word as a whole.

    Shapes are those of :class:`MotifTokens`, with k for the stride.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.stride = word_length(config.tokens)
        self.reach = 0
        self.detect = _detectors(config)
        self.dropout = nn.Dropout(config.dropout / 2)
        self.letters = nn.Conv1d(4, config.dim, self.stride, stride=self.stride)
        self.words = nn.Embedding(4**self.stride, config.dim) if self.stride > 1 else None

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> TokenParts:
        """Return tokens, their mask, and what the detectors saw."""
        seen = F.relu(self.detect(bases.mT)) * mask[:, None]
        padded = F.pad(bases, (0, 0, 0, -bases.shape[1] % self.stride))
        tokens = self.letters(padded.mT).mT
        if self.words is not None:
            sure, letter = padded.detach().unflatten(1, (-1, self.stride)).max(dim=-1)
            place = 4 ** torch.arange(self.stride - 1, -1, -1, device=letter.device)
            whole = (sure == 1).all(dim=-1, keepdim=True)
            tokens = tokens + self.words((letter * place).sum(dim=-1)) * whole
        return self.dropout(tokens), _token_mask(mask, self.stride), seen.mT


def _detectors(config: EncoderConfig) -> nn.Conv1d:
    """Return the motif detectors, one answer a base each."""
    return nn.Conv1d(4, config.motifs, config.motif_width, padding=config.motif_width // 2)


def _token_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch tokens"]:
    """Return which tokens hold at least one letter."""
    missing = -mask.shape[1] % stride
    whole: Tensor = F.pad(mask, (0, missing)).unflatten(1, (-1, stride))
    return whole.any(dim=-1)
