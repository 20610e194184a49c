"""Read sequences, labels and intervals from files; this package knows no network."""
