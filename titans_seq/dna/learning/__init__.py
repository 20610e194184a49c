"""The network, what it learns from and towards; no file of sequences is known here."""
