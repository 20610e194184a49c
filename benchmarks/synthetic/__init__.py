"""Synthetic series: streams with a known optimal forecast, and series with injected anomalies."""
