"""Runs of associative recall: trained on short sequences, tested on far longer ones.

Sequences are synthetic; those of the test have their own seeds. ``recall_N`` is the share of
queries answered correctly at the end of ``N`` tokens, with all facts at the beginning;
``needle_N`` that of a single fact anywhere in ``N`` tokens. Chance is 1/16. Attention alone sees
``window`` tokens a layer: run the recipe with ``variant=attention`` for comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.scores.intervals import wilson_interval
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.language import TitansRecall
from titans_seq.language.facts import RECALL_TASKS, SHORTEST, VALUES

_RUN_SETTINGS: dict[str, Any] = {"lengths": (128, 512, 4096, 16384), "test_tokens": 65_536}
"""Settings beside those of the estimator: lengths of the test sequences, and tokens of each test
in total."""

TEST_SEED = 2_000_003
"""Offset of the seeds of test sequences."""


def recall_settings() -> dict[str, Any]:
    """Return the settings that a recipe may have, with their defaults."""
    return {**TitansRecall().get_params(), **_RUN_SETTINGS}


class RecallExperiment:
    """Both recall tasks at several lengths.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        The data set's card; it has no files.
    """

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        if inputs.card.task != "recall":
            raise ConfigError(
                f"data set {inputs.card.name} has the task {inputs.card.task}; this recipe needs "
                "one with the task recall"
            )
        settings = {**_RUN_SETTINGS, **recipe.settings}
        self.run_settings = {name: settings.pop(name) for name in _RUN_SETTINGS}
        self.model_settings = settings
        self.lengths = [int(length) for length in self.run_settings["lengths"]]
        if not self.lengths or min(self.lengths) < SHORTEST:
            raise ConfigError(
                f"lengths must be one or more numbers from {SHORTEST}, got {self.lengths}"
            )
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Scores that tables print."""
        return tuple(f"{task}_{length}" for task in RECALL_TASKS for length in self.lengths)

    def train(self, trial: Trial) -> TitansRecall:
        """Return a model trained on short sequences."""
        return TitansRecall(random_state=trial.seed, **self.model_settings).fit()

    def score(self, model: TitansRecall, trial: Trial) -> Scored:
        """Score both tasks at every length."""
        rows = []
        for task in RECALL_TASKS:
            for length in self.lengths:
                tokens, seed = self.run_settings["test_tokens"], TEST_SEED + trial.seed
                counts = model.count(task, length, tokens=tokens, seed=seed)
                # The interval is over facts, not queries: a model that has lost a fact answers
                # every query for it wrongly.
                low, high = wilson_interval(round(counts.share * counts.facts), counts.facts)
                rows.append({"task": task, "length": length, **counts._asdict(),
                             "share": counts.share, "low": low, "high": high})  # fmt: skip
        scores = {f"{row['task']}_{row['length']}": float(row["share"]) for row in rows}
        return Scored(scores, pd.DataFrame(rows))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return the scores of random guesses."""
        return {"chance": dict.fromkeys(self.columns, 1 / VALUES)}

    def plot(self, model: TitansRecall, trial: Trial, path: Path) -> None:
        """Draw accuracy against length."""
        from titans_seq.evaluation.scores.plots import plot_lines

        table = self.score(model, trial).predictions
        assert isinstance(table, pd.DataFrame)
        lines = {
            str(task): (rows["length"].tolist(), rows["share"].tolist())
            for task, rows in table.groupby("task", sort=False)
        }
        lines["chance"] = (self.lengths, [1 / VALUES] * len(self.lengths))
        axes = ("tokens of a sequence", "accuracy")
        plot_lines(lines, path, title=self.title(trial), axes=axes, logarithmic=True)

    def borders(self) -> dict[str, Any]:
        """Return the lengths and the seed of the test sequences."""
        return {"lengths": self.lengths, "test_seed": TEST_SEED}

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        model = TitansRecall(**self.model_settings)
        return (
            f"{model.variant}: associative recall, trained on at most {model.longest} tokens, a "
            f"window of {model.window}"
        )
