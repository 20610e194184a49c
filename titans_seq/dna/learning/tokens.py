"""Turn bases into the tokens that the backbone reads.

Tokens are *motifs* (a convolution over the bases, then one token for every few bases), *bases*
(one token per base), or *k-mers* (one token for every k bases, with a learned vector for each
k-mer). All three have motif detectors at every base, whose activations are pooled beside the
tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.config import TitansConfig, Variant
from titans_seq.exceptions import ConfigError

_MAX_TOKEN_LENGTH = 6
"""Bases of the longest k-mer token: there are 4**k vectors to learn."""


class EncodedSequences(NamedTuple):
    """Tokens of a batch of sequences."""

    tokens: Float[Tensor, "batch tokens dim"]

    mask: Bool[Tensor, "batch tokens"]
    """True for tokens of at least one letter."""

    motifs: Float[Tensor, "batch time motifs"]
    """Activation of each motif detector at every base."""


def token_length(tokens: str) -> int:
    """Return the bases of one token: 1 for ``base``, k for ``k-mer``, 0 for ``motif``.

    Raises
    ------
    ConfigError
        If ``tokens`` is none of these.
    """
    fixed = {"motif": 0, "base": 1}
    if tokens in fixed:
        return fixed[tokens]
    match = re.fullmatch(r"([0-9]+)-mer", str(tokens))
    if match and 2 <= int(match[1]) <= _MAX_TOKEN_LENGTH:
        return int(match[1])
    raise ConfigError(
        f"tokens must be motif, base, or 2-mer to {_MAX_TOKEN_LENGTH}-mer, got {tokens!r}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Settings of tokens and backbone, shared by pre-training and the estimators."""

    tokens: str = "motif"
    """Tokens that the backbone reads: ``motif``, ``base``, or ``2-mer`` to ``6-mer``."""

    variant: Variant = "mag"
    """How the backbone combines memory and attention."""

    dim: int = 64
    """Width of a token."""

    layers: int = 2
    """Blocks of the backbone."""

    heads: int = 2
    """Heads of the backbone."""

    motifs: int = 128
    """Motif detectors."""

    motif_width: int = 11
    """Bases that a detector spans."""

    stride: int = 6
    """Bases of one ``motif`` token."""

    dropout: float = 0.2
    """Share of features dropped in training."""

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


def make_tokens(config: EncoderConfig) -> MotifTokens | KmerTokens:
    """Return the tokenizer that the settings name."""
    return MotifTokens(config) if config.tokens == "motif" else KmerTokens(config)


class MotifTokens(nn.Module):
    """Motif detectors at every base, convolved into one token for each ``stride`` bases.

    Shapes
    ------
    bases    (batch, time, 4), the share of each base
    returns  see :class:`EncodedSequences`; there are ceil(time / stride) tokens
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.reach = config.motif_width // 2
        self.detect = _motif_detectors(config)
        self.dropout = nn.Dropout(config.dropout / 2)
        self.gather = nn.Conv1d(config.motifs, config.dim, config.stride, stride=config.stride)

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> EncodedSequences:
        """Return the tokens and the motif activations."""
        motifs = F.relu(self.detect(bases.mT)) * mask[:, None]  # (batch, motifs, time)
        padded = self.dropout(F.pad(motifs, (0, -bases.shape[1] % self.stride)))
        return EncodedSequences(self.gather(padded).mT, _token_mask(mask, self.stride), motifs.mT)


class KmerTokens(nn.Module):
    """One token for every k bases; with k = 1, one token per base.

    A token is the sum of a vector for each base at its position in the k-mer and, unless a
    letter is ambiguous, a vector for the k-mer as a whole.

    Shapes are those of :class:`MotifTokens`, with k for the stride.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.stride = token_length(config.tokens)
        self.reach = 0
        self.detect = _motif_detectors(config)
        self.dropout = nn.Dropout(config.dropout / 2)
        self.letters = nn.Conv1d(4, config.dim, self.stride, stride=self.stride)
        self.words = nn.Embedding(4**self.stride, config.dim) if self.stride > 1 else None

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> EncodedSequences:
        """Return the tokens and the motif activations."""
        motifs = F.relu(self.detect(bases.mT)) * mask[:, None]  # (batch, motifs, time)
        padded = F.pad(bases, (0, 0, 0, -bases.shape[1] % self.stride))
        tokens = self.letters(padded.mT).mT
        if self.words is not None:
            # (batch, tokens, k): share and index of the likeliest base at each position
            share, base = padded.detach().unflatten(1, (-1, self.stride)).max(dim=-1)
            digits = 4 ** torch.arange(self.stride - 1, -1, -1, device=base.device)
            unambiguous = (share == 1).all(dim=-1, keepdim=True)
            tokens = tokens + self.words((base * digits).sum(dim=-1)) * unambiguous
        return EncodedSequences(self.dropout(tokens), _token_mask(mask, self.stride), motifs.mT)


def _motif_detectors(config: EncoderConfig) -> nn.Conv1d:
    """Return the motif detectors: one activation per motif and base."""
    return nn.Conv1d(4, config.motifs, config.motif_width, padding=config.motif_width // 2)


def _token_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch tokens"]:
    """Return which tokens contain at least one letter."""
    missing = -mask.shape[1] % stride
    by_token: Tensor = F.pad(mask, (0, missing)).unflatten(1, (-1, stride))
    return by_token.any(dim=-1)
