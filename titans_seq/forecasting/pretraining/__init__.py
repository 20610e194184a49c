"""Made-up series to pre-train a forecaster on: nothing real is read."""
