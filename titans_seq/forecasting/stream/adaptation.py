"""Test-time adaptation of the gate: a bias for each series and expert, learnt online.

The memories learn content; the trained weights, above all the gate of the mixture, stay fixed.
Where new rows are unlike the training rows, that gate stays wrong. Adaptation adds a bias to the
gate's logits, for each series and expert, and updates it by gradient steps on the mixture's
squared error once the error is known: ``horizon`` rows after the forecast, every few rows.

Each step is bounded, and so is the bias. Two other biases are scored on the same forecasts: the
best so far (the anchor) and zero. When the moving bias has recently done worse than the better of
the two, it returns to that one and continues with a smaller step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.forecasting.tables.arrays import BoolArray, Float32Array, IntArray

ADAPT_EVERY = 8
"""Rows between two updates."""

ADAPT_RATE = 1.0
"""Step size, for errors in units of the usual error."""

MAX_BIAS_STEP = 0.5
"""Bound on the change of a logit by one update."""

MAX_BIAS = 6.0
"""Bound on the bias of a logit: a factor of 400 in weight."""

ERROR_MEMORY = 32
"""Updates over which errors are averaged."""

PATIENCE = 16
"""Updates before a bias may be given up."""

WORSE = 1.02
"""Ratio to another bias's error above which a bias is given up; less may be chance."""

MIN_RATE_SHARE = 1 / 16
"""Smallest share of the step size, after returning again and again."""

MAX_ERROR_RATIO = 16.0
"""Bound on a squared error that is averaged, over the usual one."""

MAX_ERROR_DEVIATIONS = 4.0
"""Bound on an error in the gradient, in usual root mean squared errors."""


