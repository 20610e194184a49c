"""Settings of the forecasting network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from titans_seq.config import TitansConfig, Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.network.heads import Normalisation


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Settings of a :class:`titans_seq.forecasting.ForecastNetwork`.

    Cardinalities count the unknown category.
    """

    context_length: int
    """Rows of the look-back."""

    horizon: int
    """Rows to forecast."""

    quantiles: tuple[float, ...] = ()
    """Levels, rising, each between 0 and 1."""

    extra_outputs: int = 0
    """Unbounded outputs a step, for whoever brings a loss of their own."""

    past_reals: int = 0
    past_cardinalities: tuple[int, ...] = ()
    future_reals: int = 0
    future_cardinalities: tuple[int, ...] = ()
    cycle: int | None = None
    """Which of the future categories is the place in a cycle, one row after the other, so that
    each series has a profile of it; None if none is. Series are told by their last category."""

    static_reals: int = 0
    static_cardinalities: tuple[int, ...] = ()

    series_maps: bool = False
    """Whether each series, told by its last category, has a linear map of its own."""

    patch_length: int = 12
    """Rows of one token."""

    horizon_patch: int | None = None
    """Rows of one token of the horizon; ``patch_length`` if left out."""

    normalise: Normalisation = "mean"
    """What a look-back is centred on: its ``mean`` or its ``last`` value, and divided by its
    deviation; ``none`` leaves it as it is."""

    variant: Variant = "mac"
    dim: int = 32
    layers: int = 2
    heads: int = 4
    dropout: float = 0.3
    token_dropout: float = 0.5
    """Share of the history's tokens that a training window goes without."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises
        ------
        ConfigError
            If a length is below 1, the quantiles are not rising between 0 and 1, or there is no
            such category.
        """
        for name in ("context_length", "horizon", "patch_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.horizon_patch is not None and self.horizon_patch < 1:
            raise ConfigError(f"horizon_patch={self.horizon_patch}: must be at least 1")
        if self.cycle is not None and not (
            0 <= self.cycle < len(self.future_cardinalities) and self.static_cardinalities
        ):
            raise ConfigError(
                f"cycle={self.cycle}: one of the {len(self.future_cardinalities)} future "
                "categories, where series have a category of their own"
            )
        if self.series_maps and not self.static_cardinalities:
            raise ConfigError("series_maps=True: series need a category of their own")
        bounds = (0.0, *self.quantiles, 1.0)
        if any(low >= high for low, high in pairwise(bounds)):
            raise ConfigError(
                f"quantiles={self.quantiles}: give rising levels between 0 and 1, like (0.1, 0.9)"
            )
        if self.normalise not in ("mean", "last", "none"):
            raise ConfigError(f"normalise={self.normalise!r}: choose one of mean, last, none")

    def backbone(self) -> TitansConfig:
        """Return the settings of the backbone."""
        return TitansConfig(
            dim=self.dim,
            layers=self.layers,
            heads=self.heads,
            variant=self.variant,
            dropout=self.dropout,
        )
