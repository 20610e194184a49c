"""What the classifier's settings may be, and what they come to for the data at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from titans_seq.config import VARIANTS
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.network import READERS
from titans_seq.exceptions import ConfigError

if TYPE_CHECKING:
    from titans_seq.dna.estimator import TitansDNAClassifier

STRANDS = ("none", "augment", "average")
"""Ways to treat the other strand."""

LETTERS_TO_READ = 12_000_000
"""Letters of all epochs together, at most, unless the user says how many epochs."""

STEPS_TO_TAKE = 1_500
"""Batches of all epochs together, at most, unless the user says how many epochs."""

EPOCHS = (4, 60)
"""Fewest and most epochs, unless the user says how many."""

LEAST_HELD_OUT = 20
"""Rows below which a held-out part would choose by chance."""


def check_settings(classifier: TitansDNAClassifier) -> None:
    """Refuse settings outside their range.

    Raises
    ------
    ConfigError
        Names the setting, its value, and what would be right.
    """
    choices: dict[str, Sequence[Any]] = {"variant": VARIANTS, "reverse_complement": STRANDS}
    for name, known in choices.items():
        value = getattr(classifier, name)
        if value not in known:
            raise ConfigError(f"{name}={value!r}: choose one of {', '.join(known)}")
    for name in ("dim", "layers", "batch_size", "max_epochs", "patience"):
        value = getattr(classifier, name)
        if value is None and name in {"max_epochs", "patience"}:
            continue
        if not isinstance(value, int | np.integer) or value < 1:
            raise ConfigError(f"{name}={value!r}: a whole number of at least 1 is right")
    if not classifier.learning_rate > 0:
        raise ConfigError(f"learning_rate={classifier.learning_rate!r}: above 0 is right")
    for name in ("validation_fraction", "dropout"):
        value = getattr(classifier, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value!r}: at least 0 and below 1 is right")


def held_out_share(fraction: float, rows: int) -> float:
    """Return the share of the rows to hold out; none if that would be too few to choose by."""
    return float(fraction) if rows * fraction >= LEAST_HELD_OUT else 0.0


def epochs_for(rows: Sequence[Codes], batch_size: int) -> int:
    """Return how many epochs suit the data: fewer, the more there is of it."""
    fewest, most = EPOCHS
    by_letters = LETTERS_TO_READ // sum(map(len, rows))
    by_steps = STEPS_TO_TAKE * batch_size // len(rows)
    return min(most, max(fewest, min(by_letters, by_steps)))


def describe(classifier: TitansDNAClassifier) -> str:
    """Return a short description of a fitted classifier, in Markdown."""
    losses = [epoch["validation_loss"] for epoch in classifier.history_["epochs"]]
    shown = ", ".join("none" if loss is None else f"{loss:.3f}" for loss in losses)
    weights = zip(READERS, classifier.network_.mixing.tolist(), strict=True)
    lines = [
        "# DNA classifier",
        "",
        f"Classes: {', '.join(map(str, classifier.classes_.tolist()))}.",
        f"Strands: `reverse_complement={classifier.reverse_complement}`.",
        f"Backbone: {classifier.variant}, {classifier.layers} layers of width {classifier.dim}.",
        f"Trained for {classifier.n_iter_} epochs; loss on held-out rows by epoch: {shown}.",
        f"Weights of the readers: {', '.join(f'{name} {w:.2f}' for name, w in weights)}.",
        "",
        "Letters may be any of IUPAC, in either case; U is read as T.",
    ]
    return "\n".join(lines) + "\n"
