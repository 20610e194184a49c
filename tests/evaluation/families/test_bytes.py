import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import read_recipe
from titans_seq.evaluation.families import bytes as bytes_module
from titans_seq.evaluation.runs.comparison import compare_runs
from titans_seq.evaluation.runs.folder import read_recipe_file
from titans_seq.evaluation.runs.overrides import override, with_input
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.exceptions import ConfigError, MissingDataError

WORDS = ("dim=8", "heads=2", "layers=1", "window=16", "length=64", "batch_size=2", "steps=6",
         "check_every=3")  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path):
    path = tmp_path / "squares.txt"
    path.write_bytes(b"".join(b"%d squared is %d. " % (i, i * i) for i in range(400)))
    return with_input(override(read_recipe("byte_language"), WORDS, "byte_language"), path)


@pytest.mark.slow
def test_a_text_is_run_and_gone_on_with_after_a_kill(
    recipe, tmp_path: Path, killed_at, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_module, "_GENERATED_BYTES", 240)
    whole = run_recipe(recipe, tmp_path / "whole")
    scores = whole["trials"]["seed-0"]["scores"]
    assert 0 < scores["bits_per_byte"] < 9
    assert scores["needle_256"] <= 1
    controls = whole["controls"]["all"]
    assert controls["counts, 3 bytes before"]["bits_per_byte"] < 4
    table = pd.read_parquet(tmp_path / "whole" / "predictions" / "seed-0.parquet")
    assert table["start"].tolist() == [0]
    written = (tmp_path / "whole" / "predictions" / "seed-0-written.txt").read_bytes()
    assert len(written) == 256 + 240
    other = shutil.copytree(tmp_path / "whole", tmp_path / "other")
    changed = json.loads((other / "metrics.json").read_text()) | {"data": "other.txt, sha256 1"}
    (other / "metrics.json").write_text(json.dumps(changed))
    one, two = compare_runs([tmp_path / "whole", other])  # two texts, two tables
    assert "squares.txt, sha256" in one.to_text()
    assert "other.txt, sha256" in two.to_text()
    assert one.rows[0].scores["bytes_per_second"]["bytes_per_second"] > 0
    killed_at(5, run_recipe, recipe, tmp_path / "killed")
    kept = read_recipe_file(tmp_path / "killed" / "recipe.toml")
    assert run_recipe(kept, tmp_path / "killed", resume=True) == whole


def test_a_text_that_is_not_there_is_asked_for(recipe, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="pass your own with --input FILE"):
        run_recipe(dataclasses.replace(recipe, input=None), tmp_path / "run")
    with pytest.raises(MissingDataError, match=r"there is no file .*gone\.txt"):
        run_recipe(with_input(recipe, tmp_path / "gone.txt"), tmp_path / "run")
    with pytest.raises(ConfigError, match="nyc13 has files of its own; leave out input"):
        run_recipe(with_input(read_recipe("nyc13"), tmp_path / "gone.txt"), tmp_path / "run")
