"""Settings of a forecaster as one typed record."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.tables.frames import ColumnRoles


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastSettings:
    """Parameters of :class:`titans_seq.forecasting.TitansForecaster`, which documents them."""

    horizon: int
    context_length: int | None
    variant: Variant
    quantiles: Sequence[float]
    id_col: str
    time_col: str | None
    target_col: str | Sequence[str]
    static: Sequence[str]
    past: Sequence[str]
    future: Sequence[str]
    freq: str | int | None
    normalise: Normalisation
    adapt: bool
    dim: int
    layers: int
    max_epochs: int
    learning_rate: float
    batch_size: int
    device: str
    random_state: int | None
    """Seed; None also where the forecaster has a generator instead."""

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ForecastSettings:
        """Return the settings of a forecaster, given what its ``get_params`` returns."""
        seed = params["random_state"]
        return cls(
            **{**params, "random_state": seed if isinstance(seed, numbers.Integral) else None}
        )

    def columns(self) -> ColumnRoles:
        """Return the roles of the columns.

        Raises
        ------
        ConfigError
            If a column has two roles, or there is no target.
        """
        columns = ColumnRoles(
            id=self.id_col,
            time=self.time_col,
            target=_as_tuple(self.target_col),
            static=_as_tuple(self.static),
            past=_as_tuple(self.past),
            future=_as_tuple(self.future),
        )
        if not columns.target:
            raise ConfigError("target_col names no column")
        roles: dict[str, str] = {}
        named = {
            "id_col": (columns.id,),
            "time_col": () if columns.time is None else (columns.time,),
            "target_col": columns.target,
            "static": columns.static,
            "past": columns.past,
            "future": columns.future,
        }
        for role, names in named.items():
            for name in names:
                if name in roles:
                    raise ConfigError(f"column {name!r} is named in {roles[name]} and in {role}")
                roles[name] = role
        return columns


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
