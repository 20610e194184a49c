import dataclasses
import json

import pytest

from titans_seq.evaluation import demo
from titans_seq.evaluation.cards.reading import list_cards, read_recipe
from titans_seq.evaluation.runs.overrides import check_recipe_settings
from titans_seq.exceptions import ConfigError, MissingExtraError

QUICK = {
    "nyc13": {"horizon": 24, "context_length": 24, "dim": 8, "layers": 1, "max_epochs": 1},
    "ecoli_coding_vs_intergenic": {"dim": 8, "layers": 1, "max_epochs": 1},
}


def quick_recipe(name):
    return dataclasses.replace(read_recipe(name), settings=QUICK[name])


@pytest.mark.slow
@pytest.mark.usefixtures("brief_start")
def test_both_heads_are_trained_scored_plotted_and_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "read_recipe", quick_recipe)
    found = demo.run_demo(tmp_path / "demo", workers=1)
    forecasting, dna = found.parts
    scores = dict(forecasting.table.rows)
    assert scores["TitansForecaster"]["windows"] == 1723
    assert scores["seasonal naive, 168 rows"]["mse"] == pytest.approx(0.692, abs=5e-4)
    assert dict(dna.table.rows)["majority"]["accuracy"] == 0.5
    for part in found.parts:
        for file in part.files:
            assert (tmp_path / "demo" / file).exists()
    for picture in ("nyc13-forecast.png", "ecoli-scores.png"):
        assert (tmp_path / "demo" / picture).read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert [len(part["scores"]) for part in record["parts"]] == [6, 7]
    assert "| TitansForecaster |" in (tmp_path / "demo" / "results.md").read_text()
    text = found.to_text()
    for needed in ("seasonal naive", "share of G and C", "titans-seq forecast fit", "dna fit"):
        assert needed in text
    for name in ("nyc13.csv.gz", "ecoli-train.fa.gz", "ecoli-test.fa.gz"):
        assert (tmp_path / "demo" / "data" / name).is_file()


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        demo.run_demo(tmp_path / "demo")


def test_a_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "Bio" else True)
    with pytest.raises(MissingExtraError, match=r"Bio is not installed.*titans-seq\[all\]"):
        demo.run_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", list_cards("recipes"))
def test_recipes_hold_settings_that_their_estimators_have(name):
    check_recipe_settings(read_recipe(name), name)


def test_the_commands_follow_from_the_recipes_as_they_are(tmp_path):
    text = demo._commands(tmp_path)
    for name, command in (("nyc13", "forecast fit"), ("ecoli_coding_vs_intergenic", "dna fit")):
        epochs = read_recipe(name).settings["max_epochs"]
        assert f"titans-seq {command}" in text
        assert f"--max-epochs {epochs}" in text
