"""Running a recipe, its folder, and the comparison of runs."""
