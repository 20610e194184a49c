"""Models and report of the recall benchmark."""
