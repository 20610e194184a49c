"""The process of one cell: builds its subject, then times calls as it is told to.

Started as ``python -m memory_cells.worker REQUEST`` with the request as JSON. Answers every
line on standard input, ``{"calls": N, "time": T}``, with a line of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any, TextIO

from memory_cells.machine import peak_megabytes


def limit_memory(megabytes: int) -> None:
    """Make allocations beyond the limit fail here instead of harming the machine."""
    if megabytes:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 2**20, most))


def reason(error: BaseException) -> str:
    """Return why a cell failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "out of memory"
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name}"
    return f"{type(error).__name__}: {text}"[:300]


def serve(request: dict[str, Any], answers: TextIO) -> None:
    """Build the subject and answer until standard input ends."""
    limit_memory(request["memory_limit"])
    import torch

    from memory_cells.subjects import build

    torch.set_num_threads(1)
    warm_imports(request["subject"])
    tell(answers, {"import_mb": peak_megabytes(), "torch": torch.__version__})
    job = build(request["subject"], request["mode"], request["sizes"], request["seed"])
    for line in sys.stdin:
        order = json.loads(line)
        began = time.perf_counter(), time.process_time()
        for _ in range(order["calls"]):
            out = job(order["time"])
        ended = time.perf_counter(), time.process_time()
        wall, cpu = (
            (end - begin) / order["calls"] for begin, end in zip(began, ended, strict=True)
        )
        finite = bool(out.isfinite().all())
        del out
        tell(answers, {"wall": wall, "cpu": cpu, "peak_mb": peak_megabytes(), "finite": finite})


def warm_imports(subject: str) -> None:
    """Load the subject's package, so that its size is told apart from the cell's."""
    if subject.startswith("ours"):
        import titans_seq.nn.memory  # noqa: F401
    elif subject.startswith("titans-pytorch"):
        import titans_pytorch  # noqa: F401
    elif subject == "titans-unofficial":
        import titans.utils.memory  # noqa: F401
    elif subject == "fla-op":
        import fla.ops.momentum_delta_rule.naive  # noqa: F401


def tell(answers: TextIO, answer: dict[str, Any]) -> None:
    """Write one line."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main() -> None:
    """Serve one cell; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        serve(json.loads(sys.argv[1]), answers)
    except Exception as error:
        tell(answers, {"failed": reason(error)})


if __name__ == "__main__":
    main()
