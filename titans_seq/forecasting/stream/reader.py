"""Row loop: update the phase memory and the running errors of every expert, row by row.

The loop is in NumPy: a row costs a few dozen small operations whatever the number of series.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.stream.mixture import ERROR_RATES, OTHER_EXPERTS, Mixture, Snapshot
from titans_seq.forecasting.stream.phases import PhaseMemory
from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.forecasting.stream.state import StreamState
from titans_seq.forecasting.tables.arrays import BoolArray, Float32Array, IntArray

STEP_ERROR_RATES = np.array([1 / 20, 1 / 200], np.float32)
"""Forgetting rates of the averages of an error one row ahead."""

MAX_RESIDUAL_RATIO = 16.0
"""Bound on a squared residual that is averaged, over the usual one."""

SLOT_VISITS = 5.0
"""Visits of a slot at which its own residuals count as much as those of all rows."""


class RowReader:
    """Reads rows into a state, in place, and takes snapshots on the way.

    Parameters
    ----------
    phases, mixture
        Parts of the model.
    state
        State to update.
    rows
        Rows of the state, then those to read.
    following
        Slots of the rows after those.
    """

    def __init__(
        self,
        phases: PhaseMemory,
        mixture: Mixture,
        state: StreamState,
        rows: StreamRows,
        following: Int[Tensor, "series horizon tables"] | None,
    ) -> None:
        self.phases, self.state = phases, state
        self.context, self.horizon = mixture.context, mixture.horizon
        self.first_new = state.rows.value.shape[1]
        self.value = rows.value.numpy()
        self.seen = rows.seen.numpy()
        self.real = rows.real.numpy()
        slots = rows.slots if following is None else torch.cat([rows.slots, following], dim=1)
        self.slots: IntArray = slots.numpy()
        # One row ahead only the first step of the linear experts counts.
        self.slope: Float32Array = mixture.slope[..., 0].numpy()
        self.offset: Float32Array = mixture.offset[..., 0].numpy()
        self.rates = np.array(ERROR_RATES, np.float32)
        self.snapshots: list[tuple[npt.NDArray[np.generic], ...]] = []

    def read(
        self,
        errors: Float32Array,
        known: BoolArray,
        snapshot_rows: Sequence[int],
        *,
        measure_surprise: bool = True,
    ) -> Float[Tensor, "series rows"]:
        """Read every new row, and return the surprise of each.

        Parameters
        ----------
        errors
            Squared errors of the network and the association, (series, rows, 2).
        known
            Where these are known, of the same shape.
        snapshot_rows
            New rows after which to take a snapshot.
        measure_surprise
            False skips the surprise and the running errors behind it.
        """
        series, count = known.shape[:2]
        surprise = np.full((series, count), np.nan, np.float32)
        taken_after = set(snapshot_rows)
        for new_row in range(count):
            row = self.first_new + new_row
            write = self.seen[:, row] & self.real[:, row]
            if measure_surprise:
                surprise[:, new_row] = np.where(write, self._surprise(row, write), np.nan)
            values = self.value[:, row]
            # The phase heads and the mean of the look-back are scored one row ahead; the network
            # and the association over the horizon that ends here.
            squares = np.empty((series, errors.shape[-1] + 1 + self.phases.heads), np.float32)
            squares[:, :OTHER_EXPERTS] = errors[:, new_row]
            squares[:, OTHER_EXPERTS] = (values - self._look_back_mean(row)) ** 2
            if self.phases.heads:
                squares[:, OTHER_EXPERTS + 1 :] = self.phases.learn(
                    self.state.phases, self.slots[:, row], values, write
                )
            chosen = np.repeat(write[:, None], squares.shape[1], axis=1)
            chosen[:, :OTHER_EXPERTS] = known[:, new_row]
            self.state.errors.add(squares, self.rates, chosen)
            self.state.count += self.real[:, row]
            if new_row in taken_after:
                self.take_snapshot(row)
        return torch.from_numpy(surprise)

    def take_snapshot(self, row: int) -> None:
        """Store the inputs of the experts after a row; -1 is the last one."""
        end = (row if row >= 0 else self.value.shape[1] + row) + 1
        span = slice(end - self.context, end)
        slots = self.slots[:, end - self.context : end + self.horizon]
        self.snapshots.append(
            (
                self.value[:, span],
                self.seen[:, span],
                self._levels(slots, self.context + self.horizon),
                self.state.errors.recent.copy(),
                self.state.errors.known.copy(),
                self.state.count.astype(np.float32),
            )
        )

    def collect(self, recalled: Float[Tensor, "rows series horizon"]) -> Snapshot:
        """Return the snapshots taken: row after row, each of every series."""
        look_back, seen, levels, errors, known, age = (
            torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*self.snapshots, strict=True)
        )
        return Snapshot(look_back, seen, levels, recalled.flatten(0, 1), errors, known, age)

    def _levels(self, slots: IntArray, rows: int) -> Float32Array:
        """Return the levels of the phase heads at ``slots``, (series, heads, rows)."""
        if not self.phases.heads:
            return np.zeros((len(slots), 0, rows), np.float32)
        return self.phases.read(self.state.phases, slots)

    def _look_back_mean(self, row: int) -> Float32Array:
        """Return the mean of the look-back before a row."""
        span = slice(row - self.context, row)
        seen = self.seen[:, span]
        total = (self.value[:, span] * seen).sum(1)
        mean: Float32Array = total / np.maximum(seen.sum(1), 1)
        return mean.astype(np.float32)

    def _surprise(self, row: int, write: BoolArray) -> Float32Array:
        """Return a row's deviation from the linear experts' forecast, over the usual one."""
        span = slice(row - self.context, row + 1)
        levels = self._levels(self.slots[:, span], self.context + 1)
        mean = self._look_back_mean(row)[:, None, None]
        mean = np.broadcast_to(mean, (len(levels), 1, self.context + 1))
        levels = np.concatenate([mean, levels], axis=1)
        look_back = self.value[:, None, span][..., :-1]
        departures = (look_back - levels[..., :-1]) * self.seen[:, None, span][..., :-1]
        linear = np.einsum("sec,ec->se", departures, self.slope)
        forecasts = levels[..., -1] + linear + self.offset
        steps = self.state.step_errors
        squares = (self.value[:, row, None] - forecasts) ** 2
        # Each expert weighs as the inverse product of its fast and slow error.
        weights = 1 / (steps.recent[..., 0] * steps.recent[..., 1] + 1e-8)
        forecast = (weights * forecasts).sum(1) / weights.sum(1)
        residual = self.value[:, row] - forecast
        usual = self._usual_residual(row)
        bound = MAX_RESIDUAL_RATIO * steps.recent[..., 1]
        few = steps.known < SLOT_VISITS  # too few errors to bound new ones by
        squares = np.where(few, squares, np.minimum(squares, bound)).astype(np.float32)
        chosen = np.repeat(write[:, None], squares.shape[1], axis=1)
        steps.add(squares, STEP_ERROR_RATES, chosen)
        self._average_residual(row, residual, usual, write)
        deviation: Float32Array = np.abs(residual) / np.sqrt(usual)
        return deviation

    def _usual_residual(self, row: int) -> Float32Array:
        """Return the usual squared residual: of all rows, and of those at the same slot."""
        averages = self.state.residual
        usual = averages.recent[:, 0, 1]
        if self.phases.heads:
            series = np.arange(len(usual))
            slot = 1 + self.slots[:, row, -1]
            # Shrink the slot's mean towards that of all rows, by its visits.
            visits = np.minimum(averages.known[series, slot], 4 * SLOT_VISITS)
            of_slot = averages.recent[series, slot, 0]
            usual = (visits * of_slot + SLOT_VISITS * usual) / (visits + SLOT_VISITS)
        return np.maximum(usual, 1e-8).astype(np.float32)

    def _average_residual(
        self, row: int, residual: Float32Array, usual: Float32Array, write: BoolArray
    ) -> None:
        """Average a residual in, for all rows and for its slot."""
        averages = self.state.residual
        bounded = np.minimum(residual**2, MAX_RESIDUAL_RATIO * usual)
        squares = np.repeat(bounded[:, None], averages.known.shape[1], axis=1).astype(np.float32)
        chosen = np.zeros(averages.known.shape, np.bool_)
        chosen[:, 0] = write
        if self.phases.heads:
            chosen[np.arange(len(write)), 1 + self.slots[:, row, -1]] = write
        averages.add(squares, STEP_ERROR_RATES, chosen)
