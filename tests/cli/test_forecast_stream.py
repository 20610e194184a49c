"""Lines of JSON in, lines of JSON out; the state outlives the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from titans_seq.forecasting import TitansForecaster

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
PROGRAM = str(Path(sys.executable).with_name("titans-seq"))


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    source = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=200, freq="h")
    values = 3 * np.sin(np.arange(200) / 24 * 2 * np.pi) + 0.2 * source.standard_normal(200)
    return pd.DataFrame({"unique_id": "a", "ds": times, "y": values})


@pytest.fixture(scope="module")
def model(history: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    forecaster = TitansForecaster(
        horizon=3, context_length=None, dim=8, max_epochs=1, quantiles=(0.1, 0.9), random_state=0
    )
    folder = tmp_path_factory.mktemp("stream") / "model"
    forecaster.fit(history[:150]).save(folder)
    return folder


def _lines(rows: pd.DataFrame) -> str:
    text: str = rows.to_json(orient="records", lines=True, date_format="iso")
    return text


def test_two_runs_over_one_state_are_as_one(
    run: Run, model: Path, history: pd.DataFrame, tmp_path: Path
) -> None:
    table = tmp_path / "history.csv"
    history[:150].to_csv(table, index=False)
    later = history[150:160]
    use = ("forecast", "stream", "--model", model)
    whole = run(*use, "--history", table, input=_lines(later))
    assert whole.exit_code == 0, whole.stderr
    state = tmp_path / "shop.state"
    first = run(*use, "--history", table, "--state", state, input=_lines(later[:4]))
    second = run(*use, "--state", state, input=_lines(later[4:]))
    assert first.stdout + second.stdout == whole.stdout
    answer = json.loads(whole.stdout.splitlines()[0])
    assert list(answer) == [
        "unique_id", "ds", "y", "surprise", "p_value", "y_pred", "y_pred-q0.1", "y_pred-q0.9"
    ]  # fmt: skip
    assert len(answer["y_pred"]) == 3

    forecaster = TitansForecaster.load(model)
    stream = forecaster.stream(pd.read_csv(table)).update(later[:1])
    np.testing.assert_allclose(answer["y_pred"], stream.forecast()["y_pred"], rtol=1e-4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "standard input, line 2: not valid JSON"),
        ("[1]", "standard input, line 2: must be an object"),
        ('{"unique_id": "a", "ds": "2024-01-09"}', "line 2: field 'y' is missing"),
        ('{"unique_id": "a", "ds": "2024-01-09", "y": "x"}', "line 2: column 'y'"),
        ('{"unique_id": "b", "ds": "2024-01-09", "y": 1}', "line 2: field 'unique_id'"),
        ('{"unique_id": "a", "ds": "2024-01-01", "y": 1}', "line 2: series 'a' has time"),
    ],
)
def test_a_bad_line_is_named_and_what_was_read_before_is_kept(
    run: Run, model: Path, history: pd.DataFrame, tmp_path: Path, line: str, message: str
) -> None:
    state = tmp_path / "s.state"
    lines = _lines(history[150:151]) + line + "\n"
    answer = run("forecast", "stream", "--model", model, "--state", state, input=lines)
    assert answer.exit_code == 4
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert TitansForecaster.load(model).load_stream(state).rows == {"a": 1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_the_state(
    model: Path, history: pd.DataFrame, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    state = tmp_path / "s.state"
    process = subprocess.Popen(
        [PROGRAM, "forecast", "stream", "--model", str(model), "--state", str(state)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a test run in the background hands down that SIGINT is to be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_lines(history[150:153]))
        process.stdin.flush()
        for _ in range(3):
            json.loads(process.stdout.readline())
        time.sleep(0.2)
        process.send_signal(number)
        process.wait(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert TitansForecaster.load(model).load_stream(state).rows == {"a": 3}


def test_every_command_works_with_the_memories_carried(
    run: Run, model: Path, history: pd.DataFrame, tmp_path: Path
) -> None:
    table, found = tmp_path / "history.csv", tmp_path / "found.csv"
    history.to_csv(table, index=False)
    picture, scores = tmp_path / "f.png", tmp_path / "scores.json"
    use = ("--model", model)
    for words in (
        ("predict", table, *use, "--levels", "80", "--out", found),
        ("backtest", table, *use, "--windows", "3", "--out", scores),
        ("evaluate", table, *use, "--split", "130,20,50", "--stride", "9"),
        ("plot", table, *use, "--out", picture),
    ):
        answer = run("forecast", *words)
        assert answer.exit_code == 0, answer.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    forecaster = TitansForecaster.load(model)
    wanted = forecaster.stream(history).forecast(levels=[80])
    np.testing.assert_allclose(pd.read_csv(found)["y_pred-lo-80"], wanted["y_pred-lo-80"], 1e-3)
    expected = forecaster.backtest(history, windows=3).summary()["mse"]
    told = json.loads(scores.read_text())["scores"]
    assert told["titans-seq"]["mse"] == pytest.approx(expected["titans-seq"], rel=1e-4)


def test_a_model_that_remembers_is_fitted_and_adapts(
    run: Run, history: pd.DataFrame, tmp_path: Path
) -> None:
    table, model, state = (tmp_path / name for name in ("h.csv", "model", "s.state"))
    history[:60].to_csv(table, index=False)
    answer = run(
        "forecast", "fit", table, "--horizon", "3", "--context-length", "none",
        "--max-epochs", "1", "-s", "dim=8", "--model", model,
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    words = ("forecast", "stream", "--model", model, "--state", state)
    lines = _lines(history[60:100]), _lines(history[100:101])
    assert run(*words, "--adapt", "--history", table, input=lines[0]).exit_code == 0
    assert run(*words, input=lines[1]).exit_code == 0
    forecaster = TitansForecaster.load(model)
    found = forecaster.load_stream(state)
    twin = forecaster.stream(history[:60], adapt=True)
    for row in range(60, 101):
        twin.update(history[row : row + 1])
    assert found.digest() == twin.digest()


def test_a_look_back_that_is_none_of_these_is_refused(run: Run, model: Path) -> None:
    data = model / "config.json"  # any file that is there
    answer = run("forecast", "fit", data, "--horizon", "3", "--context-length", "0", "--model", "m")
    assert answer.exit_code == 2
    assert "'0' must be a positive number of rows, or none" in answer.output


def test_many_series_come_mixed_with_what_is_known_ahead(run: Run, tmp_path: Path) -> None:
    hours = np.arange(60)
    rows = pd.concat(
        pd.DataFrame(
            {
                "shop": name,
                "when": pd.date_range("2024-01-01", periods=60, freq="h"),
                "sold": np.sin(hours / 3 + place) + 2 * (hours % 5 == 0),
                "sale": (hours % 5 == 0).astype(float),
            }
        )
        for place, name in enumerate(("north", "south"))
    ).sort_values("when", kind="stable")
    forecaster = TitansForecaster(
        horizon=2, context_length=None, dim=8, max_epochs=1, random_state=0,
        id_col="shop", time_col="when", target_col="sold", future=["sale"],
    )  # fmt: skip
    forecaster.fit(rows[:100]).save(tmp_path / "model")
    rows[:100].to_csv(tmp_path / "history.csv", index=False)
    lines, wanted = [], []
    stream = forecaster.stream(rows[:100])
    for place in range(100, 110):
        row = rows[place : place + 1]
        (name,) = row["shop"]
        later = rows[(rows["shop"] == name) & (rows["when"] > row["when"].iloc[0])]
        ahead = later.head(2)[["when", "sale"]]
        text = json.loads(row.to_json(orient="records", date_format="iso"))[0]
        known = json.loads(ahead.to_json(orient="records", date_format="iso"))
        lines.append(json.dumps({**text, "future": known}))
        wanted.append(stream.update(row).forecast(ahead, ids=[name]))
    state = tmp_path / "s.state"
    answer = run(
        "forecast", "stream", "--model", tmp_path / "model", "--history", tmp_path / "history.csv",
        "--state", state, input="\n".join(lines),
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    answers = [json.loads(line) for line in answer.output.splitlines()]
    assert [one["shop"] for one in answers] == ["north", "south"] * 5
    for one, expected in zip(answers, wanted, strict=True):
        np.testing.assert_allclose(one["y_pred"], expected["y_pred"], rtol=1e-3, atol=1e-3)
    assert forecaster.load_stream(state).rows == {"north": 55, "south": 55}
