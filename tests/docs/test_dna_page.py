"""The page on DNA: its examples run, with the results that the page states."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief_start_of_module")]

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "dna.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def names(page: str, folder: Path) -> dict[str, Any]:
    """Names that the page's Python defines, after all blocks and commands ran in order."""
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    names: dict[str, Any] = {"__name__": "dna_page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, code in BLOCK.findall(page):
            if kind == "python":
                exec(compile(code, "docs/dna.md", "exec", dont_inherit=True), names)
                continue
            for line in code.splitlines():
                # -q: a warning that the command shows would be an error here
                result = CliRunner().invoke(entry.load(), ["-q", *shlex.split(line)[1:]])
                assert result.exit_code == 0, (line, result.output)
    return names


def test_a_protein_is_rejected_with_the_message_of_the_page(
    page: str, names: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert list(pd.read_table("contigs.tsv")["id"]) == ["contig1", "contig2"]
    assert Path("contigs.tsv.refused.fa").read_text().startswith(">protein1 by mistake refused=")
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    arguments = ["dna", "predict", "contigs.fa", "--model", "coding", "--out", "none.tsv"]
    result = CliRunner().invoke(entry.load(), arguments)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr in page
    assert not Path("none.tsv").exists()


def test_tables_have_the_columns_that_the_page_names(
    page: str, names: dict[str, Any], folder: Path
) -> None:
    labels = pd.read_table(folder / "labels.tsv")
    table = page.split("| column |")[1].split("\n\n")[0]
    assert list(labels.columns) == re.findall(r"`([^`]+)`", table)
    assert len(labels) == len(names["test"].sequences)
    accuracy = (labels["label"] == names["test"].labels).mean()
    assert accuracy > 0.6  # a small model, but better than chance


def test_windows_are_predicted_like_single_sequences(names: dict[str, Any], folder: Path) -> None:
    windows = pd.read_table(folder / "windows.tsv")
    chromosome = "".join(names["windows"])
    assert list(windows["start"]) == list(range(0, len(chromosome) - 50, 50))
    texts = [chromosome[a:b] for a, b in zip(windows["start"], windows["end"], strict=True)]
    probabilities = names["classifier"].predict_proba(texts)
    np.testing.assert_allclose(windows[["p(coding)", "p(intergenic)"]], probabilities, atol=1e-5)
    streamed = np.array([row.values for row in names["rows"]])
    np.testing.assert_allclose(streamed, probabilities, atol=1e-6)
    (record,) = pd.read_table(folder / "records.tsv").to_dict("records")
    assert (record["length"], record["windows"]) == (len(chromosome), len(windows))


def test_tracks_cover_the_chromosome_once(names: dict[str, Any], folder: Path) -> None:
    chromosome = "".join(names["windows"])
    for name in ("coding.bedgraph", "surprise.bedgraph"):
        track = pd.read_table(folder / name, header=None)
        assert track[1].iloc[0] == 0
        assert track[2].iloc[-1] == len(chromosome)
        assert (track[1].iloc[1:].to_numpy() == track[2].iloc[:-1].to_numpy()).all()
    carried = pd.read_table(folder / "carried.tsv")
    np.testing.assert_allclose(track[3], carried["surprise"], rtol=1e-4)
    assert len(pd.read_table(folder / "windows.bed", header=None)) == len(names["rows"])


def test_intervals_and_variants_are_scored(names: dict[str, Any], folder: Path) -> None:
    assert list(pd.read_table(folder / "peaks.tsv")["id"]) == ["first", "second"]
    effects = pd.read_table(folder / "effects.tsv")
    assert list(effects["id"]) == ["snp", "insertion"]
    change = effects["alt p(coding)"] - effects["ref p(coding)"]
    np.testing.assert_allclose(effects["change(coding)"], change, atol=1e-6)


def test_baselines_are_scored_beside_the_model(names: dict[str, Any], folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert {"majority", "nearest training row", "4-letter words"} < set(scores)
    assert scores["titans-seq"]["accuracy_low"] < scores["titans-seq"]["accuracy"]


def test_each_base_of_the_example_is_explained(names: dict[str, Any], folder: Path) -> None:
    bases = pd.read_table(folder / "bases.tsv")
    surprise = pd.read_table(folder / "surprise.tsv")
    assert "".join(bases["base"]) == names["test"].sequences[0].upper()
    assert {"importance", "to A", "to C", "to G", "to T"} < set(bases.columns)
    assert (surprise["surprise"] >= 0).all()
    assert (folder / "bases.png").stat().st_size > 2000


def test_pretraining_leaves_a_model_and_no_checkpoint(names: dict[str, Any], folder: Path) -> None:
    assert (folder / "begin" / "card.md").is_file()
    assert not (folder / "begin-checkpoint").exists()
    assert (folder / "coding2" / "card.md").is_file()
