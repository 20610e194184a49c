"""Score records, intervals, tables and figures."""
