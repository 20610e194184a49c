"""One table of many runs: ours by seed, the best simple model, and what others published.

    python benchmarks/accuracy.py RUN... --out benchmarks/results/dna-accuracy-cpu.json
    python benchmarks/accuracy.py RUN... --out benchmarks/results/long-horizon-cpu.json

RUN is a folder that `titans-seq recipe run` wrote; runs of one data set, such as one for each
seed, become one row. Scores, controls and times are taken as the runs wrote them; published
figures are those of the data set's card. Sets with horizons are a table of their own: means over
the seeds, and CPU seconds of a seed's horizons together. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.runs.comparison import LOWER_IS_BETTER
from titans_seq.evaluation.scores.report import markdown_table
from titans_seq.files import write_json

Scores = Mapping[str, float]

KEPT = ("versions", "machine", "threads", "processes", "compiled_memory")
"""What is kept of a run's environment, where the run noted it."""


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a finished run says of itself."""
    metrics, timing, environment = (
        json.loads((folder / name).read_text("utf-8"))
        for name in ("metrics.json", "timing.json", "environment.json")
    )
    if not metrics["complete"]:
        sys.exit(f"{folder}: the run has not come to its end; go on with --resume")
    return {"metrics": metrics, "timing": timing, "environment": environment}


def gather(runs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a record for each data set: trials, controls, published results."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        metrics = run["metrics"]
        card = read_card(metrics["dataset"])
        record = found.setdefault(
            card.name,
            {
                "metric": metrics["metric"],
                "horizons": sorted(metrics["controls"], key=int) if card.by_horizon else [],
                "recipe": metrics["recipe"],
                "data": metrics["data"],
                "trials": [],
                "controls": metrics["controls"],
                "published": [
                    {"model": one.model, "source": one.source, "comparable": one.comparable,
                     "scores": one.scores}
                    for one in card.results
                ],
            },
        )  # fmt: skip
        for name, trial in metrics["trials"].items():
            record["trials"].append({**trial, "seconds": run["timing"][name]})
    for record in found.values():
        record["trials"].sort(key=lambda one: (one["horizon"] or 0, one["seed"]))
    return found


def environment_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return where the runs were made; they must agree."""
    noted = [run["environment"] for run in runs]
    places = [{name: one[name] for name in KEPT if name in one} for one in noted]
    if any(place != places[0] for place in places):
        sys.exit(
            "the runs were made with other versions, threads, machines or forms of the memory: "
            "no one table"
        )
    return places[0]


def best_simple(record: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the best of the controls and of the simple models on the card, with its score."""
    metric = record["metric"]
    found = [(name, scores[metric]) for name, scores in record["controls"].get("all", {}).items()]
    found += [
        (one["model"], one["scores"][metric])
        for one in record["published"]
        if one["comparable"] and one["scores"].get(metric) is not None
    ]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(found, key=lambda one: sign * one[1]) if found else None


def other(record: Mapping[str, Any], start: str) -> float | None:
    """Return the published score of the model whose name starts so."""
    for one in record["published"]:
        if one["model"].startswith(start):
            score: float | None = one["scores"].get(record["metric"])
            return score
    return None


def row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a data set's row of the table."""
    metric = record["metric"]
    ours = [trial["scores"][metric] for trial in record["trials"]]
    cpu = [trial["seconds"]["cpu_seconds"] for trial in record["trials"]]
    simple, large = best_simple(record), other(record, "DNABERT-2")
    mean = statistics.fmean(ours)
    spread = f" ({min(ours):.3f}-{max(ours):.3f})" if len(ours) > 1 else ""
    ahead = [
        word
        for word, bar in (("simple", simple and simple[1]), ("DNABERT-2", large))
        if bar is not None and mean >= bar
    ]
    return (
        name,
        metric,
        f"{simple[0]} {simple[1]:.3f}" if simple else "-",
        f"{large:.3f}" if large is not None else "-",
        f"{mean:.3f}{spread}",
        ", ".join(ahead) or "-",
        f"{statistics.fmean(cpu):.0f}",
    )


def cell(found: Iterable[Scores]) -> str:
    """Return the mean squared and absolute error of some trials."""
    found = list(found)
    means = (statistics.fmean(one[score] for one in found) for score in ("mse", "mae"))
    return "/".join(f"{mean:.3f}" for mean in means)


def best_control(record: Mapping[str, Any]) -> str:
    """Return the control with the least squared error over all horizons, with its errors."""
    controls = [record["controls"][horizon] for horizon in record["horizons"]]
    names = [name for name in controls[0] if all(name in one for one in controls)]
    best = min(names, key=lambda name: statistics.fmean(one[name]["mse"] for one in controls))
    return f"{best} {cell(one[best] for one in controls)}"


def best_published(record: Mapping[str, Any]) -> str:
    """Return the published model with the least mean squared error that can be compared."""
    found = [
        (one["scores"]["mse"]["mean"], one["model"])
        for one in record["published"]
        if one["comparable"] and one["scores"].get("mse", {}).get("mean") is not None
    ]
    return "{1} {0:.3f}".format(*min(found)) if found else "-"


def horizon_row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row of a data set with horizons."""
    seeds = sorted({trial["seed"] for trial in record["trials"]})
    horizons = record["horizons"]
    trials = {(str(trial["horizon"]), trial["seed"]): trial for trial in record["trials"]}
    missing = [f"{h} of seed {seed}" for seed in seeds for h in horizons if (h, seed) not in trials]
    if missing:
        sys.exit(f"{name}: no run has {', '.join(missing)}")
    ours = [[trials[h, seed]["scores"] for h in horizons] for seed in seeds]
    means = [statistics.fmean(one["mse"] for one in own) for own in ours]
    cpu = sum(trial["seconds"]["cpu_seconds"] for trial in record["trials"]) / len(seeds)
    return (
        name,
        *(cell(own[place] for own in ours) for place in range(len(horizons))),
        cell(scores for own in ours for scores in own),
        f"{min(means):.3f}-{max(means):.3f}",
        best_control(record),
        best_published(record),
        str(len(seeds)),
        f"{cpu:,.0f}",
    )


def tables(records: Mapping[str, dict[str, Any]]) -> Iterable[str]:
    """Yield the table of the sets without horizons, and one for each choice of horizons."""
    plain = [row(*item) for item in sorted(records.items()) if not item[1]["horizons"]]
    if plain:
        yield markdown_table(
            ("data set", "score", "best simple model", "DNABERT-2", "ours", "at or above", "CPU s"),
            plain,
        )
    choices = {tuple(one["horizons"]) for one in records.values() if one["horizons"]}
    for horizons in sorted(choices):
        yield markdown_table(
            ("data set", *horizons, "mean", "seeds' mean MSE", "best control", "best published",
             "seeds", "CPU s"),
            [
                horizon_row(*item)
                for item in sorted(records.items())
                if tuple(item[1]["horizons"]) == horizons
            ],
        )  # fmt: skip


def main(words: list[str] | None = None) -> None:
    """Write the figures, and print them as a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(words)
    runs = [read_run(folder) for folder in chosen.runs]
    records = gather(runs)
    told = list(tables(records))
    place = environment_of(runs) | {"gathered": f"{datetime.now(UTC):%Y-%m-%d}"}
    write_json(chosen.out, {"environment": place, "datasets": records})
    print("\n".join(told))


if __name__ == "__main__":
    main()
