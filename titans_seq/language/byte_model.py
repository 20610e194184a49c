"""TitansByteModel: learns a text byte by byte, says how likely another is, and writes on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.language import reading
from titans_seq.language.corpus import BEGIN, HeldWindows, Text, WindowBatches, cut, read_bytes
from titans_seq.language.estimator import TokenEstimator
from titans_seq.language.needles import haystacks
from titans_seq.language.network import mean_loss, summed_loss
from titans_seq.training import TrainSettings, train, world


class TitansByteModel(TokenEstimator):
    """A language model whose letters are bytes: any text, any script, no tokenizer.

    Parameters
    ----------
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention``, the control without memory.
    dim, layers, heads
        Width of a token; blocks; heads of attention and memory.
    window
        Bytes that attention sees; what was before is the memory's.
    rule, memory_depth
        How the memory learns, see :mod:`titans_seq.nn.rules`, and its layers.
    length
        Bytes of a window to learn from.
    batch_size
        Windows of a training step.
    steps
        Training steps.
    check_every
        Steps after which the held-out part is scored; the best weights are kept.
    learning_rate, weight_decay
        Of AdamW.
    needles
        Share of the windows that teach nothing but to look back: a secret is written over them
        several times, and asked for (:mod:`titans_seq.language.needles`). A text by itself
        teaches that seldom.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    random_state
        Seed, generator or None, as in scikit-learn.

    Attributes
    ----------
    network_ : TokenNetwork
        What was trained.
    history_ : History
        What happened in training; None after ``load``.

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
        """Learn a text.

        Parameters
        ----------
        text
            Bytes, an array of uint8, or the name of a file, which is read where it lies.
        y
            Ignored, for scikit-learn.
        validation
            What chooses the weights that are kept; the last 5% of the text if left out.

        Raises
        ------
        DataError
            If there is too little text.
        ConfigError
            If a parameter cannot be used.
        DivergedError
            If the loss becomes non-finite.
        """
        self._check()
        learn = read_bytes(text)
        if validation is None:
            parts = cut(learn)
            learn, held = learn[: len(learn) - len(parts.test)], parts.test
        else:
            held = read_bytes(validation)
        network, seed = self._fresh()
        every = min(self.check_every, self.steps)
        self.history_ = train(
            network,
            mean_loss,
            WindowBatches(learn, length=self.length, size=(every, self.batch_size * world().size),
                          needles=self.needles, seed=seed),
            validation=HeldWindows(held, length=self.length, batch_size=self.batch_size),
            settings=TrainSettings(
                max_epochs=-(-self.steps // every),
                max_steps=self.steps,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                average_weights=True,
                device=self.device,
            ),
            validation_loss=summed_loss,
            seed=seed,
        )  # fmt: skip
        self.network_ = network
        return self

    def surprise(self, text: Text, *, carry: bool = True) -> reading.Losses:
        """Return what each byte of a text costs, in bits.

        Parameters
        ----------
        text
            Of any length: the memory is constant, but for the result.
        carry
            Carry the memory from the first byte to the last; False begins anew every
            ``length`` bytes.
        """
        check_is_fitted(self, "network_")
        found = read_bytes(text)
        if carry:
            return reading.losses(self.network_, found)
        return reading.losses_apart(self.network_, found, self.length)

    def bits_per_byte(self, text: Text, *, carry: bool = True) -> float:
        """Return the mean of :meth:`surprise`; 8 is as good as not having read anything."""
        return float(self.surprise(text, carry=carry).mean())

    def retrieve(self, text: Text, gap: int, *, trials: int = 16, seed: int = 0) -> float:
        """Return how well a secret is kept that was told ``gap`` bytes ago.

        Parameters
        ----------
        text
            What is read between.
        gap
            Bytes between the two.
        trials
            Secrets that are told and asked for, each by itself.
        seed
            Of the secrets, and of the stretches between.

        Returns
        -------
        share
            Of the secrets' letters that were the likeliest bytes at their places; whoever has
            forgotten reaches 1/26.
        """
        check_is_fitted(self, "network_")
        rows = haystacks(read_bytes(text), gap, trials, np.random.default_rng(seed))
        return reading.retrieved(self.network_, rows)

    def stream(
        self, prompt: Text = b"", *, temperature: float = 0.8, seed: int = 0
    ) -> Iterator[int]:
        """Yield bytes that go on from a prompt, without end and at constant memory.

        Parameters
        ----------
        prompt
            What stands before.
        temperature
            0 takes the likeliest byte, 1 draws as the model says.
        seed
            Of the draw.
        """
        check_is_fitted(self, "network_")
        if temperature < 0:
            raise ConfigError(f"temperature={temperature}: at least 0")
        before = np.empty(0, np.uint8) if prompt == b"" else read_bytes(prompt)
        draw = torch.Generator().manual_seed(seed)
        return reading.continuation(self.network_, before, temperature=temperature, generator=draw)

    def generate(self, prompt: Text, count: int, **options: Any) -> bytes:
        """Return the first ``count`` bytes of :meth:`stream`."""
        return bytes(islice(self.stream(prompt, **options), count))

    def _check(self) -> None:
        """Refuse what cannot be trained."""
        if self.length < 2:
            raise ConfigError(f"length={self.length}: at least 2")
        if not 0 <= self.needles <= 1:
            raise ConfigError(f"needles={self.needles}: 0 to 1")
