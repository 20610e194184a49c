"""Runs a group of cells: one process each, timed in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory_cells.cells import Group
from memory_cells.floor import beyond_floor, floor_operations, operations

HOME = Path(__file__).resolve().parents[1]
"""Folder that ``memory_cells`` is imported from."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

MATMUL_OPERATIONS = 2.0 * 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How cells are run."""

    seed: int = 0
    rounds: int = 5
    """Turns of each subject that count, besides the first."""
    turn: float = 0.25
    """Seconds that one turn lasts at least; short calls are repeated."""
    budget: float = 60.0
    """Seconds of turns after which a subject gets no more of them."""
    limit: float = 300.0
    """Seconds after which a start or a turn is given up."""
    memory_limit: int = 0
    """Megabytes that a process may allocate; 0 leaves it free."""
    peer_python: str = sys.executable
    clock: str = "wall"
    """``wall``, or ``cpu``: the processor's time of the process, for a busy machine."""


@dataclass
class Cell:
    """What is known of one cell."""

    subject: str
    status: str = "ok"
    import_mb: float = 0.0
    peak_mb: float = 0.0
    finite: bool = True
    calls: int = 1
    rounds: dict[int, float] = field(default_factory=dict)
    """Seconds a call, by the round of turns; round 0 is dropped if there are others."""


class WorkerError(Exception):
    """A cell's process gave no answer; the message is the cell's status."""


class Worker:
    """The process of one cell, see :mod:`memory_cells.worker`."""

    def __init__(self, subject: str, group: Group, settings: Settings) -> None:
        request = {
            "subject": subject,
            "mode": group.mode,
            "sizes": group.sizes(),
            "seed": settings.seed,
            "memory_limit": settings.memory_limit,
        }
        ours = subject.startswith("ours") or subject == "matmul"
        python = sys.executable if ours else settings.peer_python
        self.limit = settings.limit
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "memory_cells.worker", json.dumps(request)],
            cwd=HOME,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, calls: int, tokens: int) -> dict[str, Any]:
        """Time that many calls on that many tokens."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"calls": calls, "time": tokens}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what the process said before it ended is read next
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Read one line.

        Raises
        ------
        WorkerError
            If the process says that it failed, ends, or takes longer than the limit.
        """
        assert self.process.stdout is not None
        timer = threading.Timer(self.limit, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        late = not timer.is_alive()
        timer.cancel()
        if not line and late:
            raise WorkerError(f"too slow: over {self.limit:g} s")
        if not line:
            raise WorkerError(f"process ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def run_group(group: Group, settings: Settings) -> list[dict[str, Any]]:
    """Time the subjects of a group in turn, A B A B, and return a record a cell.

    A product of two square matrices takes its turn with them, so that the share of the floor
    is measured against the core as it was at that moment.
    """
    cells = {one: Cell(one) for one in ("matmul", *group.subjects)}
    with contextlib.ExitStack() as stack:
        workers = {one: Worker(one, group, settings) for one in cells}
        for worker in workers.values():
            stack.callback(worker.close)
        for one, worker in workers.items():
            with _noting(cells[one]):
                cells[one].import_mb = worker.answer()["import_mb"]
                # Short, so that code and libraries are warm before the first full call.
                worker.ask(1, min(2 * group.shape.chunk, group.shape.time))
        for turn in range(settings.rounds + 1):
            for one, cell in cells.items():
                if _goes_on(cell, settings):
                    with _noting(cell):
                        _take_turn(cell, workers[one], turn, group, settings)
    for cell in cells.values():
        if len(cell.rounds) > 1:
            del cell.rounds[0]
    stamp = {"measured": datetime.now(UTC).isoformat(timespec="seconds")}
    return [_record(cells[one], cells["matmul"], group) | stamp for one in group.subjects]


def _take_turn(cell: Cell, worker: Worker, turn: int, group: Group, settings: Settings) -> None:
    """Time one turn; the first also says how many calls fill one."""
    answer = worker.ask(cell.calls, group.shape.time)
    cell.rounds[turn] = answer[settings.clock]
    cell.peak_mb, cell.finite = answer["peak_mb"], answer["finite"]
    if turn == 0:
        cell.calls = max(1, round(settings.turn / max(cell.rounds[0], 1e-6)))


def _goes_on(cell: Cell, settings: Settings) -> bool:
    """Tell whether a subject gets another turn."""
    if cell.status != "ok":
        return False
    spent = sum(cell.rounds.values()) * cell.calls
    return not cell.rounds or spent + max(cell.rounds.values()) <= settings.budget


@contextlib.contextmanager
def _noting(cell: Cell) -> Iterator[None]:
    """Note a cell's failure instead of ending the run."""
    try:
        yield
    except WorkerError as error:
        cell.status = str(error)


def _record(cell: Cell, matmul: Cell, group: Group) -> dict[str, Any]:
    """Return a cell as a table for the file of results."""
    sizes = group.sizes()
    record: dict[str, Any] = {
        "key": group.key(cell.subject),
        "subject": cell.subject,
        "mode": group.mode,
        **sizes,
        "status": cell.status,
    }
    if cell.status != "ok" or not cell.rounds:
        return record
    seconds = sorted(cell.rounds.values())
    median = middle(seconds)
    record |= {
        "tokens_per_second": sizes["batch"] * sizes["time"] / median,
        "best_seconds": seconds[0],
        "median_seconds": median,
        "seconds_by_round": {str(turn): value for turn, value in cell.rounds.items()},
        "calls_per_round": cell.calls,
        "peak_mb": cell.peak_mb,
        "import_mb": cell.import_mb,
        "finite": cell.finite,
    }
    ideal = floor_operations(cell.subject, group.mode, sizes)
    if ideal is not None and matmul.rounds:
        record["matmul_gflops"] = MATMUL_OPERATIONS / 1e9 / middle(list(matmul.rounds.values()))
        floor = {turn: one * ideal / MATMUL_OPERATIONS for turn, one in matmul.rounds.items()}
        record["floor_tokens_per_second"] = (
            sizes["batch"] * sizes["time"] / middle(list(floor.values()))
        )
        record["share_of_floor"] = ratio(floor, cell.rounds)
        record["operations_per_token"] = operations(sizes, exact="exact" in cell.subject)
        if cell.subject == "ours-titans":
            record["operations_beyond_floor"] = beyond_floor(sizes)
    return record


def middle(values: list[float]) -> float:
    """Return the median."""
    ordered, half = sorted(values), len(values) // 2
    if len(ordered) % 2:
        return ordered[half]
    return 0.5 * (ordered[half - 1] + ordered[half])


def ratio(slow: Mapping[Any, float], fast: Mapping[Any, float]) -> float:
    """Return how many times longer ``slow`` takes: the median over the rounds of both."""
    both = sorted(slow.keys() & fast.keys())
    if not both:
        return middle(list(slow.values())) / middle(list(fast.values()))
    return middle([slow[one] / fast[one] for one in both])
