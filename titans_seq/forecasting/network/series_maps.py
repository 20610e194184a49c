"""Linear maps of the look-back, one for each series."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SeriesMaps(nn.Module):
    """A linear map of the look-back for each series, solved in closed form and not trained after.

    It is added to the map that all series share, and zero for the unknown series.

    Parameters
    ----------
    series
        Their number, with the unknown one, which has code 0.
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
        """Apply to each window the map of its series."""
        windows, outputs = [series[:0]], [values.new_zeros(0, self.weight.shape[1])]
        for code, own in group_by_code(series):
            windows.append(own)
            outputs.append(values[own] @ self.weight[code].T)
        # argsort of a permutation is its inverse: back to the order of the batch
        return torch.cat(outputs)[torch.cat(windows).argsort()]


def group_by_code(codes: Int[Tensor, " batch"]) -> Iterator[tuple[int, Int[Tensor, " some"]]]:
    """Yield each distinct code and its positions."""
    order = codes.argsort(stable=True)
    distinct, counts = codes[order].unique_consecutive(return_counts=True)
    yield from zip(distinct.tolist(), order.split(counts.tolist()), strict=True)
