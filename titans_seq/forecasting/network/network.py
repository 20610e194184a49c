"""The forecasting network: a batch of windows in, a forecast of every step out.

It knows no frames, times or units. A window holds the target on its series' own scale (mean 0 and
deviation 1 over the training rows), a mask of known values, covariates and codes; see
:class:`Windows`. The forecast of one step is a sum of three parts:

* the effects of the covariates known ahead (:class:`CovariateEffect`, and :class:`CycleEffect` for
  the hour of the day), which are also taken off the history, so that the rest of the network reads
  and forecasts what is left;
* a linear map of the normalised history, so that a linear model lies inside, and another of
  each series;
* the contribution of a :class:`titans_seq.TitansBackbone`, which reads the history, cut into
  patches, and the covariates of the horizon.

Quantiles lie around the point forecast and cannot cross.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from titans_seq.backbone import TitansBackbone
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.covariates import (
    CategoryEmbeddings,
    CovariateEffect,
    CycleEffect,
)
from titans_seq.forecasting.network.heads import QuantileHead, latest_of, window_scale
from titans_seq.forecasting.network.series_maps import SeriesMaps
from titans_seq.forecasting.network.tokens import Coded, PatchReader, select_patches
from titans_seq.training import ParameterGroup

CODE_DIM = 8
"""Width of the vector that stands for one category of a series."""

ROW_CODE_DIM = 4
"""Width of the vector that stands for one category of a row."""

STEP_DIM = 8
"""Width of the features of one step of the horizon."""

BRANCH_DROPOUT = 0.5
"""Share of the training windows without the backbone's contribution, so that the linear part and
the effects are right by themselves, and the backbone learns their residual."""

LEAST_SPREAD = 0.1
"""Smallest spread of a look-back by which effects are divided for the backbone."""

BACKBONE_RATE = 1 / 3
"""Learning rate of the backbone and the layers around it, relative to the linear part's."""

_LINEAR_RATES = {"linear": 1.0, "cycle": 1.0, "effect": 3.0}
"""Relative learning rates of the linear parts; effects should be learnt before the rest."""


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

    def to(self, device: torch.device) -> Windows:
        """Return the windows on a device."""
        return Windows(*(field.to(device) for field in self))


class Forecast(NamedTuple):
    """A forecast on the scale of the history."""

    point: Float[Tensor, "batch horizon"]
    """Expected value."""

    quantiles: Float[Tensor, "batch horizon quantiles"]
    """In rising order of the level."""

    extra: Float[Tensor, "batch horizon extra"]
    """Further outputs, unbounded, on the scale of the look-back."""


class Baseline(NamedTuple):
    """Forecast of a batch of windows without the backbone, and what the backbone reads of it."""

    static: Float[Tensor, "batch static"]
    """Real covariates of the series and the vectors of its categories."""

    effect: Float[Tensor, "batch rows"]
    """Of the covariates known ahead, over the look-back and then the horizon."""

    centre: Float[Tensor, "batch 1"]
    spread: Float[Tensor, "batch 1"]
    values: Float[Tensor, "batch context"]
    """The look-back without the effects, normalised; 0 where it is missing."""

    linear: Float[Tensor, "batch horizon"]
    """Linear map of the values, normalised."""

    def expected(
        self, branch: Float[Tensor, "batch horizon"] | None = None
    ) -> Float[Tensor, "batch horizon"]:
        """Return the expected value, on the scale of the history.

        Parameters
        ----------
        branch
            Contribution of the backbone, normalised; None leaves it out.
        """
        normalised = self.linear if branch is None else self.linear + branch
        effect = self.effect[:, -normalised.shape[1] :]
        return normalised * self.spread + self.centre + effect


