"""Training of the mixture around the memories, on long streams.

The memories themselves have nothing to train. One pass over the training rows collects snapshots
(:mod:`titans_seq.forecasting.stream.training_set`); on these the linear experts are solved for by
ridge regression, and the gate is trained by gradient steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.ridge import ridge_with_intercept
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.stream.mixture import MIN_SQUARED_ERROR, Mixture
from titans_seq.forecasting.stream.model import TAIL_ROWS, StreamConfig, StreamModel
from titans_seq.forecasting.stream.periods import find_periods
from titans_seq.forecasting.stream.rows import (
    ROWS_AT_ONCE,
    StreamRows,
    calendar_tables,
    rows_of_panel,
)
from titans_seq.forecasting.stream.training_set import (
    WARM_UP,
    Examples,
    LateState,
    choose_rows,
    long_stream_examples,
    training_rows,
    young_stream_examples,
)
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.panel import Panel, Preprocess

EXPERT_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties of the linear experts to choose from, a snapshot, in units of a series'
variance."""

MIN_EXAMPLES = 10
"""Examples below which the linear experts are left at zero."""

SMALL_SAMPLE_PENALTY = 3.0
"""Penalty added for all snapshots together, so that a few change little."""

MAX_TRAINING_ROWS = 40_000
"""Rows that are trained on, over all series."""

GATE_EPOCHS = 20
GATE_BATCH = 256
GATE_RATE = 1e-2

GATE_PENALTY = 1e-4
"""Penalty of the squared weights of the gate, in units of a series' variance."""

MIN_HELD_OUT = 100
"""Held-out examples that suffice to set the quantiles and to measure optimism."""

DEFAULT_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles to learn where the forecaster has fewer than two."""


def stream_config(network: ForecastNetwork, preprocess: Preprocess, seed: int = 0) -> StreamConfig:
    """Return the sizes of the memories around a network."""
    quantiles = network.config.quantiles
    return StreamConfig(
        context=network.config.context_length,
        horizon=network.config.horizon,
        slots=calendar_tables(preprocess),
        levels=quantiles if len(quantiles) > 1 else DEFAULT_LEVELS,
        seed=seed,
    )


def fit_stream(
    network: ForecastNetwork,
    preprocess: Preprocess,
    panel: Panel,
    train_rows: IntArray,
    *,
    seed: int,
    max_rows: int = MAX_TRAINING_ROWS,
    calibrate: bool = True,
) -> StreamModel:
    """Train the mixture around a trained network.

    Parameters
    ----------
    network
        Trained network of the window.
    preprocess, panel
        Data.
    train_rows
        Rows of each series that the network was trained on. Later rows choose penalties, measure
        how far to trust the network, and calibrate.
    seed
        Seed of everything random.
    max_rows
        Rows to read, over all series; of longer series the last rows are read.
    calibrate
        Correct the quantiles by the rows beyond ``train_rows``.
    """
    network.eval()
    chosen, begins, ends = choose_rows(panel, max_rows)
    rows = rows_of_panel(panel, preprocess, begins, ends)
    static = panel.static[chosen], panel.static_codes[chosen]
    train_ends = panel.starts[chosen] + torch.from_numpy(train_rows)[chosen]
    trained = (train_ends - torch.tensor(begins)).clamp(min=0)

    config = stream_config(network, preprocess, seed)
    if not config.slots:
        known = rows.seen & (torch.arange(rows.seen.shape[1]) < trained[:, None])
        config = replace(config, slots=find_periods(rows.value, known), counted=True)
    model = StreamModel(config).eval()
    state = model.initial_state(*static, rows)
    snapshot_rows = training_rows(rows, config.horizon)
    stream, late = long_stream_examples(model, network, state, rows, snapshot_rows)
    generator = torch.Generator().manual_seed(seed)
    observed = stream.examples.seen.any(-1)
    in_training = observed & (stream.row + 1 + config.horizon <= trained[stream.series])
    in_held_out = observed & (stream.row + 1 >= trained[stream.series])
    if in_training.any():
        training = stream.examples.select(in_training)
        held_out = stream.examples.select(in_held_out)
        # The linear experts are not fitted to levels that were still being learnt.
        warm = stream.examples.select(in_training & (stream.row >= stream.row.max() // 10))
        _solve_linear_experts(model.mixture, warm, held_out)
        young = young_stream_examples(model, network, static, rows, trained, generator)
        _train_mixture(model, training, young, held_out, generator)
        if calibrate:
            held_out_rows = torch.tensor(ends) - train_ends
            model.calibration = _calibration(model, held_out, held_out_rows)
    _set_surprise_tail(model, network, late, rows)
    return model


def _train_mixture(
    model: StreamModel,
    training: Examples,
    young: list[Examples],
    held_out: Examples,
    generator: torch.Generator,
) -> None:
    """Train the gate, and set the quantiles' distances from the point forecast."""
    optimism = _optimism(model.mixture, training, held_out)
    training = _with_held_out_errors(training, optimism)
    _set_usual_errors(model.mixture, training)
    examples = training.concat(held_out)
    for young_examples in young:
        examples = examples.concat(_with_held_out_errors(young_examples, optimism))
    _train_gate(model.mixture, examples, generator)
    _set_quantiles(model, held_out if len(held_out.network) >= MIN_HELD_OUT else training)


