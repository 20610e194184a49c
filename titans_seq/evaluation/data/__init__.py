"""Finding, fetching, building and checking data sets."""
