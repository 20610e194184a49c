"""A model of DNA itself: which base comes next, or stood where one was hidden.

Tokens and backbone are those of the classifier, so that they can begin there; a head joins
what they say about a stretch of bases with the bases nearby, and answers base by base.
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
    """``next``: each base from those before it. ``masked``: hidden bases from both sides."""

    context: int = 16
    """Bases that the head sees by itself, before the base (``masked``: on either side)."""

    dropout: float = 0.0
    """Share of features that is dropped in training."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective={self.objective!r}: choose {' or '.join(OBJECTIVES)}")
        if self.context < 1:
            raise ConfigError(f"context={self.context}: at least 1")


class TitansDNALanguage(nn.Module):
    """Probabilities of the four bases at every place.

    With ``next``, token p sees bases up to ``stride * p + stride - 1 + reach`` (motif
    detectors reach to both sides), so it speaks for the ``stride`` bases that follow those;
    what lies between them and the base is left to the head's own view.

    Shapes
    ------
    codes    (batch, time), hidden bases written as N
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
        ahead = config.objective == "next"
        seen = config.context if ahead else 2 * config.context + 1
        self.shift = self.tokens.stride + self.tokens.reach if ahead else 0
        self.near = nn.Conv1d(4, self.width, seen)
        self.far = nn.Linear(config.dim, self.tokens.stride * self.width)
        self.norm = nn.LayerNorm(self.width)
        self.out = nn.Linear(self.width, 4)

    def forward(
        self, codes: UInt8[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time 4"]:
        """Return the log-probability of each base at each place."""
        bases = self.shares[codes.long()]
        logits: Tensor = self.out(F.gelu(self.norm(self._near(bases) + self._far(bases, mask))))
        return logits.log_softmax(dim=-1)

    def _near(self, bases: Float[Tensor, "batch time 4"]) -> Float[Tensor, "batch time width"]:
        """Return what the neighbouring bases say of each place."""
        context = self.config.context
        if self.config.objective == "next":
            padded = F.pad(bases[:, :-1], (0, 0, context, 0))
        else:
            padded = F.pad(bases, (0, 0, context, context))
        near: Tensor = self.near(padded.mT)
        return near.mT

    def _far(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Return what the tokens say of each place."""
        tokens, real, _ = self.tokens(bases, mask)
        read, _ = self.backbone(tokens, mask=real, keep_state=False)
        each = self.far(read).unflatten(-1, (self.tokens.stride, self.width)).flatten(1, 2)
        return F.pad(each, (0, 0, self.shift, 0))[:, : bases.shape[1]]


def base_losses(
    log_probabilities: Float[Tensor, "batch time 4"],
    codes: UInt8[Tensor, "batch time"],
    asked: Bool[Tensor, "batch time"],
) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood (nats) of the bases asked for, and their number.

    Parameters
    ----------
    log_probabilities
        What the network says.
    codes
        What stands there; places that are no single base do not count.
    asked
        Places that count.
    """
    index = codes.long()
    sure = asked & (index > 0) & (index & (index - 1) == 0)
    base = (index > 1).long() + (index > 2).long() + (index > 4).long()
    losses = -log_probabilities.gather(-1, base[..., None]).squeeze(-1)
    return (losses * sure).sum(), sure.sum()
