"""The demonstration of both heads on the embedded data."""
