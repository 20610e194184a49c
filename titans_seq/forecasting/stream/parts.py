"""What a trained forecaster lends its streams."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from titans_seq.forecasting.frames import Columns
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.panel import Preprocess
from titans_seq.forecasting.stream.model import StreamModel


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What a trained forecaster lends its streams; nothing of it changes any more."""

    network: ForecastNetwork
    model: StreamModel
    preprocess: Preprocess
    columns: Columns
    quantiles: tuple[float, ...] = ()
    """Told of each step unless others are asked for."""

    def fingerprint(self) -> str:
        """Return a hash of all weights, by which a saved stream knows its forecaster."""
        total = hashlib.sha256()
        for module in (self.network, self.model):
            for name, one in sorted(module.state_dict().items()):
                total.update(name.encode())
                total.update(one.cpu().contiguous().numpy().tobytes())
        return total.hexdigest()[:16]
