"""Test-time adaptation: how far each expert is trusted moves on while rows come.

The memories learn contents; what training settled, above all the gate of the mixture, they leave
as it is. Where what comes is of another kind than what was trained on, that gate is wrong for
good. Adaptation adds a bias of its own to the gate's logits, for each series and expert, and
moves it by gradient steps on the mixture's squared error, once that is known: ``horizon`` rows
after the forecast, every few rows.

A step is bounded, and so is the bias. Beside the bias that moves two others are scored on the
same forecasts: the best so far, and none at all. Once the one that moves has done worse of late
than the better of them it goes back to it, and on with smaller steps.
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

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EVERY = 8
"""Rows from one lesson to the next."""

RATE = 1.0
"""Of a gradient step, for errors in units of what is usual."""

LARGEST_STEP = 0.5
"""Logit that one lesson can add or take, at most."""

LARGEST_TRUST = 6.0
"""Logit that all of them can, which is a factor of 400."""

MEMORY = 32
"""Lessons over which errors are averaged."""

PATIENCE = 16
"""Lessons before a bias is judged."""

WORSE = 1.02
"""Share of another's error above which a bias is given up: less is chance."""

SMALLEST_SHARE = 1 / 16
"""Of the rate that is left after going back again and again."""

LARGEST_ERROR = 16.0
"""An outlier counts as this many times the usual squared error, at most."""

LARGEST_MISS = 4.0
"""The same for what moves the bias, in usual deviations."""


@dataclass(slots=True)
class Adapted:
    """What adaptation knows of each series."""

    trust: Floats
    """Added to the logit of each expert, (series, experts)."""

    anchor: Floats
    """The best such bias so far, (series, experts)."""

    errors: Floats
    """Squared errors of late with either, and with none, (series, 3)."""

    share: Floats
    """Of the rate, (series,)."""

    since: Ints
    """Lessons since the anchor was left, (series,)."""

    lessons: Ints
    """Lessons in all, (series,)."""

    forecasts: Floats
    """What the experts said that is yet to be judged, (series, waiting, experts, horizon)."""

    logs: Floats
    """Logarithm of the gate's weights there, of the same shape."""

    made: Ints
    """Rows that had been read then, (series, waiting); -1 for none."""

    @classmethod
    def first(cls, series: int, experts: int, horizon: int) -> Self:
        """Return the state that has learnt nothing."""
        waiting = -(-horizon // EVERY) + 1
        shape = (series, waiting, experts, horizon)
        return cls(
            trust=np.zeros((series, experts), np.float32),
            anchor=np.zeros((series, experts), np.float32),
            errors=np.ones((series, 3), np.float32),
            share=np.ones(series, np.float32),
            since=np.zeros(series, np.int64),
            lessons=np.zeros(series, np.int64),
            forecasts=np.zeros(shape, np.float32),
            logs=np.zeros(shape, np.float32),
            made=np.full((series, waiting), -1),
        )

    def copy(self) -> Self:
        """Return a state of its own."""
        return type(self)(**{name: held.copy() for name, held in self.arrays().items()})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the state that :meth:`arrays` took apart."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @property
    def horizon(self) -> int:
        """Return the rows of a forecast."""
        return int(self.logs.shape[-1])

    def wait(self, forecasts: Floats, logs: Floats, count: Ints, chosen: Flags) -> None:
        """Keep what the experts say now, for when it can be judged.

        Parameters
        ----------
        forecasts, logs
            (series, experts, horizon)
        count, chosen
            Rows read so far; False leaves a series as it is. (series,) each.
        """
        own = np.flatnonzero(chosen)
        place = (own, self._place(count[own] + self.horizon))
        self.forecasts[place], self.logs[place] = forecasts[own], logs[own]
        self.made[place] = count[own]

    def learn(self, network: Floats, came: Floats, count: Ints, chosen: Flags) -> None:
        """Take a lesson from the forecasts of ``horizon`` rows ago, in place.

        Parameters
        ----------
        network
            What the window's network said then, (series, horizon): expert 0.
        came
            What came, NaN where it is missing.
        count, chosen
            As in :meth:`wait`.
        """
        ready = self.made[np.arange(len(count)), self._place(count)] == count - self.horizon
        own = np.flatnonzero(chosen & ready & np.isfinite(came).any(-1))
        if not len(own):
            return
        place = (own, self._place(count[own]))
        said, logs, wanted = self.forecasts[place].copy(), self.logs[place], came[own]
        said[:, 0] = network[own]
        biases = np.stack([self.trust[own], self.anchor[own], np.zeros_like(self.trust[own])])
        weights = _softmax(logs + biases[..., None])
        points = (weights * said).sum(2)
        self._judge(own, np.nanmean((points - wanted) ** 2, axis=-1).T)
        usual = self.errors[own, 2, None]
        bound = LARGEST_MISS * np.sqrt(usual)
        miss = np.clip(np.nan_to_num(points[0] - wanted), -bound, bound)[:, None]
        slope = 2 * (weights[0] * (said - points[0][:, None]) * miss).mean(-1) / usual
        step = RATE * self.share[own, None] * slope
        step *= np.minimum(1, LARGEST_STEP / np.maximum(np.abs(step).max(1, keepdims=True), 1e-9))
        self._go_back(own)
        moved = self.trust[own] - step
        moved -= moved.mean(1, keepdims=True)
        self.trust[own] = np.clip(moved, -LARGEST_TRUST, LARGEST_TRUST)

    def _place(self, count: Ints) -> Ints:
        """Return where a forecast stands that can be judged after ``count`` rows."""
        place: Ints = count // EVERY % self.made.shape[1]
        return place

    def _judge(self, own: Ints, errors: Floats) -> None:
        """Average errors, (series, 3), into those of some series."""
        bounded = np.minimum(errors, LARGEST_ERROR * self.errors[own, 2:])
        self.lessons[own] += 1
        self.since[own] += 1
        rate = np.maximum(1 / MEMORY, 1 / (1 + self.lessons[own]))[:, None]
        self.errors[own] += (rate * (bounded - self.errors[own])).astype(np.float32)

    def _go_back(self, own: Ints) -> None:
        """Give up biases that have done worse of late; make anchors of those that did better."""
        now, best, none = self.errors[own].T
        worse = (now > WORSE * np.minimum(best, none)) & (self.since[own] >= PATIENCE)
        better = (now < best) & (self.since[own] >= MEMORY) & ~worse
        given_up, kept = own[worse], own[better]
        empty = given_up[self.errors[given_up, 2] < self.errors[given_up, 1]]
        self.anchor[empty], self.errors[empty, 1] = 0, self.errors[empty, 2]
        self.trust[given_up] = self.anchor[given_up]
        self.errors[given_up, 0] = self.errors[given_up, 1]
        self.share[given_up] = np.maximum(self.share[given_up] / 2, SMALLEST_SHARE)
        self.anchor[kept], self.errors[kept, 1] = self.trust[kept], self.errors[kept, 0]
        self.share[kept] = np.minimum(2 * self.share[kept], 1)
        self.since[given_up] = self.since[kept] = 0


def trusting(
    weights: Float[Tensor, "moments experts horizon"], trust: Float[Tensor, "moments experts"]
) -> Float[Tensor, "moments experts horizon"]:
    """Return the gate's weights with a bias added to its logits."""
    return torch.softmax(weights.clamp(min=1e-12).log() + trust[..., None], dim=1)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(-2, keepdims=True))
    shares: Floats = raised / raised.sum(-2, keepdims=True)
    return shares
