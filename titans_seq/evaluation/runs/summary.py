"""Means and ranges of scores over seeds, and their comparison with a recipe's expectations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from titans_seq.evaluation.cards.reading import expectation
from titans_seq.evaluation.cards.recipes import RecipeCard

Spread = dict[str, float]
"""``mean``, ``low`` and ``high`` of one score."""


def summarise(trials: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Spread]]:
    """Return mean, lowest and highest of each score over seeds, by horizon.

    Parameters
    ----------
    trials
        Trials as in ``metrics.json``, with ``horizon``, ``seed`` and ``scores``.

    Returns
    -------
    dict
        By horizon (``all`` if there is none; ``grouped`` for a grouped split); under ``mean`` the
        mean over horizons, with its lowest and highest over seeds.
    """
    by_horizon: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    by_seed: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    for trial in trials:
        name = "all" if trial["horizon"] is None else str(trial["horizon"])
        if trial.get("split", "given") != "given":
            # Another split is another task: not part of the overall mean.
            by_horizon[trial["split"]].append(trial["scores"])
            continue
        by_horizon[name].append(trial["scores"])
        by_seed[trial["seed"]].append(trial["scores"])
    summary = {name: _spread(scores) for name, scores in by_horizon.items()}
    # Mean over horizons first, so that the range is one over seeds.
    summary["mean"] = _spread([_mean(scores) for scores in by_seed.values()])
    return summary


def verdicts(recipe: RecipeCard, means: Mapping[str, Spread]) -> tuple[str, ...]:
    """Return a line for each expectation of a recipe: reached or not."""
    lines = []
    for metric in recipe.expect:
        mean = means[metric]["mean"] if metric in means else math.nan
        for text, low, high in expectation(recipe, metric, f"recipe {recipe.name}").demands():
            verdict = "reached" if low <= mean <= high else "NOT REACHED"
            if metric in means:
                verdict += f", {mean:.3f}"
            lines.append(f"expected {metric} {text}: {verdict}")
    return tuple(lines)


def _spread(scores: list[Mapping[str, float]]) -> dict[str, Spread]:
    """Return mean, lowest and highest of each score; missing and null ones are skipped."""
    names = dict.fromkeys(name for trial in scores for name in trial)
    spreads = {}
    for name in names:
        values = [float(trial[name]) for trial in scores if trial.get(name) is not None]
        if values:
            mean = math.fsum(values) / len(values)
            spreads[name] = {"mean": mean, "low": min(values), "high": max(values)}
    return spreads


def _mean(scores: list[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score."""
    return {name: spread["mean"] for name, spread in _spread(scores).items()}
