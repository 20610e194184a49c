"""The table and the figure of a file of results."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from recall_parts.measuring import interval, share
from titans_seq.files import write_whole

TITLES = {"recall": "Associative recall", "needle": "Needle in a haystack"}


def scores(results: dict[str, Any], task: str) -> dict[str, dict[int, list[float]]]:
    """Return the accuracies of all seeds, by variant and length."""
    gathered: dict[str, dict[int, list[float]]] = {}
    for one in results["runs"]:
        row = gathered.setdefault(one["variant"], {})
        for length, counts in one["accuracy"][task].items():
            row.setdefault(int(length), []).append(share(counts))
    return gathered


def best_rates(results: dict[str, Any]) -> dict[str, float]:
    """Return the learning rate of each variant that did best where settings are chosen."""
    tried: dict[str, dict[float, list[float]]] = {}
    for one in results["tuning"]:
        row = tried.setdefault(one["variant"], {})
        row.setdefault(one["learning_rate"], []).append(one["score"])
    return {
        variant: max(row, key=lambda rate: sum(row[rate]) / len(row[rate]))
        for variant, row in tried.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return a table a task: variant by length, the median of the seeds and their range."""
    lines = []
    for task, title in TITLES.items():
        gathered = scores(results, task)
        lengths = sorted({length for row in gathered.values() for length in row})
        lines += ["", f"{title}: accuracy, median (least-most) of the seeds; chance "
                  f"{results['chance']:.3f}"]  # fmt: skip
        head = "".join(f"{length:>17,}" for length in lengths)
        lines.append(f"{'variant':10}{'parameters':>11}{'CPU s':>7}{head}")
        for variant, row in gathered.items():
            runs = [one for one in results["runs"] if one["variant"] == variant]
            seconds = median(one["train_seconds"] + one["test_seconds"] for one in runs)
            cells = "".join(f"{_cell(row.get(length, [])):>17}" for length in lengths)
            lines.append(f"{variant:10}{runs[0]['parameters']:>11,}{seconds:>7.0f}{cells}")
        lines.append(f"{'facts asked for, all seeds':28}" + _facts(results, task, lengths))
        lines.append(f"{'widest 95% interval':28}" + _widest(results, task, lengths))
    return "\n".join(lines[1:])


def _pooled(results: dict[str, Any], task: str, length: int) -> list[tuple[float, int]]:
    """Return each variant's share answered rightly, over all seeds, and of how many facts."""
    found = []
    for variant, row in scores(results, task).items():
        facts = [
            one["accuracy"][task][str(length)]["facts"]
            for one in results["runs"]
            if one["variant"] == variant
        ]
        found.append((sum(row[length]) / len(row[length]), sum(facts)))
    return found


def _facts(results: dict[str, Any], task: str, lengths: list[int]) -> str:
    """Return how many facts were asked for of the variant that was asked for the fewest."""
    fewest = (min(facts for _, facts in _pooled(results, task, length)) for length in lengths)
    return "".join(f"{facts:>17,}" for facts in fewest)


def _widest(results: dict[str, Any], task: str, lengths: list[int]) -> str:
    """Return, a length, the widest of the variants' intervals of the share over all seeds."""
    cells = []
    for length in lengths:
        bounds = [interval(*one) for one in _pooled(results, task, length)]
        low, high = max(bounds, key=lambda one: one[1] - one[0])
        cells.append(f"{f'{low:.2f}-{high:.2f}':>17}")
    return "".join(cells)


def _cell(values: list[float]) -> str:
    """Return a median and the range about it."""
    if not values:
        return ""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw accuracy against length, a line a variant, a band over its seeds."""
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
            least = [min(row[length]) for length in lengths]
            most = [max(row[length]) for length in lengths]
            axes.fill_between(lengths, least, most, color=line.get_color(), alpha=0.12)
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
