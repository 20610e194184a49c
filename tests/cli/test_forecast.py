from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from titans_seq.evaluation import Split, score_forecaster
from titans_seq.forecasting import TitansForecaster, read_frame

Run = Callable[..., Result]
Words = tuple[str, ...]


def test_fit_writes_a_model_and_says_how_it_went(
    run: Run, forecast_words: Words, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    answer = run(*forecast_words, "--model", model)
    assert answer.exit_code == 0, answer.output
    assert answer.stderr == ""
    assert "2 series, 400 rows" in answer.stdout
    assert "1 epochs" in answer.stdout
    assert sorted(path.name for path in model.iterdir()) == [
        "card.md", "config.json", "metrics.json", "model.safetensors", "preprocess.json",
    ]  # fmt: skip
    forecaster = TitansForecaster.load(model)
    assert (forecaster.horizon, forecaster.context_length) == (12, 24)
    assert tuple(forecaster.future) == ("open",)


def test_predict_writes_what_the_library_predicts(
    run: Run, forecast_model: Path, sales: Path, plan: Path, tmp_path: Path
) -> None:
    words = ("forecast", "predict", sales, "--future-data", plan, "--model", forecast_model)
    answer = run(*words)
    assert answer.exit_code == 0, answer.output
    wanted = TitansForecaster.load(forecast_model).predict(
        read_frame(sales), future_df=read_frame(plan)
    )
    (tmp_path / "printed.csv").write_text(answer.stdout)
    readers = {".csv": pd.read_csv, ".tsv": pd.read_table, ".parquet": pd.read_parquet,
               ".jsonl": lambda path: pd.read_json(path, lines=True)}  # fmt: skip
    for name in ("out.csv", "out.tsv", "out.parquet", "out.jsonl", "printed.csv"):
        path = tmp_path / name
        if name != "printed.csv":
            assert run(*words, "--out", path).stdout == ""
        found = readers[path.suffix](path)
        assert list(found.columns) == list(wanted.columns)
        assert len(found) == 24
        np.testing.assert_allclose(found["y_pred"], wanted["y_pred"], rtol=1e-6)
        assert (pd.to_datetime(found["time"]) == wanted["time"].to_numpy()).all()


def test_predict_takes_any_quantiles_and_intervals(
    run: Run, forecast_model: Path, sales: Path, plan: Path
) -> None:
    words = ("forecast", "predict", sales, "--future-data", plan, "--model", forecast_model)
    answer = run(*words, "--levels", "80,95", "--quantiles", "0.5")
    found = pd.read_csv(io.StringIO(answer.stdout))
    wanted = TitansForecaster.load(forecast_model).predict(
        read_frame(sales), read_frame(plan), levels=(80, 95), quantiles=(0.5,)
    )
    assert list(found.columns) == list(wanted.columns)
    np.testing.assert_allclose(found["y_pred-hi-95"], wanted["y_pred-hi-95"], rtol=1e-6)
    answer = run(*words, "--levels", "180")
    assert answer.exit_code == 3
    assert "levels must be percents between 0 and 100, like 80, got (180.0,)" in answer.stderr


def test_backtest_prints_what_the_library_scores(
    run: Run, forecast_model: Path, sales: Path, tmp_path: Path
) -> None:
    words = ("forecast", "backtest", sales, "--model", forecast_model, "--windows", "3")
    files = {name: tmp_path / name for name in ("scores.json", "all.csv", "look.png")}
    answer = run(
        *words, "--step", "10", "--out", files["scores.json"],
        "--forecasts", files["all.csv"], "--plot", files["look.png"],
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    wanted = TitansForecaster.load(forecast_model).backtest(read_frame(sales), windows=3, step=10)
    scores = json.loads(files["scores.json"].read_text())["scores"]
    for model, row in wanted.summary().iterrows():
        assert scores[model] == pytest.approx(row.to_dict())
        assert f"\n{model}" in answer.stdout
    assert "6 windows, seasonal naive repeats 24 rows" in answer.stdout
    assert answer.stderr == ""
    found = pd.read_csv(files["all.csv"])
    assert list(found.columns) == list(wanted.forecasts.columns)
    np.testing.assert_allclose(found["y_pred"], wanted.forecasts["y_pred"], rtol=1e-6)
    assert files["look.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("by", "names"), [("series", ["north", "south"]), ("horizon", range(1, 13)), ("cutoff", None)]
)
def test_backtest_scores_by_series_step_or_origin(
    run: Run, forecast_model: Path, sales: Path, by: str, names: list[object] | None
) -> None:
    words = ("forecast", "backtest", sales, "--model", forecast_model, "--windows", "2")
    scores = json.loads(run(*words, "--by", by, "--out", "-").stdout)["scores"]
    if names is None:
        names = ["2025-01-08 07:00:00", "2025-01-08 19:00:00"]
    assert set(scores) == {
        f"{name} {model}" for name in names for model in ("titans-seq", "seasonal naive")
    }


def test_backtest_says_where_it_was_trained_and_trains_anew(
    run: Run, forecast_model: Path, sales: Path
) -> None:
    words = ("forecast", "backtest", sales, "--model", forecast_model, "--windows", "5")
    answer = run(*words)
    assert answer.exit_code == 0, answer.output
    assert "4 of 10 windows lie in rows that the forecaster was trained on" in answer.stderr
    again = run(*words, "--refit", "once")
    assert again.exit_code == 0, again.output
    assert again.stderr == ""
    assert again.stdout != answer.stdout


def test_plot_draws_the_series_that_are_named(
    run: Run, forecast_model: Path, sales: Path, plan: Path, tmp_path: Path
) -> None:
    words = ("forecast", "plot", sales, "--model", forecast_model, "--future-data", plan)
    for name in ("one.png", "two.svg"):
        answer = run(*words, "--out", tmp_path / name, "--series", "south", "--rows", "30")
        assert answer.exit_code == 0, answer.output
        assert answer.output == ""
    drawn = (tmp_path / "two.svg").read_text()
    assert "<!-- south -->" in drawn
    assert "<!-- north -->" not in drawn
    answer = run(*words, "--out", tmp_path / "three.png", "--series", "west")
    assert answer.exit_code == 4
    assert "no series 'west'; there are north, south" in answer.stderr
    assert not (tmp_path / "three.png").exists()


def test_evaluate_scores_the_part_that_fit_left_out(
    run: Run, forecast_model: Path, sales: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    answer = run("forecast", "evaluate", sales, "--model", forecast_model, "--out", out)
    assert answer.exit_code == 0, answer.output
    scores = json.loads(out.read_text())["scores"]
    wanted = score_forecaster(
        TitansForecaster.load(forecast_model),
        pd.read_csv(sales, parse_dates=["time"]),
        Split(train=140, validation=20, test=40),
    )
    assert scores["titans-seq"] == pytest.approx(wanted)
    assert scores["titans-seq"]["windows"] == 40 - 12 + 1
    assert {"last value"} < set(scores)
    for name in scores:
        assert f"\n{name}" in answer.stdout


def test_scores_can_be_printed_as_json(run: Run, forecast_model: Path, sales: Path) -> None:
    words = ("forecast", "evaluate", sales, "--model", forecast_model, "--stride", "10")
    answer = run(*words, "--out", "-")
    assert json.loads(answer.stdout)["scores"]["titans-seq"]["windows"] == 3


def test_the_test_part_is_not_learnt_from(
    run: Run, forecast_words: Words, sales: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(sales)
    late = frame.groupby("store").cumcount() >= 160
    frame.loc[late, "sold"] = 1e6
    other = tmp_path / "other.csv"
    frame.sample(frac=1, random_state=0).to_csv(other, index=False)
    weights = []
    for number, path in enumerate((sales, other)):
        model = tmp_path / str(number)
        words = ("forecast", "fit", path, *forecast_words[3:])
        answer = run(*words, "--split", "0.7,0.1,0.2", "--model", model)
        assert answer.exit_code == 0, answer.output
        weights.append(TitansForecaster.load(model).scale_mean_)
    assert weights[0] == pytest.approx(weights[1])


def test_evaluate_needs_a_split(
    run: Run, forecast_words: Words, sales: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    run(*forecast_words, "--model", model)
    answer = run("forecast", "evaluate", sales, "--model", model)
    assert answer.exit_code == 2
    assert "fitted without --split" in answer.stderr
    answer = run("forecast", "evaluate", sales, "--model", model, "--split", "0.7,0.1,0.2")
    assert answer.exit_code == 0, answer.output


def test_a_wide_table_is_a_series_for_each_column(run: Run, tmp_path: Path) -> None:
    wide = pd.DataFrame({"date": pd.date_range("2025-01-01", periods=80, freq="D")})
    for number, name in enumerate(("east", "west", "the middle")):
        wide[name] = np.sin(np.arange(80) / 7 * 2 * np.pi) + number
    path, model = tmp_path / "wide.csv.gz", tmp_path / "model"
    wide.to_csv(path, index=False)
    columns = ("--time-col", "date", "--target-col", "east, west", "--target-col", "the middle")
    short = ("--horizon", "7", "--context-length", "14", "--max-epochs", "1")
    answer = run("forecast", "fit", path, *short, *columns, "--model", model)
    assert answer.exit_code == 0, answer.output
    assert "3 series" in answer.stdout
    answer = run("forecast", "predict", path, "--model", model)
    assert answer.stdout.count("the middle,") == 7


def test_a_model_is_replaced_only_by_force(
    run: Run, forecast_words: Words, forecast_model: Path
) -> None:
    before = (forecast_model / "model.safetensors").read_bytes()
    answer = run(*forecast_words, "--model", forecast_model)
    assert answer.exit_code == 3
    assert f"--model {forecast_model} exists already" in answer.stderr
    assert (forecast_model / "model.safetensors").read_bytes() == before


def _spoil(text: str, what: str) -> str:
    lines = text.splitlines()
    if what == "column":
        lines[0] = lines[0].replace("sold", "gone")
    elif what == "time":
        lines[7] = lines[7].replace(lines[7].split(",")[1], "")
    elif what == "number":
        lines[7] = lines[7].replace(lines[7].split(",")[2], "many")
    elif what == "second series":
        lines[300] = lines[300].replace(lines[300].split(",")[2], "many")
    elif what == "twice":
        lines[7] = lines[6]
    return "" if what == "empty" else "\n".join(lines)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("column", "no column 'sold'"),
        ("time", "line 8: column 'time' of series 'north'"),
        ("number", "line 8: column 'sold' of series 'north' holds 'many'"),
        ("second series", "line 301: column 'sold' of series 'south' holds 'many'"),
        ("twice", "line 8"),
        ("empty", "sales.csv"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--split", "0.7,0.1,0.2")])
def test_bad_data_is_named_and_leaves_no_model(
    run: Run,
    forecast_words: Words,
    sales: Path,
    tmp_path: Path,
    what: str,
    words: str,
    more: Words,
) -> None:
    path, model = tmp_path / "sales.csv", tmp_path / "model"
    path.write_text(_spoil(sales.read_text(), what))
    answer = run("forecast", "fit", path, *forecast_words[3:], *more, "--model", model)
    assert answer.exit_code == 4, answer.output
    assert answer.stderr.startswith(f"Error: {path}")
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not model.exists()


def test_what_is_known_ahead_must_be_there(
    run: Run, forecast_model: Path, sales: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    answer = run("forecast", "predict", sales, "--model", forecast_model, "--out", out)
    assert answer.exit_code == 4
    assert "open" in answer.stderr
    assert not out.exists()


@pytest.mark.parametrize("verb", ["predict", "evaluate", "backtest"])
def test_what_is_no_model_folder_is_refused(
    run: Run, sales: Path, dna_model: Path, tmp_path: Path, verb: str
) -> None:
    for folder, words in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "is not a model folder"),
        (dna_model, "not 'forecaster'"),
    ):
        answer = run("forecast", verb, sales, "--model", folder)
        assert answer.exit_code == 3
        assert str(folder) in answer.stderr
        assert words in answer.stderr
        assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--horizon", "0"), 2),
        (("--quantiles", "low,high"), 2),
        (("--quantiles", "0.9,0.1"), 3),
        (("--split", "1,2"), 3),
        (("--split", "1000,100,100"), 4),
        (("--device", "cuda:99"), 5),
        (("--variant", "rnn"), 2),
    ],
)
def test_a_bad_setting_has_its_exit_code(
    run: Run, forecast_words: Words, tmp_path: Path, words: Words, code: int
) -> None:
    answer = run(*forecast_words, *words, "--model", tmp_path / "model")
    assert answer.exit_code == code, answer.output
    assert not (tmp_path / "model").exists()


def test_out_is_checked_before_the_work(run: Run, sales: Path, tmp_path: Path) -> None:
    words = ("forecast", "predict", sales, "--model", "no-such-model", "--out")
    for out, reason in (
        (tmp_path / "no" / "such.csv", "there is no folder"),
        (tmp_path, "is a folder"),
        (tmp_path / "table.xls", "must end in"),
    ):
        answer = run(*words, out)
        assert answer.exit_code == 2
        assert reason in " ".join(answer.stderr.split())
