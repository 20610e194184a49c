"""Calibrated forecasts in real units, as frames and arrays."""
