"""What the estimators' settings may be, and what they come to for the data at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from titans_seq.config import VARIANTS
from titans_seq.dna.alphabet import Codes
from titans_seq.dna.learning.network import READERS, STRANDS, DNANetworkConfig, Strands
from titans_seq.dna.learning.tasks import Task
from titans_seq.dna.learning.tokens import word_length
from titans_seq.exceptions import ConfigError
from titans_seq.training import TrainSettings, world

if TYPE_CHECKING:
    from titans_seq.dna.base import TitansDNAEstimator

LETTERS_TO_READ = 12_000_000
"""Letters of all epochs together, at most, unless the user says how many epochs."""

STEPS_TO_TAKE = 1_500
"""Batches of all epochs together, at most, unless the user says how many epochs."""

MAX_PLACES = 1024
"""Bases from either end whose place is told apart, at most."""

EPOCHS = (4, 60)
"""Fewest and most epochs, unless the user says how many."""

LEAST_HELD_OUT = 20
"""Rows below which a held-out part would choose by chance."""


_COUNTS = ("dim", "layers", "batch_size", "max_epochs", "n_iter_no_change", "min_length")
_SHARES = ("validation_fraction", "dropout")


def check_settings(estimator: TitansDNAEstimator) -> None:
    """Refuse settings outside their range.

    Raises
    ------
    ConfigError
        Names the setting, its value, and what would be right.
    """
    choices: dict[str, Sequence[Any]] = {
        "variant": VARIANTS,
        "reverse_complement": ("auto", *STRANDS),
    }
    for name, known in choices.items():
        value = getattr(estimator, name)
        if value not in known:
            raise ConfigError(f"{name}={value!r}: choose one of {', '.join(known)}")
    word_length(estimator.tokens)
    for name in _COUNTS:
        value = getattr(estimator, name)
        if value is None and name == "max_epochs":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ConfigError(f"{name}={value!r}: a whole number of at least 1 is right")
    if not estimator.learning_rate > 0:
        raise ConfigError(f"learning_rate={estimator.learning_rate!r}: above 0 is right")
    for name in ("tol", "weight_decay"):
        if not getattr(estimator, name) >= 0:
            raise ConfigError(f"{name}={getattr(estimator, name)!r}: at least 0 is right")
    for name in _SHARES:
        value = getattr(estimator, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value!r}: at least 0 and below 1 is right")
    threshold = getattr(estimator, "threshold", None)
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"threshold={threshold!r}: None, or a probability from 0 to 1, is right")


def held_out_share(fraction: float, rows: int) -> float:
    """Return the share of the rows to hold out; none if that would be too few to choose by."""
    return float(fraction) if rows * fraction >= LEAST_HELD_OUT else 0.0


def epochs_for(rows: Sequence[Codes], batch_size: int) -> int:
    """Return how many epochs suit the data: fewer, the more there is of it."""
    fewest, most = EPOCHS
    by_letters = LETTERS_TO_READ // sum(map(len, rows))
    by_steps = STEPS_TO_TAKE * batch_size // len(rows)
    return min(most, max(fewest, min(by_letters, by_steps)))


def strand_ways(estimator: TitansDNAEstimator, held_out: bool) -> tuple[Strands, ...]:
    """Return the ways to treat strands among which held-out rows, if there are any, choose."""
    if estimator.reverse_complement == "auto":
        return ("average", "none") if held_out else ("none",)
    return (cast("Strands", estimator.reverse_complement),)


def network_config(
    estimator: TitansDNAEstimator,
    rows: Sequence[Codes],
    task: Task,
    outputs: int,
    strands: Strands,
) -> DNANetworkConfig:
    """Return the settings of a network for these sequences."""
    return DNANetworkConfig(
        outputs=outputs,
        places=min(MAX_PLACES, max(map(len, rows))),
        task=task,
        tokens=estimator.tokens,
        strands=strands,
        variant=estimator.variant,
        dim=estimator.dim,
        layers=estimator.layers,
        dropout=estimator.dropout,
    )


def train_settings(estimator: TitansDNAEstimator, rows: Sequence[Codes]) -> TrainSettings:
    """Return how long and how fast to train on these sequences."""
    return TrainSettings(
        max_epochs=estimator.max_epochs or epochs_for(rows, estimator.batch_size * world().size),
        learning_rate=estimator.learning_rate,
        weight_decay=estimator.weight_decay,
        patience=estimator.n_iter_no_change if estimator.early_stopping else None,
        min_improvement=estimator.tol,
        device=estimator.device,
        average_weights=True,
        progress=bool(estimator.verbose),
    )


def one_pass(settings: TrainSettings) -> TrainSettings:
    """Return the settings of one pass over some rows at a steady rate, for ``partial_fit``."""
    return dataclasses.replace(
        settings, max_epochs=1, schedule="constant", warmup_fraction=0.0, average_weights=False
    )


def describe(estimator: TitansDNAEstimator, outputs: str) -> str:
    """Return a short description of a fitted estimator, in Markdown.

    Parameters
    ----------
    estimator
        It must be fitted.
    outputs
        A sentence on what it tells.
    """
    losses = [epoch["validation_loss"] for epoch in estimator.history_["epochs"]]
    shown = ", ".join("none" if loss is None else f"{loss:.3f}" for loss in losses)
    weights = zip(READERS, estimator.network_.mixing.tolist(), strict=True)
    found = estimator.calibration_
    lines = [
        f"# DNA {type(estimator).__name__}",
        "",
        outputs,
        f"Strands: `reverse_complement={estimator.network_.config.strands}`; tokens: "
        f"`{estimator.tokens}`.",
        f"Backbone: {estimator.variant}, {estimator.layers} layers of width {estimator.dim}.",
        f"Trained for {estimator.n_iter_} epochs; loss on held-out rows by epoch: {shown}.",
        f"Weights of the readers: {', '.join(f'{name} {w:.2f}' for name, w in weights)}.",
        *(
            [f"Words that weigh most: {', '.join(estimator.motifs_[:10])}."]
            if estimator.motifs_
            else []
        ),
        *(["Calibration: " + calibration_text(found) + "."] if found else []),
        "",
        "Letters may be any of IUPAC, in either case; U is read as T.",
    ]
    return "\n".join(lines) + "\n"


def calibration_text(found: Mapping[str, float]) -> str:
    """Return in words how good the answers are on held-out rows."""
    error = f", expected calibration error {found['ece']:.3f}" if "ece" in found else ""
    return (
        f"loss {found['loss']:.4f}{error} on {found['rows']:.0f} held-out rows, "
        f"temperature {found['temperature']:.2f}"
    )
