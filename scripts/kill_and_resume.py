"""Kills runs of a recipe at random moments, goes on with them, and compares what comes out.

One run is left alone. Each of the others is killed (SIGKILL) once, at a random moment between
its first checkpoint and the end the first run had, and then gone on with by ``--resume``. What
``metrics.json`` holds, and the weights of the model, must be those of the first run to the last
bit. A further run each is given SIGINT and SIGTERM, which must end it with 130 and a
checkpoint. Prints a table of outcomes, and ends with 1 if one differs::

    python scripts/kill_and_resume.py --kills 20 --out kills.json

The recipe is cut down so that a run takes seconds; other words for ``recipe run`` can be given
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
LOADED = ["titans_seq.evaluation.runs.run", "titans_seq.evaluation.families.forecasting",
          "titans_seq.evaluation.scores.plots", "titans_seq.training.trainer"]  # fmt: skip
"""What the processes need not load again."""

SMALL = (
    "nyc13", "-s", "horizon=3", "-s", "context_length=6", "-s", "dim=8",
    "-s", "batch_size=64", "--seeds", "0,1",
    "--max-steps", "60",
)  # fmt: skip
"""Two short trainings on embedded data."""


class Outcome(NamedTuple):
    """What became of one run."""

    fault: str
    after_seconds: float
    where: str
    """What the run had written when it was stopped."""
    exit_code: int
    resumed: int
    """Exit code of the run that went on."""
    same: bool


def main() -> int:
    """Run the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file of the outcomes")
    parser.add_argument("words", nargs="*", default=SMALL, help="words for `recipe run`")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(LOADED)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        seconds, expected = _leave_alone(place / "whole", options.words)
        print(f"left alone: {seconds:.1f} s; kills at random between checkpoint and end")
        faults = [signal.SIGKILL] * options.kills + [signal.SIGINT, signal.SIGTERM]
        outcomes = []
        for number, fault in enumerate(faults):
            share = draw.random()
            folder = place / f"run-{number}"
            outcome = _stop(folder, options.words, fault, share * seconds, expected)
            outcomes.append(outcome)
            print(_line(number, outcome), flush=True)
    wrong = [one for one in outcomes if not _as_it_should_be(one)]
    print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} came to the same bits")
    if options.out:
        record = {"date": time.strftime("%Y-%m-%d"), "machine": platform.platform(),
                  "words": list(options.words), "seconds": seconds,
                  "outcomes": [one._asdict() for one in outcomes]}  # fmt: skip
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    return int(bool(wrong))


def _leave_alone(folder: Path, words: Any) -> tuple[float, str]:
    """Run to the end; return how long that takes after the first checkpoint, and what came out."""
    process = _start(folder, words)
    _await_checkpoint(folder, process)
    began = time.monotonic()
    if code := _wait(process):
        raise SystemExit(f"the run that was left alone failed with {code}")
    return time.monotonic() - began, _result(folder)


def _stop(folder: Path, words: Any, fault: signal.Signals, after: float, expected: str) -> Outcome:
    """Stop a run so many seconds after its first checkpoint, and let another process go on."""
    code = 0
    while code == 0:  # a run that ended before it could be stopped is begun again
        shutil.rmtree(folder, ignore_errors=True)
        process = _start(folder, words)
        _await_checkpoint(folder, process)
        time.sleep(after)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, fault)
        code = _wait(process)
        after = after if code else after / 2
    where = _where(folder)
    resumed = _wait(_start(folder, words, "--resume"))
    return Outcome(fault.name, round(after, 2), where, code, resumed, _result(folder) == expected)


def _start(folder: Path, words: Any, *more: str) -> BaseProcess:
    """Start a run in a process of its own, forked where torch has been loaded already."""
    command = ["-q", "recipe", "run", *words, "--out", str(folder), *more]
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
    """Return the exit code; minus the signal that killed it."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _await_checkpoint(folder: Path, process: BaseProcess) -> None:
    """Wait until a training has begun."""
    while process.is_alive() and not list(folder.glob("checkpoints/*/*.safetensors")):
        time.sleep(0.02)


def _where(folder: Path) -> str:
    """Return how far a run had come."""
    if (folder / "DONE").exists():
        return "all written"
    trials = json.loads((folder / "metrics.json").read_text())["trials"]
    epochs = folder / "metrics.jsonl"
    lines = epochs.read_text().splitlines() if epochs.exists() else []
    current = [line for line in map(json.loads, lines) if line["trial"] not in trials]
    return f"training {len(trials) + 1}, {len(current)} epochs ended"


def _result(folder: Path) -> str:
    """Return a digest of scores and weights."""
    digest = hashlib.sha256((folder / "metrics.json").read_bytes())
    for path in sorted(folder.glob("model/**/model.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _as_it_should_be(outcome: Outcome) -> bool:
    """Tell whether a run ended as promised, and the one that went on too."""
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
