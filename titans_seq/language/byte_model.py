"""A byte-level language model: train on a text, score another, and continue one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.language import inference
from titans_seq.language.corpus import (
    BEGIN,
    ConsecutiveWindows,
    Text,
    random_windows,
    read_bytes,
    split_text,
)
from titans_seq.language.estimator import TokenEstimator
from titans_seq.language.needles import haystacks
from titans_seq.language.network import mean_nll, summed_nll
from titans_seq.training import TrainSettings, train, world


class TitansByteModel(TokenEstimator):
    """A language model over bytes: any text, any script, no tokenizer.

    Parameters
    ----------
    variant
        How memory and attention are combined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention``, the control without memory.
    dim, layers, heads
        Width of a token; blocks; heads of attention and memory.
    window
        Bytes in the window of attention; earlier ones reach it only through the memory.
    rule, memory_depth
        Update rule of the memory, see :mod:`titans_seq.nn.rules`, and its layers.
    length
        Bytes of a training window.
    batch_size
        Windows of a training step.
    steps
        Training steps.
    check_every
        Steps after which the held-out part is scored; the best weights are kept.
    learning_rate, weight_decay
        Settings of AdamW.
    needles
        Share of the training windows that train recall only: a secret is written into them
        several times, and must be predicted (:mod:`titans_seq.language.needles`). Ordinary
        text rarely requires that.
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

    Examples
    --------
    >>> from titans_seq.language import TitansByteModel
    >>> model = TitansByteModel(dim=16, heads=2, steps=4, length=64, random_state=0)
    >>> model = model.fit(b"to be or not to be, " * 600)
    >>> len(model.generate(b"to be", 10))
    10
    """

    KIND = "titans-byte-model"
    TITLE = "A text, byte by byte"
    SIZES = (BEGIN + 1, BEGIN)
    COUNTS = ("batch_size", "steps", "check_every")

    def __init__(
        self,
        *,
        variant: Variant = "mag",
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        window: int = 64,
        rule: str = "titans",
        memory_depth: int = 2,
        length: int = 512,
        batch_size: int = 16,
        steps: int = 2000,
        check_every: int = 200,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        needles: float = 0.0,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.variant = variant
        self.dim = dim
        self.layers = layers
        self.heads = heads
        self.window = window
        self.rule = rule
        self.memory_depth = memory_depth
        self.length = length
        self.batch_size = batch_size
        self.steps = steps
        self.check_every = check_every
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.needles = needles
        self.device = device
        self.random_state = random_state

    def fit(self, text: Text, y: None = None, *, validation: Text | None = None) -> Self:
        """Train on a text.

        Parameters
        ----------
        text
            Bytes, an array of uint8, or the name of a file, which is memory-mapped.
        y
            Ignored, for scikit-learn.
        validation
            Text by which the best weights are chosen; the last 5% of ``text`` by default.

        Raises
        ------
        DataError
            If there is too little text.
        ConfigError
            If a parameter is outside its range.
        DivergedError
            If the loss becomes non-finite.
        """
        self._check()
        training = read_bytes(text)
        if validation is None:
            held_out = split_text(training).test
            training = training[: len(training) - len(held_out)]
        else:
            held_out = read_bytes(validation)
        network, seed = self._new_network()
        every = min(self.check_every, self.steps)
        self.history_ = train(
            network,
            mean_nll,
            random_windows(
                training, length=self.length, batch_size=self.batch_size * world().size,
                batches=every, needles=self.needles, seed=seed,
            ),
            validation=ConsecutiveWindows(
                held_out, length=self.length, batch_size=self.batch_size
            ),
            settings=TrainSettings(
                max_epochs=-(-self.steps // every),
                max_steps=self.steps,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                average_weights=True,
                device=self.device,
            ),
            validation_loss=summed_nll,
            seed=seed,
        )  # fmt: skip
        self.network_ = network
        return self

    def surprise(self, text: Text, *, carry: bool = True) -> npt.NDArray[np.float64]:
        """Return the negative log-likelihood of each byte of a text, in bits.

        Parameters
        ----------
        text
            Text of any length, read in constant memory.
        carry
            Carry the memory from the first byte to the last; False resets it every ``length``
            bytes.
        """
        check_is_fitted(self, "network_")
        data = read_bytes(text)
        if carry:
            return inference.carried_losses(self.network_, data)
        return inference.window_losses(self.network_, data, self.length)

    def bits_per_byte(self, text: Text, *, carry: bool = True) -> float:
        """Return the mean of :meth:`surprise`; 8 for uniform guesses."""
        return float(self.surprise(text, carry=carry).mean())

    def retrieve(self, text: Text, gap: int, *, trials: int = 16, seed: int = 0) -> float:
        """Return how well the model recalls a secret that it read ``gap`` bytes ago.

        Parameters
        ----------
        text
            Text between the two occurrences of the secret.
        gap
            Bytes between them.
        trials
            Number of secrets, each tested by itself.
        seed
            Seed of the secrets, and of the stretches between.

        Returns
        -------
        share
            Share of the secrets' letters predicted correctly; 1/26 without recall.
        """
        check_is_fitted(self, "network_")
        rows = haystacks(read_bytes(text), gap, trials, np.random.default_rng(seed))
        return inference.secret_accuracy(self.network_, rows)

    def stream(
        self, prompt: Text = b"", *, temperature: float = 0.8, seed: int = 0
    ) -> Iterator[int]:
        """Yield bytes that continue a prompt, without end and in constant memory.

        Parameters
        ----------
        prompt
            Text to continue.
        temperature
            0 takes the most probable byte, 1 samples from the predicted distribution.
        seed
            Seed of the samples.
        """
        check_is_fitted(self, "network_")
        if temperature < 0:
            raise ConfigError(f"temperature must be at least 0, got {temperature}")
        data = np.empty(0, np.uint8) if prompt == b"" else read_bytes(prompt)
        return inference.continuation(
            self.network_,
            data,
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),
        )

    def generate(self, prompt: Text, count: int, **options: Any) -> bytes:
        """Return the first ``count`` bytes of :meth:`stream`, which takes the options."""
        return bytes(islice(self.stream(prompt, **options), count))

    def _check(self) -> None:
        """Raise if a parameter is outside its range."""
        if self.length < 2:
            raise ConfigError(f"length must be at least 2, got {self.length}")
        if not 0 <= self.needles <= 1:
            raise ConfigError(f"needles must be from 0 to 1, got {self.needles}")
