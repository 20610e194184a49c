"""Training of what surrounds the memories: on long streams, the memory carried along.

The memories themselves have nothing to train. One pass over the training rows gives what every
expert sees at many moments (:mod:`titans_seq.forecasting.stream.moments`); on these the linear
experts are solved for by ridge regression, and the weights of the mixture are trained by gradient
steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.stream.mixture import SMALLEST_ERROR, Mixture
from titans_seq.forecasting.stream.model import TAIL, StreamConfig, StreamModel
from titans_seq.forecasting.stream.moments import (
    PIECE,
    WARM_UP,
    Late,
    Moments,
    carried_moments,
    choose_rows,
    training_moments,
    young_moments,
)
from titans_seq.forecasting.stream.periods import find_periods
from titans_seq.forecasting.stream.rows import side_by_side, table_sizes
from titans_seq.forecasting.stream.state import Rows
from titans_seq.forecasting.tables.panel import Panel, Preprocess

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties of the linear experts to choose from, a moment, in units of a series' variance."""

FEWEST = 10
"""Moments below which the linear experts are left at nothing."""

FEW_RIDGE = 3.0
"""The same, for all moments together, so that a few say little."""

MOST_ROWS = 40_000
"""Rows that are trained on, over all series."""

EPOCHS = 20
BATCH = 256
RATE = 1e-2

GATE_PENALTY = 1e-4
"""Of the squared weights of the gate, in units of a series' variance."""

ENOUGH = 100
"""Moments of the validation rows that can calibrate by themselves, and be compared with."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles to learn where the forecaster has too few to tell how wide errors are."""


def stream_config(network: ForecastNetwork, preprocess: Preprocess, seed: int = 0) -> StreamConfig:
    """Return the sizes of the memories around a network."""
    return StreamConfig(
        context=network.config.context_length,
        horizon=network.config.horizon,
        slots=table_sizes(preprocess),
        levels=network.config.quantiles if len(network.config.quantiles) > 1 else LEVELS,
        seed=seed,
    )