class ForecastNetwork(nn.Module):
    """Forecast every step of the horizon of each window.

    The look-back and the horizon are cut into patches, one token each; the tokens of the
    horizon carry the covariates known ahead and no values. The backbone is causal, so those
    tokens read the whole look-back, and its outputs at their positions are the forecast.

    Shapes
    ------
    windows  see :class:`Windows`
    returns  :class:`Forecast`, on the scale of ``windows.history``
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_length
        ahead = config.horizon_patch or patch
        self.static_codes = CategoryEmbeddings(config.static_cardinalities, CODE_DIM)
        static = config.static_reals + CODE_DIM * len(config.static_cardinalities)
        cardinalities = list(config.future_cardinalities)
        self.cycle = None
        if config.cycle is not None:
            slots = cardinalities.pop(config.cycle)
            self.cycle = CycleEffect(config.static_cardinalities[-1], slots)
        self.effect = CovariateEffect(config.future_reals, tuple(cardinalities), static)
        self.past_codes = CategoryEmbeddings(config.past_cardinalities, ROW_CODE_DIM)
        self.future_codes = CategoryEmbeddings(config.future_cardinalities, ROW_CODE_DIM)
        known = config.future_reals + ROW_CODE_DIM * len(config.future_cardinalities)
        past = config.past_reals + ROW_CODE_DIM * len(config.past_cardinalities)

        self.linear = nn.Linear(config.context_length, config.horizon)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():  # begin with the last value, the forecast of a random walk
            self.linear.weight[:, -1] = 1.0
        self.series_maps = None
        if config.series_maps:
            series = config.static_cardinalities[-1]
            self.series_maps = SeriesMaps(series, config.context_length, config.horizon)
        # Four features a row besides the covariates: value, change, mask, effect.
        self.read_past = PatchReader(
            config.context_length, patch, 4 + known + past, config.dim, at_end=True
        )
        self.read_future = PatchReader(config.horizon, ahead, 1 + known, config.dim, at_end=False)
        self.past_tokens = self.read_past.tokens
        self.dropped = int(config.token_dropout * self.past_tokens)
        self.read_static = nn.Linear(static, config.dim) if static else None
        self.place = nn.Parameter(
            torch.randn(self.past_tokens + self.read_future.tokens, config.dim) * 0.1
        )
        self.backbone = TitansBackbone(config.backbone())

        self.unpatch = nn.Linear(config.dim, ahead * STEP_DIM)
        self.point = nn.Linear(STEP_DIM, 1, bias=False)
        nn.init.zeros_(self.point.weight)
        self.quantiles = QuantileHead(STEP_DIM, config.quantiles) if config.quantiles else None
        self.extra = nn.Linear(STEP_DIM, config.extra_outputs) if config.extra_outputs else None
        self.share: Tensor
        self.register_buffer("share", torch.ones(()))
        self.lr_scales = dict(_LINEAR_RATES)
        """Factors of the learning rate of the linear parts, by attribute."""

    def forward(self, windows: Windows) -> Forecast:
        """Return the forecast of a batch of windows."""
        return self.complete(windows, self.baseline(windows), BRANCH_DROPOUT)

    def complete(self, windows: Windows, baseline: Baseline, dropout: float = 0.0) -> Forecast:
        """Return the forecast of windows, given their baseline.

        Parameters
        ----------
        windows, baseline
            A batch, and what :meth:`baseline` returned for it.
        dropout
            Share of the windows without the backbone's contribution, in training.
        """
        features = self._features(windows, baseline)
        branch = self.share * self.point(features).squeeze(-1)
        if self.training and dropout:
            branch = branch * (torch.rand_like(branch[:, :1]) >= dropout)
        point = baseline.expected(branch)
        quantiles = point.new_zeros(*point.shape, 0)
        if self.quantiles is not None:
            distance = self.quantiles(features, torch.zeros_like(point))
            quantiles = point[..., None] + distance * baseline.spread[..., None]
        extra = features[..., :0] if self.extra is None else self.extra(features)
        return Forecast(point, quantiles, extra)

    def baseline(self, windows: Windows) -> Baseline:
        """Return effects, normalised look-backs and linear forecasts of a batch of windows."""
        static = torch.cat([windows.static, *self.static_codes(windows.static_codes)], dim=-1)
        effect = self._effect(windows, static)
        past_effect = effect[:, : self.config.context_length]
        rest = torch.where(windows.seen, windows.history - past_effect, 0.0)
        scale = window_scale(rest, windows.seen, self.config.normalise)
        values = torch.where(windows.seen, (rest - scale.centre) / scale.spread, 0.0)
        linear = self.linear(values)
        if self.series_maps is not None:
            linear = linear + self.series_maps(values, windows.static_codes[:, -1])
        return Baseline(static, effect, *scale, values, linear)

    def _effect(
        self, windows: Windows, static: Float[Tensor, "batch static"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the effect of the covariates known ahead, over the look-back and the horizon."""
        cycle, codes = self.config.cycle, windows.future_codes
        if self.cycle is None or cycle is None:
            effect: Tensor = self.effect(windows.future, codes, static)
            return effect
        others = torch.cat([codes[..., :cycle], codes[..., cycle + 1 :]], dim=-1)
        deviation = window_scale(windows.history, windows.seen, self.config.normalise).spread
        effect = self.cycle(codes[..., cycle], windows.static_codes[:, -1], deviation)
        if self.effect.readouts:
            effect = effect + self.effect(windows.future, others, static)
        return effect

    def _features(
        self, windows: Windows, baseline: Baseline
    ) -> Float[Tensor, "batch horizon step"]:
        """Return the backbone's features of every step of the horizon."""
        lengths = [self.config.context_length, self.config.horizon]
        values = baseline.values
        relative = baseline.effect / baseline.spread.clamp(min=LEAST_SPREAD)
        chosen = self._chosen(values) if self.training and self.dropped else None
        (known, known_ahead), (codes, codes_ahead), (effect, effect_ahead) = (
            rows.split(lengths, dim=1) for rows in (windows.future, windows.future_codes, relative)
        )
        vectors = self.future_codes.vectors()
        seen = windows.seen.to(values.dtype)
        change = (values - latest_of(values, windows.seen)) * seen
        # (batch, kept tokens, dim) of the look-back, (batch, tokens, dim) of the horizon
        past = self.read_past(
            [values, change, seen, windows.past, known, effect],
            [*_coded(self.past_codes.vectors(), windows.past_codes), *_coded(vectors, codes)],
            chosen,
        )
        future = self.read_future([known_ahead, effect_ahead], _coded(vectors, codes_ahead))
        places, places_ahead = self.place.split([self.past_tokens, future.shape[1]])
        past = past + (places if chosen is None else functional.embedding(chosen, places))
        tokens = torch.cat([past, future + places_ahead], dim=1)
        if self.read_static is not None:
            tokens = tokens + self.read_static(baseline.static)[:, None]
        # A patch without any known value is masked; the tokens of the horizon never are.
        real = select_patches(self.read_past.cut(windows.seen), chosen).any(-1)
        ones = real.new_ones(()).expand(len(real), future.shape[1])
        mask = torch.cat([real, ones], dim=1)
        outputs, _ = self.backbone(tokens, mask=mask, keep_state=False)
        # batch, tokens, rows of a patch * features -> batch, horizon, features
        steps = self.unpatch(outputs[:, past.shape[1] :]).unflatten(-1, (-1, STEP_DIM))
        return functional.silu(steps.flatten(1, 2)[:, : self.config.horizon])

    def _chosen(self, values: Float[Tensor, "batch context"]) -> Int[Tensor, "batch kept"]:
        """Return the tokens of the look-back that each training window keeps."""
        kept = self.past_tokens - self.dropped
        # The indices of the largest of random numbers are a draw without replacement.
        drawn = torch.rand(len(values), self.past_tokens, device=values.device)
        return drawn.topk(kept, dim=1).indices.sort(dim=1).values

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return every part of the network with its learning rate.

        The parts of the baseline do not decay: their weights are in the units of the series.
        """
        parts: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            parts.setdefault(name.partition(".")[0], []).append(parameter)
        return [
            ParameterGroup(
                parameters,
                lr_scale=self.lr_scales.get(part, BACKBONE_RATE),
                weight_decay=part not in self.lr_scales,
            )
            for part, parameters in parts.items()
        ]

    def settle_unknown(self) -> None:
        """Set every unknown category to the mean of the known ones."""
        for module in self.modules():
            if isinstance(module, CategoryEmbeddings | CycleEffect):
                module.settle_unknown()


def _coded(vectors: list[Tensor], codes: Int[Tensor, "batch rows columns"]) -> list[Coded]:
    """Return columns of codes with the vectors of their categories."""
    return [Coded(table, codes[..., column]) for column, table in enumerate(vectors)]
