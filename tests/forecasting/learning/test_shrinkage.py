"""The backbone's share in the point forecast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch

from titans_seq.forecasting.learning.shrinkage import shrink_backbone
from titans_seq.forecasting.learning.windows import (
    WindowBatch,
    WindowBatches,
    gather,
    index_windows,
)
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Panel, Preprocess
from titans_seq.forecasting.tables.table import table_from_frame

COLUMNS = ColumnRoles(id="unique_id", time="ds", target=("y",))
HORIZON = 5


@pytest.fixture
def panel() -> Panel:
    rng = np.random.default_rng(0)
    rows = np.arange(90)
    frame = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": rows, "y": rng.normal(size=90)}) for name in "ab"
    )
    table = table_from_frame(frame, COLUMNS)
    return Preprocess.learn(table, COLUMNS, table.lengths()).panel(table, COLUMNS)


def _network() -> ForecastNetwork:
    torch.manual_seed(0)
    network = ForecastNetwork(
        NetworkConfig(
            context_length=8, horizon=HORIZON, dim=8, heads=1, layers=1, dropout=0.0,
            static_cardinalities=(3,),
        )
    )  # fmt: skip
    torch.nn.init.normal_(network.point.weight)
    return network.eval()


def _batches(panel: Panel, per_epoch: int = 1_000) -> WindowBatches:
    index = index_windows(panel, [8, 8], [90, 90], horizon=HORIZON)
    return WindowBatches(
        panel, index, context_length=8, horizon=HORIZON, batch_size=30, per_epoch=per_epoch
    )


@torch.no_grad()
def _by_hand(network: ForecastNetwork, panel: Panel, batches: WindowBatches) -> float:
    """Return the share, window by window."""
    index = batches.drawn()
    sums: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for place in range(len(index.cutoffs)):
        one = index.take(slice(place, place + 1))
        batch = gather(panel, one, context_length=8, horizon=HORIZON)
        without = network.baseline(batch.windows).expected()
        part = network(batch.windows).point - without
        stretch = sums[int(one.series[0]), int(one.cutoffs[0]) // HORIZON]
        stretch[0] += float((part * (batch.target - without)).sum())
        stretch[1] += float(part.square().sum())
    agreement, size = np.array(list(sums.values())).T
    share = agreement.sum() / size.sum()
    left = agreement - share * size
    error = np.sqrt((left**2).sum() * len(size) / (len(size) - 1)) / size.sum()
    return float(np.clip(share - error, 0, 1))


@pytest.mark.parametrize("per_epoch", [1_000, 50])
def test_is_what_windows_one_by_one_give(panel: Panel, per_epoch: int) -> None:
    network, batches = _network(), _batches(panel, per_epoch)
    network.share.fill_(1.0)
    expected = _by_hand(network, panel, batches)
    shrink_backbone(network, batches)
    assert float(network.share) == pytest.approx(expected, abs=1e-5)


class KnownFactor(WindowBatches):
    """Windows of which came what the network forecasts with a share, and noise."""

    def __init__(self, batches: WindowBatches, network: ForecastNetwork, share: float) -> None:
        vars(self).update(vars(batches))
        self.network, self.factor = network, share

    @torch.no_grad()
    def __iter__(self) -> Iterator[WindowBatch]:
        rng = torch.Generator().manual_seed(0)
        for batch in super().__iter__():
            without = self.network.baseline(batch.windows).expected()
            part = self.network.complete(batch.windows, self.network.baseline(batch.windows)).point
            noise = 0.3 * torch.randn(without.shape, generator=rng)
            yield batch._replace(target=without + self.factor * (part - without) + noise)


@pytest.mark.parametrize(("factor", "low", "high"), [
    (0.0, 0.0, 0.03), (0.6, 0.5, 0.6), (1.0, 0.9, 1.0), (-1.0, 0.0, 0.0), (3.0, 1.0, 1.0),
])  # fmt: skip
def test_finds_the_share_that_was_drawn_or_less(
    panel: Panel, factor: float, low: float, high: float
) -> None:
    network = _network()
    shrink_backbone(network, KnownFactor(_batches(panel), network, factor))
    assert low <= float(network.share) <= high


def test_without_a_backbone_nothing_is_taken_away(panel: Panel) -> None:
    network = _network()
    torch.nn.init.zeros_(network.point.weight)
    shrink_backbone(network, _batches(panel))
    assert float(network.share) == 1.0