@dataclass(slots=True)
class AdaptationState:
    """The bias of every series, and the forecasts that wait to be scored."""

    trust: Float32Array
    """Bias added to the logit of each expert, (series, experts)."""

    anchor: Float32Array
    """Best bias so far, (series, experts)."""

    errors: Float32Array
    """Recent squared errors with the bias, the anchor and no bias, (series, 3)."""

    share: Float32Array
    """Share of the full step size, (series,)."""

    since: IntArray
    """Updates since the bias left the anchor, (series,)."""

    lessons: IntArray
    """Updates in all, (series,)."""

    forecasts: Float32Array
    """Expert forecasts that wait to be scored, (series, queue, experts, horizon)."""

    logs: Float32Array
    """Logarithm of the gate's weights of these forecasts, of the same shape."""

    made: IntArray
    """Rows read when each forecast was made, (series, queue); -1 for none."""

    @classmethod
    def initial(cls, series: int, experts: int, horizon: int) -> Self:
        """Return the state before any row."""
        queue = -(-horizon // ADAPT_EVERY) + 1
        shape = (series, queue, experts, horizon)
        return cls(
            trust=np.zeros((series, experts), np.float32),
            anchor=np.zeros((series, experts), np.float32),
            errors=np.ones((series, 3), np.float32),
            share=np.ones(series, np.float32),
            since=np.zeros(series, np.int64),
            lessons=np.zeros(series, np.int64),
            forecasts=np.zeros(shape, np.float32),
            logs=np.zeros(shape, np.float32),
            made=np.full((series, queue), -1),
        )

    def copy(self) -> Self:
        """Return an independent copy."""
        return type(self)(**{name: array.copy() for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a state from the result of :meth:`arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @property
    def horizon(self) -> int:
        """Return the steps of a forecast."""
        return int(self.logs.shape[-1])

    def enqueue(
        self, forecasts: Float32Array, logs: Float32Array, count: IntArray, chosen: BoolArray
    ) -> None:
        """Store the experts' forecasts until they can be scored, in place.

        Parameters
        ----------
        forecasts, logs
            Forecasts and logarithms of the weights, (series, experts, horizon).
        count, chosen
            Rows read so far, and False to leave a series unchanged; (series,) each.
        """
        series = np.flatnonzero(chosen)
        slot = (series, self._queue_slot(count[series] + self.horizon))
        self.forecasts[slot], self.logs[slot] = forecasts[series], logs[series]
        self.made[slot] = count[series]

    def learn(
        self, network: Float32Array, observed: Float32Array, count: IntArray, chosen: BoolArray
    ) -> None:
        """Update the bias by the forecasts of ``horizon`` rows ago, in place.

        Parameters
        ----------
        network
            Forecast that the window's network made then, (series, horizon): expert 0.
        observed
            Values since then, NaN where missing, (series, horizon).
        count, chosen
            As in :meth:`enqueue`.
        """
        ready = self.made[np.arange(len(count)), self._queue_slot(count)] == count - self.horizon
        series = np.flatnonzero(chosen & ready & np.isfinite(observed).any(-1))
        if not len(series):
            return
        slot = (series, self._queue_slot(count[series]))
        forecasts, logs, target = self.forecasts[slot].copy(), self.logs[slot], observed[series]
        forecasts[:, 0] = network[series]
        zero = np.zeros_like(self.trust[series])
        biases = np.stack([self.trust[series], self.anchor[series], zero])
        weights = _softmax(logs + biases[..., None])  # (3, series, experts, horizon)
        points = (weights * forecasts).sum(2)  # (3, series, horizon)
        self._average_errors(series, np.nanmean((points - target) ** 2, axis=-1).T)
        usual = self.errors[series, 2, None]
        bound = MAX_ERROR_DEVIATIONS * np.sqrt(usual)
        error = np.clip(np.nan_to_num(points[0] - target), -bound, bound)[:, None]
        # d(point)/d(bias of e) = weight_e (forecast_e - point), for a softmax; relative to the
        # usual squared error, so that the step does not depend on the scale.
        gradient = 2 * (weights[0] * (forecasts - points[0][:, None]) * error).mean(-1) / usual
        step = ADAPT_RATE * self.share[series, None] * gradient
        largest = np.abs(step).max(1, keepdims=True)
        step *= np.minimum(1, MAX_BIAS_STEP / np.maximum(largest, 1e-9))
        self._return_or_anchor(series)
        bias = self.trust[series] - step
        bias -= bias.mean(1, keepdims=True)
        self.trust[series] = np.clip(bias, -MAX_BIAS, MAX_BIAS)

    def _queue_slot(self, count: IntArray) -> IntArray:
        """Return the queue slot of the forecast that can be scored after ``count`` rows."""
        slot: IntArray = count // ADAPT_EVERY % self.made.shape[1]
        return slot

    def _average_errors(self, series: IntArray, errors: Float32Array) -> None:
        """Average new squared errors, (series, 3), into the recent ones."""
        bounded = np.minimum(errors, MAX_ERROR_RATIO * self.errors[series, 2:])
        self.lessons[series] += 1
        self.since[series] += 1
        rate = np.maximum(1 / ERROR_MEMORY, 1 / (1 + self.lessons[series]))[:, None]
        self.errors[series] += (rate * (bounded - self.errors[series])).astype(np.float32)

    def _return_or_anchor(self, series: IntArray) -> None:
        """Give up biases that did worse of late; make those that did better the anchor."""
        error, anchor_error, zero_error = self.errors[series].T
        worse = (error > WORSE * np.minimum(anchor_error, zero_error)) & (
            self.since[series] >= PATIENCE
        )
        better = (error < anchor_error) & (self.since[series] >= ERROR_MEMORY) & ~worse
        returning, improved = series[worse], series[better]
        # Where no bias does better than the anchor, the anchor becomes no bias.
        cleared = returning[self.errors[returning, 2] < self.errors[returning, 1]]
        self.anchor[cleared], self.errors[cleared, 1] = 0, self.errors[cleared, 2]
        self.trust[returning] = self.anchor[returning]
        self.errors[returning, 0] = self.errors[returning, 1]
        self.share[returning] = np.maximum(self.share[returning] / 2, MIN_RATE_SHARE)
        self.anchor[improved] = self.trust[improved]
        self.errors[improved, 1] = self.errors[improved, 0]
        self.share[improved] = np.minimum(2 * self.share[improved], 1)
        self.since[returning] = self.since[improved] = 0


def biased_weights(
    weights: Float[Tensor, "snapshots experts horizon"], bias: Float[Tensor, "snapshots experts"]
) -> Float[Tensor, "snapshots experts horizon"]:
    """Return the gate's weights with a bias added to their logits."""
    return torch.softmax(weights.clamp(min=1e-12).log() + bias[..., None], dim=1)


def _softmax(logits: Float32Array) -> Float32Array:
    """Return the softmax over the experts, the last axis but one."""
    raised = np.exp(logits - logits.max(-2, keepdims=True))
    shares: Float32Array = raised / raised.sum(-2, keepdims=True)
    return shares
