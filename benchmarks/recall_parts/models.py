"""Models of the recall benchmark: trained on short sequences, tested on long ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from titans_seq import TitansConfig
from titans_seq.language.facts import (
    RECALL_TASKS,
    VALUES,
    VOCABULARY,
    count_recalled,
    difficulty,
    recall,
)
from titans_seq.language.network import NO_TARGET, TokenNetwork
from titans_seq.training.optimizer import trapezoid_decay

TUNING_SEED, TEST_SEED = 3_000_017, 2_000_003
"""Seeds of the sequences that settings are chosen on, and offset of those that are reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of all runs, besides variant and seed."""

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
        """Return the backbone's settings; window and segment have the same length.

        The control has its own number of layers: attention needs two to associate a key with the
        token that follows it.
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


def tune(variant: str, seed: int, rate: float, settings: Settings) -> dict[str, Any]:
    """Train one model for fewer steps; return its record with the score to choose rates by."""
    model, record = _trained(variant, seed, rate, replace(settings, steps=settings.tuning_steps))
    accuracy = {
        str(length): _count(model, "recall", length, TUNING_SEED, settings)
        for length in settings.tuning_lengths
    }
    score = sum(accuracy_of(counts) for counts in accuracy.values()) / len(accuracy)
    return record | {"accuracy": accuracy, "score": round(score, 4)}


def train_and_test(variant: str, seed: int, rate: float, settings: Settings) -> dict[str, Any]:
    """Train one model and test it; return its record for the file of results."""
    model, record = _trained(variant, seed, rate, settings)
    start = time.process_time()
    accuracy = {
        task: {
            str(length): _count(model, task, length, TEST_SEED + seed, settings)
            for length in settings.lengths
        }
        for task in RECALL_TASKS
    }
    return record | {"test_seconds": round(time.process_time() - start, 1), "accuracy": accuracy}


def accuracy_of(counts: dict[str, int]) -> float:
    """Return the share of queries answered correctly."""
    return counts["right"] / counts["asked"]


def _count(
    model: TokenNetwork, task: str, length: int, seed: int, settings: Settings
) -> dict[str, int]:
    """Count queries, correct answers, and the facts that are queried."""
    return count_recalled(
        model, task, length, pairs=settings.pairs, tokens=settings.test_tokens, seed=seed
    )._asdict()


def _trained(
    variant: str, seed: int, rate: float, settings: Settings
) -> tuple[TokenNetwork, dict[str, Any]]:
    """Train one model; return it, and the record of its training."""
    torch.manual_seed(seed)
    model = TokenNetwork(settings.config(variant), VOCABULARY, VALUES)
    start = time.process_time()
    losses = _train(model, settings, rate, torch.Generator().manual_seed(seed))
    return model, {
        "variant": variant,
        "seed": seed,
        "learning_rate": rate,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": model.backbone.config.layers,
        "train_seconds": round(time.process_time() - start, 1),
        "losses": losses,
    }


def _train(
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
        is_query = targets != NO_TARGET
        loss = F.cross_entropy(model(tokens)[0][is_query], targets[is_query])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return [round(float(tenth.mean()), 4) for tenth in torch.tensor(losses).chunk(10)]


def trapezoid(share: float) -> float:
    """Return the learning rate factor after a share of the steps: rises over 5%, falls over 40%."""
    return min(share / 0.05, trapezoid_decay(share))
