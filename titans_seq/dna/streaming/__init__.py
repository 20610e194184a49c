"""Predictions along records of any length, in constant memory, and their output formats."""
