"""How much of the tests a trained model answers rightly, and how sure that is."""

from __future__ import annotations

import time
from dataclasses import replace
from math import sqrt
from typing import Any

from recall_parts.learning import Settings, trained
from titans_seq.language.facts import TASKS, count_answers
from titans_seq.language.network import TokenNetwork

TUNING_SEED, TEST_SEED = 3_000_017, 2_000_003
"""Where the sequences come from that settings are chosen on, and those that are reported."""


def try_rate(variant: str, seed: int, rate: float, settings: Settings) -> dict[str, Any]:
    """Train one model, for fewer steps, and score it where settings are chosen."""
    model, kept = trained(variant, seed, rate, replace(settings, steps=settings.tuning_steps))
    accuracy = {
        str(length): measure(model, "recall", length, TUNING_SEED, settings)
        for length in settings.tuning_lengths
    }
    score = sum(share(one) for one in accuracy.values()) / len(accuracy)
    return kept | {"accuracy": accuracy, "score": round(score, 4)}


def run(variant: str, seed: int, rate: float, settings: Settings) -> dict[str, Any]:
    """Train one model and test it; return what the file of results keeps of it."""
    model, kept = trained(variant, seed, rate, settings)
    began = time.process_time()
    accuracy = {
        task: {
            str(length): measure(model, task, length, TEST_SEED + seed, settings)
            for length in settings.lengths
        }
        for task in TASKS
    }
    return kept | {"test_seconds": round(time.process_time() - began, 1), "accuracy": accuracy}


def measure(
    model: TokenNetwork, task: str, length: int, seed: int, settings: Settings
) -> dict[str, int]:
    """Count the queries asked and answered rightly, and the facts that they ask for."""
    return count_answers(
        model, task, length, pairs=settings.pairs, tokens=settings.test_tokens, seed=seed
    )._asdict()


def share(counts: dict[str, int]) -> float:
    """Return the share of queries answered rightly."""
    return counts["right"] / counts["asked"]


def interval(mean: float, facts: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share seen on so many facts.

    Facts and not queries: a model that has lost a fact answers every query for it wrongly.
    """
    z = 1.96
    middle = (mean + z * z / (2 * facts)) / (1 + z * z / facts)
    half = z * sqrt(mean * (1 - mean) / facts + (z / (2 * facts)) ** 2) / (1 + z * z / facts)
    return max(0.0, middle - half), min(1.0, middle + half)
