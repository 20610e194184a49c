"""Phase levels: exact means, random walks, jumps, and unvisited slots."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

from titans_seq.forecasting.stream.phases import DRIFTS, JUMP_DRIFTS, PhaseMemory, PhaseState


def _learn(memory: PhaseMemory, state: PhaseState, values: np.ndarray, first: int = 0) -> None:
    for row, value in enumerate(values, start=first):
        slots = np.array([[row % slots for slots in memory.slots]])
        memory.learn(state, slots, np.array([value], np.float32), np.array([not np.isnan(value)]))


def _levels(memory: PhaseMemory, state: PhaseState, table: int = 0) -> np.ndarray:
    slots = np.zeros((1, memory.slots[table], len(memory.slots)), np.int64)
    for number, size in enumerate(memory.slots):
        slots[0, :, number] = np.arange(memory.slots[table]) % size
    kinds = len(DRIFTS) + len(JUMP_DRIFTS)
    return memory.read(state, slots)[0, table * kinds : (table + 1) * kinds]


def test_a_constant_profile_is_learnt_by_every_head() -> None:
    memory = PhaseMemory((4,))
    state = memory.initial_state(1)
    profile = np.array([1.0, -2.0, 0.5, 3.0])
    _learn(memory, state, np.tile(profile, 50))
    np.testing.assert_allclose(_levels(memory, state), np.tile(profile, (6, 1)), atol=0.02)


def test_the_slowest_head_is_close_to_the_mean_of_noisy_rows() -> None:
    memory = PhaseMemory((2,))
    state = memory.initial_state(1)
    source = np.random.default_rng(0)
    values = np.tile([1.0, -1.0], 300) + 0.5 * source.standard_normal(600)
    _learn(memory, state, values)
    slowest = _levels(memory, state)[len(DRIFTS) - 1]
    np.testing.assert_allclose(slowest, [values[::2].mean(), values[1::2].mean()], atol=0.06)


def test_a_head_for_jumps_follows_one_within_two_rounds_and_a_slow_one_does_not() -> None:
    memory = PhaseMemory((24,))
    state = memory.initial_state(1)
    source = np.random.default_rng(1)
    before, after = source.standard_normal((2, 24))

    def noisy(profile: np.ndarray, days: int) -> np.ndarray:
        return np.tile(profile, days) + 0.2 * source.standard_normal(24 * days)

    _learn(memory, state, noisy(before, 60))
    _learn(memory, state, noisy(after, 2), first=24 * 60)
    error = np.square(_levels(memory, state) - after).mean(-1)
    assert error[len(DRIFTS) + 1] < 0.1
    assert error[len(DRIFTS) - 1] > 0.5


def test_an_unvisited_slot_of_the_week_reads_its_hour_of_the_day() -> None:
    memory = PhaseMemory((3, 6))
    state = memory.initial_state(1)
    for slot in (0, 1, 2):
        for _ in range(20):
            memory.learn(
                state, np.array([[slot, slot]]), np.array([slot], np.float32), np.array([True])
            )
    fine = _levels(memory, state, table=1)[: len(DRIFTS)]
    np.testing.assert_allclose(fine, np.tile([0, 1, 2, 0, 1, 2], (len(DRIFTS), 1)), atol=0.05)


def test_a_missing_row_changes_nothing() -> None:
    memory = PhaseMemory((4,))
    state = memory.initial_state(2)
    values = np.array([1.0, 2.0], np.float32)
    memory.learn(state, np.array([[1], [2]]), values, np.array([True, True]))
    before = deepcopy(state)
    memory.learn(state, np.array([[1], [2]]), values + 5, np.array([False, True]))
    for name, held in state.arrays().items():
        np.testing.assert_array_equal(held[0], before.arrays()[name][0], err_msg=name)
    assert (state.level[1] != before.level[1]).any()


@pytest.mark.parametrize("spike", [1e3, -1e6])
def test_one_spike_moves_no_settled_level_far(spike: float) -> None:
    memory = PhaseMemory((4,))
    state = memory.initial_state(1)
    source = np.random.default_rng(2)
    values = np.tile([1.0, -1.0, 2.0, 0.0], 100) + 0.1 * source.standard_normal(400)
    _learn(memory, state, values)
    before = _levels(memory, state)
    _learn(memory, state, np.array([spike]), first=400)
    after = _levels(memory, state)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() < 1.0
