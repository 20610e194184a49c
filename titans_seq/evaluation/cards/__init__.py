"""Cards of data sets and of recipes, and their splits."""
