"""The forecasting network: tensors of one batch of windows in, a forecast of every step out.

It knows no frames, times or units. A window holds the target on its series' own scale
(mean 0 and deviation 1 over the training rows), a mask of what was seen, covariates and
codes; see :class:`Windows`. The forecast of one step is a sum of three parts:

* what the covariates known ahead explain by themselves (:class:`CovariateEffect`), which
  is also taken off the history, so that the rest of the network reads and forecasts what
  is left;
* a linear map of the normalised history, so that a linear model lies inside;
* what a :class:`titans_seq.TitansBackbone` reads off the history, cut into patches, and
  off the covariates of the horizon.

Quantiles stand around the point forecast and cannot cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from titans_seq.backbone import TitansBackbone
from titans_seq.config import TitansConfig, Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.covariates import Codes, CovariateEffect
from titans_seq.forecasting.heads import Normalisation, QuantileHead, scale_of

CODE_DIM = 8
"""Width of the vector that stands for one category."""

STEP_DIM = 16
"""Width of the features of one step of the horizon."""

TOKEN_DROPOUT = 0.5
"""Share of the history's tokens that a training window goes without."""

BRANCH_DROPOUT = 0.5
"""Share of the training windows whose expected value the backbone has no say in, so that the
linear part and the effects are right by themselves, and the backbone adds what they lack."""

LEAST_SPREAD = 0.1
"""Deviation that a flat look-back is taken to have where the backbone reads the effects."""

BACKBONE_RATE = 1 / 3
"""Learning rate of the backbone and what surrounds it, over that of the linear part."""

EFFECT_RATE = 3.0
"""Learning rate of the covariates' effects, over that of the linear part."""


class Windows(NamedTuple):
    """A batch of windows; a column count may be 0, and code 0 is the unknown category."""

    history: Float[Tensor, "batch context"]
    """Target of the look-back, 0 where it is missing."""

    seen: Bool[Tensor, "batch context"]
    """False where the target is missing, or where the series had not yet begun."""

    past: Float[Tensor, "batch context past"]
    """Real covariates known up to now."""

    past_codes: Int[Tensor, "batch context past_codes"]
    """Categorical covariates known up to now."""

    future: Float[Tensor, "batch rows future"]
    """Real covariates known ahead, over the look-back and then the horizon."""

    future_codes: Int[Tensor, "batch rows future_codes"]
    """Categorical covariates known ahead, over the look-back and then the horizon."""

    static: Float[Tensor, "batch static"]
    """Real covariates of the series."""

    static_codes: Int[Tensor, "batch static_codes"]
    """Categorical covariates of the series, its own code among them."""


