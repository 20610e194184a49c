"""Whether labels depend on the strand that is read, and whether a model can tell.

A label such as "gene, or the other strand of one" turns into its opposite with the strand; a
model that gives both strands one answer cannot learn it, however good it is otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_seq.evaluation.dna.classification import wilson_interval
from titans_seq.evaluation.dna.words import other_strand

SAME = 1e-4
"""Probabilities that differ by less are taken as the same answer."""

LEAST_SHARE = 0.25
"""Share of what a reader gains over the commonest label that it must lose on the other strand."""


Reader = Callable[[Any], npt.NDArray[Any]]
"""What answers for sequences with (sequences, classes): a classifier or a control."""


@dataclass(frozen=True, slots=True)
class StrandScores:
    """How one reader does on sequences as given and on their other strand."""

    name: str
    given: float
    """Accuracy as given."""
    other: float
    """Accuracy, against the same labels, on the other strand of every sequence."""
    agreement: float
    """Share of the sequences whose two strands get the same label."""
    gap: float
    """Mean difference between the probabilities of the two strands."""
    majority: float
    """Share of the commonest label."""
    records: int

    @property
    def symmetric(self) -> bool:
        """Whether both strands get one answer."""
        return self.gap < SAME

    @property
    def depends(self) -> bool:
        """Whether the labels are told from the strand as given, and not from the other."""
        low, _ = wilson_interval(round(self.given * self.records), self.records)
        _, high = wilson_interval(round(self.other * self.records), self.records)
        lost = self.given - self.other
        return low > high and lost > LEAST_SHARE * max(self.given - self.majority, 0.0)

    @property
    def knows(self) -> bool:
        """Whether the reader tells the labels better than the commonest one does."""
        low, _ = wilson_interval(round(self.given * self.records), self.records)
        return low > self.majority


def score_strands(
    name: str, reader: Reader, sequences: Sequence[str], actual: npt.NDArray[np.int64]
) -> StrandScores:
    """Ask a reader about both strands.

    Parameters
    ----------
    name
        What the reader is called.
    reader
        Answers for sequences.
    sequences
        Sequences as given.
    actual
        Column of each one's class in the reader's answers.
    """
    given, other = reader(sequences), reader([other_strand(text) for text in sequences])
    called, turned = given.argmax(axis=1), other.argmax(axis=1)
    return StrandScores(
        name=name,
        given=float((called == actual).mean()),
        other=float((turned == actual).mean()),
        agreement=float((called == turned).mean()),
        gap=float(np.abs(given - other).mean()),
        majority=float(np.bincount(actual).max() / len(actual)),
        records=len(actual),
    )


def strand_verdict(model: StrandScores, controls: Sequence[StrandScores]) -> str | None:
    """Return in words what was found; None if nothing can be said.

    Parameters
    ----------
    model
        The model that is scored.
    controls
        Simple readers that can tell the strands apart; may be empty.
    """
    readers = [one for one in (*controls, model) if one.knows and not one.symmetric]
    if not readers:
        return None
    best = max(readers, key=lambda one: one.given)
    seen = f"{best.name}: accuracy {best.given:.3f} as given, {best.other:.3f} on the other strand"
    if not best.depends:
        if model.symmetric:
            return f"the labels do not depend on the strand ({seen})"
        return (
            f"the labels do not depend on the strand ({seen}): "
            "reverse_complement=average or equivariant would use both"
        )
    if model.symmetric:
        return (
            f"the labels depend on the strand ({seen}), but the model gives both strands one "
            f"answer (accuracy {model.given:.3f}, commonest label {model.majority:.3f}): averaging "
            "over strands cannot tell them; train with reverse_complement=none"
        )
    return f"the labels depend on the strand ({seen}): give sequences as they were in training"
