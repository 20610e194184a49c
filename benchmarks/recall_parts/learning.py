"""A backbone between an embedding and an output layer: trained short, tested long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from titans_seq import TitansConfig
from titans_seq.language.facts import VALUES, VOCABULARY, difficulty, recall
from titans_seq.language.network import NO_ANSWER, TokenNetwork
from titans_seq.training.optimizer import trapezoid_decay


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All that a run depends on, besides its variant and seed."""

    dim: int
    heads: int
    layers: int
    control_layers: int
    rule: str
    memory_depth: int
    chunk_size: int
    window: int
    steps: int
    tuning_steps: int
    tokens_a_step: int
    learning_rates: tuple[float, ...]
    weight_decay: float
    pairs: int
    shortest: int
    longest: int
    lengths: tuple[int, ...]
    tuning_lengths: tuple[int, ...]
    test_tokens: int

    def config(self, variant: str) -> TitansConfig:
        """Return the backbone's settings; window and segment are of one length.

        The control has layers of its own: with one it could not even join a key to the token
        behind it, with two it can, within its window.
        """
        return TitansConfig(
            dim=self.dim,
            heads=self.heads,
            layers=self.control_layers if variant == "attention" else self.layers,
            variant=variant,  # type: ignore[arg-type]
            segment_len=self.window,
            window=self.window,
            chunk_size=self.chunk_size,
            rule=self.rule,
            memory_depth=self.memory_depth,
        )


def trained(
    variant: str, seed: int, rate: float, settings: Settings
) -> tuple[TokenNetwork, dict[str, Any]]:
    """Train one model; return it, and what the file of results keeps of its training."""
    torch.manual_seed(seed)
    model = TokenNetwork(settings.config(variant), VOCABULARY, VALUES)
    began = time.process_time()
    losses = train(model, settings, rate, torch.Generator().manual_seed(seed))
    return model, {
        "variant": variant,
        "seed": seed,
        "learning_rate": rate,
        "parameters": sum(one.numel() for one in model.parameters()),
        "layers": model.backbone.config.layers,
        "train_seconds": round(time.process_time() - began, 1),
        "losses": losses,
    }


def train(
    model: TokenNetwork, settings: Settings, rate: float, generator: torch.Generator
) -> list[float]:
    """Train on short sequences, easy ones first; return the mean loss of each tenth."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: trapezoid((step + 1) / settings.steps)
    )
    losses = []
    for step in range(settings.steps):
        length, pairs = difficulty(
            step / settings.steps, pairs=settings.pairs, shortest=settings.shortest,
            longest=settings.longest, generator=generator,
        )  # fmt: skip
        batch = max(1, settings.tokens_a_step // length)
        tokens, targets = recall(batch, length, pairs, generator)
        asked = targets != NO_ANSWER
        loss = F.cross_entropy(model(tokens)[0][asked], targets[asked])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return [round(float(part.mean()), 4) for part in torch.tensor(losses).chunk(10)]


def trapezoid(share: float) -> float:
    """Return the learning rate's share: it rises over a twentieth, and falls over four tenths."""
    return min(share / 0.05, trapezoid_decay(share))
