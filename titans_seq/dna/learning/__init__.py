"""The network, its training data and its training; this package reads no sequence files."""
