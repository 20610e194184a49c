import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import Competition, DataFile, DatasetCard
from titans_seq.evaluation.data.locations import data_path, hash_file
from titans_seq.evaluation.families import registry
from titans_seq.evaluation.families.m4 import M4Experiment, read_series_rows
from titans_seq.evaluation.families.protocol import RunInputs
from titans_seq.evaluation.forecasts.m4_rules import score_m4, score_m4_controls
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.exceptions import ConfigError, DataError, MissingDataError

CARD = DatasetCard(
    name="contest", task="forecasting", summary="", source="", url="", licence="", citation="",
    split_rule="", metric="mase", competition=Competition(horizon=4, season=6),
    files={name: DataFile(path=f"{name}.csv", check="made here") for name in ("train", "test")},
)  # fmt: skip

RECIPE = RecipeCard(
    name="contest", summary="", dataset="contest", estimator="TitansForecaster", max_steps=6,
    settings={"context_length": 12, "dim": 8, "max_epochs": 2},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train and test file of four series of different lengths."""
    draw = np.random.default_rng(0)
    series = {
        f"S{n}": 50 + 20 * np.sin(np.arange(40 + 3 * n) * np.pi / 3) + draw.normal(size=40 + 3 * n)
        for n in range(4)
    }
    for name, rows in (
        ("train", {key: values[:-4] for key, values in series.items()}),
        ("test", {key: values[-4:] for key, values in series.items()}),
    ):
        table = pd.DataFrame([[key, *values] for key, values in rows.items()])
        table.columns = [f"V{n + 1}" for n in range(table.shape[1])]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.setattr(registry, "read_card", lambda name: CARD)
    monkeypatch.setattr("titans_seq.evaluation.runs.comparison.read_card", lambda name: CARD)
    monkeypatch.setenv("TITANS_SEQ_DATA", str(tmp_path))
    return tmp_path


def _inputs(folder: Path) -> RunInputs:
    files = {name: hash_file(folder / f"{name}.csv") for name in ("train", "test")}
    return RunInputs(CARD, files)


def _head(folder: Path, recipe: RecipeCard = RECIPE) -> M4Experiment:
    return M4Experiment(recipe, _inputs(folder))


@pytest.mark.slow
def test_a_competition_is_run_and_gone_on_with(folder: Path, killed_at) -> None:
    whole = run_recipe(RECIPE, folder / "whole")
    scores = whole["trials"]["seed-0"]["scores"]
    table = pd.read_parquet(folder / "whole" / "predictions" / "seed-0.parquet")
    head = _head(folder)
    assert table["unique_id"].tolist() == [name for name in head.names for _ in range(4)]
    np.testing.assert_array_equal(table["actual"], head.actual.ravel())
    assert table["ds"].tolist()[:4] == [36, 37, 38, 39]
    told = table["y_pred-q0.5"].to_numpy().reshape(4, 4)
    own = score_m4(head.histories, head.actual, told, 6)
    assert own["mase"] == pytest.approx(scores["mase"])
    reference = whole["controls"]["all"]["Naive 2"]
    halves = own["mase"] / reference["mase"] / 2 + own["smape"] / reference["smape"] / 2
    assert scores["owa"] == pytest.approx(halves)
    assert "Theta" in (folder / "whole" / "report.md").read_text()
    killed_at(4, run_recipe, RECIPE, folder / "killed")
    assert run_recipe(RECIPE, folder / "killed", resume=True) == whole


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train", "V1,V2,V3\nS0,1,\nS1,,2\n", "series S1: a value is missing before the last"),
        ("train", "V1,V2\nS0,many\n", "series S0: could not convert"),
        ("train", "V1,V2\nS0,inf\n", "series S0: a value is not finite"),
        ("test", "V1,V2,V3,V4,V5\nS9,1,1,1,1\n", "other series than in"),
        ("test", "V1,V2\nS0,1\nS1,1\nS2,1\nS3,1\n", "series S0: every series must have 4 values"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    folder: Path, name: str, text: str, message: str
) -> None:
    (folder / f"{name}.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        _head(folder)


def test_the_horizon_is_the_competition_s(folder: Path) -> None:
    with pytest.raises(ConfigError, match="leave out horizon, it is that of contest, 4"):
        _head(folder, dataclasses.replace(RECIPE, settings={"horizon": 3}))
    with pytest.raises(ConfigError, match="horizons are only possible for forecasts by windows"):
        registry.read_experiment(dataclasses.replace(RECIPE, horizons=(3,)), _inputs(folder))


@pytest.mark.parametrize(
    ("name", "smape", "mase"), [("hourly", 18.383, 2.395), ("weekly", 9.161, 2.777)]
)
def test_naive_2_scores_what_it_scored_in_the_competition(
    name: str, smape: float, mase: float, shared_data: Path
) -> None:
    card = read_card(f"m4_{name}")
    try:
        names = [data_path(card, part, shared_data) for part in ("train", "test")]
    except MissingDataError as error:
        pytest.skip(str(error))
    histories, rows = (read_series_rows(path)[1] for path in names)
    assert card.competition is not None
    found = score_m4_controls(histories, np.stack(rows), card.competition.season)
    assert found["Naive 2"]["smape"] == pytest.approx(smape, abs=5e-4)
    assert found["Naive 2"]["mase"] == pytest.approx(mase, abs=5e-4)
