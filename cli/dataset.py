"""``titans-seq dataset``: list data sets, show their cards, fetch and verify their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FOLDER

if TYPE_CHECKING:
    from titans_seq.evaluation.cards.records import DataFile, DatasetCard
    from titans_seq.evaluation.data.fetch import FileState

DATA_DIR = click.option(
    "--data-dir",
    type=FOLDER,
    help="Folder of data files; by default the one that TITANS_SEQ_DATA names.",
)

_CARD_FIELDS = ("name", "task", "summary", "source", "url", "licence", "citation")
_FILE_FIELDS = ("rows", "bytes", "sha256", "git_blob", "url", "member", "obtain", "check",
                "made_from", "made_by")  # fmt: skip
"""Fields that `show` prints, of a card and of each file."""


@click.group()
def dataset() -> None:
    """List data sets, show their cards, fetch and verify their files.

    Files are searched in the data folder, among the embedded samples, and in the cache, which
    `fetch` fills (TITANS_SEQ_CACHE names another one).
    """


@dataset.command("list")
@DATA_DIR
def list_datasets(data_dir: Path | None) -> None:
    """List all data sets, and whether their files are available."""
    from titans_seq.evaluation.cards.reading import list_cards, read_card
    from titans_seq.evaluation.scores.report import text_table

    cards = [read_card(name) for name in list_cards()]
    rows = [(card.name, card.task, _availability(card, data_dir), card.summary) for card in cards]
    # text_table aligns all columns but the first to the right: fill these cells to their width.
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [
        tuple(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]
    click.echo(text_table(("name", "task", "files", "what"), padded))


def _availability(card: DatasetCard, data_dir: Path | None) -> str:
    """Return where the files of a data set can be got from."""
    from titans_seq.evaluation.data.locations import find_file

    if card.own:
        return "yours"
    missing = [file for file in card.files.values() if find_file(file, data_dir) is None]
    if not missing:
        return "here"
    by_hand = any(file.url is None and file.made_by is None for file in missing)
    return "by hand" if by_hand else "can be fetched"


@dataset.command("show")
@click.argument("name")
@DATA_DIR
def show_card(name: str, data_dir: Path | None) -> None:
    """Show the card of NAME: source, licence, citation, files, split, published results."""
    from titans_seq.evaluation.cards.reading import read_card

    card = read_card(name)
    for field in _CARD_FIELDS:
        click.echo(f"{field:<10} {getattr(card, field)}")
    click.echo(f"{'split':<10} {card.split_rule}")
    for remark in card.remarks:
        click.echo(f"{'beware':<10} {remark}")
    for kind, files in (("file", card.files), ("raw", card.raw)):
        for key, file in files.items():
            click.echo(f"\n{kind:<10} {key}: {file.path}")
            _show_file(file, data_dir)
    if card.results:
        click.echo(f"\n{_results(card)}")


def _show_file(file: DataFile, data_dir: Path | None) -> None:
    """Print where a file is, and the fields of its description."""
    from titans_seq.evaluation.data.locations import find_file

    click.echo(f"  here     {find_file(file, data_dir) or 'no'}")
    for field in _FILE_FIELDS:
        value = getattr(file, field)
        if value is not None:
            click.echo(f"  {field:<8} {value}")


def _results(card: DatasetCard) -> str:
    """Return the published results as a table, followed by sources and remarks."""
    from titans_seq.evaluation.scores.report import format_score, text_table

    columns: dict[str, None] = {}
    rows = []
    for result in card.results:
        cells: dict[str, str] = {}
        for name, value in result.scores.items():
            by_horizon = value if isinstance(value, dict) else {"": value}
            for horizon, score in by_horizon.items():
                cells[f"{name} {horizon}".strip()] = format_score(float(score))
        columns |= dict.fromkeys(cells)
        mark = "" if result.comparable else "*"
        rows.append((f"{result.model}{mark}", cells))
    table = text_table(
        ("model", *columns),
        [(model, *(cells.get(column, "-") for column in columns)) for model, cells in rows],
    )
    notes = [
        f"{result.model}: {result.source}" + (f" ({result.remark})" if result.remark else "")
        for result in card.results
    ]
    return "\n".join((table, "* cannot be compared with ours; see below", "", *notes))


@dataset.command()
@click.argument("name")
@DATA_DIR
def fetch(name: str, data_dir: Path | None) -> None:
    """Fetch the files of NAME into the cache, verified before use.

    Files that must be downloaded by hand are listed, with where to put them; the exit code is
    then 5. If a large download is interrupted, the same command resumes it.
    """
    from titans_seq.evaluation.cards.reading import read_card
    from titans_seq.evaluation.data.fetch import fetch_dataset
    from titans_seq.exceptions import MissingDataError

    states = fetch_dataset(read_card(name), data_dir)
    _show_states(states)
    for state in states:
        if state.state == "missing":
            raise MissingDataError(state.message)


@dataset.command()
@click.argument("name", required=False)
@DATA_DIR
def verify(name: str | None, data_dir: Path | None) -> None:
    """Compare the files of NAME, or all that are available, with their cards.

    The exit code is 4 if a file differs, and 5 if a file of NAME is missing.
    """
    from titans_seq.evaluation.cards.reading import list_cards, read_card
    from titans_seq.evaluation.data.fetch import verify_dataset
    from titans_seq.exceptions import DataError, MissingDataError

    names = [name] if name else list_cards()
    by_dataset = {own: verify_dataset(read_card(own), data_dir) for own in names}
    for own, states in by_dataset.items():
        # Of all data sets, only files that are available are worth a line.
        shown = [state for state in states if name or state.state != "missing"]
        if shown:
            click.echo(own)
            _show_states(shown)
    states = [state for own_states in by_dataset.values() for state in own_states]
    for state in states:
        if state.state == "wrong":
            raise DataError(state.message)
    for state in states:
        if name and state.state == "missing":
            raise MissingDataError(state.message)


def _show_states(states: Sequence[FileState]) -> None:
    """Print one line for each file."""
    for state in states:
        remark = f"  {state.message}" if state.state == "ok" and state.message else ""
        click.echo(f"  {state.state:<8} {state.file:<16} {state.path or '-'}{remark}")
