"""Cross-validation over stretches of time, to choose what generalises to other seasons.

The held-out rows after the training rows lie in one season, and a choice made by them alone suits
that season. So the training rows are cut into stretches too, and each stretch is a fold that is
forecast with what the other folds give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatch, WindowBatches, WindowIndex

STRETCHES = 4
"""Stretches that the training rows of a series are cut into, at most."""

FOLDS = STRETCHES + 1
"""The stretches and, last, the validation rows."""

FoldedBatches: TypeAlias = Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]]
"""Batches with the fold of each window; fold -1 is left out."""


class Folds:
    """Training and validation windows with their folds.

    Parameters
    ----------
    batches, validation
        In an order that does not change from one pass to the next.
    """

    def __init__(self, batches: WindowBatches, validation: WindowBatches) -> None:
        self.batches, self.validation = batches, validation
        self.stretches = stretch_of(batches.drawn(), batches.lengths["horizon"])

    def __iter__(self) -> Iterator[tuple[WindowBatch, Int[Tensor, " batch"]]]:
        yield from zip(self.batches, self.stretches.split(self.batches.batch_size), strict=True)
        for batch in self.validation:
            yield batch, torch.full((len(batch.target),), STRETCHES)


def stretch_of(index: WindowIndex, horizon: int) -> Int[Tensor, " windows"]:
    """Return the stretch of its series that each training window lies in; -1 if in two.

    A stretch has at least two horizons, so that most windows lie in one.
    """
    if not len(index.series):
        return index.series
    count = int(index.series.max()) + 1
    first = torch.full((count,), torch.iinfo(torch.long).max)
    first = first.scatter_reduce(0, index.series, index.cutoffs, "amin")[index.series]
    last = torch.full((count,), -1)
    last = last.scatter_reduce(0, index.series, index.cutoffs, "amax")[index.series]
    span = last - first + 1
    stretches = (span // (2 * horizon)).clamp(1, STRETCHES)
    # The last target rows of the last windows lie beyond the span; they count to its last stretch.
    begin, end = (
        ((row - first) * stretches // span).clamp(max=stretches - 1)
        for row in (index.cutoffs, index.cutoffs + horizon - 1)
    )
    return torch.where(begin == end, begin, -1)


def scored_folds(counts: Float[Tensor, "folds series"]) -> Bool[Tensor, "folds series"]:
    """Return which folds are scored with what the other folds give.

    A fold with more than half of a series' windows is not: the others are too few to solve from.
    The validation rows always are.

    Parameters
    ----------
    counts
        Windows of each fold.
    """
    scored = 2 * counts <= counts.sum(0)
    scored[-1] = True
    return scored


def standard_error(
    change: Float[Tensor, "*rest folds series"], scored: Float[Tensor, "folds series"]
) -> Float[Tensor, "*rest series"]:
    """Return the standard error of a sum over the scored folds, from how much they differ.

    Parameters
    ----------
    change
        Summand of each fold; 0 where it is not scored.
    scored
        1 where a fold is scored, 0 elsewhere.
    """
    folds = scored.sum(0)
    deviation = scored * (change - change.sum(-2, keepdim=True) / folds)
    # n times the sample variance of a fold: the variance of a sum over n independent folds
    return (deviation.square().sum(-2) * folds / (folds - 1).clamp(min=1)).sqrt()
