"""The command line: words in, words out.

Nothing here computes: each command reads its words, calls the library and prints. Nothing
heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from .root import main

__all__ = ["main"]