def fit_stream(
    network: ForecastNetwork,
    preprocess: Preprocess,
    panel: Panel,
    train_rows: npt.NDArray[np.int64],
    *,
    seed: int,
    most_rows: int = MOST_ROWS,
    calibrate: bool = True,
) -> StreamModel:
    """Train the mixture around a trained network.

    Parameters
    ----------
    network
        Of the window.
    preprocess, panel, train_rows
        Data; rows of each series beyond ``train_rows`` were held out of the training of the
        network: they choose penalties, tell how far to trust it, and calibrate.
    seed
        Of everything random.
    most_rows
        Rows to read, over all series; of longer ones the last are read.
    calibrate
        Correct the quantiles by the rows beyond ``train_rows``.
    """
    network.eval()
    chosen, begins, ends = choose_rows(panel, most_rows)
    rows = side_by_side(panel, preprocess, begins, ends)
    static, codes = panel.static[chosen], panel.static_codes[chosen]
    borders = panel.starts[chosen] + torch.from_numpy(train_rows)[chosen]
    trained = (borders - torch.tensor(begins)).clamp(min=0)

    config = stream_config(network, preprocess, seed)
    if not config.slots:
        known = rows.seen & (torch.arange(rows.seen.shape[1]) < trained[:, None])
        config = replace(config, slots=find_periods(rows.value, known), counted=True)
    model = StreamModel(config).eval()
    first = model.first(static, codes, rows)
    wanted = training_moments(rows, config.horizon)
    main, late = carried_moments(model, network, first, rows, wanted)
    source = torch.Generator().manual_seed(seed)
    whole = main.moments.came.any(-1)
    learn = whole & (main.row + 1 + config.horizon <= trained[main.series])
    check = whole & (main.row + 1 >= trained[main.series])
    if learn.any():
        own, held_out = main.moments.take(learn), main.moments.take(check)
        warm = main.moments.take(learn & (main.row >= main.row.max() // 10))
        _solve(model.mixture, warm, held_out)
        young = young_moments(model, network, (static, codes), rows, trained, source)
        _train_mixture(model, own, young, held_out, source)
        if calibrate:
            later = torch.tensor(ends) - borders
            model.calibration = _calibration(model, held_out, later)
    _settle_tail(model, network, late, rows)
    return model


def _train_mixture(
    model: StreamModel, own: Moments, young: Moments, held_out: Moments, source: torch.Generator
) -> None:
    """Train the weights of the mixture, and note how far from it the quantiles lie."""
    flattery = _flattery(model.mixture, own, held_out)
    own, young = _as_unseen(own, flattery), _as_unseen(young, flattery)
    _settle_usual(model.mixture, own)
    _train_gate(model.mixture, own.then(held_out).then(young), source)
    _settle_away(model, held_out if len(held_out.base) >= ENOUGH else own)


@torch.no_grad()
def _solve(mixture: Mixture, moments: Moments, held_out: Moments) -> None:
    """Solve for the linear experts by ridge regression; held-out moments choose the penalty."""
    whole = moments.take(moments.came.all(-1))
    later = held_out.take(held_out.came.all(-1))
    count = len(whole.base)
    if count < FEWEST:
        return
    if not len(later.base):  # then the last fifth chooses, and is trained on with the others
        later = whole.take(torch.arange(count - count // 5, count))
        start = whole.take(torch.arange(count - count // 5))
    else:
        start = whole
    levels, departures = mixture.centred(start.look)
    checks = mixture.centred(later.look)
    everything = mixture.centred(whole.look)
    for expert in range(levels.shape[1]):
        given, wanted = departures[:, expert], start.target - levels[:, expert]
        errors = []
        for penalty in RIDGES:
            slope, offset = _ridge(given, wanted, penalty)
            found = checks[0][:, expert] + checks[1][:, expert] @ slope + offset
            errors.append(float((found - later.target).square().mean()))
        best = RIDGES[int(np.argmin(errors))]
        given, wanted = everything[1][:, expert], whole.target - everything[0][:, expert]
        mixture.slope[expert], mixture.offset[expert] = _ridge(given, wanted, best)


def _ridge(given: Tensor, wanted: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return slope and offset of a penalised linear map."""
    mean, aim = given.mean(0).double(), wanted.mean(0).double()
    given, wanted = given.double() - mean, wanted.double() - aim
    product = given.mT @ given
    product.diagonal().add_(penalty * len(given) + FEW_RIDGE)
    slope = torch.linalg.solve(product, given.mT @ wanted)
    return slope.float(), (aim - mean @ slope).float()


@torch.no_grad()
def _flattery(mixture: Mixture, moments: Moments, held_out: Moments) -> float:
    """Return how much larger the network's squared error is where it was not trained, at least 1.

    Held-out rows may be harder or easier for everyone; how much, the bare levels tell, which
    were trained nowhere.
    """
    if len(held_out.base) < ENOUGH:
        return 1.0
    network, levels = (
        _squared_error(later, held_out) / _squared_error(before, moments)
        for later, before in (
            (held_out.base[:, None], moments.base[:, None]),
            (mixture.centred(held_out.look)[0], mixture.centred(moments.look)[0]),
        )
    )
    return max(1.0, float(network / levels.median()))


def _squared_error(forecasts: Tensor, moments: Moments) -> Tensor:
    """Return the mean squared error of each expert where the target came, (experts,)."""
    squares = (forecasts - moments.target[:, None]).square() * moments.came[:, None]
    return squares.sum((0, 2)) / moments.came.sum() + SMALLEST_ERROR


def _as_unseen(moments: Moments, flattery: float) -> Moments:
    """Return moments with the network as wrong as it would be had it not been trained on them.

    Else the mixture learns to trust it as far as it fits its own training rows.
    """
    base = moments.target + (moments.base - moments.target) * flattery**0.5
    errors = moments.look.errors.clone()
    errors[:, 0] *= flattery
    look = moments.look._replace(errors=errors)
    return moments._replace(base=torch.where(moments.came, base, moments.base), look=look)


@torch.no_grad()
def _settle_usual(mixture: Mixture, moments: Moments) -> None:
    """Note how wrong each expert usually is, so that its errors of late can be told from that."""
    logs = (moments.look.errors + SMALLEST_ERROR).log()
    known = (moments.look.known > 0)[..., None]
    mixture.usual.copy_((logs * known).sum(0) / known.sum(0).clamp(min=1))


def _train_gate(mixture: Mixture, moments: Moments, source: torch.Generator) -> None:
    """Train the weights of the mixture.

    No held-out rows choose the epoch: they are too few to have met what seldom comes, a jump of
    all levels say, and would unlearn it. A penalty keeps the weights near those that the errors
    of late alone give.
    """
    with torch.no_grad():
        forecasts = mixture.forecasts(moments.look, moments.base)
    with torch.enable_grad():
        optimizer = torch.optim.Adam(
            [*mixture.gate.parameters(), mixture.own, mixture.step_bias], RATE
        )
        for _ in range(EPOCHS):
            order = torch.randperm(len(forecasts), generator=source)
            for part in order.split(BATCH):
                error = _error(mixture, moments.take(part), forecasts[part])
                loss = error + GATE_PENALTY * mixture.gate.weight.square().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def _error(mixture: Mixture, moments: Moments, forecasts: Tensor) -> Tensor:
    """Return the mean squared error of the mixture where the target came."""
    point = (mixture.weights(moments.look) * forecasts).sum(1)
    squares = (point - moments.target).square() * moments.came
    return squares.sum() / moments.came.sum().clamp(min=1)


@torch.no_grad()
def _settle_away(model: StreamModel, moments: Moments) -> None:
    """Note how far from the point each quantile lies, in units of the errors of late."""
    weights = model.mixture.weights(moments.look)
    point = model.mixture(moments.look, moments.base)
    missed = (moments.target - point) / model.mixture.spread(moments.look, weights)[:, None]
    missed = torch.where(moments.came, missed, torch.nan)
    levels = torch.tensor(model.config.levels)
    model.away.copy_(missed.nanquantile(levels, dim=0).mT.nan_to_num())


@torch.no_grad()
def _calibration(model: StreamModel, moments: Moments, rows: Tensor) -> Calibration | None:
    """Return what moments of held-out rows, so many a series, say about the quantiles."""
    point, quantiles = model.mixed(moments.look, moments.base)
    actual = torch.where(moments.came, moments.target, torch.nan)
    horizons = -(-(int(rows.max()) - model.config.horizon + 1) // model.config.horizon)
    return Calibration.learn(
        *(one.double().numpy() for one in (point, quantiles, actual)),
        levels=model.config.levels,
        blocks=max(1, horizons, int((rows > 0).sum())),
    )


def _settle_tail(model: StreamModel, network: ForecastNetwork, late: Late, rows: Rows) -> None:
    """Read the tail again, now that the linear experts are known, and keep its surprises."""
    state, found = model.forget_surprise(late.state), []
    series, count = rows.value.shape
    for begin in range(late.row, count, max(1, PIECE // series)):
        end = min(count, begin + max(1, PIECE // series))
        reading = model.read(network, state, rows.span(begin, end))
        state = reading.state
        found.append(reading.surprise)
    whole = torch.cat(found, dim=1)
    warm = min(WARM_UP, whole.shape[1] // 4)
    own = whole[:, warm:].flatten()
    own = own[own.isfinite()].sort().values
    if len(own) > TAIL:
        own = own[torch.linspace(0, len(own) - 1, TAIL).round().long()]
    model.tail[: len(own)] = own
