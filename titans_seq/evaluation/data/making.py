"""Makes the files of derived data sets from those that can be fetched.

A card names the raw file and one of these functions; what comes out must have the digest on the
card, so that everybody scores on the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from titans_seq.config import unknown_key_error
from titans_seq.evaluation.cards.reading import card_folder
from titans_seq.evaluation.data.genome import Place, cut
from titans_seq.exceptions import DataError, MissingExtraError

STAMP = "%Y-%m-%d %H:%M"


class Wanted(NamedTuple):
    """A file that is to be made."""

    dataset: str
    """Name of the card."""

    part: str
    """Name of the file on it, such as ``train``."""


def make(builder: str, raw: Path, wanted: Wanted) -> bytes:
    """Return the content of a derived file.

    Parameters
    ----------
    builder
        Name of what makes it.
    raw
        What it is made from.
    wanted
        What is to be made.

    Raises
    ------
    ConfigError
        If there is no such builder.
    DataError
        If the raw file is not as it should be.
    """
    if builder not in BUILDERS:
        raise unknown_key_error(builder, BUILDERS, "made_by")
    return BUILDERS[builder](raw, wanted)


def bike_sharing(raw: Path, wanted: Wanted) -> bytes:
    """Return UCI's hourly rentals without gaps.

    A row an hour, times from the first to the last: an hour that is missing has 0 rentals, weather
    interpolated between its neighbours (the kind of weather that of the hour before), and says so.
    Temperature, humidity and wind are no longer shares of a range: UCI's Readme says of which.
    """
    source = pd.read_csv(raw)
    times = pd.to_datetime(source["dteday"]) + pd.to_timedelta(source["hr"], unit="h")
    known = pd.DataFrame({
        "casual": source["casual"], "registered": source["registered"],
        "temp_c": source["temp"] * 47 - 8, "humidity": (source["hum"] * 100).round(1),
        "windspeed": source["windspeed"] * 67, "weather": source["weathersit"],
        "holiday": source["holiday"], "workingday": source["workingday"],
    }).set_axis(pd.DatetimeIndex(times))  # fmt: skip
    last = known.index[-1].normalize() + pd.Timedelta(hours=23)
    table = known.reindex(pd.date_range(known.index[0], last, freq="h"))
    missing = table["casual"].isna().astype(int)
    for name, places in (("temp_c", 2), ("humidity", 1), ("windspeed", 2)):
        table[name] = table[name].interpolate().round(places)
    table["weather"] = table["weather"].ffill()
    for name in ("holiday", "workingday"):  # the same all day
        table[name] = table[name].groupby(table.index.normalize()).transform("first")
    whole = ["casual", "registered", "weather", "holiday", "workingday"]
    table[whole] = table[whole].fillna(0).astype(int)
    return _csv(table.assign(was_missing=missing).rename_axis("ds").reset_index())


def vic_elec(raw: Path, wanted: Wanted) -> bytes:
    """Return the table ``vic_elec`` of the R package tsibbledata, unchanged but for the form."""
    try:
        import rdata
    except ModuleNotFoundError as error:
        raise MissingExtraError("rdata", extra="rdata") from error
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of R classes that are read as plain tables
        table = rdata.read_rda(raw)["vic_elec"]
    utc = pd.to_datetime(table["Time"], unit="s", utc=True).reset_index(drop=True)
    return _csv(pd.DataFrame({
        "time_utc": utc.dt.tz_localize(None),
        "time_local": utc.dt.tz_convert("Australia/Melbourne").dt.tz_localize(None),
        "demand_mwh": table["Demand"].round(3).to_numpy(),
        "temperature_c": table["Temperature"].to_numpy(),
        "holiday": table["Holiday"].astype(int).to_numpy(),
    }))  # fmt: skip


def uci_splice(raw: Path, wanted: Wanted) -> bytes:
    """Return one part of UCI's splice junctions: letters upper-cased, rows as the split has them.

    Which row belongs where stands in ``datasets/uci_splice/rows.csv.gz``: the number of each row
    in UCI's file, from 0, in the order of the part.
    """
    rows = []
    for number, line in enumerate(raw.read_text("ascii").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3:
            raise DataError(f"{raw}, line {number}: {len(cells)} cells, 3 are right")
        rows.append((cells[2].upper(), cells[0]))
    order = pd.read_csv(card_folder("datasets") / "uci_splice" / "rows.csv.gz")
    numbers = order.loc[order["part"] == wanted.part, "row"]
    if numbers.max() >= len(rows):
        raise DataError(f"{raw}: {len(rows)} rows; the split needs {numbers.max() + 1}")
    return _labelled(rows[number] for number in numbers)


def windows(raw: Path, wanted: Wanted) -> bytes:
    """Return labelled windows of a genome, cut where the split has them.

    The places stand in ``datasets/NAME/places.csv.gz``: part, label, and a place as
    :mod:`titans_seq.evaluation.data.genome` reads it.
    """
    path = card_folder("datasets") / wanted.dataset / "places.csv.gz"
    table = pd.read_csv(path)
    table = table[table["part"] == wanted.part]
    columns = table[["region", "start", "end", "strand"]].itertuples(index=False, name=None)
    places = [
        Place(region, int(start), int(end), strand, str(path))
        for region, start, end, strand in columns
    ]
    return _labelled(zip(cut(raw, places), table["label"], strict=True))


BUILDERS: dict[str, Callable[[Path, Wanted], bytes]] = {
    "bike_sharing": bike_sharing,
    "uci_splice": uci_splice,
    "vic_elec": vic_elec,
    "windows": windows,
}
"""By the names that cards use."""


def _labelled(rows: Iterable[tuple[str, str]]) -> bytes:
    """Return sequences and labels as comma-separated lines."""
    lines = ["sequence,label", *(f"{sequence},{label}" for sequence, label in rows)]
    return ("\n".join(lines) + "\n").encode("ascii")


def _csv(table: pd.DataFrame) -> bytes:
    """Return a table as comma-separated lines."""
    text = io.StringIO()
    for name in table.select_dtypes("datetime"):
        table[name] = table[name].dt.strftime(STAMP)
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode("ascii")