@torch.no_grad()
def _solve_linear_experts(mixture: Mixture, examples: Examples, held_out: Examples) -> None:
    """Solve for the linear experts by ridge regression; held-out examples choose the penalty."""
    complete = examples.select(examples.seen.all(-1))
    validation = held_out.select(held_out.seen.all(-1))
    count = len(complete.network)
    if count < MIN_EXAMPLES:
        return
    training = complete
    if not len(validation.network):  # then the last fifth chooses the penalty
        validation = complete.select(torch.arange(count - count // 5, count))
        training = complete.select(torch.arange(count - count // 5))

    def regressions(examples: Examples) -> list[tuple[Tensor, Tensor]]:
        """Return departures and targets around the levels of each linear expert."""
        levels, departures = mixture.centred(examples.snapshot)
        targets = examples.target[:, None] - levels
        return list(zip(departures.unbind(1), targets.unbind(1), strict=True))

    def solve(regression: tuple[Tensor, Tensor], penalty: float) -> tuple[Tensor, Tensor]:
        ridge = penalty * len(regression[0]) + SMALL_SAMPLE_PENALTY
        return ridge_with_intercept(*regression, ridge)

    for expert, (train, check, everything) in enumerate(
        zip(*map(regressions, (training, validation, complete)), strict=True)
    ):
        errors = []
        for penalty in EXPERT_PENALTIES:
            slope, offset = solve(train, penalty)
            error = check[0] @ slope + offset - check[1]
            errors.append(float(error.square().mean()))
        best = EXPERT_PENALTIES[int(np.argmin(errors))]
        mixture.slope[expert], mixture.offset[expert] = solve(everything, best)


@torch.no_grad()
def _optimism(mixture: Mixture, training: Examples, held_out: Examples) -> float:
    """Return the ratio of the network's held-out to its training squared error, at least 1.

    Held-out rows may be harder or easier for every expert; by how much is estimated from the bare
    levels, which were not trained, and divided out.
    """
    if len(held_out.network) < MIN_HELD_OUT:
        return 1.0

    def errors(examples: Examples) -> tuple[Tensor, Tensor]:
        levels, _ = mixture.centred(examples.snapshot)
        network = examples.network[:, None]
        return _squared_error(network, examples), _squared_error(levels, examples)

    network, levels = (
        after / before for after, before in zip(errors(held_out), errors(training), strict=True)
    )
    return max(1.0, float(network / levels.median()))


def _squared_error(forecasts: Tensor, examples: Examples) -> Tensor:
    """Return the mean squared error of each expert over observed steps, (experts,)."""
    squares = (forecasts - examples.target[:, None]).square() * examples.seen[:, None]
    return squares.sum((0, 2)) / examples.seen.sum() + MIN_SQUARED_ERROR


def _with_held_out_errors(examples: Examples, optimism: float) -> Examples:
    """Return examples with the network's errors inflated to their held-out size.

    Otherwise the gate learns to trust the network as far as it fits its own training rows.
    """
    network = examples.target + (examples.network - examples.target) * optimism**0.5
    errors = examples.snapshot.errors.clone()
    errors[:, 0] *= optimism
    return examples._replace(
        network=torch.where(examples.seen, network, examples.network),
        snapshot=examples.snapshot._replace(errors=errors),
    )


@torch.no_grad()
def _set_usual_errors(mixture: Mixture, examples: Examples) -> None:
    """Set the usual log-error of each expert, which the gate compares recent errors with."""
    logs = (examples.snapshot.errors + MIN_SQUARED_ERROR).log()
    known = (examples.snapshot.known > 0)[..., None]
    mixture.usual.copy_((logs * known).sum(0) / known.sum(0).clamp(min=1))


def _train_gate(mixture: Mixture, examples: Examples, generator: torch.Generator) -> None:
    """Train the gate by Adam for a fixed number of epochs.

    No held-out rows choose the epoch: they are too few to hold rare events, such as a jump of all
    levels, and would unlearn them. A penalty keeps the weights near those that the recent errors
    alone give.
    """
    with torch.no_grad():
        forecasts = mixture.forecasts(examples.snapshot, examples.network)
    with torch.enable_grad():
        parameters = [*mixture.gate.parameters(), mixture.own, mixture.step_bias]
        optimizer = torch.optim.Adam(parameters, GATE_RATE)
        for _ in range(GATE_EPOCHS):
            order = torch.randperm(len(forecasts), generator=generator)
            for batch in order.split(GATE_BATCH):
                error = _mixture_error(mixture, examples.select(batch), forecasts[batch])
                loss = error + GATE_PENALTY * mixture.gate.weight.square().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def _mixture_error(mixture: Mixture, examples: Examples, forecasts: Tensor) -> Tensor:
    """Return the mean squared error of the mixture over observed steps."""
    point = (mixture.weights(examples.snapshot) * forecasts).sum(1)
    squares = (point - examples.target).square() * examples.seen
    return squares.sum() / examples.seen.sum().clamp(min=1)


@torch.no_grad()
def _set_quantiles(model: StreamModel, examples: Examples) -> None:
    """Set each quantile's distance from the point forecast, in units of the spread."""
    weights = model.mixture.weights(examples.snapshot)
    point = model.mixture(examples.snapshot, examples.network)
    spread = model.mixture.spread(examples.snapshot, weights)[:, None]
    errors = torch.where(examples.seen, (examples.target - point) / spread, torch.nan)
    levels = torch.tensor(model.config.levels)
    model.away.copy_(errors.nanquantile(levels, dim=0).mT.nan_to_num())


@torch.no_grad()
def _calibration(
    model: StreamModel, held_out: Examples, held_out_rows: Tensor
) -> Calibration | None:
    """Return the conformal calibration of the quantiles, from held-out examples."""
    point, quantiles = model.mixed(held_out.snapshot, held_out.network)
    actual = torch.where(held_out.seen, held_out.target, torch.nan)
    horizon = model.config.horizon
    # Overlapping horizons are dependent: count the disjoint ones of the longest series, at least
    # one a series.
    disjoint = -(-(int(held_out_rows.max()) - horizon + 1) // horizon)
    return Calibration.learn(
        *(tensor.double().numpy() for tensor in (point, quantiles, actual)),
        levels=model.config.levels,
        blocks=max(1, disjoint, int((held_out_rows > 0).sum())),
    )


def _set_surprise_tail(
    model: StreamModel, network: ForecastNetwork, late: LateState, rows: StreamRows
) -> None:
    """Read the last rows again, with the linear experts known, and keep their surprises."""
    initial = model.initial_state(late.state.static, late.state.static_codes, rows)
    state = replace(late.state, step_errors=initial.step_errors, residual=initial.residual)
    series, count = rows.value.shape
    step = max(1, ROWS_AT_ONCE // series)
    pieces = []
    for begin in range(late.row, count, step):
        reading = model.read(network, state, rows.span(begin, min(count, begin + step)))
        state = reading.state
        pieces.append(reading.surprise)
    surprise = torch.cat(pieces, dim=1)
    warm_up = min(WARM_UP, surprise.shape[1] // 4)
    tail = surprise[:, warm_up:].flatten()
    tail = tail[tail.isfinite()].sort().values
    if len(tail) > TAIL_ROWS:
        tail = tail[torch.linspace(0, len(tail) - 1, TAIL_ROWS).round().long()]
    model.tail[: len(tail)] = tail
