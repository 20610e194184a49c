from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

import titans_seq.evaluation
from titans_seq.exceptions import (
    BundleError,
    ConfigError,
    DataError,
    DeviceError,
    DivergedError,
    MissingDataError,
    MissingExtraError,
    TitansSeqError,
)

Run = Callable[..., Result]


@pytest.fixture
def failing(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command whose work ends in an error."""

    def fail(error: BaseException, *words: str) -> Result:
        def work(out: Any) -> None:
            raise error

        monkeypatch.setattr(titans_seq.evaluation, "run_demo", work, raising=False)
        return run(*words, "demo")

    return fail


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TitansSeqError("it failed"), 1, "Error: it failed\n"),
        (ConfigError("a bad setting"), 3, "Error: a bad setting\n"),
        (BundleError("no model"), 3, "Error: no model\n"),
        (DataError("t.csv, line 3:\n  no number"), 4, "Error: t.csv, line 3: no number\n"),
        (MissingExtraError("Bio", extra="dna"), 5,
         "Error: Bio is not installed: pip install 'titans-seq[dna]'\n"),
        (ModuleNotFoundError("No module named 'Bio.SeqIO'", name="Bio.SeqIO"), 5,
         "Error: Bio is not installed: pip install 'titans-seq[dna]'\n"),
        (ModuleNotFoundError("No module named 'pandas'", name="pandas"), 5,
         "Error: pandas is not installed: pip install 'titans-seq[all]'\n"),
        (DeviceError("no such device"), 5, "Error: no such device\n"),
        (MissingDataError("fetch it first"), 5, "Error: fetch it first\n"),
        (DivergedError("not finite"), 6, "Error: not finite\n"),
        (KeyboardInterrupt(), 130, "Interrupted\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.csv"), 1,
         "Error: out.csv: No space left on device\n"),
        (ZeroDivisionError("division by zero"), 1,
         "Error: ZeroDivisionError: division by zero (titans-seq -v shows the traceback)\n"),
        (ModuleNotFoundError("No module named 'titans_seq.x'", name="titans_seq.x"), 1,
         "Error: ModuleNotFoundError: No module named 'titans_seq.x' (titans-seq -v shows "
         "the traceback)\n"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_an_exit_code(
    failing: Callable[..., Result], error: BaseException, code: int, words: str
) -> None:
    answer = failing(error)
    assert (answer.exit_code, answer.stderr, answer.stdout) == (code, words, "")


def test_verbose_shows_where_and_still_ends_with_the_line(failing: Callable[..., Result]) -> None:
    answer = failing(DataError("no number"), "-v")
    assert answer.exit_code == 4
    assert "Traceback" in answer.stderr
    assert answer.stderr.endswith("Error: no number\n")


def test_a_warning_of_ours_is_one_line_and_quiet_hides_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        def to_text(self) -> str:
            return "done"

    def work(out: Any) -> Nothing:
        source = Path(titans_seq.evaluation.__file__).with_name("demo.py")
        warnings.warn_explicit("two ids\nare equal", UserWarning, str(source), 1)
        warnings.warn_explicit("a layer is empty", UserWarning, "/elsewhere/torch/nn.py", 1)
        return Nothing()

    monkeypatch.setattr(titans_seq.evaluation, "run_demo", work, raising=False)
    answer = run("demo")
    assert (answer.stdout, answer.stderr) == ("done\n", "Warning: two ids are equal\n")
    assert run("-q", "demo").stderr == ""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("switch", ["-q", "-v"])
def test_the_log_is_left_as_it_was(
    run: Run, failing: Callable[..., Result], switch: str, fails: bool
) -> None:
    logger = logging.getLogger("titans_seq")
    handlers, level = logger.handlers, logger.level
    result = failing(DataError("no"), switch) if fails else run(switch, "recipe", "list")
    assert result.exit_code == (4 if fails else 0)
    assert logger.handlers is handlers
    assert logger.level == level


def test_verbose_and_quiet_exclude_each_other(run: Run) -> None:
    answer = run("-v", "-q", "demo")
    assert answer.exit_code == 2
    assert "exclude each other" in answer.stderr


@pytest.mark.parametrize(
    "words", [["nonsense"], ["forecast", "nonsense"], ["dna", "fit"], ["demo", "--nonsense"]]
)
def test_a_wrong_word_is_clicks_usage_error(run: Run, words: list[str]) -> None:
    answer = run(*words)
    assert answer.exit_code == 2
    assert answer.stderr.startswith("Usage: titans-seq")
    assert answer.stdout == ""


def _every_command(
    command: click.Command, words: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(words, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += _every_command(inner, (*words, name))
    return found


def test_every_command_has_help_of_at_most_80_columns_and_no_loose_ends(
    run: Run, command: click.Command
) -> None:
    found = _every_command(command)
    assert {" ".join(words) for words, _ in found} == {
        "", "demo", "doctor", "forecast", "forecast fit", "forecast predict",
        "forecast evaluate", "forecast backtest", "forecast plot", "forecast stream",
        "dna", "dna fit", "dna predict", "dna evaluate", "dna pretrain", "dna explain",
        "dataset", "dataset list", "dataset show", "dataset fetch", "dataset verify",
        "recipe", "recipe list", "recipe show", "recipe copy", "recipe run", "recipe compare",
    }  # fmt: skip
    for words, one in found:
        for flag in ("--help", "-h"):
            answer = run(*words, flag, terminal_width=80)
            assert answer.exit_code == 0
            assert answer.stdout.startswith(f"Usage: titans-seq {' '.join(words)}".rstrip())
            assert all(len(line) <= 80 for line in answer.stdout.splitlines())
        for option in one.params:
            if isinstance(option, click.Option) and option.name != "help":
                assert option.help, (words, option.name)


def test_the_version_is_the_installed_one(run: Run) -> None:
    assert run("--version").stdout == f"titans-seq, version {titans_seq.__version__}\n"


def test_the_list_of_commands_says_what_each_does(run: Run, command: click.Command) -> None:
    for name in command.lazy:  # type: ignore[attr-defined]
        assert f"\n  {name}" in run("--help").stdout


def test_doctor_names_versions_devices_and_what_works(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TITANS_SEQ_DATA", str(tmp_path / "nowhere"))
    answer = run("doctor")
    assert answer.exit_code == 0, answer.output
    lines = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())
    assert lines["titans-seq"] == titans_seq.__version__
    assert lines["cpu"].endswith("works")
    assert lines["forecasting"] == "ready"
    assert lines["dna"] == "ready"
    assert "nowhere does not exist" in answer.stdout


def test_doctor_names_what_is_missing_and_fails_if_neither_head_works(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    absent = {"Bio"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in absent else find(name)
    )
    answer = run("doctor")
    assert answer.exit_code == 0
    assert "needs biopython: pip install 'titans-seq[dna]'" in answer.stdout
    absent.add("lightning")
    answer = run("doctor")
    assert answer.exit_code == 5
    assert "titans-seq[all]" in answer.stderr


def test_a_demo_is_not_written_into_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    answer = run("demo", "--out", path)
    assert answer.exit_code == 3
    assert str(path) in answer.stderr
    assert path.read_text() == "mine"
