"""Comparison of our scores with controls and published ones, with reasons where not comparable."""

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

LOWER_IS_BETTER = frozenset({
    "mse", "mae", "pinball", "log_loss", "ece", "mase", "smape", "owa", "bits_per_byte",
    "perplexity",
})  # fmt: skip

_GROUPED = "grouped"
"""Group of trials on a grouped split."""

_HORIZON_METRICS = ("mse", "mae")
"""Scores of a horizon, printed in one cell as ``mse/mae``."""

RowKind = Literal["ours", "control", "published", "not comparable"]


@dataclass(frozen=True, slots=True)
class Row:
    """One model of a comparison."""

    model: str
    kind: RowKind
    scores: Mapping[str, Mapping[str, float]]
    """By column, then by metric."""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All known scores on one data set."""

    card: DatasetCard
    metric: str
    """Metric that models are sorted by."""
    columns: tuple[str, ...]
    """Horizons and ``mean``, or metrics."""
    rows: tuple[Row, ...]
    """Ours, then controls, then published ones, the best first."""
    data: str | None = None
    """The user's file, if the data set has none."""
    verdicts: tuple[str, ...] = ()
    """Expectations of the recipes, reached or not."""

    def to_text(self) -> str:
        """Return a plain-text table, followed by remarks on its rows."""
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
        """Return the main score of each row that has it, as a plot shows it."""
        column = self.columns[-1] if self.card.by_horizon else self.metric
        scores = [(row, row.scores.get(column, {}).get(self.metric)) for row in self.rows]
        return [(row, value) for row, value in scores if value is not None]

    def _title(self) -> str:
        if self.card.by_horizon:
            return f"{self.card.name}: MSE/MAE by horizon, in units of the train rows' deviation"
        of_file = f" of {self.data}" if self.data else ""
        return f"{self.card.name}: scores on the test part{of_file}"

    def _header(self) -> tuple[str, ...]:
        return ("model", "", *self.columns)

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (row.model, "" if row.kind == "published" else row.kind,
             *(_cell(row.scores.get(column, {})) for column in self.columns))
            for row in self.rows
        ]  # fmt: skip

    def _notes(self) -> list[str]:
        """Return remarks on rows, on the data set, and verdicts."""
        notes = [f"{row.model}: {row.remark}" for row in self.rows if row.remark]
        return [*notes, *self.card.remarks, *self.verdicts]


def compare_runs(folders: Sequence[str | os.PathLike[str]]) -> list[Comparison]:
    """Return a comparison for each data set of the runs.

    Parameters
    ----------
    folders
        Folders of runs, finished or not.

    Raises
    ------
    ConfigError
        If a folder holds no run, or one without scores.
    """
    by_dataset: dict[tuple[str, str | None, str], list[tuple[str, dict[str, Any]]]] = {}
    for folder in folders:
        name, metrics = _read_run(Path(folder))
        key = (metrics["dataset"], metrics.get("data"), metrics["metric"])
        by_dataset.setdefault(key, []).append((name, metrics))
    return [
        _compare(read_card(name), data, metric, runs)
        for (name, data, metric), runs in by_dataset.items()
    ]


def compare_run(card: DatasetCard, folder: Path) -> Comparison:
    """Return the comparison of one run on the data set of a card."""
    name, metrics = _read_run(folder)
    return _compare(card, metrics.get("data"), metrics["metric"], [(name, metrics)])


