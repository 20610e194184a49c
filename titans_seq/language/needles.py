"""A secret told once in a text and asked for later.

The secret is eight capital letters, none twice, told as ``The code is QHZVMXTE.``. Behind the
words ``The code is``, a second time, a model that has kept it knows the next eight bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

CUE = b"\nThe code is "
LETTERS = 8
"""Letters of a secret, each one of 26."""

TOLD = len(CUE) + LETTERS + 1
"""Bytes of a secret with its cue and its full stop."""


def secret(draw: np.random.Generator) -> bytes:
    """Return a secret."""
    return bytes(draw.permutation(26)[:LETTERS].astype(np.uint8) + ord("A"))


class Planted(NamedTuple):
    """A window that a secret was written over."""

    window: Bytes

    asked: npt.NDArray[np.bool_]
    """True at the letters of the secret, wherever it is not told for the first time."""


def plant(window: Bytes, draw: np.random.Generator) -> Planted:
    """Return a window with a secret written over it several times, at random places.

    Parameters
    ----------
    window
        Bytes of a text, at least two tellings long.
    draw
        Where the places and the secret come from.
    """
    times = int(draw.integers(2, max(len(window) // (2 * TOLD), 2) + 1))
    told = np.frombuffer(CUE + secret(draw) + b".", dtype=np.uint8)
    free = len(window) - times * TOLD
    places = np.sort(draw.integers(0, free + 1, times)) + TOLD * np.arange(times)
    planted, asked = window.copy(), np.zeros(len(window), dtype=bool)
    for place in places:
        planted[place : place + TOLD] = told
        asked[place + len(CUE) : place + TOLD - 1] = place > places[0]
    return Planted(planted, asked)


def haystacks(text: Bytes, gap: int, count: int, draw: np.random.Generator) -> Bytes:
    """Return rows that tell a secret, go on with a text, and tell the secret again.

    Parameters
    ----------
    text
        Where the stretches between come from; one that is too short is repeated.
    gap
        Bytes between the two.
    count
        Rows, each with a secret of its own.
    draw
        Where secrets and stretches come from.

    Returns
    -------
    rows
        (count, gap + 2 * TOLD - 1); the last ``LETTERS`` bytes of each row are its secret.
    """
    if len(text) < gap:
        text = np.resize(text, gap)
    rows = np.empty((count, gap + 2 * TOLD - 1), dtype=np.uint8)
    for row in rows:
        told = np.frombuffer(CUE + secret(draw) + b".", dtype=np.uint8)
        start = int(draw.integers(0, len(text) - gap + 1))
        row[:] = np.concatenate([told, text[start : start + gap], told[:-1]])
    return rows
