"""The recall benchmark: its rates, its file of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import recall as script
from recall_parts import models
from recall_parts.models import Settings, trapezoid
from recall_parts.report import best_rates, plot, scores, table

from titans_seq.evaluation.scores.intervals import wilson_interval


def quick_settings() -> Settings:
    """Return the settings of ``--quick``."""
    return script.settings_from(script.parse_arguments(["--quick", "--dim", "16"]))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    shares = [trapezoid(place / 100) for place in range(101)]
    assert shares[5:60] == [1.0] * 55
    assert sorted(shares[:6]) == shares[:6]
    assert sorted(shares[60:], reverse=True) == shares[60:]
    assert 0 < shares[-1] < 0.02


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
    low, high = wilson_interval(5, 40)
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
    seeds = script.parse_arguments([]).seeds
    reported = {models.TEST_SEED + seed for seed in seeds}
    assert models.TUNING_SEED not in reported
    assert not set(seeds) & set(script.parse_arguments([]).tuning_seeds)


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
        script.parse_arguments(["--lengths", "16"])
    assert "at least 32" in capsys.readouterr().err
