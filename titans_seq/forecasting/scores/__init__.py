"""Metrics, backtests with rolling origins, and the seasonal naive forecast beside them."""
