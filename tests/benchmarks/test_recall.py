"""The recall benchmark: its tasks, its score, its file of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import recall as script
import torch
from recall_parts import measuring
from recall_parts.learning import RecallModel, Settings, difficulty, trapezoid
from recall_parts.measuring import interval, measure, share
from recall_parts.report import best_rates, plot, scores, table
from recall_parts.tasks import KEYS, NO_ANSWER, TASKS, VALUES, ZONE, Batch, needle, recall
from torch import Tensor

from titans_seq.config import VARIANTS


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of chance."""
    return torch.Generator().manual_seed(seed)


def facts(tokens: Tensor) -> dict[int, list[int]]:
    """Return the values that stand right behind each key of one sequence."""
    found: dict[int, list[int]] = {}
    for one, following in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
        if one < KEYS and KEYS <= following < KEYS + VALUES:
            found.setdefault(one, []).append(following - KEYS)
    return found


@pytest.mark.parametrize("pairs", [1, 4, 8])
@pytest.mark.parametrize("length", [32, 33, 128, 500])
def test_every_query_asks_for_the_one_value_behind_its_key(length: int, pairs: int) -> None:
    batch = recall(5, length, pairs, generator())
    for tokens, targets in zip(*batch, strict=True):
        known = facts(tokens)
        assert len(known) == pairs
        places = (targets != NO_ANSWER).nonzero().flatten().tolist()
        assert {int(tokens[place]) for place in places} == set(known)
        assert all(known[int(tokens[place])] == [int(targets[place])] for place in places)


