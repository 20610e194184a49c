"""One of several processes that run the same commands; test_processes_together.py starts it.

    torchrun --nproc-per-node 2 together.py COMMANDS.json

What each command said, and its exit code, go to ``said-RANK.json``.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any


def call(command: Any, words: list[str]) -> dict[str, Any]:
    """Run a command; return what it said and its exit code."""
    said = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdout", "stderr")}
    code: Any = 0
    with redirect_stdout(said["stdout"]), redirect_stderr(said["stderr"]):
        try:
            command(words, prog_name="titans-seq")
        except SystemExit as leaving:
            code = leaving.code
    found: dict[str, Any] = {"code": code or 0}
    for name, text in said.items():
        text.flush()
        found[name] = text.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]
    return found


def main() -> None:
    """Run every command in turn."""
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    command = entry.load()
    commands = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    said = {name: call(command, words) for name, words in commands.items()}
    Path(f"said-{os.environ['RANK']}.json").write_text(json.dumps(said), "utf-8")


if __name__ == "__main__":
    main()
