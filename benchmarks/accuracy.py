"""Table of many runs: our scores by seed, the best simple model, and published scores.

    python benchmarks/accuracy.py RUN... --out benchmarks/results/dna-accuracy-cpu.json
    python benchmarks/accuracy.py RUN... --out benchmarks/results/long-horizon-cpu.json

RUN is a folder written by `titans-seq recipe run`; several runs on one data set, for example one
for each seed, become one row. Scores, controls and times are those of the runs; published scores
are those of the data set's card. Data sets with horizons have a table of their own: means over
seeds, and the CPU seconds of all horizons of a seed. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.runs.comparison import LOWER_IS_BETTER
from titans_seq.evaluation.scores.report import markdown_table
from titans_seq.files import write_json

Record = Mapping[str, Any]
"""All trials, controls and published results on one data set, as the JSON file holds them."""

ENVIRONMENT_KEYS = ("versions", "machine", "threads", "processes", "compiled_memory")
"""Parts of a run's environment that the file keeps, and that must agree."""


def read_run(folder: Path) -> dict[str, Any]:
    """Read the scores, times and environment of a complete run."""
    metrics, timing, environment = (
        json.loads((folder / name).read_text("utf-8"))
        for name in ("metrics.json", "timing.json", "environment.json")
    )
    if not metrics["complete"]:
        sys.exit(f"{folder}: the run is not complete; continue it with --resume")
    return {"metrics": metrics, "timing": timing, "environment": environment}


