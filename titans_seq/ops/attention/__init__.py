"""Causal sliding-window attention and rotary positions."""
