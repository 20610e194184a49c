"""Streams: forecasts that go on learning, at constant cost and memory a row."""

from titans_seq.forecasting.stream.stream import ForecastStream

__all__ = ["ForecastStream"]
