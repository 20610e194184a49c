"""Ours beside what others published, saying which figures cannot be compared, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.records import DatasetCard, Result
from titans_seq.evaluation.runs.folder import METRICS, TIMING, RunFolder
from titans_seq.evaluation.runs.summary import summarise
from titans_seq.evaluation.scores.report import format_score, markdown_table, text_table
from titans_seq.exceptions import ConfigError
from titans_seq.files import write_json, write_whole

Kind = Literal["ours", "control", "published", "not comparable"]

GROUPED = "grouped"
"""Group of trainings on a split of its own."""

ERRORS = ("mse", "mae")
"""Figures of a forecast that stand in one cell, parted by a stroke."""

LOWER_IS_BETTER = frozenset({
    "mse", "mae", "pinball", "log_loss", "ece", "mase", "smape", "owa", "bits_per_byte",
    "perplexity",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One model of a comparison."""

    model: str
    kind: Kind
    scores: Mapping[str, Mapping[str, float]]
    """By column, then by figure."""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is known of one data set."""

    card: DatasetCard
    metric: str
    """Figure that models are put in order by."""
    columns: tuple[str, ...]
    """Horizons and ``mean``, or the figures of a classifier."""
    rows: tuple[Row, ...]
    """Ours, then controls, then published, the best first."""
    data: str | None = None
    """What file of the user's it is, where the data set has none."""
    verdicts: tuple[str, ...] = ()
    """What the recipes expected, and whether it was reached."""

    def to_text(self) -> str:
        """Return a table for a screen, with what must be known to read it."""
        return "\n".join((self._title(), text_table(self._header(), self._cells()), *self._notes()))

    def to_markdown(self) -> str:
        """Return the same in Markdown."""
        notes = "\n".join(f"- {line}" for line in self._notes())
        table = markdown_table(self._header(), self._cells())
        return f"## {self._title()}\n\n{table}\n\n{notes}".rstrip() + "\n"

    def to_record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rows = [{"model": row.model, "kind": row.kind, "scores": row.scores, "remark": row.remark}
                for row in self.rows]  # fmt: skip
        return {"dataset": self.card.name, "data": self.data, "columns": list(self.columns),
                "rows": rows, "verdicts": list(self.verdicts)}  # fmt: skip

    def main_scores(self) -> list[tuple[Row, float]]:
        """Return each row with the one figure that a picture shows."""
        column = self.columns[-1] if self.card.by_horizon else self.metric
        found = [(row, row.scores.get(column, {}).get(self.metric)) for row in self.rows]
        return [(row, value) for row, value in found if value is not None]

    def _title(self) -> str:
        if self.card.by_horizon:
            return f"{self.card.name}: MSE/MAE by horizon, in units of the train rows' deviation"
        of = f" of {self.data}" if self.data else ""
        return f"{self.card.name}: scores on the test part{of}"

    def _header(self) -> tuple[str, ...]:
        return ("model", "", *self.columns)

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (row.model, "" if row.kind == "published" else row.kind,
             *(_cell(row.scores.get(column, {})) for column in self.columns))
            for row in self.rows
        ]  # fmt: skip

    def _notes(self) -> list[str]:
        """Return the remarks on rows, and those on the data set."""
        notes = [f"{row.model}: {row.remark}" for row in self.rows if row.remark]
        return [*notes, *self.card.remarks, *self.verdicts]


def compare_runs(folders: Sequence[str | os.PathLike[str]]) -> list[Comparison]:
    """Return a comparison for each data set that the runs are on.

    Parameters
    ----------
    folders
        Folders of runs, finished or not.

    Raises
    ------
    ConfigError
        If a folder holds no run, or one that has not scored anything.
    """
    by_dataset: dict[tuple[str, str | None, str], list[tuple[str, dict[str, Any]]]] = {}
    for folder in folders:
        metrics = _read_metrics(Path(folder))
        name = Path(folder).resolve().name
        key = (metrics["dataset"], metrics.get("data"), metrics["metric"])
        by_dataset.setdefault(key, []).append((name, metrics))
    return [
        _compare(read_card(name), data, metric, runs)
        for (name, data, metric), runs in by_dataset.items()
    ]


