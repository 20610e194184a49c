"""Unlabelled sequences as windows: some to learn from, some held out, the same each time.

What an epoch draws depends on the seed and the number of the epoch alone, so that a training
that was cut off can go on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.dna.alphabet import PAD, Codes, encode, reverse_complement
from titans_seq.dna.learning.windows import pad, plan
from titans_seq.exceptions import DataError

HELD_TOGETHER = 16
"""Windows in a row that are held out together: neighbours are alike."""

LEAST = 32
"""Letters below which a stretch is not read."""

_HIDDEN = encode("N")[0]


class Corpus(NamedTuple):
    """Stretches to learn from, and windows that are held out."""

    learn: list[Codes]
    held: list[Codes]

    @property
    def letters(self) -> int:
        """Letters to learn from."""
        return sum(map(len, self.learn))


def make_corpus(rows: Sequence[Codes], window: int, held_share: float, seed: int) -> Corpus:
    """Part sequences into stretches to learn from and windows to be held out.

    Parameters
    ----------
    rows
        Codes of the sequences.
    window
        Letters of a window.
    held_share
        Share of the letters to hold out, at least one window.
    seed
        Of the choice.

    Raises
    ------
    DataError
        If there is too little to part.
    """
    block = window * HELD_TOGETHER
    blocks = [row[at : at + block] for row in rows for at in range(0, len(row), block)]
    blocks = [one for one in blocks if len(one) >= LEAST]
    if len(blocks) == 1:
        middle = len(blocks[0]) * 9 // 10
        blocks = [one for one in (blocks[0][:middle], blocks[0][middle:]) if len(one) >= LEAST]
    if len(blocks) < 2:
        raise DataError(f"too few letters to learn from: at least {20 * LEAST} are needed")
    order = np.random.default_rng(seed).permutation(len(blocks))
    count = max(1, round(held_share * len(blocks)))
    out = set(order[:count].tolist())
    learn = [one for i, one in enumerate(blocks) if i not in out]
    held = [one[at : at + window] for i in sorted(out)
            for one in [blocks[i]] for at in range(0, len(one), window)]  # fmt: skip
    return Corpus(learn, [one for one in held if len(one) >= LEAST])


class WindowBatches:
    """Random windows of a corpus, from either strand; every ``iter()`` is the next epoch.

    A batch is a dict: ``codes`` and ``mask`` (batch x time) as the network sees them,
    ``truth`` (what stands there) and ``asked`` (True where the network is asked).
    """

    def __init__(
        self, learn: Sequence[Codes], *, window: int, size: tuple[int, int], seed: int,
        mask_share: float | None,
    ) -> None:  # fmt: skip
        """Store what the batches are made of.

        Parameters
        ----------
        learn
            Stretches to draw from, each as often as it is long.
        window
            Letters of a window.
        size
            Batches of an epoch, and windows of a batch.
        seed
            Of all that is drawn.
        mask_share
            Share of the bases that are hidden and asked for; None asks for all and hides none.
        """
        self.learn = [one for one in learn if len(one) >= LEAST]
        self.window, self.seed, self.mask_share = window, seed, mask_share
        self.batches, self.batch_size = size
        self.epoch = 0
        lengths = np.array([len(one) for one in self.learn], dtype=np.float64)
        self._chance = lengths / lengths.sum()

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the next epoch."""
        draw = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        for _ in range(self.batches):
            picked = draw.choice(len(self.learn), self.batch_size, p=self._chance)
            yield as_batch([self._window(i, draw) for i in picked], self.mask_share, draw)

    def _window(self, index: int, draw: np.random.Generator) -> Codes:
        """Return a window of one stretch, from either strand."""
        stretch = self.learn[index]
        start = int(draw.integers(0, max(len(stretch) - self.window, 0) + 1))
        part = stretch[start : start + self.window]
        return reverse_complement(part) if draw.random() < 0.5 else part


class HeldWindows:
    """Held-out windows in batches, the same each time."""

    def __init__(self, held: Sequence[Codes], batch_size: int, mask_share: float | None) -> None:
        draw = np.random.default_rng(0)
        index = plan([len(one) for one in held], batch_size)
        self.batches = [as_batch([held[i] for i in rows], mask_share, draw) for rows in index]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        return iter(self.batches)

    def asked(self) -> list[tuple[Codes, npt.NDArray[np.bool_]]]:
        """Return each window's letters, and which of them are asked for."""
        return [
            (truth[: int(mask.sum())].numpy(), asked[: int(mask.sum())].numpy())
            for batch in self.batches
            for truth, asked, mask in zip(
                batch["truth"], batch["asked"], batch["mask"], strict=True
            )
        ]


def as_batch(
    rows: Sequence[Codes], mask_share: float | None, draw: np.random.Generator
) -> dict[str, Tensor]:
    """Return windows as a batch, see :class:`WindowBatches`."""
    batch = pad(rows)
    truth = batch["codes"]
    if mask_share is None:
        return {**batch, "truth": truth, "asked": batch["mask"]}
    hide: npt.NDArray[np.bool_] = draw.random(tuple(truth.shape)) < mask_share
    asked = torch.from_numpy(hide) & (truth != PAD)
    hidden = torch.where(asked, torch.tensor(_HIDDEN, dtype=truth.dtype), truth)
    return {"codes": hidden, "mask": batch["mask"], "truth": truth, "asked": asked}
