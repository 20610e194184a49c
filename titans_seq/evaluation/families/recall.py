"""Runs of associative recall: trained on short sequences, asked at lengths far beyond.

Nothing is read: sequences are drawn, for the tests from seeds of their own. ``recall_N`` is the
share of the queries answered rightly at the end of ``N`` tokens, all facts standing at their
beginning; ``needle_N`` that of one fact anywhere in ``N`` tokens. Chance is 1/16. Attention sees
``window`` tokens a layer: run the recipe with ``variant=attention`` beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.scores.intervals import wilson_interval
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.language import TitansRecall
from titans_seq.language.facts import SHORTEST, TASKS, VALUES

OWN: dict[str, Any] = {"lengths": (128, 512, 4096, 16384), "test_tokens": 65_536}
"""Settings of the run itself, with their defaults: tokens of the sequences that are tested on, and
of each test as a whole."""

TEST_SEED = 2_000_003
"""Where the sequences come from that are tested on."""


def settings() -> dict[str, Any]:
    """Return the names that a recipe may set, with their defaults."""
    return {**TitansRecall().get_params(), **OWN}


class RecallHead:
    """Both tasks at several lengths.

    Parameters
    ----------
    recipe, card
        What to train; the card says what is drawn.
    files
        None are read.
    """

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if card.task != "recall":
            raise ConfigError(f"data set {card.name} is none of facts to be recalled")
        self.recipe, self.card = recipe, card
        given = {**OWN, **recipe.settings}
        self.own = {name: given.pop(name) for name in OWN}
        self.settings = given
        self.lengths = [int(length) for length in self.own["lengths"]]
        if not self.lengths or min(self.lengths) < SHORTEST:
            raise ConfigError(f"lengths = {self.lengths}: one or more of at least {SHORTEST}")
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures that tables print."""
        return tuple(f"{task}_{length}" for task in TASKS for length in self.lengths)

    def learn(self, trial: Trial) -> TitansRecall:
        """Return a model that was trained on short sequences."""
        return TitansRecall(random_state=trial.seed, **self.settings).fit()

    def score(self, model: TitansRecall, trial: Trial) -> Scored:
        """Ask for facts at every length."""
        rows = []
        for task in TASKS:
            for length in self.lengths:
                tokens, seed = self.own["test_tokens"], TEST_SEED + trial.seed
                found = model.count(task, length, tokens=tokens, seed=seed)
                # A model that has lost a fact answers every query for it wrongly.
                low, high = wilson_interval(round(found.share * found.facts), found.facts)
                rows.append({"task": task, "length": length, **found._asdict(),
                             "share": found.share, "low": low, "high": high})  # fmt: skip
        scores = {f"{row['task']}_{row['length']}": float(row["share"]) for row in rows}
        return Scored(scores, pd.DataFrame(rows))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return what guessing comes to."""
        return {"chance": dict.fromkeys(self.columns, 1 / VALUES)}

    def plot(self, model: TitansRecall, trial: Trial, path: Path) -> None:
        """Draw the share of right answers by length."""
        from titans_seq.evaluation.scores.plots import plot_lines

        table = self.score(model, trial).predictions
        assert isinstance(table, pd.DataFrame)
        lines = {
            str(task): (rows["length"].tolist(), rows["share"].tolist())
            for task, rows in table.groupby("task", sort=False)
        }
        lines["chance"] = (self.lengths, [1 / VALUES] * len(self.lengths))
        axes = ("tokens of a sequence", "answered rightly")
        plot_lines(lines, path, title=self.title(trial), axes=axes, logarithmic=True)

    def borders(self) -> dict[str, Any]:
        """Return from which seed the test sequences are drawn."""
        return {"lengths": self.lengths, "test_seed": TEST_SEED}

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        known = TitansRecall(**self.settings)
        return (
            f"{known.variant}: facts recalled, trained on at most {known.longest} tokens, a window "
            f"of {known.window}"
        )
