"""Tests whether labels depend on the strand, and whether a model can distinguish the strands.

A label such as "gene on this strand" is inverted by the reverse complement. A model whose answer is
the same for both strands cannot learn it, however good it is otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import reverse_complement_text
from titans_seq.evaluation.scores.intervals import wilson_interval

SAME_PROBABILITY = 1e-4
"""Mean difference of probabilities below which two strands have the same answer."""

STRAND_EFFECT = 0.25
"""Share of its gain over the majority class that a predictor must lose on the other strand before
the labels are said to depend on the strand."""

PredictProba = Callable[[Any], npt.NDArray[Any]]
"""Returns class probabilities, (sequences, classes): a classifier's or a control's."""


@dataclass(frozen=True, slots=True)
class StrandScores:
    """Accuracy of one predictor on sequences as given and on their reverse complements."""

    name: str
    given: float
    """Accuracy on the sequences as given."""
    other: float
    """Accuracy, against the same labels, on the reverse complement of every sequence."""
    agreement: float
    """Share of the sequences whose two strands get the same label."""
    gap: float
    """Mean absolute difference between the probabilities of the two strands."""
    majority: float
    """Share of the most frequent label."""
    records: int

    @property
    def symmetric(self) -> bool:
        """Whether both strands get the same answer."""
        return self.gap < SAME_PROBABILITY

    @property
    def strand_specific(self) -> bool:
        """Whether it is significantly worse on the other strand."""
        lost = self.given - self.other
        return self._interval(self.given)[0] > self._interval(self.other)[1] and (
            lost > STRAND_EFFECT * max(self.given - self.majority, 0.0)
        )

    @property
    def informative(self) -> bool:
        """Whether it is significantly better than the majority class."""
        return self._interval(self.given)[0] > self.majority

    def _interval(self, accuracy: float) -> tuple[float, float]:
        return wilson_interval(round(accuracy * self.records), self.records)


def score_strands(
    name: str, predictor: PredictProba, sequences: Sequence[str], actual: npt.NDArray[np.int64]
) -> StrandScores:
    """Score a predictor on both strands.

    Parameters
    ----------
    name
        Name of the predictor.
    predictor
        Returns class probabilities.
    sequences
        Sequences as given.
    actual
        Class index of each sequence.
    """
    given = predictor(sequences)
    other = predictor([reverse_complement_text(text) for text in sequences])
    given_label, other_label = given.argmax(axis=1), other.argmax(axis=1)
    return StrandScores(
        name=name,
        given=float((given_label == actual).mean()),
        other=float((other_label == actual).mean()),
        agreement=float((given_label == other_label).mean()),
        gap=float(np.abs(given - other).mean()),
        majority=float(np.bincount(actual).max() / len(actual)),
        records=len(actual),
    )


def strand_verdict(model: StrandScores, controls: Sequence[StrandScores]) -> str | None:
    """Return a sentence on whether labels depend on the strand; None if that is unknown.

    Parameters
    ----------
    model
        The model that is scored.
    controls
        Simple predictors whose features distinguish the strands; may be empty.
    """
    # Only predictors that beat the majority class and see the strand are evidence.
    candidates = [s for s in (*controls, model) if s.informative and not s.symmetric]
    if not candidates:
        return None
    best = max(candidates, key=lambda scores: scores.given)
    evidence = (
        f"{best.name}: accuracy {best.given:.3f} as given, {best.other:.3f} on the other strand"
    )
    if not best.strand_specific:
        if model.symmetric:
            return f"the labels do not depend on the strand ({evidence})"
        return (
            f"the labels do not depend on the strand ({evidence}): "
            "reverse_complement=average or equivariant would use both"
        )
    if model.symmetric:
        return (
            f"the labels depend on the strand ({evidence}), but the model gives both strands the "
            f"same answer (accuracy {model.given:.3f}, majority class {model.majority:.3f}): "
            "averaging over strands cannot distinguish them; train with reverse_complement=none"
        )
    return f"the labels depend on the strand ({evidence}): give sequences as they were in training"
