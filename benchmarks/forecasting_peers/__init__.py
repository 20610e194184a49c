"""What the forecaster is timed beside."""
