"""Parts of the benchmark of the memory layer; ``benchmarks/memory.py`` puts them together."""
