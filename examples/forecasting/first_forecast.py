"""
First forecast: from a pandas frame to intervals
================================================

How many departures will leave New York's airports more than 15 minutes late in each hour of
tomorrow? We train a forecaster on a frame, predict intervals, check their coverage, and save the
model. The data are included in the package.
"""

# %%
# The data: one row per series and hour
# -------------------------------------
# ``late`` is the target; ``scheduled``, the timetable, is known in advance. A *long* frame like
# this one may have any number of series, in any order, with missing rows or values.

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
# Rows before ``now`` are known. The rest is kept for comparison with the forecast.

now = pd.Timestamp("2013-11-01")
known = flights[flights["time"] < now]

# %%
# Fit
# ---
# Name the columns; everything else has defaults. The last 15% of each series are held out for
# early stopping and for calibrating the intervals. (Two epochs keep this page quick; by default,
# training continues until the held-out error stops falling.)

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
# ``make_future_frame`` returns the rows to forecast; merge in the timetable, which is known.

plan = forecaster.make_future_frame().merge(
    flights[["airport", "time", "scheduled"]]
)
forecast = forecaster.predict(future_df=plan, levels=[50, 80])
forecast.head(3)

# %%
# The forecast is a frame, in late departures per hour. Plot it with the actual values:

actual = flights[
    (flights["time"] >= now) & (flights["time"] < now + pd.Timedelta("24h"))
]
figure = forecaster.plot(
    future_df=plan, actual=actual, title="Late departures, a day ahead"
)

# %%
# How far can you trust it?
# -------------------------
# ``backtest`` forecasts from rolling origins and scores each forecast beside *seasonal naive*,
# which repeats the last week. November is out-of-sample for this forecaster.

november = flights[flights["time"] < "2013-11-29"]
backtest = forecaster.backtest(november, windows=28, step=24, season=168)
backtest.summary().round(3)

# %%
# An 80% interval should cover 80% of the actual values at every step of the horizon, not only on
# average:

coverage = backtest.by_horizon()["coverage-80"].unstack(0)
axes = coverage.plot(figsize=(7, 3), ylim=(0, 1.05), grid=True)
axes.axhline(0.8, color="black", linestyle=":", label="nominal")
axes.set(
    title="Coverage of the 80% intervals in November",
    xlabel="hours ahead",
    ylabel="share inside",
)
axes.legend()
plt.show()

# %%
# For sums, sample whole paths instead of hourly intervals. The number of late departures in the
# whole day:

paths = forecaster.sample(future_df=plan, n=500, random_state=0)
days = paths.groupby(["airport", "sample"])["y_pred"].sum()
days.groupby("airport").quantile([0.1, 0.5, 0.9]).unstack().round(0)

# %%
# Save and load
# -------------
# A model is a folder of JSON files and safetensors, without pickle.

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
# The same on the command line:
#
# .. code-block:: console
#
#    $ titans-seq forecast fit known.csv --horizon 24 --context-length 168 \
#          --id-col airport --time-col time --target-col late --future scheduled --model late
#    $ titans-seq forecast predict known.csv --future-data plan.csv --model late --out tomorrow.csv
#
# :doc:`../../forecasting` continues with other input formats, sample paths and hyperparameter
# search.
