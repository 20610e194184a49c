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
    """Rising levels, each between 0 and 1."""

    extra_outputs: int = 0
    """Further unbounded outputs a step, for a loss of your own."""

    past_reals: int = 0
    past_cardinalities: tuple[int, ...] = ()
    future_reals: int = 0
    future_cardinalities: tuple[int, ...] = ()
    cycle: int | None = None
    """Number of the future category that is the place in a cycle and advances by one a row; each
    series has a profile of it. None if there is none. The last static category is the series."""

    static_reals: int = 0
    static_cardinalities: tuple[int, ...] = ()

    series_maps: bool = False
    """Whether each series, by its last static category, has a linear map of its own."""

    patch_length: int = 12
    """Rows of one token."""

    horizon_patch: int | None = None
    """Rows of one token of the horizon; ``patch_length`` if left out."""

    normalise: Normalisation = "mean"
    """Centre of a look-back, its ``mean`` or its ``last`` value; it is also divided by its
    deviation. ``none`` does neither."""

    variant: Variant = "mac"
    dim: int = 32
    layers: int = 2
    heads: int = 4
    dropout: float = 0.3
    token_dropout: float = 0.5
    """Share of the history's tokens that a training window drops."""

    def __post_init__(self) -> None:
        """Refuse settings out of range.

        Raises
        ------
        ConfigError
            If a length is below 1, the quantiles are not rising between 0 and 1, or ``cycle`` or
            ``series_maps`` has no category.
        """
        for name in ("context_length", "horizon", "patch_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.horizon_patch is not None and self.horizon_patch < 1:
            raise ConfigError(f"horizon_patch must be at least 1, got {self.horizon_patch}")
        if self.cycle is not None and not (
            0 <= self.cycle < len(self.future_cardinalities) and self.static_cardinalities
        ):
            raise ConfigError(
                "cycle must be the number of a future category, of which there are "
                f"{len(self.future_cardinalities)}, and needs a static category for the series, "
                f"got {self.cycle}"
            )
        if self.series_maps and not self.static_cardinalities:
            raise ConfigError("series_maps=True needs a static category for the series")
        bounds = (0.0, *self.quantiles, 1.0)
        if any(low >= high for low, high in pairwise(bounds)):
            raise ConfigError(
                "quantiles must be rising levels between 0 and 1, like (0.1, 0.9), "
                f"got {self.quantiles}"
            )
        if self.normalise not in ("mean", "last", "none"):
            raise ConfigError(f"normalise must be mean, last or none, got {self.normalise!r}")

    def backbone(self) -> TitansConfig:
        """Return the settings of the backbone."""
        return TitansConfig(
            dim=self.dim,
            layers=self.layers,
            heads=self.heads,
            variant=self.variant,
            dropout=self.dropout,
        )
