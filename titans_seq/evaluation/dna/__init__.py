"""Scores and simple controls of DNA models."""
