"""Commands whose work several processes share: the same output, written once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

pytestmark = pytest.mark.slow

Run = Callable[..., Result]

PROGRAM = str(Path(sys.executable).with_name("titans-seq"))
WORKER = Path(__file__).with_name("together.py")
RECORDS = 10_007


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many records, short and of different lengths."""
    generator = random.Random(0)
    path = tmp_path_factory.mktemp("many") / "many.fa"
    lengths = (generator.randint(8, 40) for _ in range(RECORDS))
    records = ("".join(generator.choices("ACGT", k=length)) for length in lengths)
    path.write_text("".join(f">record{i}\n{text}\n" for i, text in enumerate(records)))
    return path


@pytest.fixture(scope="module")
def small_model(run: Run, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that is quick to ask."""
    model = tmp_path_factory.mktemp("small") / "model"
    answer = run("-q", "dna", "fit", fasta, *SMALL, "--max-epochs", "1", "--model", model)
    assert answer.exit_code == 0, answer.output
    return model


SMALL = ("-s", "dim=8", "-s", "layers=1", "--variant", "attention")


@pytest.fixture(scope="module")
def one(run: Run, many: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process predicts."""
    out = tmp_path_factory.mktemp("one") / "labels.tsv"
    answer = run("-q", "dna", "predict", many, "--model", small_model, "--out", out)
    assert answer.exit_code == 0, answer.output
    return out.read_bytes()


def test_devices_starts_processes_that_predict_every_record_once_and_in_order(
    many: Path, small_model: Path, one: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "labels.tsv"
    answer = subprocess.run(
        [PROGRAM, "dna", "predict", many, "--model", small_model, "--out", out, "--devices", "3"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    names = [line.split("\t")[0] for line in out.read_text().splitlines()[1:]]
    assert names == [f"record{number}" for number in range(RECORDS)]
    assert out.read_bytes() == one
    assert list(tmp_path.iterdir()) == [out]


def test_under_torchrun_every_command_speaks_and_writes_once(
    run: Run,
    many: Path,
    small_model: Path,
    one: bytes,
    sales: Path,
    fasta: Path,
    tmp_path: Path,
) -> None:
    """Two processes: records, series, training, a run, and what goes wrong."""
    bad = tmp_path / "bad.fa"
    bad.write_text(">a\nACGT\n>b\nAC!T\n")
    fit = [
        "-q",
        "forecast",
        "fit",
        sales,
        "--horizon",
        "6",
        "--context-length",
        "24",
        "--max-epochs",
        "1",
        "--id-col",
        "store",
        "--time-col",
        "time",
        "--target-col",
        "sold",
    ]
    commands = {
        "predict": ["dna", "predict", many, "--model", small_model, "--out", "labels.tsv"],
        "fit": [*fit, "--model", "shop"],
        "forecast": ["forecast", "predict", sales, "--model", "shop"],
        "recipe": ["-q", "recipe", "run", "ecoli_coding_vs_intergenic", "--max-steps", "2",
                   *SMALL[:4], "--out", "run"],
        "standard input": ["dna", "predict", "-", "--model", small_model],
        "bad": ["dna", "predict", bad, "--model", small_model, "--out", "bad.tsv"],
    }  # fmt: skip
    words = {name: [str(word) for word in one] for name, one in commands.items()}
    (tmp_path / "commands.json").write_text(json.dumps(words))
    answer = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         WORKER, tmp_path / "commands.json"],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    said: list[dict[str, Any]] = [
        json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(2)
    ]
    codes = {"predict": 0, "fit": 0, "forecast": 0, "recipe": 0, "standard input": 2, "bad": 4}
    assert [{name: one["code"] for name, one in each.items()} for each in said] == [codes] * 2

    assert (tmp_path / "labels.tsv").read_bytes() == one
    assert said[0]["fit"]["stdout"].splitlines()[-1] == "model  shop"
    assert (tmp_path / "shop" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["complete"]
    alone = run("forecast", "predict", sales, "--model", tmp_path / "shop")
    assert said[0]["forecast"]["stdout"] == alone.stdout
    assert [each[name]["stdout"] for each in said[1:] for name in codes] == [""] * len(codes)

    errors = [each["bad"]["stderr"] for each in said]
    assert "" in errors
    assert "record b: letter '!'" in "".join(errors)
    asked = [each["standard input"]["stderr"] for each in said]
    assert "give a file" in asked[0]
    assert asked[1] == ""
    left = {path.name for path in tmp_path.iterdir()}
    expected = {"bad.fa", "commands.json", "labels.tsv", "shop", "run"}
    assert left == expected | {f"said-{rank}.json" for rank in range(2)}
