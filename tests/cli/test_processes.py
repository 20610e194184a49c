"""The installed program in processes of its own: pipes, signals, exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("titans-seq"))


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_an_error_goes_to_standard_error_with_its_exit_code(fasta: Path, tmp_path: Path) -> None:
    answer = _run("dna", "predict", fasta, "--model", tmp_path)
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_results_are_all_that_standard_output_holds(dna_model: Path, fasta: Path) -> None:
    answer = _run("dna", "predict", fasta, "--model", dna_model)
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert answer.stdout.count("\n") == 61


@pytest.mark.slow
def test_a_closed_pipe_is_no_reason_to_complain(dna_model: Path, fasta: Path) -> None:
    answer = subprocess.run(
        f"'{PROGRAM}' dna predict '{fasta}' --model '{dna_model}' | head -n 1",
        shell=True, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert answer.stdout.startswith("id\t")
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_130_and_a_checkpoint(
    number: signal.Signals, sales: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.checkpoints" / "training-1.safetensors"
    process = subprocess.Popen(
        [PROGRAM, "-v", "forecast", "fit", str(sales), "--horizon", "12", "--context-length",
         "24", "--id-col", "store", "--time-col", "time", "--target-col", "sold",
         "--max-epochs", "100000", "--model", str(tmp_path / "model")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a test run in the background hands down that SIGINT is to be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.endswith("the same command with --resume continues\n")
    assert f"Interrupted: a checkpoint was written to {checkpoint.parent}" in err
    assert out == ""
    assert [path.name for path in tmp_path.rglob("*")] == [checkpoint.parent.name, checkpoint.name]
