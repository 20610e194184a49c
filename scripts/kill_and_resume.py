"""Test that runs of a recipe, killed at random times and resumed, give the same bits.

One run is not interrupted. Each of the others is killed (SIGKILL) once, at a random time between
its first checkpoint and the end of the first run, and then resumed by ``--resume``. Its
``metrics.json`` and the weights of its model must be those of the first run to the last bit. Two
further runs are sent SIGINT and SIGTERM, and must exit with 130 and a checkpoint. Prints a table
of outcomes; the exit code is 1 if one differs::

    python scripts/kill_and_resume.py --kills 20 --out kills.json

The recipe is reduced so that a run takes seconds; other arguments of ``recipe run`` can be given
after ``--``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from importlib.metadata import entry_points
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = get_context("forkserver")
PRELOADED = ["titans_seq.evaluation.runs.run", "titans_seq.evaluation.families.forecasting",
          "titans_seq.evaluation.scores.plots", "titans_seq.training.trainer"]  # fmt: skip
"""Modules that every process needs: loaded once."""

SMALL = (
    "nyc13", "-s", "horizon=3", "-s", "context_length=6", "-s", "dim=8",
    "-s", "batch_size=64", "--seeds", "0,1",
    "--max-steps", "60",
)  # fmt: skip
"""Two short trainings on embedded data."""


class Outcome(NamedTuple):
    """Outcome of one interrupted run."""

    fault: str
    after_seconds: float
    where: str
    """Progress of the run when it was stopped."""
    exit_code: int
    resumed: int
    """Exit code of the resumed run."""
    same: bool


def main() -> int:
    """Run the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of runs to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    parser.add_argument("--out", type=Path, help="JSON file of the outcomes")
    parser.add_argument("arguments", nargs="*", default=SMALL, help="arguments of `recipe run`")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary)
        seconds, expected = _run_uninterrupted(runs / "whole", options.arguments)
        print(f"uninterrupted: {seconds:.1f} s; kills at random times between checkpoint and end")
        faults = [signal.SIGKILL] * options.kills + [signal.SIGINT, signal.SIGTERM]
        outcomes = []
        for number, fault in enumerate(faults):
            share = generator.random()
            folder = runs / f"run-{number}"
            outcome = _interrupt(folder, options.arguments, fault, share * seconds, expected)
            outcomes.append(outcome)
            print(_line(number, outcome), flush=True)
    wrong = [outcome for outcome in outcomes if not _is_correct(outcome)]
    print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} gave the same bits")
    if options.out:
        record = {"date": time.strftime("%Y-%m-%d"), "machine": platform.platform(),
                  "words": list(options.arguments), "seconds": seconds,
                  "outcomes": [outcome._asdict() for outcome in outcomes]}  # fmt: skip
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    return int(bool(wrong))


def _run_uninterrupted(folder: Path, arguments: Any) -> tuple[float, str]:
    """Run to the end; return the seconds after the first checkpoint, and the result's digest."""
    process = _start(folder, arguments)
    _await_checkpoint(folder, process)
    start = time.monotonic()
    if code := _wait(process):
        raise SystemExit(f"the uninterrupted run failed with exit code {code}")
    return time.monotonic() - start, _result(folder)


def _interrupt(
    folder: Path, arguments: Any, fault: signal.Signals, after: float, expected: str
) -> Outcome:
    """Stop a run some seconds after its first checkpoint, and resume it in another process."""
    code = 0
    while code == 0:  # repeat a run that ended before it could be stopped
        shutil.rmtree(folder, ignore_errors=True)
        process = _start(folder, arguments)
        _await_checkpoint(folder, process)
        time.sleep(after)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, fault)
        code = _wait(process)
        after = after if code else after / 2
    progress = _progress(folder)
    resumed = _wait(_start(folder, arguments, "--resume"))
    return Outcome(
        fault.name, round(after, 2), progress, code, resumed, _result(folder) == expected
    )


def _start(folder: Path, arguments: Any, *options: str) -> BaseProcess:
    """Start a run in its own process, forked from a server that has loaded torch."""
    command = ["-q", "recipe", "run", *arguments, "--out", str(folder), *options]
    process = CONTEXT.Process(target=_run, args=(command,))
    process.start()
    return process


def _run(command: list[str]) -> None:
    """Run the installed command, as a shell would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    (program,) = entry_points(group="console_scripts", name="titans-seq")
    sys.exit(program.load()(command))


def _wait(process: BaseProcess) -> int:
    """Return the exit code, or minus the number of the signal that killed the process."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _await_checkpoint(folder: Path, process: BaseProcess) -> None:
    """Wait for the first checkpoint."""
    while process.is_alive() and not list(folder.glob("checkpoints/*/*.safetensors")):
        time.sleep(0.02)


def _progress(folder: Path) -> str:
    """Return the progress of a run."""
    if (folder / "DONE").exists():
        return "complete"
    trials = json.loads((folder / "metrics.json").read_text())["trials"]
    epochs = folder / "metrics.jsonl"
    lines = epochs.read_text().splitlines() if epochs.exists() else []
    current = [line for line in map(json.loads, lines) if line["trial"] not in trials]
    return f"training {len(trials) + 1}, {len(current)} epochs complete"


def _result(folder: Path) -> str:
    """Return a digest of scores and weights."""
    digest = hashlib.sha256((folder / "metrics.json").read_bytes())
    for path in sorted(folder.glob("model/**/model.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_correct(outcome: Outcome) -> bool:
    """Return whether the interrupted and the resumed run ended as expected."""
    stopped = -9 if outcome.fault == "SIGKILL" else 130
    return outcome.same and outcome.resumed == 0 and outcome.exit_code == stopped


def _line(number: int, outcome: Outcome) -> str:
    """Return one line of the table."""
    same = "the same bits" if outcome.same else "DIFFERENT"
    return (
        f"{number + 1:>3}  {outcome.fault:<8} after {outcome.after_seconds:6.2f} s  "
        f"{outcome.where:<30} exit {outcome.exit_code:>4}  resumed {outcome.resumed}  {same}"
    )


if __name__ == "__main__":
    sys.exit(main())
