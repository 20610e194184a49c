"""A text as bytes: its parts, and windows of it to learn from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.language.needles import TOLD, Bytes, plant
from titans_seq.language.network import NO_ANSWER

BEGIN = 256
"""Token that stands before the first byte."""

LEAST = 256
"""Bytes below which there is nothing to learn."""

Text = bytes | bytearray | str | os.PathLike[str] | Bytes


class Parts(NamedTuple):
    """A text cut in three, in its order."""

    train: Bytes
    validation: Bytes
    test: Bytes


def read_bytes(text: Text) -> Bytes:
    """Return the bytes of a text, or of the file that a path names.

    Parameters
    ----------
    text
        Bytes; a path or a word is the name of a file, which is not read into memory whole.

    Raises
    ------
    DataError
        If the file is empty, or what came is neither bytes nor a name.
    """
    if isinstance(text, str | os.PathLike):
        path = Path(text)
        if not path.stat().st_size:
            raise DataError(f"{path} is empty")
        return np.memmap(path, dtype=np.uint8, mode="r")
    if isinstance(text, bytes | bytearray):
        return np.frombuffer(bytes(text), dtype=np.uint8)
    if not (isinstance(text, np.ndarray) and text.dtype == np.uint8 and text.ndim == 1):
        raise DataError("a text must be bytes, the name of a file, or an array of uint8")
    return text


def cut(text: Bytes, held: float = 0.05) -> Parts:
    """Return the parts of a text: 90% to learn, 5% to choose, 5% to test, in this order.

    Raises
    ------
    DataError
        If it is too short.
    """
    size = max(1, round(len(text) * held))
    if size < LEAST:
        raise DataError(
            f"the text has {len(text):,} bytes: at least {round(LEAST / held):,} are needed, so "
            f"that {held:.0%} of it can be tested on"
        )
    return Parts(text[: -2 * size], text[-2 * size : -size], text[-size:])


class WindowBatches:
    """Random windows of a text; every ``iter()`` is the next epoch, the same for the same seed.

    Parameters
    ----------
    text
        Where they come from.
    length
        Bytes of a window.
    size
        Batches of an epoch, and windows of a batch.
    needles
        Share of the windows over which a secret is written several times. They ask for nothing
        but the secret, from its second time on.
    seed
        Of all that is drawn.
    """

    def __init__(
        self, text: Bytes, *, length: int, size: tuple[int, int], needles: float, seed: int
    ) -> None:
        self.text, self.needles, self.seed = text, needles, seed
        self.length = min(length, len(text))
        self.batches, self.batch_size = size
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the next epoch."""
        draw = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        for _ in range(self.batches):
            starts = draw.integers(0, len(self.text) - self.length + 1, self.batch_size)
            rows = [np.asarray(self.text[start : start + self.length]) for start in starts]
            told = draw.random(self.batch_size) < self.needles
            asked = np.ones((self.batch_size, self.length), dtype=bool)
            for number in np.flatnonzero(told) if self.length >= 2 * TOLD else ():
                rows[number], asked[number] = plant(rows[number], draw)
            batch = as_batch(np.stack(rows))
            batch["targets"][~torch.from_numpy(asked)] = NO_ANSWER
            yield batch


class HeldWindows:
    """Windows of a text that follow one another, in batches, the same each time."""

    def __init__(self, text: Bytes, *, length: int, batch_size: int) -> None:
        length = min(length, len(text))
        self.rows = text[: len(text) // length * length].reshape(-1, length)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        for start in range(0, len(self.rows), self.batch_size):
            yield as_batch(np.asarray(self.rows[start : start + self.batch_size]))


def as_batch(rows: Bytes) -> dict[str, Tensor]:
    """Return windows as ``tokens`` (each the byte before) and ``targets``, (batch, time)."""
    targets = torch.from_numpy(rows.astype(np.int64))
    begin = torch.full((len(targets), 1), BEGIN)
    return {"tokens": torch.cat([begin, targets[:, :-1]], dim=1), "targets": targets}
