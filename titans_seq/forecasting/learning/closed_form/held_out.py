"""Stretches of time that are held out in turn, to choose by what tells in all of them.

Held-out rows after the training rows are of one season. What is chosen by them alone suits
that season; so the training rows, too, are cut into stretches, and each is scored_folds by what the
others tell.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowIndex

STRETCHES = 4
"""Stretches that the training rows of a series are cut into, at most."""

FOLDS = STRETCHES + 1
"""The stretches and, last, the validation rows."""


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
    begin, end = (
        ((row - first) * stretches // span).clamp(max=stretches - 1)
        for row in (index.cutoffs, index.cutoffs + horizon - 1)
    )
    return torch.where(begin == end, begin, -1)


def scored_folds(counts: Float[Tensor, "folds series"]) -> Bool[Tensor, "folds series"]:
    """Return which folds are scored_folds by what the others tell, by how many windows each has.

    The validation rows always are, and of the others those without which there is still most.
    """
    told = 2 * counts <= counts.sum(0)
    told[-1] = True
    return told


def standard_error(
    change: Float[Tensor, "*rest folds series"], told: Float[Tensor, "folds series"]
) -> Float[Tensor, "*rest series"]:
    """Return the standard error of a sum over the folds that are scored_folds, by how they differ.

    Parameters
    ----------
    change
        What each fold adds to the sum; nothing where it is not scored_folds.
    told
        1 where a fold is scored_folds, 0 elsewhere.
    """
    folds = told.sum(0)
    away = told * (change - change.sum(-2, keepdim=True) / folds)
    return (away.square().sum(-2) * folds / (folds - 1).clamp(min=1)).sqrt()
