"""Many scores as few: means and ranges over seeds, and what a recipe expected of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from titans_seq.evaluation.cards.reading import expectation
from titans_seq.evaluation.cards.recipes import RecipeCard

Spread = dict[str, float]
"""``mean``, ``low`` and ``high`` of one figure."""


def summarise(trials: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Spread]]:
    """Return mean, lowest and highest of each figure over seeds, by horizon.

    Parameters
    ----------
    trials
        Trainings as ``metrics.json`` has them, with ``horizon``, ``seed`` and ``scores``.

    Returns
    -------
    dict
        By horizon (``all`` where nothing is forecast; ``grouped`` on a split of its own); under
        ``mean`` the plain mean over horizons, its lowest and highest over seeds.
    """
    by_horizon: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    by_seed: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    for trial in trials:
        name = "all" if trial["horizon"] is None else str(trial["horizon"])
        if trial.get("split", "given") != "given":
            by_horizon[trial["split"]].append(trial["scores"])
            continue
        by_horizon[name].append(trial["scores"])
        by_seed[trial["seed"]].append(trial["scores"])
    summary = {name: _spread(scores) for name, scores in by_horizon.items()}
    summary["mean"] = _spread([_mean(scores) for scores in by_seed.values()])
    return summary


def verdicts(recipe: RecipeCard, means: Mapping[str, Spread]) -> tuple[str, ...]:
    """Return a line for each figure that a recipe expects, and whether it was reached."""
    lines = []
    for metric in recipe.expect:
        found = means[metric]["mean"] if metric in means else math.nan
        for words, low, high in expectation(recipe, metric, f"recipe {recipe.name}").parts():
            word = "reached" if low <= found <= high else "NOT REACHED"
            if metric in means:
                word += f", {found:.3f}"
            lines.append(f"expected {metric} {words}: {word}")
    return tuple(lines)


def _spread(scores: list[Mapping[str, float]]) -> dict[str, Spread]:
    """Return mean, lowest and highest of each figure."""
    names = dict.fromkeys(name for one in scores for name in one)
    found = {}
    for name in names:
        values = [float(one[name]) for one in scores if one.get(name) is not None]
        if values:
            mean = math.fsum(values) / len(values)
            found[name] = {"mean": mean, "low": min(values), "high": max(values)}
    return found


def _mean(scores: list[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure."""
    return {name: spread["mean"] for name, spread in _spread(scores).items()}
