"""From a trained network to calibrated forecasts in a table."""
