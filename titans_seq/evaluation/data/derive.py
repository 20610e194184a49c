"""Functions that derive the files of a data set from a raw file.

A card names the raw file and one of these functions. The result must have the digest on the card,
so that everybody scores on the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from titans_seq.config import unknown_key_error
from titans_seq.evaluation.cards.reading import card_folder
from titans_seq.evaluation.data.regions import GenomeRegion, extract_regions
from titans_seq.exceptions import DataError, MissingExtraError

_TIME_FORMAT = "%Y-%m-%d %H:%M"


class DerivedFile(NamedTuple):
    """The file to derive."""

    dataset: str
    """Name of the card."""

    part: str
    """Name of the file on it, such as ``train``."""


def derive(builder: str, raw: Path, derived: DerivedFile) -> bytes:
    """Return the content of a derived file.

    Parameters
    ----------
    builder
        Name of a function in ``BUILDERS``.
    raw
        Path of the raw file.
    derived
        File to derive.

    Raises
    ------
    ConfigError
        If there is no such builder.
    DataError
        If the raw file has another format.
    """
    if builder not in BUILDERS:
        raise unknown_key_error(builder, BUILDERS, "made_by")
    return BUILDERS[builder](raw, derived)


def bike_sharing(raw: Path, derived: DerivedFile) -> bytes:
    """Return UCI's hourly bike rentals on a complete hourly grid.

    A missing hour gets 0 rentals and ``was_missing`` = 1; its weather is interpolated between its
    neighbours, and the weather category is that of the hour before. Temperature, humidity and
    wind speed are converted from fractions of their range to units, as UCI's Readme describes.
    """
    source = pd.read_csv(raw)
    times = pd.to_datetime(source["dteday"]) + pd.to_timedelta(source["hr"], unit="h")
    # Factors and offsets of UCI's Readme, which scaled the columns to 0..1.
    known = pd.DataFrame({
        "casual": source["casual"], "registered": source["registered"],
        "temp_c": source["temp"] * 47 - 8, "humidity": (source["hum"] * 100).round(1),
        "windspeed": source["windspeed"] * 67, "weather": source["weathersit"],
        "holiday": source["holiday"], "workingday": source["workingday"],
    }).set_axis(pd.DatetimeIndex(times))  # fmt: skip
    last = known.index[-1].normalize() + pd.Timedelta(hours=23)
    table = known.reindex(pd.date_range(known.index[0], last, freq="h"))
    missing = table["casual"].isna().astype(int)
    for name, decimals in (("temp_c", 2), ("humidity", 1), ("windspeed", 2)):
        table[name] = table[name].interpolate().round(decimals)
    table["weather"] = table["weather"].ffill()
    for name in ("holiday", "workingday"):  # the same all day
        table[name] = table[name].groupby(table.index.normalize()).transform("first")
    integers = ["casual", "registered", "weather", "holiday", "workingday"]
    table[integers] = table[integers].fillna(0).astype(int)
    return _csv(table.assign(was_missing=missing).rename_axis("ds").reset_index())


def vic_elec(raw: Path, derived: DerivedFile) -> bytes:
    """Return the table ``vic_elec`` of the R package tsibbledata as CSV, values unchanged."""
    try:
        import rdata
    except ModuleNotFoundError as error:
        raise MissingExtraError("rdata", extra="rdata") from error
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about R classes that rdata reads as plain tables
        table = rdata.read_rda(raw)["vic_elec"]
    utc = pd.to_datetime(table["Time"], unit="s", utc=True).reset_index(drop=True)
    return _csv(pd.DataFrame({
        "time_utc": utc.dt.tz_localize(None),
        "time_local": utc.dt.tz_convert("Australia/Melbourne").dt.tz_localize(None),
        "demand_mwh": table["Demand"].round(3).to_numpy(),
        "temperature_c": table["Temperature"].to_numpy(),
        "holiday": table["Holiday"].astype(int).to_numpy(),
    }))  # fmt: skip


def uci_splice(raw: Path, derived: DerivedFile) -> bytes:
    """Return one part of UCI's splice junctions, in upper case.

    ``datasets/uci_splice/rows.csv.gz`` defines the split: for each row of a part, in order, its
    row number in UCI's file, from 0.
    """
    rows = []
    for number, line in enumerate(raw.read_text("ascii").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3:
            raise DataError(f"{raw}, line {number}: expected 3 cells, got {len(cells)}")
        rows.append((cells[2].upper(), cells[0]))
    order = pd.read_csv(card_folder("datasets") / "uci_splice" / "rows.csv.gz")
    numbers = order.loc[order["part"] == derived.part, "row"]
    if numbers.max() >= len(rows):
        raise DataError(f"{raw}: expected at least {numbers.max() + 1} rows, got {len(rows)}")
    return _labelled(rows[number] for number in numbers)


def windows(raw: Path, derived: DerivedFile) -> bytes:
    """Return labelled windows of a genome.

    ``datasets/NAME/places.csv.gz`` defines the split: part, label, and a region as in
    :mod:`titans_seq.evaluation.data.regions`.
    """
    path = card_folder("datasets") / derived.dataset / "places.csv.gz"
    table = pd.read_csv(path)
    table = table[table["part"] == derived.part]
    columns = table[["region", "start", "end", "strand"]].itertuples(index=False, name=None)
    regions = [
        GenomeRegion(record, int(start), int(end), strand, str(path))
        for record, start, end, strand in columns
    ]
    return _labelled(zip(extract_regions(raw, regions), table["label"], strict=True))


BUILDERS: dict[str, Callable[[Path, DerivedFile], bytes]] = {
    "bike_sharing": bike_sharing,
    "uci_splice": uci_splice,
    "vic_elec": vic_elec,
    "windows": windows,
}
"""By the name in ``made_by`` of a card."""


def _labelled(rows: Iterable[tuple[str, str]]) -> bytes:
    """Return sequences and labels as CSV."""
    lines = ["sequence,label", *(f"{sequence},{label}" for sequence, label in rows)]
    return ("\n".join(lines) + "\n").encode("ascii")


def _csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV."""
    text = io.StringIO()
    for name in table.select_dtypes("datetime"):
        table[name] = table[name].dt.strftime(_TIME_FORMAT)
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode("ascii")
