"""Show what a memory is for: facts recalled from far outside the window.

    python benchmarks/recall.py [--quick] [--variants lmm mac ...] [--seeds 0 1 2] [--out FILE]
    python benchmarks/recall.py --plot benchmarks/results/recall-cpu.json

Trains every variant on sequences of at most 512 tokens and tests it on up to 32,768, its
state carried. Window and segment are 64 tokens, so attention alone cannot see a fact from
further than 127 tokens. The learning rate of each variant, the control's too, is the best of
the same few, tried with seeds of their own and scored on sequences of their own. The file of
results is written after each model; a second run with the same settings goes on where the
first stopped.
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
from recall_parts.learning import Settings
from recall_parts.measuring import run, share, try_rate
from recall_parts.report import best_rates, plot, table

from titans_seq.config import VARIANTS, table_from_record
from titans_seq.files import write_json
from titans_seq.language.facts import FILLERS, KEYS, SHORTEST, VALUES

QUICK: dict[str, Any] = {
    "steps": 4, "tokens_a_step": 256, "longest": 64, "lengths": [64, 128], "test_tokens": 256,
    "learning_rates": [4e-3], "tuning_lengths": [64], "tuning_steps": 4,
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
    add("--seeds", type=int, nargs="+", default=[11, 12, 13])
    add("--tuning-seeds", type=int, nargs="+", default=[7], help="models to choose rates by")
    add("--dim", type=int, default=64)
    add("--heads", type=int, default=1)
    add("--layers", type=int, default=1)
    add("--control-layers", type=int, default=2, help="layers of `attention`")
    add("--rule", default="titans-exact")
    add("--memory-depth", type=int, default=1)
    add("--chunk-size", type=int, default=64)
    add("--window", type=int, default=64, help="tokens of the window, and of a segment")
    add("--steps", type=int, default=1200)
    add("--tuning-steps", type=int, default=800)
    add("--tokens-a-step", type=int, default=2048)
    add("--learning-rates", type=float, nargs="+", default=[4e-3, 8e-3])
    add("--weight-decay", type=float, default=0.01)
    add("--pairs", type=int, default=4, choices=range(1, 9), help="facts of a sequence")
    add("--shortest", type=int, default=48, help="least length trained on")
    add("--longest", type=int, default=512, help="largest length trained on")
    add("--lengths", type=int, nargs="+", default=[128, 512, 4096, 16384, 32768])
    add("--tuning-lengths", type=int, nargs="+", default=[128, 512, 4096])
    add("--test-tokens", type=int, default=262144, help="tokens of a test, 4 to 256 sequences")
    chosen = parser.parse_args(words)
    if min(chosen.shortest, *chosen.lengths, *chosen.tuning_lengths) < SHORTEST:
        parser.error(f"a sequence has at least {SHORTEST} tokens")
    return chosen


def settings_from(chosen: argparse.Namespace) -> Settings:
    """Return the settings that the words ask for."""
    values = {one.name: getattr(chosen, one.name) for one in dataclasses.fields(Settings)}
    if chosen.quick:
        values |= QUICK
    several = ("lengths", "tuning_lengths", "learning_rates")
    return Settings(**values | {name: tuple(values[name]) for name in several})


def earlier_models(path: Path, settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the models that a file already holds; a file of other settings is refused."""
    if not path.exists():
        return {"tuning": [], "runs": []}
    earlier = json.loads(path.read_text("utf-8"))
    if earlier["settings"] != settings:
        sys.exit(f"{path} holds runs of other settings: choose another --out, or --fresh")
    return {"tuning": earlier["tuning"], "runs": earlier["runs"]}


def models_line(one: dict[str, Any]) -> str:
    """Return a model's losses by tenths of its training, and its accuracies, in a line."""
    losses = " ".join(f"{loss:.2f}" for loss in one["losses"])
    counts = one["accuracy"].get("recall", one["accuracy"])
    recalled = " ".join(f"{length}:{share(count):.2f}" for length, count in counts.items())
    name = f"{one['variant']}, seed {one['seed']}, rate {one['learning_rate']}"
    return f"{name}: loss {losses}; recall {recalled}; {one['train_seconds']:.0f} s"


def keep(newest: dict[str, Any], where: str, results: dict[str, Any], path: Path) -> None:
    """Add a model to the results and write their file."""
    results[where].append(newest)
    results[where].sort(key=_place)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results)
    print(models_line(newest), file=sys.stderr, flush=True)


def _place(one: dict[str, Any]) -> tuple[int, float, int]:
    """Return what the models in a file are sorted by."""
    return VARIANTS.index(one["variant"]), one["learning_rate"], one["seed"]


def main(words: list[str] | None = None) -> None:
    """Run what is missing, write the file, print the table."""
    chosen = arguments(words)
    if chosen.plot:
        plot(json.loads(chosen.plot.read_text("utf-8")), chosen.plot.with_suffix(".png"))
        return
    torch.set_num_threads(1)
    settings = settings_from(chosen)
    plain = table_from_record(settings)
    earlier = earlier_models(chosen.out, plain) if not chosen.fresh else {"tuning": [], "runs": []}
    results: dict[str, Any] = {
        "environment": environment(),
        "settings": plain,
        "vocabulary": {"keys": KEYS, "values": VALUES, "fillers": FILLERS},
        "chance": 1 / VALUES,
        **earlier,
    }
    tried = {(one["variant"], one["seed"], one["learning_rate"]) for one in results["tuning"]}
    for each in product(chosen.variants, chosen.tuning_seeds, settings.learning_rates):
        if each not in tried:
            keep(try_rate(*each, settings), "tuning", results, chosen.out)
    rates = best_rates(results)
    done = {(one["variant"], one["seed"]) for one in results["runs"]}
    for seed, variant in product(chosen.seeds, chosen.variants):
        if (variant, seed) not in done:
            keep(run(variant, seed, rates[variant], settings), "runs", results, chosen.out)
    print(table(results))


if __name__ == "__main__":
    main()
