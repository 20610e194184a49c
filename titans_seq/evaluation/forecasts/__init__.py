"""Scoring protocols and simple controls of forecasts."""
