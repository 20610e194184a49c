"""A language model of DNA that predicts the next base, or masked bases.

Tokens and backbone are those of the classifier, so that their weights can be transferred to it; a
head combines them with the neighbouring bases and predicts base by base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from titans_seq.backbone import TitansBackbone
from titans_seq.dna.alphabet import SHARES
from titans_seq.dna.learning.tokens import EncoderConfig, make_tokens
from titans_seq.exceptions import ConfigError

Objective = Literal["next", "masked"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageConfig(EncoderConfig):
    """Settings of a :class:`TitansDNALanguage`."""

    objective: Objective = "next"
    """``next``: each base from those before it. ``masked``: masked bases from both sides."""

    context: int = 16
    """Neighbouring bases that the head reads: before the base (``masked``: on either side)."""

    dropout: float = 0.0
    """Share of features dropped in training."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        if self.objective not in OBJECTIVES:
            raise ConfigError(
                f"objective must be {' or '.join(OBJECTIVES)}, got {self.objective!r}"
            )
        if self.context < 1:
            raise ConfigError(f"context must be at least 1, got {self.context}")


class TitansDNALanguage(nn.Module):
    """Probabilities of the four bases at every position.

    With ``next``, token p depends on bases up to ``stride * p + stride - 1 + reach`` (motif
    detectors extend to both sides), so it is used for the ``stride`` bases that follow those;
    the bases in between are read by the head's own convolution.

    Shapes
    ------
    codes    (batch, time), masked bases as N
    mask     (batch, time), True where there is a letter
    returns  log-probabilities (batch, time, 4), in the order ACGT
    """

    shares: Tensor

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.from_numpy(SHARES.copy()), persistent=False)
        self.tokens = make_tokens(config)
        self.backbone = TitansBackbone(config.backbone)
        self.width = 2 * config.dim
        causal = config.objective == "next"
        kernel = config.context if causal else 2 * config.context + 1
        self.shift = self.tokens.stride + self.tokens.reach if causal else 0
        self.near = nn.Conv1d(4, self.width, kernel)
        self.far = nn.Linear(config.dim, self.tokens.stride * self.width)
        self.norm = nn.LayerNorm(self.width)
        self.out = nn.Linear(self.width, 4)

    def forward(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time 4"]:
        """Return the log-probability of each base at each position."""
        bases = self.shares[codes.long()]
        logits: Tensor = self.out(F.gelu(self.norm(self._near(bases) + self._far(bases, mask))))
        return logits.log_softmax(dim=-1)

    def _near(self, bases: Float[Tensor, "batch time 4"]) -> Float[Tensor, "batch time width"]:
        """Return the features of the neighbouring bases at each position."""
        context = self.config.context
        if self.config.objective == "next":
            # Without the last base, the kernel at a position ends just before it.
            padded = F.pad(bases[:, :-1], (0, 0, context, 0))
        else:
            padded = F.pad(bases, (0, 0, context, context))
        near: Tensor = self.near(padded.mT)
        return near.mT

    def _far(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Return the features of the tokens at each position."""
        tokens, token_mask, _ = self.tokens(bases, mask)
        hidden, _ = self.backbone(tokens, mask=token_mask, keep_state=False)
        # (batch, tokens, stride * width) to one vector per base, (batch, time, width)
        by_base = self.far(hidden).unflatten(-1, (self.tokens.stride, self.width)).flatten(1, 2)
        return F.pad(by_base, (0, 0, self.shift, 0))[:, : bases.shape[1]]


def base_losses(
    log_probabilities: Float[Tensor, "batch time 4"],
    codes: UInt8[Tensor, "batch time"],
    scored: Bool[Tensor, "batch time"],
) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood (nats) of the scored bases, and their number.

    Parameters
    ----------
    log_probabilities
        Output of the network.
    codes
        The original codes; ambiguous letters are not scored.
    scored
        Positions to score.
    """
    index = codes.long()
    # An unambiguous code has exactly one bit: 1, 2, 4 or 8 for A, C, G or T.
    counted = scored & (index > 0) & (index & (index - 1) == 0)
    base = (index > 1).long() + (index > 2).long() + (index > 4).long()
    losses = -log_probabilities.gather(-1, base[..., None]).squeeze(-1)
    return (losses * counted).sum(), counted.sum()
