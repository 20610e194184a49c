"""The command line: each command parses its options, calls the library and prints.

Nothing is computed in this package, and nothing slow is imported before a command runs, so that
``--help`` answers at once.
"""

from __future__ import annotations

from .root import main

__all__ = ["main"]
