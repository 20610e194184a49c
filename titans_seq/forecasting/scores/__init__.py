"""How good forecasts are: metrics, rolling origins, and the naive forecast beside them."""
