"""Associative recall: train on short sequences of facts and fillers, test on much longer ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.language.estimator import TokenEstimator
from titans_seq.language.facts import (
    KEYS,
    SHORTEST,
    VALUES,
    VOCABULARY,
    RecallCounts,
    count_recalled,
    difficulty,
    recall,
)
from titans_seq.language.network import mean_nll
from titans_seq.training import TrainSettings, train, world

_MAX_PAIRS = KEYS // 2
"""Most facts of a sequence."""


class TitansRecall(TokenEstimator):
    """Recall facts from far outside the attention window, which only a memory can do.

    Trains on associative recall of up to ``longest`` tokens, easy sequences first
    (:mod:`titans_seq.language.facts`), drawn anew for every step.

    Parameters
    ----------
    variant
        How memory and attention are combined; ``attention`` is the control without memory.
    dim, heads, layers
        Width of a token, heads, blocks. The control needs two blocks to combine a key with the
        token after it; the convolution of a memory does so in one.
    window
        Tokens in the window of attention.
    rule, memory_depth
        Update rule of the memory, and its layers.
    pairs
        Most facts of a sequence.
    shortest, longest
        Tokens of the shortest and longest training sequences.
    tokens_a_step
        Tokens of a training step.
    steps
        Training steps.
    learning_rate, weight_decay
        Settings of AdamW.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    random_state
        Seed, generator or None, as in scikit-learn.

    Attributes
    ----------
    network_ : TokenNetwork
        The trained network.
    history_ : History
        Losses and times of the training; None after ``load``.
    """

    KIND = "titans-recall"
    TITLE = "Facts, recalled"
    SIZES = (VOCABULARY, VALUES)
    COUNTS = ("tokens_a_step", "steps")

    def __init__(
        self,
        *,
        variant: Variant = "lmm",
        dim: int = 64,
        heads: int = 1,
        layers: int = 1,
        window: int = 64,
        rule: str = "titans-exact",
        memory_depth: int = 1,
        pairs: int = 4,
        shortest: int = 48,
        longest: int = 512,
        tokens_a_step: int = 2048,
        steps: int = 1200,
        learning_rate: float = 8e-3,
        weight_decay: float = 0.01,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.variant = variant
        self.dim = dim
        self.heads = heads
        self.layers = layers
        self.window = window
        self.rule = rule
        self.memory_depth = memory_depth
        self.pairs = pairs
        self.shortest = shortest
        self.longest = longest
        self.tokens_a_step = tokens_a_step
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any = None, y: None = None) -> Self:
        """Train on random sequences; the arguments are ignored.

        Raises
        ------
        ConfigError
            If a parameter is outside its range.
        DivergedError
            If the loss becomes non-finite.
        """
        self._check()
        network, seed = self._new_network()
        self.history_ = train(
            network, mean_nll, FactBatches(self, seed), seed=seed,
            settings=TrainSettings(
                max_epochs=-(-self.steps // FactBatches.EACH), max_steps=self.steps,
                learning_rate=self.learning_rate, weight_decay=self.weight_decay,
                schedule="trapezoid", device=self.device,
            ),
        )  # fmt: skip
        self.network_ = network
        return self

    def count(self, task: str, length: int, *, tokens: int = 65_536, seed: int = 0) -> RecallCounts:
        """Test recall in new sequences.

        Parameters
        ----------
        task
            ``recall``: facts at the beginning, all queried at the end. ``needle``: one fact
            anywhere, queried by the last token.
        length
            Tokens of a sequence; may be far beyond ``longest``, in constant memory.
        tokens
            Tokens of the whole test, which has 4 to 256 sequences.
        seed
            Seed of the sequences.
        """
        check_is_fitted(self, "network_")
        return count_recalled(
            self.network_, task, length, pairs=self.pairs, tokens=tokens, seed=seed
        )

    def _check(self) -> None:
        """Raise if a parameter is outside its range."""
        if not 1 <= self.pairs <= _MAX_PAIRS:
            raise ConfigError(f"pairs must be from 1 to {_MAX_PAIRS}, got {self.pairs}")
        if not SHORTEST <= self.shortest <= self.longest:
            raise ConfigError(
                f"shortest and longest must satisfy {SHORTEST} <= shortest <= longest, got "
                f"{self.shortest} and {self.longest}"
            )


class FactBatches:
    """Training sequences, easy ones first; the same for the same seed and epoch."""

    EACH = 100
    """Batches of an epoch."""

    def __init__(self, model: TitansRecall, seed: int) -> None:
        self.model, self.seed = model, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return min(self.EACH, self.model.steps)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the next epoch."""
        model = self.model
        (seed,) = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(seed))
        begin = self.epoch * len(self)
        self.epoch += 1
        for step in range(begin, begin + len(self)):
            length, pairs = difficulty(
                min(step / model.steps, 1.0), pairs=model.pairs, shortest=model.shortest,
                longest=model.longest, generator=generator,
            )  # fmt: skip
            batch = max(1, model.tokens_a_step // length) * world().size
            yield recall(batch, length, pairs, generator)._asdict()
