"""The command, as its entry point gives it, and small inputs for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def command() -> Any:
    (found,) = entry_points(group="console_scripts", name="titans-seq")
    return found.load()


@pytest.fixture(scope="session")
def run(command: Any) -> Run:
    """Run ``titans-seq`` with these words, in this process."""

    def invoke(*words: str | Path, **more: Any) -> Result:
        return CliRunner().invoke(
            command, [str(word) for word in words], prog_name="titans-seq", **more
        )

    return invoke


@pytest.fixture(scope="session")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series of 200 hours with a column known ahead, as CSV."""
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    hours = np.arange(200)
    frames = [
        pd.DataFrame(
            {
                "store": name,
                "time": pd.date_range("2025-01-01", periods=200, freq="h"),
                "sold": 50 + 10 * np.sin(hours / 24 * 2 * np.pi + phase) + hours % 5,
                "open": (hours % 24 > 7).astype(int),
            }
        )
        for phase, name in enumerate(("north", "south"))
    ]
    pd.concat(frames).to_csv(path, index=False)
    return path


COLUMNS = ("--id-col", "store", "--time-col", "time", "--target-col", "sold", "--future", "open")
SHORT = ("--horizon", "12", "--context-length", "24", "--max-epochs", "1")


@pytest.fixture(scope="session")
def forecast_words(sales: Path) -> tuple[str | Path, ...]:
    """What fits a forecaster, but for the model's folder."""
    return ("forecast", "fit", sales, *SHORT, *COLUMNS)


@pytest.fixture(scope="session")
def forecast_model(
    run: Run, forecast_words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A forecaster whose test part is the last 40 rows."""
    model = tmp_path_factory.mktemp("forecast") / "model"
    answer = run("-q", *forecast_words, "--split", "140,20,40", "--model", model)
    assert answer.exit_code == 0, answer.output
    return model


@pytest.fixture(scope="session")
def plan(sales: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 12 hours that follow, with the column known ahead."""
    path = tmp_path_factory.mktemp("plan") / "plan.csv"
    times = pd.date_range("2025-01-09 08:00", periods=12, freq="h")
    pd.concat(
        pd.DataFrame({"store": name, "time": times, "open": 1}) for name in ("north", "south")
    ).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def sequences() -> dict[str, tuple[str, str]]:
    """Sixty short sequences by name, with their labels: with a TATA box, or without."""
    generator = random.Random(0)
    found = {}
    for number in range(60):
        letters = [generator.choice("ACGT") for _ in range(50)]
        label = "tata" if number % 2 else "none"
        letters[20:26] = "TATAAA" if label == "tata" else "GCGCGC"
        found[f"seq{number}"] = ("".join(letters), label)
    return found


@pytest.fixture(scope="session")
def fasta(sequences: dict[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sequences as FASTA with labels in the headers."""
    path = tmp_path_factory.mktemp("fasta") / "labelled.fa"
    records = (f">{name} label={label}\n{text}\n" for name, (text, label) in sequences.items())
    path.write_text("".join(records))
    return path


@pytest.fixture(scope="session")
def dna_model(run: Run, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of one epoch."""
    model = tmp_path_factory.mktemp("dna") / "model"
    answer = run("-q", "dna", "fit", fasta, "--max-epochs", "1", "--model", model)
    assert answer.exit_code == 0, answer.output
    return model
