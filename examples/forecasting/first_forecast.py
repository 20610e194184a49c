"""
From a pandas frame to a forecast with intervals
================================================

How many departures leave New York's airports more than a quarter of an hour late tomorrow, hour
by hour? We train a forecaster on a frame, ask for intervals, look at how honest they are, and
keep the model in a folder. The data come with the package.
"""

# %%
# The data: one row for each series and hour
# ------------------------------------------
# ``late`` is what we want to know, ``scheduled`` is known ahead: it is the timetable. A *long*
# frame like this may hold any number of series, in any order, with rows or values missing.

import matplotlib.pyplot as plt
import pandas as pd

from titans_seq.evaluation import data_path, read_card
from titans_seq.forecasting import TitansForecaster, read_frame

flights = read_frame(data_path(read_card("nyc13"), "hourly"))
flights["time"] = pd.to_datetime(flights["ds_utc"])
flights = flights.loc[
    flights["time"] >= "2013-07-01", ["airport", "time", "late", "scheduled"]
]
flights.head(3)

# %%
# Everything before ``now`` is known. The rest we keep for later, to see what came.

now = pd.Timestamp("2013-11-01")
known = flights[flights["time"] < now]

# %%
# Fit
# ---
# Say which column is what; the rest has defaults. The last 15% of each series are not trained
# on: they choose the epoch, and calibrate the intervals. (Two epochs keep this page quick; the
# default is to go on until the held-out rows no longer gain.)

forecaster = TitansForecaster(
    horizon=24,
    context_length=168,
    id_col="airport",
    time_col="time",
    target_col="late",
    future=["scheduled"],
    max_epochs=2,
    batch_size=64,
    random_state=0,
)
forecaster.fit(known)

# %%
# Predict
# -------
# ``make_future_frame`` says which rows must be known ahead; the timetable fills them in.

plan = forecaster.make_future_frame().merge(
    flights[["airport", "time", "scheduled"]]
)
forecast = forecaster.predict(future_df=plan, levels=[50, 80])
forecast.head(3)

# %%
# The answer is a frame again, in late departures an hour. Draw it over what came:

came = flights[
    (flights["time"] >= now) & (flights["time"] < now + pd.Timedelta("24h"))
]
figure = forecaster.plot(
    future_df=plan, actual=came, title="Late departures, a day ahead"
)

# %%
# How far can it be trusted?
# --------------------------
# ``backtest`` forecasts from many origins and scores every one beside *seasonal naive*, which
# repeats last week. The forecaster has seen nothing of November.

november = flights[flights["time"] < "2013-11-29"]
backtest = forecaster.backtest(november, windows=28, step=24, season=168)
backtest.summary().round(3)

# %%
# An 80% interval should hold 80% of what comes, at every step of the horizon, not only on the
# whole:

coverage = backtest.by_horizon()["coverage-80"].unstack(0)
axes = coverage.plot(figsize=(7, 3), ylim=(0, 1.05), grid=True)
axes.axhline(0.8, color="black", linestyle=":", label="promised")
axes.set(
    title="Share of November inside the 80% intervals",
    xlabel="hours ahead",
    ylabel="inside",
)
axes.legend()
plt.show()

# %%
# Sums need whole paths, not intervals hour by hour: how many late departures will the whole day
# have?

paths = forecaster.sample(future_df=plan, n=500, random_state=0)
days = paths.groupby(["airport", "sample"])["y_pred"].sum()
days.groupby("airport").quantile([0.1, 0.5, 0.9]).unstack().round(0)

# %%
# Keep it
# -------
# A model is a folder of JSON and safetensors, without pickle.

import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp()) / "late-departures"
forecaster.save(folder)
again = TitansForecaster.load(folder)
print(sorted(path.name for path in folder.iterdir()))
print(
    again.predict(known, plan)["y_pred"].sum()
    == forecaster.predict(known, plan)["y_pred"].sum()
)

# %%
# On the command line the same is
#
# .. code-block:: console
#
#    $ titans-seq forecast fit known.csv --horizon 24 --context-length 168 \
#          --id-col airport --time-col time --target-col late --future scheduled --model late
#    $ titans-seq forecast predict known.csv --future-data plan.csv --model late --out tomorrow.csv
#
# :doc:`../../forecasting` goes on from here: other shapes of data, paths, searches for settings.
