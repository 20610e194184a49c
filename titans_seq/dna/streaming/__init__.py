"""Records of any length through a fitted model at constant memory, and what is said of them."""