def _read_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a run and its scores."""
    path = folder / METRICS
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no {METRICS}")
    try:
        metrics: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not metrics.get("summary"):
        raise ConfigError(f"{folder}: the run is not complete; continue it with --resume")
    _add_measured(metrics, folder)
    return folder.resolve().name, metrics


def _add_measured(metrics: dict[str, Any], folder: Path) -> None:
    """Add the figures that depend on the machine, which are in a file of their own."""
    timing = RunFolder(folder).read_here(TIMING)
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
    """Return the comparison of named runs on one data set."""
    if card.by_horizon:
        horizons = sorted({h for _, run in runs for h in run["summary"] if h != "mean"}, key=int)
        columns = (*horizons, *(("mean",) if len(horizons) > 1 else ()))
    else:
        names = (metric, *(name for _, run in runs for name in run["columns"]))
        columns = tuple(dict.fromkeys(names))
    rows = [row for name, run in runs for row in _our_rows(name, run, columns)]
    # Runs of one data set have the same controls: one row for each name.
    controls = [row for _, run in runs for row in _control_rows(run, columns)]
    rows += {row.model: row for row in controls}.values()
    # Controls that the card lists too are not shown twice.
    shown = {row.model for row in rows}
    published = [
        _published_row(result, card, columns)
        for result in card.results
        if result.model not in shown
    ]
    sort_key = _sort_key(metric, columns[-1] if card.by_horizon else metric)
    rows += sorted((row for row in published if row.scores), key=sort_key)
    prefix = {name: f"{name}: " if len(runs) > 1 else "" for name, _ in runs}
    verdicts = tuple(prefix[name] + line for name, run in runs for line in run["verdicts"])
    return Comparison(card, metric, columns, tuple(rows), data, verdicts)


def _our_rows(name: str, run: Mapping[str, Any], columns: Iterable[str]) -> list[Row]:
    """Return the row of a run, means over seeds, and another for its grouped split, if any."""
    summary, rows = run["summary"], []
    for group, label in (("all", name), (_GROUPED, f"{name}, grouped split")):
        if group in summary:
            scores = {c: {c: summary[group][c]["mean"]} for c in columns if c in summary[group]}
            rows.append(Row(label, "ours", scores, _seed_remark(run, summary[group])))
    if rows:
        return rows
    by_horizon = {
        c: {k: summary[c][k]["mean"] for k in _HORIZON_METRICS if k in summary[c]}
        for c in columns if c in summary
    }  # fmt: skip
    return [Row(name, "ours", by_horizon, _seed_remark(run, summary["mean"]))]


def _seed_remark(run: Mapping[str, Any], spreads: Mapping[str, Any]) -> str:
    """Return the number of seeds, and the range of the main metric over them."""
    seeds = {trial["seed"] for trial in run["trials"].values()}
    main, spread = run["metric"], spreads.get(run["metric"])
    remark = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if spread and len(seeds) > 1:
        remark += f", {main} from {spread['low']:.3f} to {spread['high']:.3f}"
    return remark


def _control_rows(run: Mapping[str, Any], columns: Iterable[str]) -> list[Row]:
    """Return the rows of the controls of a run."""
    by_model: dict[str, dict[str, dict[str, float]]] = {}
    for group, controls in run["controls"].items():
        for model, metrics in controls.items():
            label = f"{model}, grouped split" if group == _GROUPED else model
            scores = by_model.setdefault(label, {})
            if group in ("all", _GROUPED):
                scores.update({c: {c: metrics[c]} for c in columns if metrics.get(c) is not None})
            elif group in columns:
                scores[group] = {k: metrics[k] for k in _HORIZON_METRICS if k in metrics}
    horizons = [c for c in columns if c in run["controls"]]
    for scores in by_model.values():
        # A mean over fewer horizons than the run has would not be comparable.
        if "mean" in columns and horizons and set(horizons) <= scores.keys():
            scores["mean"] = {
                k: sum(scores[h][k] for h in horizons) / len(horizons) for k in _HORIZON_METRICS
            }
    return [Row(model, "control", scores) for model, scores in by_model.items()]


def _published_row(result: Result, card: DatasetCard, columns: Iterable[str]) -> Row:
    """Return the row of a published result, in the columns that it has."""
    scores: dict[str, dict[str, float]] = {}
    for column in columns:
        names = _HORIZON_METRICS if card.by_horizon else (column,)
        horizon = int(column) if card.by_horizon and column != "mean" else None
        values = {name: result.score(name, horizon) for name in names}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            scores[column] = known
    remark = "; ".join(text for text in (result.source, result.remark) if text)
    return Row(result.model, "published" if result.comparable else "not comparable", scores, remark)


def _sort_key(metric: str, column: str) -> Callable[[Row], tuple[bool, float]]:
    """Return a sort key: comparable rows first, better ones before worse, missing scores last."""
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def key(row: Row) -> tuple[bool, float]:
        value = row.scores.get(column, {}).get(metric)
        return row.kind != "published", float("inf") if value is None else sign * value

    return key


def _cell(scores: Mapping[str, float]) -> str:
    """Return one or two scores as the text of a cell."""
    return "/".join(format_score(value) for value in scores.values()) or "-"
