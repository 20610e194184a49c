"""
Which hours were out of the ordinary?
=====================================

A stream expects something of every row before it reads it. How far a row is from what was
expected is its *surprise*, and a p-value says how rare so much surprise is. Nobody has to say
what an anomaly looks like, and the detector goes on learning what is usual.
"""

# %%
# Learn what is usual
# -------------------
# Late departures at JFK and LaGuardia, from June to September of 2013. The model is told the
# timetable and nothing else, above all nothing of the weather.

import matplotlib.pyplot as plt
import pandas as pd

from titans_seq.evaluation import data_path, read_card
from titans_seq.forecasting import TitansForecaster, read_frame

flights = read_frame(data_path(read_card("nyc13"), "hourly"))
flights["time"] = pd.to_datetime(flights["ds_utc"])
flights = flights[
    (flights["time"] >= "2013-06-01") & (flights["airport"] != "EWR")
]
rows = flights[["airport", "time", "late", "scheduled"]]

autumn = pd.Timestamp("2013-10-01")
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
forecaster.fit(rows[rows["time"] < autumn])

# %%
# Read the autumn
# ---------------
# Rows may come one at a time or all at once: the surprise is the same, since each row is judged
# by what was read before it.

stream = forecaster.stream(rows[rows["time"] < autumn])
stream.update(rows[rows["time"] >= autumn])
surprise = stream.surprise
surprise.sort_values("surprise").tail(3)

# %%
# ``p_value`` is the share of ordinary hours that were at least as surprising: what a threshold of
# 1% finds should be about 1% of the hours.

for level in (0.01, 0.05):
    print(
        f"p < {level}: {(surprise['p_value'] < level).mean():.1%} of the hours"
    )

# %%
# What happened there?
# --------------------
# We have not used the weather, so it can be a witness. Lay it beside the hours that were later
# than usual:

weather = flights[["airport", "time", "precip", "visib", "wind_speed"]]
hours = surprise.merge(rows).merge(weather)
rare = hours[(hours["p_value"] < 0.01) & (hours["late"] > 0)]
witness = {
    "rare and late": rare,
    "all hours with a late departure": hours[hours["late"] > 0],
}
pd.DataFrame(
    {
        name: {
            "hours": len(part),
            "rain or snow": (part["precip"] > 0).mean(),
            "sight below 3 miles": (part["visib"] < 3).mean(),
            "wind above 18 mph": (part["wind_speed"] > 18).mean(),
        }
        for name, part in witness.items()
    }
).T.round(2)

# %%
# And in a picture: JFK in the week of the snow of mid-December.

week = hours[
    (hours["airport"] == "JFK")
    & hours["time"].between("2013-12-12", "2013-12-19")
]
marked = week[week["p_value"] < 0.01]
figure, (above, below) = plt.subplots(
    2, 1, figsize=(8, 5), sharex=True, layout="constrained"
)
above.plot(week["time"], week["late"], color="0.3")
above.plot(
    marked["time"], marked["late"], "o", color="tab:red", label="p < 0.01"
)
above.set(ylabel="late departures an hour")
above.legend()
below.fill_between(
    week["time"],
    week["surprise"],
    color="tab:blue",
    alpha=0.6,
    label="surprise",
)
below.plot(
    week["time"],
    10 - week["visib"],
    color="0.5",
    lw=1,
    label="10 miles less the sight",
)
below.legend()
below.set(ylabel="deviations, miles")
below.tick_params(axis="x", rotation=20)
figure.suptitle(
    "Surprising hours at JFK, and the sight that the model was not told"
)
plt.show()

# %%
# On series with anomalies that were put in on purpose, where the truth is known, the ranking can
# be scored: :doc:`../../streams` has the result, and ``benchmarks/synthetic/anomalies.py`` in the
# repository makes such series.
