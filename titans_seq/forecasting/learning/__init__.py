"""Losses, windows, closed-form solutions and the training of a network."""
