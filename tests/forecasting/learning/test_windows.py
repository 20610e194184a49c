from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from titans_seq.forecasting.learning.windows import (
    WindowBatches,
    WindowIndex,
    drop_empty,
    first_cutoff,
    gather,
    index_windows,
)
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Panel, Preprocess
from titans_seq.forecasting.tables.table import table_from_frame

COLUMNS = ColumnRoles(
    id="shop",
    time="when",
    target=("sold",),
    static=("area", "town"),
    past=("wind", "sky"),
    future=("plan", "holiday"),
)


@pytest.fixture
def panel(frame: pd.DataFrame) -> Panel:
    """Two series, 150 and 120 rows, ten of each missing."""
    gone = frame["when"].between("2024-01-02 03:00", "2024-01-02 12:00")
    table = table_from_frame(frame[~gone], COLUMNS)
    return Preprocess.learn(table, COLUMNS, table.lengths()).panel(table, COLUMNS)


@pytest.mark.parametrize(("context", "horizon"), [(1, 1), (7, 3), (40, 24)])
def test_gathers_what_a_loop_over_rows_would(panel: Panel, context: int, horizon: int) -> None:
    ends = panel.starts.diff().tolist()
    index = index_windows(panel, [0, 0], ends, horizon=horizon, stride=3)
    batch = gather(panel, index, context_length=context, horizon=horizon)
    for row, (series, cutoff) in enumerate(zip(*index, strict=True)):
        start = int(panel.starts[series])
        for place in range(context + horizon):
            source = int(cutoff) - context + place
            exists = source >= start
            future = panel.future[source] if exists else torch.zeros(1)
            assert torch.equal(batch.windows.future[row, place], future)
            codes = (
                panel.future_codes[source] if exists else torch.zeros_like(panel.future_codes[0])
            )
            assert torch.equal(batch.windows.future_codes[row, place], codes)
            if place >= context:
                assert batch.target[row, place - context] == panel.target[source]
                assert batch.target_seen[row, place - context] == panel.seen[source]
                continue
            seen = exists and bool(panel.seen[source])
            assert bool(batch.windows.seen[row, place]) == seen
            assert batch.windows.history[row, place] == (panel.target[source] if seen else 0)
            past = panel.past[source] if exists else torch.zeros(1)
            assert torch.equal(batch.windows.past[row, place], past)


def test_windows_stay_inside_their_rows(panel: Panel) -> None:
    index = index_windows(panel, [0, 30], [10, 40], horizon=4)
    first = index.cutoffs[index.series == 0] - panel.starts[0]
    second = index.cutoffs[index.series == 1] - panel.starts[1]
    assert first.tolist() == [1, 2, 3, 4, 5, 6]
    assert second.tolist() == [30, 31, 32, 33, 34, 35, 36]


def test_windows_without_a_value_are_left_out(panel: Panel) -> None:
    index = index_windows(panel, [0, 0], panel.starts.diff().tolist(), horizon=3)
    kept = drop_empty(panel, index, context_length=4, horizon=3)
    batch = gather(panel, index, context_length=4, horizon=3)
    wanted = batch.windows.seen.any(1) & batch.target_seen.any(1)
    assert torch.equal(kept.cutoffs, index.cutoffs[wanted])
    assert 0 < len(kept.cutoffs) < len(index.cutoffs)


@pytest.mark.parametrize(("rows", "expected"), [(1000, 96), (292, 96), (150, 27), (98, 1), (10, 1)])
def test_short_series_are_trained_on_before_their_look_back_is_whole(
    rows: int, expected: int
) -> None:
    assert first_cutoff(rows, context_length=96, horizon=96) == expected


def test_an_epoch_goes_through_every_window_in_a_new_order(panel: Panel) -> None:
    index = index_windows(panel, [0, 0], [50, 50], horizon=5)
    batches = WindowBatches(
        panel, index, context_length=8, horizon=5, batch_size=16, per_epoch=1000, seed=3
    )
    epochs = [torch.cat([batch.target for batch in batches]) for _ in range(2)]
    assert len(batches) == len(list(batches))
    assert not torch.equal(*epochs)
    assert torch.equal(epochs[0].sum(1).sort().values, epochs[1].sum(1).sort().values)


def test_of_many_windows_an_epoch_draws_some(panel: Panel) -> None:
    index = WindowIndex(torch.zeros(90, dtype=torch.long), torch.arange(10, 100))
    shuffled = WindowBatches(
        panel, index, context_length=8, horizon=5, batch_size=7, per_epoch=20, seed=0
    )
    assert sum(len(batch.target) for batch in shuffled) == 20
    even = WindowBatches(panel, index, context_length=8, horizon=5, batch_size=7, per_epoch=10)
    drawn = torch.cat([batch.target for batch in even])
    places = [10, 19, 29, 39, 49, 59, 69, 79, 89, 99]
    chosen = WindowIndex(torch.zeros(10, dtype=torch.long), torch.tensor(places))
    expected = gather(panel, chosen, context_length=8, horizon=5).target
    assert len(drawn) == len(expected)
    assert torch.equal(drawn[[0, -1]], expected[[0, -1]])


def test_the_scale_is_that_of_the_training_rows(frame: pd.DataFrame) -> None:
    table = table_from_frame(frame, COLUMNS)
    learnt = Preprocess.learn(table, COLUMNS, np.array([100, 60]))
    panel = learnt.panel(table, COLUMNS)
    for series, rows in enumerate([100, 60]):
        own = panel.target[int(panel.starts[series]) :][:rows]
        assert abs(float(own.mean())) < 1e-5
        assert abs(float(own.std(correction=0)) - 1) < 1e-5


def test_what_was_not_trained_on_has_code_zero(frame: pd.DataFrame) -> None:
    table = table_from_frame(frame, COLUMNS)
    learnt = Preprocess.learn(table, COLUMNS, table.lengths())
    other = frame.assign(shop="c" + frame["shop"], town="nowhere", sky="red", holiday="perhaps")
    panel = learnt.panel(table_from_frame(other, COLUMNS), COLUMNS)
    assert (panel.static_codes == 0).all()
    assert (panel.past_codes == 0).all()
    assert (panel.future_codes[:, 0] == 0).all()
    assert (panel.future_codes[:, 1:] > 0).all()


def test_the_hour_has_a_profile_where_each_row_has_its_slot(frame: pd.DataFrame) -> None:
    table = table_from_frame(frame, COLUMNS)
    sizes = Preprocess.learn(table, COLUMNS, table.lengths()).sizes(COLUMNS)
    assert sizes["future_cardinalities"] == (3, 25)  # holiday, hour
    assert sizes["cycle"] == 1
    counted = frame.assign(when=frame["when"].rank(method="dense").astype(int))
    table = table_from_frame(counted, COLUMNS)
    assert Preprocess.learn(table, COLUMNS, table.lengths()).sizes(COLUMNS)["cycle"] is None
