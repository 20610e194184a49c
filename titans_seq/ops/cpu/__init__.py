"""The memory compiled for processors: plain C, and what reaches it from Python."""
