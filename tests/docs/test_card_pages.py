"""The pages on adding data sets and recipes: cards are parsed, and commands run."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from titans_seq.evaluation.cards.reading import parse_dataset
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import (
    Columns,
    DataFile,
    DatasetCard,
    Intervals,
    Result,
)


def _blocks(root: Path, page: str, language: str) -> list[str]:
    text = (root / "docs" / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_example_recipe_runs_and_is_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe,) = _blocks(root, "add-recipe.md", "toml")
    Path("late.toml").write_text(recipe, "utf-8")
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    for line in "".join(_blocks(root, "add-recipe.md", "console")).splitlines():
        result = CliRunner().invoke(entry.load(), ["-q", *shlex.split(line)[1:]])
        assert result.exit_code == 0, (line, result.output)
    assert Path("mine.toml").is_file()
    assert Path("runs/late/DONE").is_file()
    assert "nyc13: MSE" in Path("late.md").read_text("utf-8")


def test_the_example_cards_of_data_sets_are_valid(root: Path) -> None:
    tides, binding = (
        parse_dataset(table, f"datasets/{table['name']}.toml")
        for table in map(tomllib.loads, _blocks(root, "add-data-set.md", "toml"))
    )
    assert (tides.main_metric, binding.main_metric) == ("mse", "mcc")
    assert tides.columns is not None
    assert tides.columns.future == ("moon",)
    assert set(binding.files) == {"train", "test"}


def test_the_pages_name_every_key_of_a_card(root: Path) -> None:
    for page, records in {
        "add-recipe.md": [RecipeCard],
        "add-data-set.md": [DatasetCard, DataFile, Columns, Intervals, Result],
    }.items():
        text = (root / "docs" / page).read_text("utf-8")
        keys = {field.name for record in records for field in dataclasses.fields(record)}
        rare = {"bytes", "check"}  # for files without a digest, see DataFile
        named = set(re.findall(r"`(\w+)[`. ]", text)) | set(re.findall(r"^(\w+) +=", text, re.M))
        assert keys - rare <= named, page