def write_comparison(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write comparisons as Markdown, JSON or a picture, by the file's suffix.

    Raises
    ------
    ConfigError
        If the suffix is none of ``.md``, ``.json``, ``.png``, ``.svg`` and ``.pdf``.
    """
    if path.suffix == ".json":
        write_json(path, {"comparisons": [one.to_record() for one in comparisons]})
    elif path.suffix == ".md":
        with write_whole(path) as temporary:
            temporary.write_text("\n".join(one.to_markdown() for one in comparisons), "utf-8")
    elif path.suffix in (".png", ".svg", ".pdf"):
        from titans_seq.evaluation.scores.plots import plot_comparisons

        with write_whole(path) as temporary:
            plot_comparisons(comparisons, temporary)
    else:
        raise ConfigError(f"{path} must end in .md, .json, .png, .svg or .pdf")


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Return the scores of a run."""
    path = folder / METRICS
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no {METRICS}")
    try:
        metrics: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not metrics.get("summary"):
        raise ConfigError(f"{folder}: the run has not come to its end; go on with --resume")
    _add_measured(metrics, folder)
    return metrics


def _add_measured(metrics: dict[str, Any], folder: Path) -> None:
    """Add the figures that depend on the machine, which stand in a file of their own."""
    timing = RunFolder(folder).look(TIMING)
    trials = [
        {**trial, "scores": timing[name]["measured"]}
        for name, trial in metrics["trials"].items()
        if "measured" in timing.get(name, {})
    ]
    for group, spreads in summarise(trials).items() if trials else ():
        metrics["summary"][group].update(spreads)


def _compare(
    card: DatasetCard, data: str | None, metric: str, runs: Sequence[tuple[str, Mapping[str, Any]]]
) -> Comparison:
    """Return the comparison of some runs on one data set."""
    if card.by_horizon:
        found = dict.fromkeys(h for _, run in runs for h in run["summary"] if h != "mean")
        horizons = sorted(found, key=int)
        columns = (*horizons, *(("mean",) if len(horizons) > 1 else ()))
    else:
        names = (metric, *(name for _, run in runs for name in run["columns"]))
        columns = tuple(dict.fromkeys(names))
    rows = [row for name, run in runs for row in _ours(name, run, columns)]
    controls = [row for _, run in runs for row in _controls(run, columns)]
    rows += {row.model: row for row in controls}.values()
    known = {row.model for row in rows}
    others = [_published(one, card, columns) for one in card.results if one.model not in known]
    best = _order(metric, columns[-1] if card.by_horizon else metric)
    rows += sorted((row for row in others if row.scores), key=best)
    prefix = {name: f"{name}: " if len(runs) > 1 else "" for name, _ in runs}
    told = tuple(prefix[name] + line for name, run in runs for line in run["verdicts"])
    return Comparison(card, metric, columns, tuple(rows), data, told)


def _ours(name: str, run: Mapping[str, Any], columns: Iterable[str]) -> list[Row]:
    """Return the row of a run, means over seeds; and one of its grouped split, if it has any."""
    summary, rows = run["summary"], []
    for group, label in (("all", name), (GROUPED, f"{name}, grouped split")):
        if group in summary:
            scores = {c: {c: summary[group][c]["mean"]} for c in columns if c in summary[group]}
            rows.append(Row(label, "ours", scores, _spread(run, summary[group])))
    if rows:
        return rows
    scores = {
        c: {k: summary[c][k]["mean"] for k in ERRORS if k in summary[c]}
        for c in columns if c in summary
    }  # fmt: skip
    return [Row(name, "ours", scores, _spread(run, summary["mean"]))]


def _spread(run: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return how many seeds a mean is over, and how far they lie apart."""
    seeds = {one["seed"] for one in run["trials"].values()}
    main, spread = run["metric"], figures.get(run["metric"])
    remark = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if spread and len(seeds) > 1:
        remark += f", {main} from {spread['low']:.3f} to {spread['high']:.3f}"
    return remark


def _controls(run: Mapping[str, Any], columns: Iterable[str]) -> list[Row]:
    """Return the rows of the simple methods that were scored in a run."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for group, controls in run["controls"].items():
        for model, one in controls.items():
            label = f"{model}, grouped split" if group == GROUPED else model
            own = scores.setdefault(label, {})
            if group in ("all", GROUPED):
                own.update({c: {c: one[c]} for c in columns if one.get(c) is not None})
            elif group in columns:
                own[group] = {k: one[k] for k in ERRORS if k in one}
    groups = [c for c in columns if c in run["controls"]]
    for own in scores.values():
        if "mean" in columns and groups and set(groups) <= own.keys():
            own["mean"] = {k: sum(own[g][k] for g in groups) / len(groups) for k in ERRORS}
    return [Row(model, "control", own) for model, own in scores.items()]


def _published(result: Result, card: DatasetCard, columns: Iterable[str]) -> Row:
    """Return the row of a published result, as far as it has the columns."""
    scores: dict[str, dict[str, float]] = {}
    for column in columns:
        names, horizon = (ERRORS, column) if card.by_horizon else ((column,), None)
        found = {name: _figure(result, name, horizon) for name in names}
        kept = {name: value for name, value in found.items() if value is not None}
        if kept:
            scores[column] = kept
    remark = "; ".join(text for text in (result.source, result.remark) if text)
    return Row(result.model, "published" if result.comparable else "not comparable", scores, remark)


def _figure(result: Result, name: str, horizon: str | None) -> float | None:
    """Return one published figure."""
    if horizon is None or horizon == "mean":
        return result.score(name)
    return result.score(name, int(horizon))


def _order(metric: str, column: str) -> Callable[[Row], tuple[bool, float]]:
    """Return a key that sorts rows: comparable ones first, better ones before worse."""
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def key(row: Row) -> tuple[bool, float]:
        value = row.scores.get(column, {}).get(metric)
        return row.kind != "published", float("inf") if value is None else sign * value

    return key


def _cell(scores: Mapping[str, float]) -> str:
    """Return one or two figures as a cell."""
    return "/".join(format_score(value) for value in scores.values()) or "-"
