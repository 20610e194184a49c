"""Losses, windows and the training of a forecaster."""
