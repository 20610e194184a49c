"""One block: a mixer and a feed-forward layer, each normalised before and residual."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.config import TitansConfig
from titans_seq.nn.context import ContextMixer
from titans_seq.nn.feed_forward import FeedForward
from titans_seq.nn.mixers import AttentionMixer, GateMixer, LayerMixer, MemoryMixer
from titans_seq.nn.norms import RMSNorm
from titans_seq.nn.state import State

MIXERS: dict[str, type[nn.Module]] = {
    "lmm": MemoryMixer,
    "mac": ContextMixer,
    "mag": GateMixer,
    "mal": LayerMixer,
    "attention": AttentionMixer,
}


class TitansBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.dim)
        self.mixer = MIXERS[config.variant](config)
        self.feed_forward: nn.Module | None = None
        if config.feed_forward_expansion:
            self.feed_norm = RMSNorm(config.dim)
            self.feed_forward = FeedForward(config.dim, config.feed_forward_expansion)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Float[Tensor, "batch time dim"], State | None]:
        """Return the tokens, changed, and the mixer's state if it is to be kept."""
        mixed, after = self.mixer(self.mixer_norm(tokens), lengths, state, keep_state)
        tokens = tokens + self._drop(mixed)
        if self.feed_forward is not None:
            tokens = tokens + self._drop(self.feed_forward(self.feed_norm(tokens)))
        return tokens, after

    def _drop(self, change: Tensor) -> Tensor:
        """Apply dropout; outside training there is nothing to call."""
        return self.dropout(change) if self.training else change
