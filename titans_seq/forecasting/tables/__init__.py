"""Frames, checked and laid on a grid, and the tensors they become; no network is known here."""