def records_by_dataset(runs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a record for each data set: trials, controls, published results."""
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        metrics = run["metrics"]
        card = read_card(metrics["dataset"])
        record = records.setdefault(
            card.name,
            {
                "metric": metrics["metric"],
                "horizons": sorted(metrics["controls"], key=int) if card.by_horizon else [],
                "recipe": metrics["recipe"],
                "data": metrics["data"],
                "trials": [],
                "controls": metrics["controls"],
                "published": [
                    {"model": result.model, "source": result.source,
                     "comparable": result.comparable, "scores": result.scores}
                    for result in card.results
                ],
            },
        )  # fmt: skip
        for name, trial in metrics["trials"].items():
            record["trials"].append({**trial, "seconds": run["timing"][name]})
    for record in records.values():
        record["trials"].sort(key=lambda trial: (trial["horizon"] or 0, trial["seed"]))
    return records


def common_environment(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the environment of the runs, which must be the same for all."""
    environments = [
        {key: run["environment"][key] for key in ENVIRONMENT_KEYS if key in run["environment"]}
        for run in runs
    ]
    if any(environment != environments[0] for environment in environments):
        sys.exit(
            "the runs have different versions, threads, machines or back ends of the memory, and "
            "cannot be compared in one table"
        )
    return environments[0]


def best_simple_model(record: Record) -> tuple[str, float] | None:
    """Return the best control or comparable model on the card, with its score."""
    metric = record["metric"]
    scores = [(name, score[metric]) for name, score in record["controls"].get("all", {}).items()]
    scores += [
        (result["model"], result["scores"][metric])
        for result in record["published"]
        if result["comparable"] and result["scores"].get(metric) is not None
    ]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(scores, key=lambda pair: sign * pair[1]) if scores else None


def published_score(record: Record, prefix: str) -> float | None:
    """Return the published score of the first model whose name starts with ``prefix``."""
    for result in record["published"]:
        if result["model"].startswith(prefix):
            score: float | None = result["scores"].get(record["metric"])
            return score
    return None


def score_row(name: str, record: Record) -> tuple[str, ...]:
    """Return the table row of a data set without horizons."""
    metric = record["metric"]
    ours = [trial["scores"][metric] for trial in record["trials"]]
    cpu = [trial["seconds"]["cpu_seconds"] for trial in record["trials"]]
    simple, large = best_simple_model(record), published_score(record, "DNABERT-2")
    mean = fmean(ours)
    spread = f" ({min(ours):.3f}-{max(ours):.3f})" if len(ours) > 1 else ""
    reached = [
        model
        for model, score in (("simple", simple and simple[1]), ("DNABERT-2", large))
        if score is not None and mean >= score
    ]
    return (
        name,
        metric,
        f"{simple[0]} {simple[1]:.3f}" if simple else "-",
        f"{large:.3f}" if large is not None else "-",
        f"{mean:.3f}{spread}",
        ", ".join(reached) or "-",
        f"{fmean(cpu):.0f}",
    )


def mean_errors(scores: Iterable[Mapping[str, float]]) -> str:
    """Return the mean of MSE and MAE over trials, as one cell."""
    scores = list(scores)
    return "/".join(f"{fmean(trial[name] for trial in scores):.3f}" for name in ("mse", "mae"))


def best_control(record: Record) -> str:
    """Return the control with the lowest MSE over all horizons, with its errors."""
    controls = [record["controls"][horizon] for horizon in record["horizons"]]
    names = [name for name in controls[0] if all(name in own for own in controls)]
    best = min(names, key=lambda name: fmean(own[name]["mse"] for own in controls))
    return f"{best} {mean_errors(own[best] for own in controls)}"


def best_published(record: Record) -> str:
    """Return the comparable published model with the lowest mean MSE."""
    means = [
        (result["scores"]["mse"]["mean"], result["model"])
        for result in record["published"]
        if result["comparable"] and result["scores"].get("mse", {}).get("mean") is not None
    ]
    return "{1} {0:.3f}".format(*min(means)) if means else "-"


def horizon_row(name: str, record: Record) -> tuple[str, ...]:
    """Return the table row of a data set with horizons."""
    seeds = sorted({trial["seed"] for trial in record["trials"]})
    horizons = record["horizons"]
    trials = {(str(trial["horizon"]), trial["seed"]): trial for trial in record["trials"]}
    missing = [f"{h} of seed {seed}" for seed in seeds for h in horizons if (h, seed) not in trials]
    if missing:
        sys.exit(f"{name}: no run has {', '.join(missing)}")
    by_seed = [[trials[h, seed]["scores"] for h in horizons] for seed in seeds]
    means = [fmean(scores["mse"] for scores in own) for own in by_seed]
    cpu = sum(trial["seconds"]["cpu_seconds"] for trial in record["trials"]) / len(seeds)
    return (
        name,
        *(mean_errors(own[number] for own in by_seed) for number in range(len(horizons))),
        mean_errors(scores for own in by_seed for scores in own),
        f"{min(means):.3f}-{max(means):.3f}",
        best_control(record),
        best_published(record),
        str(len(seeds)),
        f"{cpu:,.0f}",
    )


def tables(records: Mapping[str, Record]) -> Iterable[str]:
    """Yield the table of the data sets without horizons, and one for each set of horizons."""
    by_horizons: dict[tuple[str, ...], list[tuple[str, Record]]] = {}
    for name, record in sorted(records.items()):
        by_horizons.setdefault(tuple(record["horizons"]), []).append((name, record))
    for horizons, items in sorted(by_horizons.items()):
        if horizons:
            header = ("data set", *horizons, "mean", "seeds' mean MSE", "best control",
                      "best published", "seeds", "CPU s")  # fmt: skip
            yield markdown_table(header, [horizon_row(*item) for item in items])
        else:
            header = ("data set", "score", "best simple model", "DNABERT-2", "ours", "at or above",
                      "CPU s")  # fmt: skip
            yield markdown_table(header, [score_row(*item) for item in items])


def main(arguments: list[str] | None = None) -> None:
    """Write the JSON file, and print the tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    runs = [read_run(folder) for folder in options.runs]
    records = records_by_dataset(runs)
    printed = "\n".join(tables(records))  # may refuse the runs: before the file is written
    environment = common_environment(runs) | {"gathered": f"{datetime.now(UTC):%Y-%m-%d}"}
    write_json(options.out, {"environment": environment, "datasets": records})
    print(printed)


if __name__ == "__main__":
    main()