@pytest.mark.parametrize("length", [48, 128, 500])
def test_facts_stand_in_the_first_tokens_and_queries_in_the_last(length: int) -> None:
    tokens, targets = recall(9, length, 4, generator())
    zone = min(length // 2, ZONE)
    between = tokens[:, zone : length - zone]
    assert (between >= KEYS + VALUES).all()
    assert (targets[:, : length - zone] == NO_ANSWER).all()
    values = (tokens >= KEYS) & (tokens < KEYS + VALUES)
    assert (values[:, :zone].sum(1) == 4).all()
    assert ((targets != NO_ANSWER).sum(1) == zone // 2).all()


def test_keys_are_asked_for_equally_often() -> None:
    tokens, targets = recall(6, 256, 4, generator())
    for row, wanted in zip(tokens, targets, strict=True):
        counts = row[wanted != NO_ANSWER].bincount()
        assert counts[counts > 0].tolist() == [ZONE // 2 // 4] * 4


@pytest.mark.parametrize("length", [32, 101])
def test_a_needle_is_one_fact_asked_for_by_the_last_token(length: int) -> None:
    batch = needle(20, length, 4, generator())
    for tokens, targets in zip(*batch, strict=True):
        assert facts(tokens) == {int(tokens[-1]): [int(targets[-1])]}
        assert (targets[:-1] == NO_ANSWER).all()
        assert int((tokens < KEYS).sum()) == 2


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_draws_the_same_batch_and_another_one_does_not(name: str) -> None:
    one, same, other = (TASKS[name](4, 64, 4, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.tokens, other.tokens)


def quick_settings() -> Settings:
    """Return the settings of ``--quick``."""
    return script.settings_from(script.arguments(["--quick", "--dim", "16"]))


def test_training_begins_easy_and_stays_within_its_bounds() -> None:
    settings = script.settings_from(script.arguments([]))
    drawn = {
        share: [difficulty(share, settings, generator(seed)) for seed in range(200)]
        for share in (0.0, 0.5, 1.0)
    }
    for every in drawn.values():
        assert all(settings.shortest <= length <= settings.longest for length, _ in every)
    assert {length for length, _ in drawn[0.0]} == {settings.shortest}
    assert {pairs for _, pairs in drawn[0.0]} == {1, 2}
    assert {pairs for _, pairs in drawn[1.0]} == set(range(1, settings.pairs + 1))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    shares = [trapezoid(place / 100) for place in range(101)]
    assert shares[5:60] == [1.0] * 55
    assert sorted(shares[:6]) == shares[:6]
    assert sorted(shares[60:], reverse=True) == shares[60:]
    assert 0 < shares[-1] < 0.02


class Oracle(torch.nn.Module):
    """Know the first ``share`` of the targets by heart, and name a wrong value for the rest."""

    def __init__(self, batch: Batch, share: float) -> None:
        super().__init__()
        right = batch.targets.clamp(min=0)
        known = torch.arange(len(right)) < share * len(right)
        self.says = torch.where(known.unsqueeze(1), right, (right + 1) % VALUES)
        self.read = 0

    def forward(self, tokens: Tensor, state: Any, *, keep_state: bool) -> tuple[Tensor, Any]:
        """Return scores that name what is known."""
        assert keep_state
        says = self.says[:, self.read : self.read + tokens.shape[1]]
        self.read += tokens.shape[1]
        return torch.nn.functional.one_hot(says, VALUES).float(), state


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("known", [0.0, 0.25, 1.0])
def test_the_score_counts_the_queries_answered_rightly_and_their_facts(
    name: str, known: float
) -> None:
    settings = quick_settings()
    sequences = settings.test_tokens // 64
    batch = TASKS[name](sequences, 64, settings.pairs, generator(5))
    oracle: Any = Oracle(batch, known)
    counts = measure(oracle, name, 64, 5, settings)
    assert share(counts) == known
    assert counts["asked"] == int((batch.targets != NO_ANSWER).sum())
    assert counts["facts"] == sequences * (1 if name == "needle" else settings.pairs)


@pytest.mark.parametrize(
    ("mean", "facts", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (1.0, 100, 0.9630, 1.0), (0.0, 10, 0.0, 0.2775)],
)
def test_the_interval_is_wilsons(mean: float, facts: int, low: float, high: float) -> None:
    assert interval(mean, facts) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_reading_in_pieces_answers_as_one_reading(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = RecallModel(quick_settings().config(variant)).double().eval()
    heard: list[Tensor] = []

    def listen(module: Any, inputs: Any, outputs: tuple[Tensor, Any]) -> None:
        heard.append(outputs[0])

    model.register_forward_hook(listen)
    measure(model, "recall", 128, 5, quick_settings())
    (whole,) = heard
    heard.clear()
    monkeypatch.setattr(measuring, "PIECE", 37)
    measure(model, "recall", 128, 5, quick_settings())
    assert len(heard) == 4
    torch.testing.assert_close(torch.cat(heard, dim=1), whole)


def made_up_results() -> dict[str, Any]:
    """Return results of two variants, the first with three seeds."""

    def one(variant: str, seed: int, right: int) -> dict[str, Any]:
        by_length = {
            "64": {"right": right, "asked": 80, "facts": 40},
            "4096": {"right": right // 2, "asked": 80, "facts": 20},
        }
        return {
            "variant": variant, "seed": seed, "parameters": 1234, "train_seconds": 5.0,
            "test_seconds": 2.0, "accuracy": {"recall": by_length, "needle": by_length},
        }  # fmt: skip

    runs = [one("lmm", seed, right) for seed, right in enumerate([40, 80, 60])]
    return {"runs": [*runs, one("attention", 0, 10)], "chance": 0.0625,
            "settings": {"longest": 512}}  # fmt: skip


def test_the_table_shows_the_median_of_the_seeds_their_range_and_how_sure_it_is() -> None:
    lines = table(made_up_results()).splitlines()
    assert "chance 0.062" in lines[0]
    assert lines[1].split()[-2:] == ["64", "4,096"]
    assert lines[2].split() == ["lmm", "1,234", "7", "0.75", "(0.50-1.00)", "0.38", "(0.25-0.50)"]
    assert lines[3].split()[3:] == ["0.12", "(0.12-0.12)", "0.06", "(0.06-0.06)"]
    assert lines[4].split()[-2:] == ["40", "20"]
    low, high = interval(0.125, 40)
    assert lines[5].split()[-2] == f"{low:.2f}-{high:.2f}"


def test_scores_are_gathered_by_variant_and_length() -> None:
    gathered = scores(made_up_results(), "needle")
    assert gathered["lmm"] == {64: [0.5, 1.0, 0.75], 4096: [0.25, 0.5, 0.375]}


def test_each_variant_gets_the_rate_that_did_best_over_the_tuning_seeds() -> None:
    tried = [("lmm", 0.1, 0.5), ("lmm", 0.1, 0.5), ("lmm", 0.2, 0.9), ("lmm", 0.2, 0.0),
             ("mac", 0.1, 0.2), ("mac", 0.2, 0.3)]  # fmt: skip
    tuning = [
        {"variant": variant, "learning_rate": rate, "score": score}
        for variant, rate, score in tried
    ]
    assert best_rates({"tuning": tuning}) == {"lmm": 0.1, "mac": 0.2}


def test_nothing_is_chosen_on_the_sequences_that_are_reported() -> None:
    seeds = script.arguments([]).seeds
    reported = {measuring.TEST_SEED + seed for seed in seeds}
    assert measuring.TUNING_SEED not in reported
    assert not set(seeds) & set(script.arguments([]).tuning_seeds)


def test_the_figure_is_drawn_from_the_results_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot(made_up_results(), tmp_path / "recall.png")
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_keeps_what_is_done_and_adds_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--quick", "--dim", "8", "--out", str(tmp_path / "made" / "recall.json")]
    script.main([*words, "--variants", "lmm", "--seeds", "0"])
    first = json.loads((tmp_path / "made" / "recall.json").read_text("utf-8"))
    script.main([*words, "--variants", "attention", "lmm", "--seeds", "0"])
    second = json.loads((tmp_path / "made" / "recall.json").read_text("utf-8"))
    assert [(one["variant"], one["seed"]) for one in second["runs"]] == [
        ("lmm", 0),
        ("attention", 0),
    ]
    assert second["runs"][0] == first["runs"][0]
    assert [one["variant"] for one in second["tuning"]] == ["lmm", "attention"]
    assert second["tuning"][0] == first["tuning"][0]
    assert second["settings"]["dim"] == 8
    out = capsys.readouterr().out
    assert "attention" in out
    assert "Needle in a haystack" in out


def test_a_file_of_other_settings_is_not_mixed_with_new_runs(tmp_path: Path) -> None:
    words = [
        "--quick",
        "--variants",
        "attention",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "a.json"),
    ]
    script.main([*words, "--dim", "8"])
    with pytest.raises(SystemExit, match="other settings"):
        script.main([*words, "--dim", "16"])


def test_lengths_that_hold_no_facts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.arguments(["--lengths", "16"])
    assert "at least 32" in capsys.readouterr().err
