import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.dna import TitansDNAClassifier
from titans_seq.dna.alphabet import encode
from titans_seq.dna.learning.language import LanguageConfig, TitansDNALanguage
from titans_seq.dna.learning.pretraining import (
    PretrainSettings,
    held_out_batches,
    score_language_model,
)
from titans_seq.evaluation.cards.reading import read_card, read_recipe
from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.evaluation.families import registry
from titans_seq.evaluation.runs.comparison import compare_runs
from titans_seq.evaluation.runs.overrides import override, with_input
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.exceptions import ConfigError

WORDS = ("dim=8", "layers=1", "window=64", "batch_size=2", "steps=4", "check_every=2",
         "context=4", "held_share=0.2", "fine_tune_epochs=1")  # fmt: skip


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """Genome whose bases follow one another mostly in one order."""
    draw, path, base = random.Random(0), tmp_path / "genome.fa", 0
    letters = []
    for _ in range(8_000):
        base = (base + 1) % 4 if draw.random() < 0.7 else draw.randrange(4)
        letters.append("ACGT"[base])
    path.write_text(f">one\n{''.join(letters)}\n")
    return path


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a small set of sequences, rich or poor in G and C."""
    draw = random.Random(1)
    files = {}
    for part, rows in (("train", 40), ("test", 16)):
        labels = [draw.choice(("poor", "rich")) for _ in range(rows)]
        weights = {"poor": (3, 1, 1, 3), "rich": (1, 3, 3, 1)}
        lines = [f"{''.join(draw.choices('ACGT', weights[one], k=60))},{one}" for one in labels]
        (tmp_path / f"{part}.csv").write_text("sequence,label\n" + "\n".join(lines) + "\n")
        files[part] = DataFile(path=f"{part}.csv", check="made here")
    small = DatasetCard(
        name="small", task="classification", summary="", source="", url="", licence="",
        citation="", split_rule="", files=files,
    )  # fmt: skip
    monkeypatch.setattr(
        registry, "read_card", lambda name: read_card(name) if name != "small" else small
    )
    monkeypatch.setenv("TITANS_SEQ_DATA", str(tmp_path))
    return "small"


@pytest.mark.slow
def test_bases_are_told_and_a_classifier_begins_from_them(
    genome: Path, labelled: str, tmp_path: Path, killed_at
) -> None:
    words = (*WORDS, f"fine_tune={labelled}", "max_steps=4")
    recipe = with_input(override(read_recipe("next_base"), words, "next_base"), genome)
    whole = run_recipe(recipe, tmp_path / "whole")
    scores = whole["trials"]["seed-0"]["scores"]
    assert scores["bits_per_base"] == pytest.approx(np.log2(scores["perplexity"]))
    assert {"fine_tuned_mcc", "untaught_mcc"} <= scores.keys()
    controls = whole["controls"]["all"]
    assert controls["2-mers"]["perplexity"] < 3.2 < controls["any base alike"]["perplexity"]
    table = pd.read_parquet(tmp_path / "whole" / "predictions" / "seed-0.parquet")
    assert table["letters"].sum() == scores["bases"]
    TitansDNAClassifier.load(tmp_path / "whole" / "model" / "fine-tuned")
    (found,) = compare_runs([tmp_path / "whole"])
    assert found.columns[:2] == ("perplexity", "bits_per_base")
    files = json.loads((tmp_path / "whole" / "data.json").read_text())["files"]
    assert list(files) == ["genome", "small/train", "small/test"]
    killed_at(7, run_recipe, recipe, tmp_path / "killed")  # in the training after the first
    assert run_recipe(recipe, tmp_path / "killed", resume=True) == whole


@pytest.mark.slow
def test_a_masked_run_without_fine_tuning(genome: Path, tmp_path: Path) -> None:
    words = (*WORDS, "fine_tune=''", "objective=masked")
    recipe = with_input(override(read_recipe("next_base"), words, "next_base"), genome)
    whole = run_recipe(recipe, tmp_path / "run")
    assert "fine_tuned_mcc" not in whole["trials"]["seed-0"]["scores"]
    assert "1 letters on either side" in whole["controls"]["all"]


def test_wrong_settings_are_named(genome: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'objectve'; did you mean 'objective'"):
        override(read_recipe("next_base"), ["objectve=masked"], "next_base")
    recipe = override(read_recipe("next_base"), ["objective=last"], "next_base")
    with pytest.raises(ConfigError, match="objective = 'last' is not of type"):
        run_recipe(with_input(recipe, genome), tmp_path / "run")


@pytest.mark.parametrize("objective", ["next", "masked"])
def test_scores_are_means_over_the_bases_asked_for(objective: str) -> None:
    settings = PretrainSettings(batch_size=2)
    network = TitansDNALanguage(
        LanguageConfig(dim=8, layers=1, objective=objective, tokens="base", context=3)
    ).eval()
    draw = random.Random(0)
    windows = [encode("".join(draw.choices("ACGTN", k=size))) for size in (40, 33, 50)]
    found = score_language_model(network, settings, windows)
    masks = 0.15 if objective == "masked" else None
    losses, right = [], []
    for batch in held_out_batches(windows, 2, masks):
        said = network(batch["codes"], batch["mask"]).detach()
        for row, place in zip(*np.nonzero(batch["scored"].numpy()), strict=True):
            code = int(batch["targets"][row, place])
            if code in (1, 2, 4, 8):
                base = (1, 2, 4, 8).index(code)
                losses.append(-float(said[row, place, base]))
                right.append(int(said[row, place].argmax()) == base)
    assert found.perplexity == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert found.accuracy == pytest.approx(np.mean(right))
