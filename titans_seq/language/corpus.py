"""Texts as bytes: their parts, and windows to train and validate on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.language.needles import PASSAGE_BYTES, ByteArray, plant
from titans_seq.language.network import NO_TARGET
from titans_seq.training import RandomBatches

BEGIN = 256
"""Token before the first byte."""

_MIN_PART = 256
"""Bytes of the smallest validation or test part."""

Text = bytes | bytearray | str | os.PathLike[str] | ByteArray


class TextParts(NamedTuple):
    """Three consecutive parts of a text."""

    train: ByteArray
    validation: ByteArray
    test: ByteArray


def read_bytes(text: Text) -> ByteArray:
    """Return the bytes of a text, or of the file that a path names.

    Parameters
    ----------
    text
        Bytes, or a path; the file is memory-mapped.

    Raises
    ------
    DataError
        If the file is empty, or ``text`` is neither bytes nor a path.
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


def split_text(text: ByteArray, held_share: float = 0.05) -> TextParts:
    """Return the first 90% of a text to train on, then 5% to validate and 5% to test.

    Raises
    ------
    DataError
        If it is too short.
    """
    size = max(1, round(len(text) * held_share))
    if size < _MIN_PART:
        raise DataError(
            f"the text has {len(text):,} bytes: at least {round(_MIN_PART / held_share):,} are "
            f"needed, so that {held_share:.0%} of it can be tested on"
        )
    return TextParts(text[: -2 * size], text[-2 * size : -size], text[-size:])


def random_windows(
    text: ByteArray, *, length: int, batch_size: int, batches: int, needles: float, seed: int
) -> RandomBatches:
    """Return batches of random windows of a text.

    Parameters
    ----------
    text
        Text to draw from.
    length, batch_size, batches
        Bytes of a window, windows of a batch, and batches of an epoch.
    needles
        Share of the windows into which a secret is written several times. Their only targets
        are the letters of the secret, from its second occurrence on.
    seed
        Seed of everything that is drawn.
    """
    length = min(length, len(text))

    def draw(generator: np.random.Generator) -> dict[str, Tensor]:
        starts = generator.integers(0, len(text) - length + 1, batch_size)
        windows = [np.asarray(text[start : start + length]) for start in starts]
        with_secret = generator.random(batch_size) < needles
        is_target = np.ones((batch_size, length), dtype=bool)
        for index in np.flatnonzero(with_secret) if length >= 2 * PASSAGE_BYTES else ():
            windows[index], is_target[index] = plant(windows[index], generator)
        batch = byte_batch(np.stack(windows))
        batch["targets"][~torch.from_numpy(is_target)] = NO_TARGET
        return batch

    return RandomBatches(draw, batches=batches, seed=seed)


class ConsecutiveWindows:
    """Batches of consecutive windows of a text, the same in every epoch."""

    def __init__(self, text: ByteArray, *, length: int, batch_size: int) -> None:
        length = min(length, len(text))
        self.windows = text[: len(text) // length * length].reshape(-1, length)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        for start in range(0, len(self.windows), self.batch_size):
            yield byte_batch(np.asarray(self.windows[start : start + self.batch_size]))


def byte_batch(windows: ByteArray) -> dict[str, Tensor]:
    """Return windows as ``targets`` and ``tokens`` (each the byte before), (batch, time)."""
    targets = torch.from_numpy(windows.astype(np.int64))
    begin = torch.full((len(targets), 1), BEGIN)
    return {"tokens": torch.cat([begin, targets[:, :-1]], dim=1), "targets": targets}
