from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from titans_seq.dna.learning import fitting

Run = Callable[..., Result]

QUICK = ("-s", "dim=8", "-s", "layers=1", "--max-steps", "3")


def test_list_and_show_know_every_recipe(run: Run) -> None:
    answer = run("recipe", "list")
    assert answer.exit_code == 0
    names = [line.split()[0] for line in answer.stdout.splitlines()]
    assert {"etth1", "weather", "nyc13", "uci_splice", "gue_mouse_0"} <= set(names)
    answer = run("recipe", "show", "etth1")
    assert "horizons  = [96, 192, 336, 720]" in answer.stdout
    answer = run("recipe", "show", "etth3")
    assert answer.exit_code == 3
    assert "did you mean 'etth" in answer.stderr


def test_copy_gives_a_file_of_ones_own(run: Run, tmp_path: Path) -> None:
    assert run("recipe", "copy", "nyc13", tmp_path).exit_code == 0
    assert (tmp_path / "nyc13.toml").read_text() == run("recipe", "show", "nyc13").stdout
    answer = run("recipe", "copy", "nyc13", tmp_path / "nyc13.toml")
    assert answer.exit_code == 3
    assert "exists already" in answer.stderr
    assert run("recipe", "copy", "nyc13", tmp_path / "nyc13.toml", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no-such-recipe"], 3, "unknown key 'no-such-recipe'"),
        (["nyc13", "-s", "dmi=3"], 3, "did you mean 'dim'"),
        (["gone.toml"], 2, "there is no file 'gone.toml'"),
        (["etth1"], 5, "`titans-seq dataset fetch etth1` fetches it"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(
    words: list[str], code: int, message: str, run: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TITANS_SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TITANS_SEQ_DATA", raising=False)
    answer = run("recipe", "run", *words, "--out", tmp_path / "run")
    assert answer.exit_code == code
    assert message in answer.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_is_interrupted_gone_on_with_and_compared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "first"
    words = ("-q", "recipe", "run", "ecoli_coding_vs_intergenic", *QUICK, "--out", out)
    loss = fitting.titans_loss

    def signalled(*values: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return loss(*values)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "titans_loss", signalled)
        answer = run(*words)
    assert answer.exit_code == 130
    assert answer.stderr.endswith("the same command with --resume continues\n")
    assert run(*words).exit_code == 3

    answer = run(*words, "--resume")
    assert answer.exit_code == 0, answer.output
    assert "ecoli_coding_vs_intergenic: scores on the test part" in answer.stdout
    assert "expected accuracy at least 0.87: NOT REACHED" in answer.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["trials"]["seed-0"]["training"]["steps"] == 3

    answer = run("recipe", "compare", out, "--out", tmp_path / "table.md")
    assert answer.exit_code == 0
    assert (tmp_path / "table.md").read_text().startswith("## ecoli_coding_vs_intergenic")
    answer = run("recipe", "compare", tmp_path)
    assert answer.exit_code == 3
    assert "it has no metrics.json" in answer.stderr
