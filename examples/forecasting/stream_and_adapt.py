"""
Learn from every new row: streams, and ``adapt``
================================================

A model is trained in spring and used until winter. What if something changes in between? A
stream goes on learning while rows come in, in a memory of constant size; the network's weights
stay as they are. Here an airport changes for the worse overnight, and we watch how soon it
is found out.
"""

# %%
# An airport that changes overnight
# ---------------------------------
# Two airports, hour by hour. From October on we add ten late departures to each of JFK's busy
# hours, as if a runway had been closed. LaGuardia stays as it was: whatever learns about JFK must
# not forget LaGuardia.

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
# Train on what was known in September
# ------------------------------------
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
# Live through the autumn
# -----------------------
# Every midnight each stream forecasts the day to come, then reads what came. With ``adapt=True`` it
# also changes, by how its forecasts come true, which of its memories it believes.

history = flights[flights["time"] < begin]
streams = {
    "memory": forecaster.stream(history),
    "memory, adapted": forecaster.stream(history, adapt=True),
}

found = []
for day in pd.date_range(begin, "2013-11-03"):
    tomorrow = day + pd.Timedelta(days=1)
    came = flights[flights["time"].between(day, tomorrow, inclusive="left")]
    plan = came[["airport", "time", "scheduled"]]
    for name, stream in streams.items():
        forecast = stream.forecast(plan).merge(came)
        error = (forecast["y_pred"] - forecast["late"]) ** 2
        daily = (
            error.groupby(forecast["airport"])
            .mean()
            .rename("error")
            .reset_index()
        )
        found.append(daily.assign(stream=name, day=day))
        stream.update(came)

# %%
# What is the past worth at all? The control is the same forecaster with its memories reset before
# every forecast: it has read 96 rows, as a plain window would.

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
found = pd.concat([*found, control])

# %%
# How soon is the change found out?

import matplotlib.pyplot as plt

figure, panels = plt.subplots(
    2, 1, figsize=(8, 5), sharex=True, layout="constrained"
)
for axes, airport in zip(panels, ["JFK", "LGA"], strict=True):
    own = found[found["airport"] == airport]
    daily = own.pivot_table(index="day", columns="stream", values="error")
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
# In figures, the mean squared error:

spans = pd.cut(
    found["day"],
    [begin, change, change + pd.Timedelta(days=14), pd.Timestamp("2013-11-04")],
    labels=["before", "first two weeks", "afterwards"],
    right=False,
)
found.pivot_table(
    index=["airport", "stream"], columns=spans, values="error", observed=True
).round(2)

# %%
# What memories have learnt for months they unlearn in weeks; adapted, sooner. The control has
# nothing to unlearn, and before the change it does at least as well: one week of flights resembles
# the next, so these data hardly need a long memory. :doc:`../../streams` has data that do, measured in
# the same way. Ask for your own data before you choose: ``forecast_windows(..., reset=True)``.
#
# A state that stays small, and can be kept
# -----------------------------------------
# What a stream knows has one size, whether it has read a week or ten years. It is saved to one
# file, without code, and goes on from there bit for bit.

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
# From a shell, an object a line goes in and one comes out:
#
# .. code-block:: console
#
#    $ titans-seq forecast fit flights.csv --horizon 24 --context-length none --model late ...
#    $ titans-seq forecast stream --model late --state autumn.state < rows.jsonl
#
# :doc:`../../streams` says what is remembered, and what it is worth on other data.
