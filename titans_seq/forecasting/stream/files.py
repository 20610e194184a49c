"""Stream files: the state of a stream in one safetensors file, without code.

The metadata holds the series (ids, scales, last times) and the fingerprint of the forecaster.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from titans_seq.exceptions import BundleError
from titans_seq.files import write_whole
from titans_seq.forecasting.stream.frozen import FrozenForecaster
from titans_seq.forecasting.stream.series import StreamSeries
from titans_seq.forecasting.stream.state import StreamState

_FORMAT = "forecast-stream"
_VERSION = "1"


def write_stream(
    path: str | os.PathLike[str],
    frozen: FrozenForecaster,
    series: StreamSeries,
    state: StreamState,
) -> None:
    """Write a stream file atomically."""
    from safetensors.torch import save_file

    last = series.last[0]
    table = {
        "ids": series.ids,
        "keys": series.keys,
        "scales": series.preprocess.scales,
        "last": [
            time.isoformat() if isinstance(time, pd.Timestamp) else int(time)
            for time in series.last
        ],
        "zone": str(last.tz) if isinstance(last, pd.Timestamp) and last.tz is not None else None,
    }
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "forecaster": frozen.fingerprint(),
        "series": json.dumps(table),
    }
    tensors = {name: tensor.contiguous() for name, tensor in state.to_tensors().items()}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_stream(
    frozen: FrozenForecaster, path: str | os.PathLike[str]
) -> tuple[StreamSeries, StreamState]:
    """Read a file that :func:`write_stream` wrote.

    Raises
    ------
    BundleError
        If the file is not a stream file, is damaged, or belongs to another forecaster.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BundleError(f"{path} is not a stream file, or is damaged: {error}") from error
    if metadata.get("format") != _FORMAT or metadata.get("version") != _VERSION:
        raise BundleError(f"{path} is not a stream file of version {_VERSION}")
    if metadata.get("forecaster") != frozen.fingerprint():
        raise BundleError(f"{path} belongs to another forecaster than the one that loads it")
    try:
        table = json.loads(metadata["series"])
        last = [_parse_time(time, table["zone"]) for time in table["last"]]
        preprocess = replace(frozen.preprocess, ids=table["ids"], scales=table["scales"])
        columns = replace(frozen.columns, static=())
        series = StreamSeries(preprocess, columns, table["keys"], last)
        return series, StreamState.from_tensors(tensors)
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error


def _parse_time(text: int | str, zone: str | None) -> Any:
    if isinstance(text, int):
        return text
    time = pd.Timestamp(text).as_unit("us")
    return time if zone is None else time.tz_convert(zone)
