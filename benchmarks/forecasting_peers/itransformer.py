"""iTransformer (arXiv 2310.06625) at the size of its published ETTh1 setting, in plain torch.

A token is the whole look-back of one channel, and attention runs among the channels: width
256, 2 layers, 8 heads, feed-forward width 256, dropout 0.1, batches of 32, Adam at 1e-4 that
halves every epoch, ten
epochs at most. Written after the paper, to be timed; no code of its authors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

DIM, LAYERS, HEADS, FEED_FORWARD, DROPOUT = 256, 2, 8, 256, 0.1
BATCH, RATE, EPOCHS, PATIENCE = 32, 1e-4, 10, 3
TINY = 1e-5

SCORED = 512
"""Windows that are scored at once."""


class Layer(nn.Module):
    """Attention among the channels, then a feed-forward layer, each normalised after."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(DIM, DIM) for _ in range(4))
        self.enter, self.leave = nn.Linear(DIM, FEED_FORWARD), nn.Linear(FEED_FORWARD, DIM)
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens (batch, channels, dim), changed."""
        q, k, v = (
            project(tokens).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = self.norms[0](tokens + self.drop(self.out(seen)))
        hidden = self.drop(functional.gelu(self.enter(tokens)))
        changed: Tensor = self.norms[1](tokens + self.drop(self.leave(hidden)))
        return changed


class ITransformer(nn.Module):
    """Forecast all channels of a window at once."""

    def __init__(self, context: int, horizon: int) -> None:
        super().__init__()
        self.embed, self.project = nn.Linear(context, DIM), nn.Linear(DIM, horizon)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)), nn.LayerNorm(DIM))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, history: Tensor) -> Tensor:
        """Return (batch, horizon, channels), given (batch, context, channels)."""
        mean = history.mean(1, keepdim=True)
        spread = (history.var(1, keepdim=True, unbiased=False) + TINY).sqrt()
        tokens = self.drop(self.embed(((history - mean) / spread).transpose(1, 2)))
        ahead: Tensor = self.project(self.layers(tokens)).transpose(1, 2)
        return ahead * spread + mean


class Training:
    """A model, its rows, and its optimizer.

    Parameters
    ----------
    rows
        (rows, channels), scaled; all of them are trained on.
    """

    def __init__(self, rows: npt.NDArray[np.float64], context: int, horizon: int) -> None:
        self.rows = torch.from_numpy(rows).float()
        self.context, self.horizon = context, horizon
        self.model = ITransformer(context, horizon)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.windows = len(rows) - context - horizon + 1

    def epoch(self) -> None:
        """Train on every window once; then halve the rate."""
        self.model.train()
        for part in torch.randperm(self.windows).split(BATCH):
            history, ahead = cut(self.rows, part, self.context, self.horizon)
            self.optimizer.zero_grad()
            (self.model(history) - ahead).square().mean().backward()
            self.optimizer.step()
        for group in self.optimizer.param_groups:
            group["lr"] /= 2

    def fit(self, validation: npt.NDArray[np.float64]) -> list[float]:
        """Train until the validation error does not fall any more; return it, epoch by epoch.

        The model is left with the weights of the best epoch.
        """
        errors: list[float] = []
        while len(errors) < EPOCHS and len(errors) - 1 - _best(errors) < PATIENCE:
            self.epoch()
            errors.append(self.error(validation))
            if _best(errors) == len(errors) - 1:
                kept = {name: one.clone() for name, one in self.model.state_dict().items()}
        self.model.load_state_dict(kept)
        return errors

    @torch.no_grad()
    def error(self, rows: npt.NDArray[np.float64]) -> float:
        """Return the mean squared error over every window of some rows, look-backs included."""
        self.model.eval()
        scaled = torch.from_numpy(rows).float()
        begins = torch.arange(len(scaled) - self.context - self.horizon + 1)
        total = 0.0
        for part in begins.split(SCORED):
            history, ahead = cut(scaled, part, self.context, self.horizon)
            total += float((self.model(history) - ahead).square().mean()) * len(part)
        return total / len(begins)


def cut(rows: Tensor, begins: Tensor, context: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Return look-backs and what came, (windows, rows, channels)."""
    chosen = begins[:, None] + torch.arange(context + horizon)
    whole = rows[chosen]
    return whole[:, :context], whole[:, context:]


def _best(errors: list[float]) -> int:
    return min(range(len(errors)), key=errors.__getitem__, default=-1)
