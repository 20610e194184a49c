"""Public leaderboards of forecasters: their tasks, rules and published scores."""
