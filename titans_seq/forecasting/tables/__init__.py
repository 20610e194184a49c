"""Frames checked and laid on a regular grid, and the tensors they become; no network here."""
