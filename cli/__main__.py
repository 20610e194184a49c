"""``python -m titans_seq.cli``, which torchrun can start."""

from __future__ import annotations

from . import main

main()
