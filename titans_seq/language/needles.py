"""Secrets in a text that a model must remember.

A secret is eight different capital letters, written as ``The code is QHZVMXTE.``. After a second
``The code is``, a model that remembers the first occurrence can predict the next eight bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]
"""A text, or (rows, time) of several."""

CUE = b"\nThe code is "
SECRET_LETTERS = 8
"""Letters of a secret, each one of 26."""

PASSAGE_BYTES = len(CUE) + SECRET_LETTERS + 1
"""Bytes of a secret with its cue and its full stop."""


def draw_secret(generator: np.random.Generator) -> bytes:
    """Return a random secret."""
    return bytes(generator.permutation(26)[:SECRET_LETTERS].astype(np.uint8) + ord("A"))


def _passage(generator: np.random.Generator) -> ByteArray:
    """Return a random secret with its cue and its full stop."""
    return np.frombuffer(CUE + draw_secret(generator) + b".", dtype=np.uint8)


class PlantedWindow(NamedTuple):
    """A window with a secret."""

    window: ByteArray

    is_target: npt.NDArray[np.bool_]
    """True at the letters of the secret, except for its first occurrence."""


def plant(window: ByteArray, generator: np.random.Generator) -> PlantedWindow:
    """Return a window into which a secret is written several times, at random positions.

    Parameters
    ----------
    window
        Bytes of a text, at least ``2 * PASSAGE_BYTES``.
    generator
        Draws the positions and the secret.
    """
    times = int(generator.integers(2, max(len(window) // (2 * PASSAGE_BYTES), 2) + 1))
    passage = _passage(generator)
    free = len(window) - times * PASSAGE_BYTES
    # Sorted positions in the free bytes, moved apart by the passages before them.
    starts = np.sort(generator.integers(0, free + 1, times)) + PASSAGE_BYTES * np.arange(times)
    planted, is_target = window.copy(), np.zeros(len(window), dtype=bool)
    for start in starts:
        end = start + PASSAGE_BYTES
        planted[start:end] = passage
        is_target[start + len(CUE) : end - 1] = start > starts[0]
    return PlantedWindow(planted, is_target)


def haystacks(text: ByteArray, gap: int, count: int, generator: np.random.Generator) -> ByteArray:
    """Return rows of a secret, a stretch of a text, and the secret again.

    Parameters
    ----------
    text
        Source of the stretches; one that is too short is repeated.
    gap
        Bytes between the two occurrences.
    count
        Rows, each with its own secret.
    generator
        Draws secrets and stretches.

    Returns
    -------
    rows
        (count, gap + 2 * PASSAGE_BYTES - 1); the last ``SECRET_LETTERS`` bytes of each row are
        its secret.
    """
    if len(text) < gap:
        text = np.resize(text, gap)
    rows = np.empty((count, gap + 2 * PASSAGE_BYTES - 1), dtype=np.uint8)
    for row in rows:
        passage = _passage(generator)
        start = int(generator.integers(0, len(text) - gap + 1))
        row[:] = np.concatenate([passage, text[start : start + gap], passage[:-1]])
    return rows
