"""Linear maps of the look-back, one for each series."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SeriesMaps(nn.Module):
    """A linear map of the look-back for each series, solved for and not learnt after.

    It is what a series has beside the map of all; none is zero, and so is that of a series
    which was never met.

    Parameters
    ----------
    series
        How many there are, with the unknown one, which has code 0.
    context, horizon
        Rows of the look-back and of the forecast.
    """

    weight: Tensor

    def __init__(self, series: int, context: int, horizon: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(series, horizon, context))

    def forward(
        self, values: Float[Tensor, "batch context"], series: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch horizon"]:
        """Return what each window's own map makes of its values."""
        rows, told = [series[:0]], [values.new_zeros(0, self.weight.shape[1])]
        for code, own in group_by_code(series):
            rows.append(own)
            told.append(values[own] @ self.weight[code].T)
        return torch.cat(told)[torch.cat(rows).argsort()]


def group_by_code(codes: Int[Tensor, " batch"]) -> Iterator[tuple[int, Int[Tensor, " some"]]]:
    """Yield every code there is, and the places where it stands."""
    order = codes.argsort(stable=True)
    found, counts = codes[order].unique_consecutive(return_counts=True)
    yield from zip(found.tolist(), order.split(counts.tolist()), strict=True)
