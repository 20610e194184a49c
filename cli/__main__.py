"""``python -m titans_seq.cli``, for ``torchrun``."""

from __future__ import annotations

from . import main

main()
