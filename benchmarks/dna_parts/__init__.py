"""Parts of the benchmark of reading and predicting DNA; ``benchmarks/dna.py`` runs them."""
