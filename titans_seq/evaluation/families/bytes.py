"""Runs of a byte-level language model on a text, whose last part is predicted byte by byte.

The first 90% of the file are the train part, 5% choose the weights, the last 5% are the test part,
the split of enwik8. ``bits_per_byte`` is measured in one pass over the test part, the memory
carried throughout; ``bits_per_byte_reset`` starts again every ``length`` bytes: the difference is
the value of a context beyond the training length. ``needle_N`` is the share of a secret's letters
recalled ``N`` bytes later (chance is 1/26). Throughput, and the growth of memory during generation,
depend on the machine.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.byte_controls import score_byte_controls
from titans_seq.evaluation.families.process_memory import resident_megabytes
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.language import TitansByteModel
from titans_seq.language.corpus import read_bytes, split_text
from titans_seq.language.needles import SECRET_LETTERS

GAPS = (256, 1024, 4096)
"""Bytes between a secret and its second occurrence, where it must be recalled."""

_TABLE_BYTES = 1024
"""Bytes of the test part for each row of the table of predictions."""

_PROMPT_BYTES, _GENERATED_BYTES, _WARM_UP_BYTES = 256, 1000, 200
"""Bytes of the prompt; of the generated text; of its beginning, which is not measured."""


class ByteExperiment:
    """A language model of one text.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        Card and files of the data set: one text.
    """

    columns = ("bits_per_byte", "bits_per_byte_reset", *(f"needle_{gap}" for gap in GAPS),
               "bytes_per_second", "written_per_second")  # fmt: skip

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        if len(inputs.files) != 1:
            raise ConfigError(
                f"data set {inputs.card.name} has {len(inputs.files)} files; this recipe needs one "
                "with a single file, a text"
            )
        self.recipe = recipe
        (self.path,) = inputs.paths.values()
        self.parts = split_text(read_bytes(self.path))
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    def train(self, trial: Trial) -> TitansByteModel:
        """Return a model of the train part."""
        model = TitansByteModel(random_state=trial.seed, **self.recipe.settings)
        return model.fit(self.parts.train, validation=self.parts.validation)

    def score(self, model: TitansByteModel, trial: Trial) -> Scored:
        """Score the test part, recall of secrets in it, and generation from its beginning."""
        test = self.parts.test
        start = time.perf_counter()
        carried = model.surprise(test)
        seconds = time.perf_counter() - start
        reset = model.surprise(test, carry=False)
        scores: Metrics = {
            "bits_per_byte": float(carried.mean()),
            "bits_per_byte_reset": float(reset.mean()),
            "perplexity": float(2 ** carried.mean()),
            "bytes": len(test),
        }
        for gap in GAPS:
            scores[f"needle_{gap}"] = model.retrieve(test, gap)
        text, generation = _generate(model, bytes(test[:_PROMPT_BYTES]), trial.seed)
        starts, bits_carried = _block_means(carried)
        table = pd.DataFrame({
            "start": starts,
            "bits_per_byte": bits_carried,
            "bits_per_byte_reset": _block_means(reset)[1],
        })  # fmt: skip
        measured = {"bytes_per_second": round(len(test) / seconds), **generation}
        return Scored(scores, table, measured, {"written.txt": text})

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score byte n-gram models and compressors."""
        train = np.concatenate([self.parts.train, self.parts.validation])
        chance = {f"needle_{gap}": 1 / 26 for gap in GAPS}
        return {**score_byte_controls(train, self.parts.test), "whoever forgets": chance}

    def plot(self, model: TitansByteModel, trial: Trial, path: Path) -> None:
        """Draw bits per byte along the test part, with and without a carried memory."""
        from titans_seq.evaluation.scores.plots import plot_lines

        lines = {
            name: _block_means(model.surprise(self.parts.test, carry=carry))
            for name, carry in (("memory carried", True), (f"reset every {model.length}", False))
        }
        plot_lines(lines, path, title=self.title(trial), axes=("byte", "bits per byte"))

    def borders(self) -> dict[str, Any]:
        """Return the bytes of each part."""
        return {name: len(part) for name, part in self.parts._asdict().items()}

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        return (
            f"{self.path.name}: the last {len(self.parts.test):,} bytes, predicted one by one; "
            f"trained on {len(self.parts.train):,}; secrets of {SECRET_LETTERS} letters"
        )


def _block_means(bits: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[list[int], list[float]]:
    """Return the start and the mean of each block of a table's row."""
    starts = list(range(0, len(bits), _TABLE_BYTES))
    return starts, [float(bits[start : start + _TABLE_BYTES].mean()) for start in starts]


def _generate(model: TitansByteModel, prompt: bytes, seed: int) -> tuple[bytes, dict[str, float]]:
    """Continue a prompt; return the text, the speed, and the growth of memory."""
    stream = model.stream(prompt, seed=seed)
    # The first bytes include the prompt, and allocate what is reused later.
    beginning = bytes(islice(stream, _WARM_UP_BYTES))
    before, start = resident_megabytes(), time.perf_counter()
    text = beginning + bytes(islice(stream, _GENERATED_BYTES - _WARM_UP_BYTES))
    speed = (_GENERATED_BYTES - _WARM_UP_BYTES) / (time.perf_counter() - start)
    measured: dict[str, float] = {"written_per_second": round(speed)}
    growth = resident_megabytes() - before
    if growth == growth:  # NaN where the system does not say
        measured["written_grew_mb"] = round(growth, 1)
    return prompt + text, measured
