from pathlib import Path

import pandas as pd
import pytest
import torch

from titans_seq.evaluation.cards.reading import read_recipe
from titans_seq.evaluation.runs.comparison import compare_runs
from titans_seq.evaluation.runs.overrides import override
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.language import TitansRecall
from titans_seq.language.recall_model import FactBatches

WORDS = ("dim=8", "steps=3", "tokens_a_step=96", "longest=64", "lengths=[32, 64]",
         "test_tokens=256", "seeds=[0, 1]")  # fmt: skip


@pytest.mark.slow
def test_facts_are_asked_for_and_a_run_goes_on_after_a_kill(tmp_path: Path, killed_at) -> None:
    recipe = override(read_recipe("recall"), WORDS, "recall")
    whole = run_recipe(recipe, tmp_path / "whole")
    assert whole["metric"] == "recall_32"
    assert whole["controls"]["all"]["chance"]["needle_64"] == 1 / 16
    table = pd.read_parquet(tmp_path / "whole" / "predictions" / "seed-1.parquet")
    assert table["length"].tolist() == [32, 64, 32, 64]
    assert (table["right"] <= table["asked"]).all()
    (found,) = compare_runs([tmp_path / "whole"])
    assert found.columns == ("recall_32", "recall_64", "needle_32", "needle_64")
    killed_at(2, run_recipe, recipe, tmp_path / "killed")
    assert run_recipe(recipe, tmp_path / "killed", resume=True) == whole


def test_the_same_epoch_draws_the_same_sequences_and_later_ones_are_longer() -> None:
    model = TitansRecall(steps=400, tokens_a_step=512)
    one, other = FactBatches(model, 5), FactBatches(model, 5)
    first = list(one)
    assert len(first) == len(one) == 100
    other.epoch = 1
    for batch, same in zip(one, other, strict=True):
        assert torch.equal(batch["tokens"], same["tokens"])
    longest = [max(b["tokens"].shape[1] for b in epoch) for epoch in (first, other)]
    assert longest[0] < longest[1] <= 512


def test_a_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = TitansRecall(dim=8, steps=1, tokens_a_step=64, random_state=0).fit()
    model.save(tmp_path / "model")
    again = TitansRecall.load(tmp_path / "model")
    assert again.count("recall", 64, tokens=256) == model.count("recall", 64, tokens=256)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="is damaged"):
        TitansRecall.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": 9}, "pairs must be from 1 to 8, got 9"),
        (
            {"shortest": 16},
            "must satisfy 32 <= shortest <= longest, got 16 and 512",
        ),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"heads": 3}, "dim must be a positive multiple of heads=3"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        TitansRecall(**settings).fit()


def test_lengths_that_hold_no_facts_are_refused(tmp_path: Path) -> None:
    recipe = override(read_recipe("recall"), ["lengths=[16]"], "recall")
    with pytest.raises(ConfigError, match=r"one or more numbers from 32, got \[16\]"):
        run_recipe(recipe, tmp_path / "run")
