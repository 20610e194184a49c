"""What a trained forecaster lends its streams."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.stream.adapting import with_adaptation
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.stream.state import Rows, StreamState
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Preprocess


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What a trained forecaster lends its streams; nothing of it changes any more."""

    network: ForecastNetwork
    model: StreamModel
    preprocess: Preprocess
    columns: ColumnRoles
    quantiles: tuple[float, ...] = ()
    """Told of each step unless others are asked for."""

    adapt: bool = False
    """Whether the trust in the experts moves, too."""

    def first(self, static: Tensor, static_codes: Tensor, like: Rows) -> StreamState:
        """Return the state of series that have no row yet; see :meth:`StreamModel.first`."""
        state = self.model.first(static, static_codes, like)
        return with_adaptation(self.model, state) if self.adapt else state

    def fingerprint(self) -> str:
        """Return a hash of all weights, by which a saved stream knows its forecaster."""
        total = hashlib.sha256()
        for module in (self.network, self.model):
            for name, one in sorted(module.state_dict().items()):
                total.update(name.encode())
                total.update(one.cpu().contiguous().numpy().tobytes())
        return total.hexdigest()[:16]
