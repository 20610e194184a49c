"""
Learn from every new row: streams and ``adapt``
===============================================

A model is trained in spring and used until winter. What if something changes in between? A
stream keeps learning as rows arrive, in memories of constant size; the weights of the network do
not change. Here delays at one airport rise overnight, and we see how quickly the forecasts follow.
"""

# %%
# An airport that changes overnight
# ---------------------------------
# Two airports, hourly. From October we add ten late departures to each hour with traffic at JFK,
# as if a runway had been closed. LaGuardia does not change: learning about JFK must not affect its
# forecasts.

import pandas as pd

from titans_seq.evaluation import data_path, read_card
from titans_seq.forecasting import TitansForecaster, read_frame

flights = read_frame(data_path(read_card("nyc13"), "hourly"))
flights["time"] = pd.to_datetime(flights["ds_utc"])
flights = flights.loc[
    flights["airport"] != "EWR", ["airport", "time", "late", "scheduled"]
]
flights = flights[
    flights["time"].between("2013-05-01", "2013-11-04", inclusive="left")
]

change = pd.Timestamp("2013-10-01")
closed = (
    (flights["airport"] == "JFK")
    & (flights["time"] >= change)
    & (flights["scheduled"] > 0)
)
flights.loc[closed, "late"] += 10

# %%
# Train on the rows before mid-September
# --------------------------------------
# ``context_length=None`` looks back on 96 rows and remembers everything before them.

begin = pd.Timestamp("2013-09-17")
forecaster = TitansForecaster(
    horizon=24,
    context_length=None,
    id_col="airport",
    time_col="time",
    target_col="late",
    future=["scheduled"],
    max_epochs=1,
    batch_size=128,
    random_state=0,
)
forecaster.fit(flights[flights["time"] < begin])

# %%
# Stream through the autumn
# -------------------------
# Every midnight each stream forecasts the next day and then reads its actual values. With
# ``adapt=True`` it also adjusts how much it trusts each of its experts, by their recent errors.

history = flights[flights["time"] < begin]
streams = {
    "memory": forecaster.stream(history),
    "memory, adapted": forecaster.stream(history, adapt=True),
}

daily_errors = []
for day in pd.date_range(begin, "2013-11-03"):
    tomorrow = day + pd.Timedelta(days=1)
    actual = flights[flights["time"].between(day, tomorrow, inclusive="left")]
    plan = actual[["airport", "time", "scheduled"]]
    for name, stream in streams.items():
        forecast = stream.forecast(plan).merge(actual)
        error = (forecast["y_pred"] - forecast["late"]) ** 2
        daily = (
            error.groupby(forecast["airport"])
            .mean()
            .rename("error")
            .reset_index()
        )
        daily_errors.append(daily.assign(stream=name, day=day))
        stream.update(actual)

# %%
# How much does the past help at all? The control is the same forecaster with its memories reset
# before every forecast, so that it has read only 96 rows, like a plain window.

first = len(history) // 2  # of the rows of each of the two series
reset = forecaster.forecast_windows(flights, start=first, stride=24, reset=True)
control = pd.DataFrame(
    {
        "airport": reset.ids,
        "error": ((reset.point - reset.actual) ** 2).mean(axis=1),
        "stream": "reset to 96 rows",
        "day": pd.to_datetime(reset.cutoffs) + pd.Timedelta(hours=1),
    }
)
errors = pd.concat([*daily_errors, control])

# %%
# How quickly do the forecasts follow the change?

import matplotlib.pyplot as plt

figure, panels = plt.subplots(
    2, 1, figsize=(8, 5), sharex=True, layout="constrained"
)
for axes, airport in zip(panels, ["JFK", "LGA"], strict=True):
    at_airport = errors[errors["airport"] == airport]
    daily = at_airport.pivot_table(
        index="day", columns="stream", values="error"
    )
    daily.rolling(3, min_periods=1).mean().plot(
        ax=axes, legend=airport == "JFK"
    )
    axes.axvline(change, color="black", linestyle=":")
    axes.set(ylabel=f"squared error at {airport}", xlabel="", ylim=(0, None))
figure.suptitle(
    "Error of day-ahead forecasts before and after JFK changes (dotted)"
)
plt.show()

# %%
# The mean squared errors:

spans = pd.cut(
    errors["day"],
    [begin, change, change + pd.Timedelta(days=14), pd.Timestamp("2013-11-04")],
    labels=["before", "first two weeks", "afterwards"],
    right=False,
)
errors.pivot_table(
    index=["airport", "stream"], columns=spans, values="error", observed=True
).round(2)

# %%
# Memories that learned for months need weeks to unlearn; with adaptation, less. The control has
# nothing to unlearn, and before the change it does at least as well: one week of flights is like
# the next, so these data hardly need a long memory. :doc:`../../streams` has data that do, measured
# in the same way. Check your own data with ``forecast_windows(..., reset=True)`` before you choose.
#
# Save the state
# --------------
# The state has a constant size, whether the stream has read a week or ten years. It is saved to
# one file, without code; a loaded stream continues bit for bit.

import tempfile
from pathlib import Path

stream = streams["memory, adapted"]
print(
    f"{max(stream.rows.values()):,} rows read of each series, {stream.nbytes / 1e3:,.0f} kB"
)

path = Path(tempfile.mkdtemp()) / "autumn.state"
stream.save(path)
print(forecaster.load_stream(path).digest() == stream.digest())

# %%
# On the command line, a stream reads one JSON object per line and prints one per line:
#
# .. code-block:: console
#
#    $ titans-seq forecast fit flights.csv --horizon 24 --context-length none --model late ...
#    $ titans-seq forecast stream --model late --state autumn.state < rows.jsonl
#
# :doc:`../../streams` describes what is remembered, and how much it helps on other data.
