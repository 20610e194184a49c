"""Table and figure of the recall benchmark's results."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median
from typing import Any

from recall_parts.models import accuracy_of
from titans_seq.evaluation.scores.intervals import wilson_interval
from titans_seq.files import write_whole

TITLES = {"recall": "Associative recall", "needle": "Needle in a haystack"}


def scores(results: dict[str, Any], task: str) -> dict[str, dict[int, list[float]]]:
    """Return the accuracy of each seed, by variant and length."""
    accuracies: dict[str, dict[int, list[float]]] = {}
    for run in results["runs"]:
        by_length = accuracies.setdefault(run["variant"], {})
        for length, counts in run["accuracy"][task].items():
            by_length.setdefault(int(length), []).append(accuracy_of(counts))
    return accuracies


def best_rates(results: dict[str, Any]) -> dict[str, float]:
    """Return the best learning rate of each variant in tuning."""
    by_variant: dict[str, dict[float, list[float]]] = {}
    for run in results["tuning"]:
        by_rate = by_variant.setdefault(run["variant"], {})
        by_rate.setdefault(run["learning_rate"], []).append(run["score"])
    return {
        variant: max(by_rate, key=lambda rate: fmean(by_rate[rate]))
        for variant, by_rate in by_variant.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return a table for each task: variant by length, median and range over seeds."""
    lines = []
    for task, title in TITLES.items():
        accuracies = scores(results, task)
        lengths = sorted({length for row in accuracies.values() for length in row})
        lines += ["", f"{title}: accuracy, median (range) over seeds; chance "
                  f"{results['chance']:.3f}"]  # fmt: skip
        head = "".join(f"{length:>17,}" for length in lengths)
        lines.append(f"{'variant':10}{'parameters':>11}{'CPU s':>7}{head}")
        for variant, row in accuracies.items():
            runs = [run for run in results["runs"] if run["variant"] == variant]
            seconds = median(run["train_seconds"] + run["test_seconds"] for run in runs)
            cells = "".join(f"{_cell(row.get(length, [])):>17}" for length in lengths)
            lines.append(f"{variant:10}{runs[0]['parameters']:>11,}{seconds:>7.0f}{cells}")
        lines.append(f"{'facts queried, all seeds':28}" + _facts(results, task, lengths))
        lines.append(f"{'widest 95% interval':28}" + _widest(results, task, lengths))
    return "\n".join(lines[1:])


def _pooled(results: dict[str, Any], task: str, length: int) -> list[tuple[float, int]]:
    """Return the accuracy over all seeds of each variant, and the number of facts."""
    pooled = []
    for variant, row in scores(results, task).items():
        facts = [
            run["accuracy"][task][str(length)]["facts"]
            for run in results["runs"]
            if run["variant"] == variant
        ]
        pooled.append((fmean(row[length]), sum(facts)))
    return pooled


def _facts(results: dict[str, Any], task: str, lengths: list[int]) -> str:
    """Return the number of facts of the variant with the fewest, for each length."""
    fewest = (min(facts for _, facts in _pooled(results, task, length)) for length in lengths)
    return "".join(f"{facts:>17,}" for facts in fewest)


def _widest(results: dict[str, Any], task: str, lengths: list[int]) -> str:
    """Return the widest interval of the variants' accuracies, for each length."""
    cells = []
    for length in lengths:
        # Over facts, not queries: a model that has lost a fact answers every query for it wrongly.
        intervals = [
            wilson_interval(round(mean * facts), facts)
            for mean, facts in _pooled(results, task, length)
        ]
        low, high = max(intervals, key=lambda interval: interval[1] - interval[0])
        cells.append(f"{f'{low:.2f}-{high:.2f}':>17}")
    return "".join(cells)


def _cell(values: list[float]) -> str:
    """Return median and range as the text of a cell."""
    if not values:
        return ""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw accuracy against length: a line for each variant, a band for the range over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, len(TITLES), figsize=(11, 4), sharey=True)
    for axes, (task, title) in zip(all_axes, TITLES.items(), strict=True):
        for variant, row in scores(results, task).items():
            lengths = sorted(row)
            style = "--" if variant == "attention" else "-"
            middle = [median(row[length]) for length in lengths]
            (line,) = axes.plot(lengths, middle, style, marker="o", ms=3.5, label=variant)
            lowest = [min(row[length]) for length in lengths]
            highest = [max(row[length]) for length in lengths]
            axes.fill_between(lengths, lowest, highest, color=line.get_color(), alpha=0.12)
        axes.axhline(results["chance"], color="grey", lw=0.8, ls=":", label="chance")
        axes.set(title=title, xlabel="tokens", ylim=(0, 1.03))
        axes.set_xscale("log", base=2)
        # From the left edge: a span from 0 would stretch the logarithmic axis without end.
        left, right = axes.get_xlim()
        axes.axvspan(left, results["settings"]["longest"], color="black", alpha=0.05, lw=0)
        axes.set_xlim(left, right)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(axis="x", labelrotation=45)
    all_axes[0].set_ylabel("accuracy (grey: lengths trained on)")
    all_axes[-1].legend()
    figure.tight_layout()
    with write_whole(path) as temporary:
        figure.savefig(temporary, dpi=140)
    plt.close(figure)
