"""
Detect anomalies with a stream
==============================

A stream predicts every row before it reads it. The deviation from the prediction is the row's
*surprise*, and its p-value shows how rare so large a surprise is. No examples of anomalies are
needed, and the detector keeps learning what is normal.
"""

# %%
# Learn what is normal
# --------------------
# Late departures at JFK and LaGuardia from June to September 2013. The timetable is the only
# covariate; in particular, the model has no weather data.

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
# Rows may be read one at a time or all at once. The surprise is the same, since each row is
# compared with a prediction from the rows before it.

stream = forecaster.stream(rows[rows["time"] < autumn])
stream.update(rows[rows["time"] >= autumn])
surprise = stream.surprise
surprise.sort_values("surprise").tail(3)

# %%
# ``p_value`` is the share of the training tail that was at least as surprising, so a threshold of
# 1% should flag about 1% of normal hours.

for level in (0.01, 0.05):
    print(
        f"p < {level}: {(surprise['p_value'] < level).mean():.1%} of the hours"
    )

# %%
# What happened in these hours?
# -----------------------------
# The weather was not used, so it can serve as independent evidence. Compare it in the hours with
# unusually many late departures:

weather = flights[["airport", "time", "precip", "visib", "wind_speed"]]
hours = surprise.merge(rows).merge(weather)
rare = hours[(hours["p_value"] < 0.01) & (hours["late"] > 0)]
groups = {
    "p < 0.01 and late": rare,
    "all hours with a late departure": hours[hours["late"] > 0],
}
pd.DataFrame(
    {
        name: {
            "hours": len(group),
            "rain or snow": (group["precip"] > 0).mean(),
            "visibility below 3 miles": (group["visib"] < 3).mean(),
            "wind above 18 mph": (group["wind_speed"] > 18).mean(),
        }
        for name, group in groups.items()
    }
).T.round(2)

# %%
# JFK in the week of the snowfall of mid-December:

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
above.set(ylabel="late departures per hour")
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
    label="10 miles minus visibility",
)
below.legend()
below.set(ylabel="deviations, miles")
below.tick_params(axis="x", rotation=20)
figure.suptitle(
    "Surprising hours at JFK, and visibility, which the model did not see"
)
plt.show()

# %%
# On series with injected anomalies, where the truth is known, the ranking can be scored:
# :doc:`../../streams` has the results, and ``benchmarks/synthetic/anomalies.py`` in the repository
# generates such series.
