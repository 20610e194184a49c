"""A backbone between an embedding and an output layer: trained short, tested long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from recall_parts.tasks import NO_ANSWER, VALUES, VOCABULARY, recall
from titans_seq import TitansBackbone, TitansConfig
from titans_seq.nn.state import StackState


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


class RecallModel(nn.Module):
    """Tokens in, one score for each value out."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, config.dim)
        self.backbone = TitansBackbone(config)
        self.answer = nn.Linear(config.dim, VALUES)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        state: StackState | None = None,
        *,
        keep_state: bool = False,
    ) -> tuple[Float[Tensor, "batch time values"], StackState | None]:
        """Return the scores, and the state to go on from if it is wanted."""
        hidden, after = self.backbone(self.embed(tokens), state, keep_state=keep_state)
        return self.answer(hidden), after


def trained(
    variant: str, seed: int, rate: float, settings: Settings
) -> tuple[RecallModel, dict[str, Any]]:
    """Train one model; return it, and what the file of results keeps of its training."""
    torch.manual_seed(seed)
    model = RecallModel(settings.config(variant))
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
    model: RecallModel, settings: Settings, rate: float, generator: torch.Generator
) -> list[float]:
    """Train on short sequences; return the mean loss of each tenth of the training.

    Easy ones come first, since many facts at once leave nothing to begin with: the most facts
    grow from 2 to ``pairs`` over six tenths of the steps, the most tokens to ``longest`` over
    three. Below these, facts and lengths are drawn at random.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: trapezoid((step + 1) / settings.steps)
    )
    losses = []
    for step in range(settings.steps):
        length, pairs = difficulty(step / settings.steps, settings, generator)
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
    """Return the learning rate's share: it rises over a twentieth, and falls over four tenths.

    Between, it stays: what forgets slowly, or writes little, is seen by its gradient least and
    learnt last.
    """
    return min(1.0, share / 0.05, max(0.0, 1.0 - share) / 0.4 + 0.01)


def difficulty(share: float, settings: Settings, generator: torch.Generator) -> tuple[int, int]:
    """Draw a length and a number of facts, ``share`` of the training being over.

    Lengths are spread evenly on a logarithmic scale, with a pull to the longer ones that grows.
    """
    most = min(settings.pairs, max(2, round(settings.pairs * share / 0.6)))
    octaves = torch.tensor(settings.longest / settings.shortest).log2() * min(1.0, share / 0.3)
    place = torch.rand((), generator=generator) ** (1.0 - 0.7 * share)
    length = round(settings.shortest * 2.0 ** float(octaves * place))
    return length, int(torch.randint(1, most + 1, (), generator=generator))
