"""Associative recall from far outside the attention window, with and without a memory.

    python benchmarks/recall.py [--quick] [--variants lmm mac ...] [--seeds 0 1 2] [--out FILE]
    python benchmarks/recall.py --plot benchmarks/results/recall-cpu.json

Trains every variant on sequences of at most 512 tokens and tests it on up to 32,768, with the
state carried. Window and segment have 64 tokens, so attention alone cannot see a fact more than
127 tokens back. The learning rate of each variant, including the control, is the best of the same
candidates, tuned with separate seeds and sequences. The file of results is written after each
model; a second run with the same settings continues where the first stopped.
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
from recall_parts.models import Settings, accuracy_of, train_and_test, tune
from recall_parts.report import best_rates, plot, table

from titans_seq.config import VARIANTS, table_from_record
from titans_seq.files import write_json
from titans_seq.language.facts import FILLERS, KEYS, SHORTEST, VALUES

QUICK: dict[str, Any] = {
    "steps": 4, "tokens_a_step": 256, "longest": 64, "lengths": [64, 128], "test_tokens": 256,
    "learning_rates": [4e-3], "tuning_lengths": [64], "tuning_steps": 4,
}  # fmt: skip
"""Settings of ``--quick``, which only shows that the script works."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    home = Path(__file__).parent
    add = parser.add_argument
    add("--out", type=Path, default=home / "results" / "recall-cpu.json")
    add("--plot", type=Path, metavar="FILE", help="only draw the figure of FILE, as .png beside it")
    add("--fresh", action="store_true", help="repeat runs that the file already holds")
    add("--quick", action="store_true", help="a few seconds, to try the script")
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    add("--seeds", type=int, nargs="+", default=[11, 12, 13])
    add("--tuning-seeds", type=int, nargs="+", default=[7], help="seeds of tuning")
    add("--dim", type=int, default=64)
    add("--heads", type=int, default=1)
    add("--layers", type=int, default=1)
    add("--control-layers", type=int, default=2, help="layers of `attention`")
    add("--rule", default="titans-exact")
    add("--memory-depth", type=int, default=1)
    add("--chunk-size", type=int, default=64)
    add("--window", type=int, default=64, help="tokens of the window and of a segment")
    add("--steps", type=int, default=1200)
    add("--tuning-steps", type=int, default=800)
    add("--tokens-a-step", type=int, default=2048)
    add("--learning-rates", type=float, nargs="+", default=[4e-3, 8e-3])
    add("--weight-decay", type=float, default=0.01)
    add("--pairs", type=int, default=4, choices=range(1, 9), help="facts of a sequence")
    add("--shortest", type=int, default=48, help="shortest training length")
    add("--longest", type=int, default=512, help="longest training length")
    add("--lengths", type=int, nargs="+", default=[128, 512, 4096, 16384, 32768])
    add("--tuning-lengths", type=int, nargs="+", default=[128, 512, 4096])
    add("--test-tokens", type=int, default=262144, help="tokens of a test, 4 to 256 sequences")
    options = parser.parse_args(arguments)
    if min(options.shortest, *options.lengths, *options.tuning_lengths) < SHORTEST:
        parser.error(f"lengths must be at least {SHORTEST} tokens")
    return options


def settings_from(options: argparse.Namespace) -> Settings:
    """Return the settings of the command line."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    if options.quick:
        values |= QUICK
    lists = ("lengths", "tuning_lengths", "learning_rates")
    return Settings(**values | {name: tuple(values[name]) for name in lists})


def earlier_models(path: Path, settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the models that a file already holds; refuse a file with other settings."""
    if not path.exists():
        return {"tuning": [], "runs": []}
    earlier = json.loads(path.read_text("utf-8"))
    if earlier["settings"] != settings:
        sys.exit(f"{path} holds runs with other settings: choose another --out, or --fresh")
    return {"tuning": earlier["tuning"], "runs": earlier["runs"]}


def progress_line(model: dict[str, Any]) -> str:
    """Return a line with a model's losses by tenths of its training, and its accuracies."""
    losses = " ".join(f"{loss:.2f}" for loss in model["losses"])
    counts = model["accuracy"].get("recall", model["accuracy"])
    recalled = " ".join(f"{length}:{accuracy_of(count):.2f}" for length, count in counts.items())
    name = f"{model['variant']}, seed {model['seed']}, rate {model['learning_rate']}"
    return f"{name}: loss {losses}; recall {recalled}; {model['train_seconds']:.0f} s"


def store(model: dict[str, Any], group: str, results: dict[str, Any], path: Path) -> None:
    """Add a model to a group of the results, and write the file."""
    results[group].append(model)
    results[group].sort(key=_sort_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results)
    print(progress_line(model), file=sys.stderr, flush=True)


def _sort_key(model: dict[str, Any]) -> tuple[int, float, int]:
    """Return the sort key of the models in a file."""
    return VARIANTS.index(model["variant"]), model["learning_rate"], model["seed"]


def main(arguments: list[str] | None = None) -> None:
    """Run the missing models, write the file, print the table."""
    options = parse_arguments(arguments)
    if options.plot:
        plot(json.loads(options.plot.read_text("utf-8")), options.plot.with_suffix(".png"))
        return
    torch.set_num_threads(1)
    settings = settings_from(options)
    plain = table_from_record(settings)
    earlier = (
        earlier_models(options.out, plain) if not options.fresh else {"tuning": [], "runs": []}
    )
    results: dict[str, Any] = {
        "environment": environment(),
        "settings": plain,
        "vocabulary": {"keys": KEYS, "values": VALUES, "fillers": FILLERS},
        "chance": 1 / VALUES,
        **earlier,
    }
    tuned = {(m["variant"], m["seed"], m["learning_rate"]) for m in results["tuning"]}
    for candidate in product(options.variants, options.tuning_seeds, settings.learning_rates):
        if candidate not in tuned:
            store(tune(*candidate, settings), "tuning", results, options.out)
    rates = best_rates(results)
    done = {(model["variant"], model["seed"]) for model in results["runs"]}
    for seed, variant in product(options.seeds, options.variants):
        if (variant, seed) not in done:
            model = train_and_test(variant, seed, rates[variant], settings)
            store(model, "runs", results, options.out)
    print(table(results))


if __name__ == "__main__":
    main()
