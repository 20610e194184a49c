"""Covariates: embeddings of categories, and additive effects of covariates known ahead."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

EFFECT_DIM = 16
"""Hidden width of the effect of one known covariate."""


class CategoryEmbeddings(nn.Module):
    """Embed each of several columns of category codes."""

    def __init__(self, cardinalities: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.dim = dim
        tables = [nn.Embedding(count, dim) for count in cardinalities]
        for table in tables:
            nn.init.normal_(table.weight, std=0.1)
        self.tables = nn.ModuleList(tables)

    def forward(self, codes: Int[Tensor, "*rest columns"]) -> list[Float[Tensor, "*rest dim"]]:
        """Return the vectors, one tensor a column."""
        return [table(codes[..., column]) for column, table in enumerate(self.tables)]

    def vectors(self) -> list[Float[Tensor, "categories dim"]]:
        """Return the vectors of all categories, one tensor a column.

        With ``index_select`` on these, training on many rows is several times as fast as through
        the layers, whose gradient is a loop over the rows.
        """
        return [
            table(torch.arange(len(table.weight), device=table.weight.device))
            for table in self.tables
            if isinstance(table, nn.Embedding)
        ]

    @torch.no_grad()
    def settle_unknown(self) -> None:
        """Set the vector of code 0, which is not trained, to the mean of the known categories."""
        for table in self.tables:
            weight = table.weight
            assert isinstance(weight, Tensor)
            if len(weight) > 1:
                weight[0] = weight[1:].mean(dim=0)


class CovariateEffect(nn.Module):
    """Additive effect of the covariates known ahead: one number a row.

    Each covariate has an effect by itself that depends on the series, and the effects add up;
    interactions are left to the backbone.
    """

    def __init__(self, reals: int, cardinalities: tuple[int, ...], static: int) -> None:
        super().__init__()
        self.codes = CategoryEmbeddings(cardinalities, EFFECT_DIM)
        self.reals = nn.ModuleList(nn.Linear(1, EFFECT_DIM) for _ in range(reals))
        count = reals + len(cardinalities)
        self.static = nn.ModuleList(nn.Linear(static, EFFECT_DIM) for _ in range(count))
        readouts = [nn.Linear(EFFECT_DIM, 1) for _ in range(count)]
        for readout in readouts:
            nn.init.zeros_(readout.weight)
            nn.init.zeros_(readout.bias)
        self.readouts = nn.ModuleList(readouts)

    def forward(
        self,
        reals: Float[Tensor, "batch rows reals"],
        codes: Int[Tensor, "batch rows codes"],
        static: Float[Tensor, "batch static"],
    ) -> Float[Tensor, "batch rows"]:
        """Return the summed effect of every row."""
        effect = static.new_zeros(static.shape[0], max(reals.shape[1], codes.shape[1]))
        of_static, readouts = list(self.static), list(self.readouts)
        for column, layer in enumerate(self.reals):
            hidden = layer(reals[..., [column]]) + of_static[column](static)[:, None]
            effect = effect + readouts[column](functional.silu(hidden)).squeeze(-1)
        for column, vectors in enumerate(self.codes.vectors()):
            number = len(self.reals) + column
            by_series = of_static[number](static)[:, None]
            own = codes[..., column]
            if len(vectors) <= own.shape[1]:
                # Fewer categories than rows: compute the effect of each category once, then
                # look it up. batch, categories -> batch, rows
                by_category = readouts[number](functional.silu(vectors + by_series)).squeeze(-1)
                effect = effect + by_category.gather(1, own)
                continue
            hidden = vectors.index_select(0, own.flatten()).view(*own.shape, vectors.shape[1])
            hidden = hidden + by_series
            effect = effect + readouts[number](functional.silu(hidden)).squeeze(-1)
        return effect


class CycleEffect(nn.Module):
    """Effect of the place in a cycle: a profile of each series, solved in closed form.

    A profile is in units of the series, or in deviations of the look-back (solar power at noon
    varies more in a week of clear days), or a sum of both. Which of them, or none, is chosen by
    :func:`~titans_seq.forecasting.learning.closed_form.profiles.solve_profiles`; a
    profile that was not chosen is not trained.

    Parameters
    ----------
    series, slots
        Their numbers, each with the unknown one, which has code 0.
    """

    used: Tensor

    def __init__(self, series: int, slots: int) -> None:
        super().__init__()
        self.fixed = nn.Parameter(torch.zeros(series, slots))
        self.scaled = nn.Parameter(torch.zeros(series, slots))
        self.register_buffer("used", torch.ones(2, series, 1))

    def forward(
        self,
        slots: Int[Tensor, "batch rows"],
        series: Int[Tensor, " batch"],
        deviation: Float[Tensor, "batch 1"],
    ) -> Float[Tensor, "batch rows"]:
        """Return the effect of every row, in units of the series."""
        fixed, scaled = (
            functional.embedding(series, table * used).gather(1, slots)
            for table, used in zip((self.fixed, self.scaled), self.used, strict=True)
        )
        return fixed + scaled * deviation

    @torch.no_grad()
    def clear(self) -> None:
        """Remove the profiles of all series."""
        for values in (self.fixed, self.scaled, self.used):
            values.zero_()

    @torch.no_grad()
    def put(
        self,
        series: Int[Tensor, " some"],
        units: list[int],
        profiles: Float[Tensor, "some units slots"],
    ) -> None:
        """Set the profiles of some series.

        Parameters
        ----------
        series
            CategoryEmbeddings.
        units
            Units of the profiles: 0 for those of the series, 1 for deviations of the look-back.
        profiles
            Without the unknown slot.
        """
        for number, unit in enumerate(units):
            table = (self.fixed, self.scaled)[unit]
            table[series, 1:] = profiles[:, number].to(table)
            self.used[unit, series] = 1.0

    @torch.no_grad()
    def settle_unknown(self) -> None:
        """Set the profile of the unknown series to the mean of the known ones."""
        for table, used in zip((self.fixed, self.scaled), self.used, strict=True):
            if len(table) > 1:
                table[0] = (table * used)[1:].mean(dim=0)
                used[0] = 1.0
