"""A stream in one file: what it has learnt, and which forecaster it belongs to; no code."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from titans_seq.exceptions import BundleError
from titans_seq.files import write_whole
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.series import StreamSeries
from titans_seq.forecasting.stream.state import StreamState

FORMAT = "forecast-stream"
VERSION = "1"


def write_stream(
    path: str | os.PathLike[str], parts: StreamParts, series: StreamSeries, state: StreamState
) -> None:
    """Write a stream, whole or not at all."""
    from safetensors.torch import save_file

    where = {
        "ids": series.ids,
        "keys": series.keys,
        "scales": series.preprocess.scales,
        "last": [_time_text(one) for one in series.last],
        "zone": _zone(series.last[0]),
    }
    head = {
        "format": FORMAT,
        "version": VERSION,
        "forecaster": parts.fingerprint(),
        "series": json.dumps(where),
    }
    tensors = {name: one.contiguous() for name, one in state.to_tensors().items()}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, metadata=head)


def read_stream(
    parts: StreamParts, path: str | os.PathLike[str]
) -> tuple[StreamSeries, StreamState]:
    """Read what :func:`write_stream` wrote.

    Raises
    ------
    BundleError
        If the file is none or damaged, or belongs to another forecaster.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            head = file.metadata() or {}
            names = file.keys()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BundleError(f"{path} is no saved stream, or damaged: {error}") from error
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise BundleError(f"{path} is no saved stream of this version")
    if head.get("forecaster") != parts.fingerprint():
        raise BundleError(f"{path} belongs to another forecaster than the one given")
    try:
        held = json.loads(head["series"])
        last = [_read_time(one, held["zone"]) for one in held["last"]]
        own = replace(parts.preprocess, ids=held["ids"], scales=held["scales"])
        series = StreamSeries(own, replace(parts.columns, static=()), held["keys"], last)
        return series, StreamState.from_tensors(tensors)
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error


def _time_text(time: Any) -> int | str:
    return time.isoformat() if isinstance(time, pd.Timestamp) else int(time)


def _zone(time: Any) -> str | None:
    return str(time.tz) if isinstance(time, pd.Timestamp) and time.tz is not None else None


def _read_time(held: int | str, zone: str | None) -> Any:
    if isinstance(held, int):
        return held
    time = pd.Timestamp(held).as_unit("us")
    return time if zone is None else time.tz_convert(zone)
