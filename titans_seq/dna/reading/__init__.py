"""Bytes, records and labels: sequences as files hold them; no network is known here."""
