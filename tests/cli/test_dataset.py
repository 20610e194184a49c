from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TITANS_SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TITANS_SEQ_DATA", raising=False)


def test_list_says_what_is_here_and_what_is_not(run: Run) -> None:
    answer = run("dataset", "list")
    assert answer.exit_code == 0
    states = {line.split()[0]: line.split()[2:4] for line in answer.stdout.splitlines()[2:]}
    assert states["nyc13"][0] == "here"
    assert states["etth1"] == ["can", "be"]
    assert states["human_enhancers_cohn"] == ["by", "hand"]
    assert len(states) > 60


def test_show_tells_source_licence_digest_and_what_cannot_be_compared(run: Run) -> None:
    answer = run("dataset", "show", "etth1")
    assert answer.exit_code == 0
    for words in (
        "CC-BY-ND-4.0", "arXiv 2012.07436", "8,640 train", "sha256   f18de3ad269cef59",
        "Titans neural memory*", "* cannot be compared with ours", "look-back not stated",
    ):  # fmt: skip
        assert words in answer.stdout


def test_an_unknown_name_is_answered_with_the_nearest(run: Run) -> None:
    answer = run("dataset", "show", "eth1")
    assert answer.exit_code == 3
    assert "did you mean 'etth1'" in answer.stderr


def test_what_is_embedded_need_not_be_fetched(run: Run) -> None:
    answer = run("dataset", "fetch", "nyc13")
    assert answer.exit_code == 0
    assert answer.stdout.split()[:2] == ["ok", "hourly"]


def test_what_must_be_brought_by_hand_says_what_and_where(run: Run, tmp_path: Path) -> None:
    answer = run("dataset", "fetch", "traffic", "--data-dir", tmp_path)
    assert answer.exit_code == 5
    assert answer.stdout.split() == ["missing", "series", "-"]
    assert answer.stderr.count("\n") == 1
    assert f"put it at {tmp_path}/timeseries/ltsf/traffic.csv" in answer.stderr


def test_verify_tells_damaged_files_from_missing_ones(run: Run, tmp_path: Path) -> None:
    answer = run("dataset", "verify")
    assert answer.exit_code == 0
    assert "nyc13\n  ok       hourly" in answer.stdout
    assert "etth1" not in answer.stdout
    answer = run("dataset", "verify", "etth1")
    assert answer.exit_code == 5
    assert "`titans-seq dataset fetch etth1` fetches it" in answer.stderr
    place = tmp_path / "ETT-small" / "ETTh1.csv"
    place.parent.mkdir()
    place.write_text("date,OT\n")
    answer = run("dataset", "verify", "--data-dir", tmp_path)
    assert answer.exit_code == 4
    assert "etth1\n  wrong    series" in answer.stdout
    assert f"{place}: sha256 is" in answer.stderr
