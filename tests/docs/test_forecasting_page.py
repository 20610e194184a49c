"""The page on forecasting: its examples run, with the results that the page states."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from click.testing import CliRunner

from titans_seq.forecasting.scores import backtest as scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "forecasting.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def example(page: str, folder: Path) -> dict[str, Any]:
    """Names that the page's Python defines; its files are written to the folder."""
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "forecasting_page"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "docs/forecasting.md", "exec", dont_inherit=True), names)
    return names


def test_forecasts_are_of_the_hours_that_follow(example: dict[str, Any]) -> None:
    forecast = example["forecast"]
    assert forecast.groupby("airport").size().to_dict() == {"EWR": 24, "JFK": 24, "LGA": 24}
    assert forecast["time"].min() == example["now"]
    for name, frame in (("y_pred-hi-95", "bands"), ("y_pred-q0.99", "tails")):
        assert (example[frame][name] > forecast["y_pred-q0.9"]).all()


def test_the_backtest_has_the_scores_of_the_page(example: dict[str, Any]) -> None:
    backtest = example["backtest"]
    assert backtest.windows == 3 * 28
    assert backtest.seen_windows == 0
    summary = backtest.summary()
    ours, naive = summary.loc[scores.OURS], summary.loc[scores.NAIVE]
    for score in ("mse", "smape", "crps", "wql"):
        assert ours[score] < naive[score], score
    assert ours["mse"] / naive["mse"] == pytest.approx(0.6, abs=0.08)
    assert ours["mae"] / naive["mae"] == pytest.approx(0.9, abs=0.08)
    assert ours["coverage-80"] == pytest.approx(0.8, abs=0.06)


def test_the_table_names_every_score(page: str, example: dict[str, Any]) -> None:
    table = page.split("| score |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)`", table))
    assert named == set(example["backtest"].summary().columns) - {"coverage-95"}


def test_paths_are_summed_to_days(example: dict[str, Any]) -> None:
    assert example["days"].groupby("airport").size().to_dict() == dict.fromkeys(
        ("EWR", "JFK", "LGA"), 500
    )


def test_the_pictures_are_drawn_and_the_page_shows_them(
    page: str, root: Path, example: dict[str, Any], folder: Path
) -> None:
    for name in re.findall(r"\(images/([\w.]+)\)", page):
        for path in (folder / name, root / "docs" / "images" / name):
            assert path.read_bytes().startswith(b"\x89PNG"), path


def test_the_search_ran_over_both_look_backs(example: dict[str, Any]) -> None:
    assert set(example["search"].cv_results_["param_context_length"]) == {24, 168}


def test_the_commands_run_and_agree_with_python(
    page: str, example: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    monkeypatch.chdir(folder)
    blocks = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        result = CliRunner().invoke(entry.load(), shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output)
    written = pd.read_csv("tomorrow.csv")
    for column in ("y_pred", "y_pred-hi-80"):
        expected = example["bands"][column]
        assert written[column].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)
    by_series = json.loads(Path("scores.json").read_text())["scores"]
    assert {"JFK titans-seq", "LGA seasonal naive"} <= set(by_series)
