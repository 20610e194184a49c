"""Show what a memory is for: facts recalled from far outside the window.

    python benchmarks/recall.py [--quick] [--variants lmm mac ...] [--seeds 0 1 2] [--out FILE]
    python benchmarks/recall.py --plot benchmarks/results/recall-cpu.json

Trains every variant on sequences of at most 512 tokens and tests it on up to 32,768, its
state carried. Window and segment are 64 tokens, so attention alone cannot see a fact from
further than 127 tokens. The file of results is written after each variant and seed; a second
run with the same settings goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from memory_cells.machine import environment
from recall_parts.learning import Settings, run
from recall_parts.report import plot, table
from recall_parts.tasks import FILLERS, KEYS, SHORTEST, VALUES

from titans_seq.config import VARIANTS, table_from_record
from titans_seq.files import write_json

QUICK: dict[str, Any] = {
    "steps": 4, "tokens_a_step": 256, "longest": 64, "lengths": [64, 128], "test_tokens": 256,
}  # fmt: skip
"""Settings of ``--quick``, which shows that the script works and nothing else."""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    home = Path(__file__).parent
    add = parser.add_argument
    add("--out", type=Path, default=home / "results" / "recall-cpu.json")
    add("--plot", type=Path, metavar="FILE", help="draw FILE's figure beside it, as .png, and end")
    add("--fresh", action="store_true", help="run again what the file already holds")
    add("--quick", action="store_true", help="seconds, to try the script")
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--dim", type=int, default=64)
    add("--heads", type=int, default=1)
    add("--layers", type=int, default=1)
    add("--control-layers", type=int, default=2, help="layers of `attention`")
    add("--rule", default="titans-exact")
    add("--memory-depth", type=int, default=1)
    add("--chunk-size", type=int, default=64)
    add("--window", type=int, default=64, help="tokens of the window, and of a segment")
    add("--steps", type=int, default=1200)
    add("--tokens-a-step", type=int, default=2048)
    add("--learning-rate", type=float, default=8e-3)
    add("--weight-decay", type=float, default=0.01)
    add("--pairs", type=int, default=4, choices=range(1, 9), help="facts of a sequence")
    add("--shortest", type=int, default=48, help="least length trained on")
    add("--longest", type=int, default=512, help="largest length trained on")
    add("--lengths", type=int, nargs="+", default=[128, 512, 2048, 4096, 16384, 32768])
    add("--test-tokens", type=int, default=131072, help="tokens of a test, 4 to 64 sequences")
    chosen = parser.parse_args(words)
    if min(chosen.shortest, *chosen.lengths) < SHORTEST:
        parser.error(f"a sequence has at least {SHORTEST} tokens")
    return chosen


def settings_from(chosen: argparse.Namespace) -> Settings:
    """Return the settings that the words ask for."""
    values = {one.name: getattr(chosen, one.name) for one in dataclasses.fields(Settings)}
    if chosen.quick:
        values |= QUICK
    return Settings(**values | {"lengths": tuple(values["lengths"])})


def earlier_runs(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that a file already holds; a file of other settings is refused."""
    if not path.exists():
        return []
    earlier = json.loads(path.read_text("utf-8"))
    if earlier["settings"] != settings:
        sys.exit(f"{path} holds runs of other settings: choose another --out, or --fresh")
    runs: list[dict[str, Any]] = earlier["runs"]
    return runs


def runs_line(one: dict[str, Any]) -> str:
    """Return one run's losses by tenths of its training, and its accuracies, in a line."""
    losses = " ".join(f"{loss:.2f}" for loss in one["losses"])
    recalled = " ".join(
        f"{length}:{share:.2f}" for length, share in one["accuracy"]["recall"].items()
    )
    return f"loss {losses}; recall {recalled}; {one['train_seconds']:.0f} s"


def main(words: list[str] | None = None) -> None:
    """Run what is missing, write the file, print the table."""
    chosen = arguments(words)
    if chosen.plot:
        plot(json.loads(chosen.plot.read_text("utf-8")), chosen.plot.with_suffix(".png"))
        return
    torch.set_num_threads(1)
    settings = settings_from(chosen)
    plain = table_from_record(settings)
    runs = [] if chosen.fresh else earlier_runs(chosen.out, plain)
    results: dict[str, Any] = {
        "environment": environment(),
        "settings": plain,
        "vocabulary": {"keys": KEYS, "values": VALUES, "fillers": FILLERS},
        "chance": 1 / VALUES,
        "runs": runs,
    }
    done = {(one["variant"], one["seed"]) for one in runs}
    for seed, variant in product(chosen.seeds, chosen.variants):
        if (variant, seed) in done:
            continue
        newest = run(variant, seed, settings)
        runs.append(newest)
        runs.sort(key=lambda one: (VARIANTS.index(one["variant"]), one["seed"]))
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(chosen.out, results)
        print(f"{variant}, seed {seed}: {runs_line(newest)}", file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
