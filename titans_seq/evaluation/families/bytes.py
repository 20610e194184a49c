"""Runs of a byte model: a text in, its held-out end told byte by byte.

The first 90% of the file are learnt, 5% choose the weights, the last 5% are the test part, as
enwik8 is cut. ``bits_per_byte`` reads the test part once, the memory carried from its first byte
to its last; ``bits_per_byte_reset`` begins anew every ``length`` bytes: their difference is what
a past beyond the training length is worth. ``needle_N`` is the share of a secret's letters that
are known ``N`` bytes after they were told (1/26 knows nothing). Speeds, and what memory grows by
from the first to the last of the bytes that are written, depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.byte_controls import score_byte_controls
from titans_seq.evaluation.families.machine import resident_megabytes
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.language import TitansByteModel
from titans_seq.language.corpus import cut, read_bytes
from titans_seq.language.needles import LETTERS

GAPS = (256, 1024, 4096)
"""Bytes between a secret and the question for it."""

BLOCK = 1024
"""Bytes of the test part that the table of predictions has a row for."""

PROMPT, WRITTEN, WARM = 256, 1000, 200
"""Bytes of the test part that are gone on with; bytes written; those after which it is measured
what memory they take."""


class ByteHead:
    """One text, parted in its order.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    files
        Where the card's files lie: one, the text.
    """

    columns = ("bits_per_byte", "bits_per_byte_reset", *(f"needle_{gap}" for gap in GAPS),
               "bytes_per_second", "written_per_second")  # fmt: skip

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if len(files) != 1:
            raise ConfigError(f"data set {card.name} must have one file, a text, for this recipe")
        self.recipe, self.card = recipe, card
        (self.path,) = files.values()
        self.parts = cut(read_bytes(self.path))
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    def learn(self, trial: Trial) -> TitansByteModel:
        """Return a model of the train part."""
        model = TitansByteModel(random_state=trial.seed, **self.recipe.settings)
        return model.fit(self.parts.train, validation=self.parts.validation)

    def score(self, model: TitansByteModel, trial: Trial) -> Scored:
        """Read the test part, look for needles in it, and go on with its beginning."""
        test = self.parts.test
        began = time.perf_counter()
        carried = model.surprise(test)
        taken = time.perf_counter() - began
        apart = model.surprise(test, carry=False)
        scores: Metrics = {
            "bits_per_byte": float(carried.mean()),
            "bits_per_byte_reset": float(apart.mean()),
            "perplexity": float(2 ** carried.mean()),
            "bytes": len(test),
        }
        for gap in GAPS:
            scores[f"needle_{gap}"] = model.retrieve(test, gap)
        text, written = _write(model, bytes(test[:PROMPT]), trial.seed)
        starts = range(0, len(test), BLOCK)
        table = pd.DataFrame({
            "start": starts,
            "bits_per_byte": [carried[at : at + BLOCK].mean() for at in starts],
            "bits_per_byte_reset": [apart[at : at + BLOCK].mean() for at in starts],
        })  # fmt: skip
        measured = {"bytes_per_second": round(len(test) / taken), **written}
        return Scored(scores, table, measured, {"written.txt": text})

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score counts of byte sequences, and compressors."""
        learn = np.concatenate([self.parts.train, self.parts.validation])
        forgot = {f"needle_{gap}": 1 / 26 for gap in GAPS}
        return {**score_byte_controls(learn, self.parts.test), "whoever forgets": forgot}

    def plot(self, model: TitansByteModel, trial: Trial, path: Path) -> None:
        """Draw bits a byte along the test part, the memory carried and not."""
        from titans_seq.evaluation.scores.plots import plot_lines

        lines = {}
        for name, carry in (("memory carried", True), (f"anew every {model.length}", False)):
            cost = model.surprise(self.parts.test, carry=carry)
            starts = range(0, len(cost), BLOCK)
            lines[name] = (list(starts), [float(cost[at : at + BLOCK].mean()) for at in starts])
        plot_lines(lines, path, title=self.title(trial), axes=("byte", "bits per byte"))

    def borders(self) -> dict[str, Any]:
        """Return the bytes of each part."""
        return {name: len(part) for name, part in self.parts._asdict().items()}

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        return (
            f"{self.path.name}: the last {len(self.parts.test):,} bytes, told one by one after "
            f"{len(self.parts.train):,} were learnt; secrets of {LETTERS} letters"
        )


def _write(model: TitansByteModel, prompt: bytes, seed: int) -> tuple[bytes, dict[str, float]]:
    """Go on with a prompt; return that, its speed, and what memory grew by on the way."""
    stream = model.stream(prompt, seed=seed)
    begin = bytes(islice(stream, WARM))
    before, began = resident_megabytes(), time.perf_counter()
    text = begin + bytes(islice(stream, WRITTEN - WARM))
    speed = (WRITTEN - WARM) / (time.perf_counter() - began)
    figures: dict[str, float] = {"written_per_second": round(speed)}
    grown = resident_megabytes() - before
    if grown == grown:
        figures["written_grew_mb"] = round(grown, 1)
    return prompt + text, figures
