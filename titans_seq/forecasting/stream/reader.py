"""Rows one after another through the phase memory, with every expert's error kept.

The loop is in numpy: a row costs a few dozen small operations whatever the number of series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.stream.mixture import BEFORE_HEADS, RATES, Mixture, Snapshot
from titans_seq.forecasting.stream.phases import Floats, Ints, PhaseMemory
from titans_seq.forecasting.stream.state import Rows, StreamState

if TYPE_CHECKING:
    from titans_seq.forecasting.stream.model import StreamConfig

STEP_RATES = np.array([1 / 20, 1 / 200], np.float32)
"""How fast the averages of an error one row ahead forget."""

LARGEST_RESIDUAL = 16.0
"""An outlier counts as this many times the usual squared residual, at most."""

SLOT_SHARE = 5.0
"""Visits of a slot at which its own residuals count as much as all others'."""


class Reader:
    """Reads rows into a state, in place, and takes snapshots on the way.

    Parameters
    ----------
    phases, mixture, config
        Of the model.
    state
        To learn in.
    whole
        Rows of the state, then those to read.
    following
        Slots of the rows after those.
    """

    def __init__(
        self,
        phases: PhaseMemory,
        mixture: Mixture,
        config: StreamConfig,
        state: StreamState,
        whole: Rows,
        following: Int[Tensor, "series horizon tables"] | None,
    ) -> None:
        self.phases, self.config, self.state = phases, config, state
        self.kept = state.rows.value.shape[1]
        self.value = whole.value.numpy()
        self.seen = whole.seen.numpy()
        self.real = whole.real.numpy()
        slots = whole.slots if following is None else torch.cat([whole.slots, following], dim=1)
        self.slots: Ints = slots.numpy()
        self.slope: Floats = mixture.slope[..., 0].numpy()
        self.offset: Floats = mixture.offset[..., 0].numpy()
        self.rates = np.array(RATES, np.float32)
        self.taken: list[tuple[npt.NDArray[np.generic], ...]] = []

    def read(
        self,
        errors: Floats,
        known: npt.NDArray[np.bool_],
        moments: Sequence[int],
        *,
        expect: bool = True,
    ) -> Float[Tensor, "series rows"]:
        """Read every row, and return how surprising each was.

        Parameters
        ----------
        errors
            Squared errors of the experts before the linear ones, (series, rows, experts).
        known
            Where there are such, of the same shape.
        moments
            Rows after which to take a snapshot.
        expect
            False leaves the surprise out, and what it is measured by.
        """
        series, count = known.shape[:2]
        surprise = np.full((series, count), np.nan, np.float32)
        wanted = set(moments)
        for row in range(count):
            place = self.kept + row
            write = self.seen[:, place] & self.real[:, place]
            if expect:
                surprise[:, row] = np.where(write, self._expect(place, write), np.nan)
            values = self.value[:, place]
            squares = np.empty((series, errors.shape[-1] + 1 + self.phases.heads), np.float32)
            squares[:, :BEFORE_HEADS] = errors[:, row]
            squares[:, BEFORE_HEADS] = (values - self._mean(place)) ** 2
            if self.phases.heads:
                squares[:, BEFORE_HEADS + 1 :] = self.phases.learn(
                    self.state.phases, self.slots[:, place], values, write
                )
            chosen = np.repeat(write[:, None], squares.shape[1], axis=1)
            chosen[:, :BEFORE_HEADS] = known[:, row]
            self.state.errors.add(squares, self.rates, chosen)
            self.state.count += self.real[:, place]
            if row in wanted:
                self.take(place)
        return torch.from_numpy(surprise)

    def take(self, place: int) -> None:
        """Keep what the experts look at after the row at ``place``."""
        context, horizon = self.config.context, self.config.horizon
        end = (place if place >= 0 else self.value.shape[1] + place) + 1
        span = slice(end - context, end)
        slots = self.slots[:, end - context : end + horizon]
        self.taken.append(
            (
                self.value[:, span],
                self.seen[:, span],
                self._levels(slots, context + horizon),
                self.state.errors.recent.copy(),
                self.state.errors.known.copy(),
                self.state.count.astype(np.float32),
            )
        )

    def snapshot(self, remembered: Float[Tensor, "moments series horizon"]) -> Snapshot:
        """Return the moments taken, one after another, each of every series."""
        look, seen, levels, errors, known, age = (
            torch.from_numpy(np.concatenate(parts)) for parts in zip(*self.taken, strict=True)
        )
        return Snapshot(look, seen, levels, remembered.flatten(0, 1), errors, known, age)

    def _levels(self, slots: Ints, rows: int) -> Floats:
        if not self.phases.heads:
            return np.zeros((len(slots), 0, rows), np.float32)
        return self.phases.read(self.state.phases, slots)

    def _mean(self, place: int) -> Floats:
        """Return the mean of the look-back before ``place``."""
        span = slice(place - self.config.context, place)
        seen = self.seen[:, span]
        total = (self.value[:, span] * seen).sum(1)
        mean: Floats = total / np.maximum(seen.sum(1), 1)
        return mean.astype(np.float32)

    def _expect(self, place: int, write: npt.NDArray[np.bool_]) -> Floats:
        """Return how far the row at ``place`` is from what the linear experts expect of it."""
        context = self.config.context
        span = slice(place - context, place + 1)
        levels = self._levels(self.slots[:, span], context + 1)
        mean = np.broadcast_to(self._mean(place)[:, None, None], (len(levels), 1, context + 1))
        levels = np.concatenate([mean, levels], axis=1)
        look, seen = self.value[:, None, span][..., :-1], self.seen[:, None, span][..., :-1]
        departures = (look - levels[..., :-1]) * seen
        expected = levels[..., -1] + np.einsum("sec,ec->se", departures, self.slope) + self.offset
        steps = self.state.step_errors
        squares = (self.value[:, place, None] - expected) ** 2
        trust = 1 / (steps.recent[..., 0] * steps.recent[..., 1] + 1e-8)
        forecast = (trust * expected).sum(1) / trust.sum(1)
        residual = self.value[:, place] - forecast
        usual = self._usual(place)
        bound = LARGEST_RESIDUAL * steps.recent[..., 1]
        few = steps.known < SLOT_SHARE
        squares = np.where(few, squares, np.minimum(squares, bound)).astype(np.float32)
        steps.add(squares, STEP_RATES, np.repeat(write[:, None], squares.shape[1], axis=1))
        self._note(place, residual, usual, write)
        deviation: Floats = np.abs(residual) / np.sqrt(usual)
        return deviation

    def _usual(self, place: int) -> Floats:
        """Return the usual squared residual: of all rows, and of those at the same slot."""
        held = self.state.residual
        usual = held.recent[:, 0, 1]
        if self.phases.heads:
            series = np.arange(len(usual))
            slot = 1 + self.slots[:, place, -1]
            visits = np.minimum(held.known[series, slot], 4 * SLOT_SHARE)
            own = held.recent[series, slot, 0]
            usual = (visits * own + SLOT_SHARE * usual) / (visits + SLOT_SHARE)
        return np.maximum(usual, 1e-8).astype(np.float32)

    def _note(
        self, place: int, residual: Floats, usual: Floats, write: npt.NDArray[np.bool_]
    ) -> None:
        """Average a residual in, for all rows and for its slot."""
        held = self.state.residual
        bounded = np.minimum(residual**2, LARGEST_RESIDUAL * usual)
        squares = np.repeat(bounded[:, None], held.known.shape[1], axis=1).astype(np.float32)
        chosen = np.zeros(held.known.shape, np.bool_)
        chosen[:, 0] = write
        if self.phases.heads:
            chosen[np.arange(len(write)), 1 + self.slots[:, place, -1]] = write
        held.add(squares, STEP_RATES, chosen)