class Forecast(NamedTuple):
    """A forecast on the scale of the history."""

    point: Float[Tensor, "batch horizon"]
    """Expected value."""

    quantiles: Float[Tensor, "batch horizon quantiles"]
    """In rising order of the level."""

    extra: Float[Tensor, "batch horizon extra"]
    """Further outputs, unbounded, on the scale of the look-back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Settings of a :class:`ForecastNetwork`; cardinalities count the unknown category."""

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
    static_reals: int = 0
    static_cardinalities: tuple[int, ...] = ()

    patch_length: int = 12
    """Rows of one token."""

    normalise: Normalisation = "mean"
    """What a look-back is centred on: its ``mean`` or its ``last`` value, and divided by its
    deviation; ``none`` leaves it as it is."""

    variant: Variant = "mac"
    dim: int = 32
    layers: int = 2
    heads: int = 4
    dropout: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises
        ------
        ConfigError
            If a length is below 1 or the quantiles are not rising between 0 and 1.
        """
        for name in ("context_length", "horizon", "patch_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1")
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


class ForecastNetwork(nn.Module):
    """Forecast every step of the horizon of each window.

    The look-back and the horizon are cut into patches, one token each; the tokens of the
    horizon carry the covariates known ahead and no values. The backbone is causal, so those
    tokens read the whole look-back, and what it returns at their places is the forecast.

    Shapes
    ------
    windows  see :class:`Windows`
    returns  :class:`Forecast`, on the scale of ``windows.history``
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_length
        self.past_tokens = -(-config.context_length // patch)
        self.future_tokens = -(-config.horizon // patch)

        self.static_codes = Codes(config.static_cardinalities, CODE_DIM)
        static = config.static_reals + CODE_DIM * len(config.static_cardinalities)
        self.effect = CovariateEffect(config.future_reals, config.future_cardinalities, static)
        self.past_codes = Codes(config.past_cardinalities, CODE_DIM)
        self.future_codes = Codes(config.future_cardinalities, CODE_DIM)
        known = config.future_reals + CODE_DIM * len(config.future_cardinalities)
        past = config.past_reals + CODE_DIM * len(config.past_cardinalities)

        self.linear = nn.Linear(config.context_length, config.horizon)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():  # begin with the last value, as a random walk would have it
            self.linear.weight[:, -1] = 1.0
        self.read_past = nn.Linear(patch * (3 + known + past), config.dim)
        self.read_future = nn.Linear(patch * (1 + known), config.dim)
        self.read_static = nn.Linear(static, config.dim) if static else None
        self.place = nn.Parameter(
            torch.randn(self.past_tokens + self.future_tokens, config.dim) * 0.1
        )
        self.backbone = TitansBackbone(config.backbone())

        self.unpatch = nn.Linear(config.dim, patch * STEP_DIM)
        self.point = nn.Linear(STEP_DIM, 1)
        nn.init.zeros_(self.point.weight)
        self.quantiles = QuantileHead(STEP_DIM, config.quantiles) if config.quantiles else None
        self.extra = nn.Linear(STEP_DIM, config.extra_outputs) if config.extra_outputs else None
        self.share: Tensor
        self.register_buffer("share", torch.ones(()))
        self._set_rates()

    def forward(self, windows: Windows) -> Forecast:
        """Return the forecast of a batch of windows."""
        context = self.config.context_length
        static = torch.cat([windows.static, *self.static_codes(windows.static_codes)], dim=-1)
        effect = self.effect(windows.future, windows.future_codes, static)
        rest = torch.where(windows.seen, windows.history - effect[:, :context], 0.0)
        scale = scale_of(rest, windows.seen, self.config.normalise)
        values = torch.where(windows.seen, (rest - scale.centre) / scale.spread, 0.0)

        relative = effect / scale.spread.clamp(min=LEAST_SPREAD)
        features = self._features(windows, values, relative, static)
        branch = self.share * self.point(features).squeeze(-1)
        if self.training:
            branch = branch * (torch.rand_like(branch[:, :1]) >= BRANCH_DROPOUT)
        residual = self.linear(values) + branch
        point = residual * scale.spread + scale.centre + effect[:, context:]
        quantiles = point.new_zeros(*point.shape, 0)
        if self.quantiles is not None:
            away = self.quantiles(features, torch.zeros_like(point))
            quantiles = point[..., None] + away * scale.spread[..., None]
        extra = features[..., :0] if self.extra is None else self.extra(features)
        return Forecast(point, quantiles, extra)

    def _features(
        self,
        windows: Windows,
        values: Float[Tensor, "batch context"],
        effect: Float[Tensor, "batch rows"],
        static: Float[Tensor, "batch static"],
    ) -> Float[Tensor, "batch horizon step"]:
        """Return what the backbone has to say of every step."""
        context, horizon = self.config.context_length, self.config.horizon
        known = torch.cat(
            [effect[..., None], windows.future, *self.future_codes(windows.future_codes)], dim=-1
        )
        read = torch.cat(
            [
                values[..., None],
                windows.seen[..., None].to(values.dtype),
                windows.past,
                *self.past_codes(windows.past_codes),
                known[:, :context],
            ],
            dim=-1,
        )
        past = self._patches(read, self.past_tokens, at_end=True)
        real = self._patches(windows.seen[..., None], self.past_tokens, at_end=True).any(-1)
        if self.training:
            real = real & (torch.rand_like(past[..., 0]) >= TOKEN_DROPOUT)
        future = self._patches(known[:, context:], self.future_tokens, at_end=False)
        tokens = torch.cat([self.read_past(past), self.read_future(future)], dim=1)
        tokens = tokens + self.place
        if self.read_static is not None:
            tokens = tokens + self.read_static(static)[:, None]
        ones = torch.ones_like(real[:, :1]).expand(-1, self.future_tokens)
        mask = torch.cat([real, ones], dim=1)
        read_off, _ = self.backbone(tokens, mask=mask, keep_state=False)
        steps = self.unpatch(read_off[:, self.past_tokens :])
        steps = rearrange(
            steps, "batch token (row step) -> batch (token row) step", row=self.config.patch_length
        )
        return functional.silu(steps[:, :horizon])

    def _patches(
        self, rows: Float[Tensor, "batch rows column"], tokens: int, *, at_end: bool
    ) -> Float[Tensor, "batch token features"]:
        """Cut rows into patches; zeros fill up the first patch, or the last one."""
        missing = tokens * self.config.patch_length - rows.shape[1]
        pad = (0, 0, missing, 0) if at_end else (0, 0, 0, missing)
        return rearrange(
            functional.pad(rows, pad),
            "batch (token row) column -> batch token (row column)",
            token=tokens,
        )

    def _set_rates(self) -> None:
        """Mark how fast each part learns, and what is not to decay."""
        for name, parameter in self.named_parameters():
            part = name.partition(".")[0]
            rate = {"linear": 1.0, "effect": EFFECT_RATE}.get(part, BACKBONE_RATE)
            parameter.lr_scale = rate  # type: ignore[attr-defined]
            parameter.no_weight_decay = part in ("linear", "effect")  # type: ignore[attr-defined]

    def settle_unknown(self) -> None:
        """Let every unknown category stand for the mean of the known ones."""
        for module in self.modules():
            if isinstance(module, Codes):
                module.settle_unknown()
