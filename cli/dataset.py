"""``titans-seq dataset``: what data sets there are, where their files lie, and fetching them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FOLDER

if TYPE_CHECKING:
    from titans_seq.evaluation.cards.records import DatasetCard
    from titans_seq.evaluation.data.fetch import FileState

DATA_DIR = click.option(
    "--data-dir",
    type=FOLDER,
    help="Folder of data files; by default the one that TITANS_SEQ_DATA names.",
)


FIELDS = ("rows", "bytes", "sha256", "git_blob", "url", "member", "obtain", "check", "made_from",
          "made_by")  # fmt: skip
"""What `show` tells of a file."""


@click.group()
def dataset() -> None:
    """List data sets, show their cards, fetch and verify their files.

    Files are looked for in the data folder, among the embedded samples, and in the cache, which
    `fetch` fills (TITANS_SEQ_CACHE names another one).
    """


@dataset.command("list")
@DATA_DIR
def list_command(data_dir: Path | None) -> None:
    """List all data sets, and whether their files are here."""
    from titans_seq.evaluation.cards.reading import list_cards, read_card
    from titans_seq.evaluation.data.locations import find_file
    from titans_seq.evaluation.scores.report import text_table

    rows = []
    for card in map(read_card, list_cards()):
        here = [find_file(file, data_dir) is not None for file in card.files.values()]
        lacking = [f for f, there in zip(card.files.values(), here, strict=True) if not there]
        by_hand = any(f.url is None and f.made_by is None for f in lacking)
        state = "here" if not lacking else "by hand" if by_hand else ""
        state = "yours" if card.own else state or "can be fetched"
        rows.append((card.name, card.task, state, card.summary))
    click.echo(text_table(("name", "task", "files", "what"), _left(rows)))


def _left(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return rows whose cells are as wide as their column, to stand to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        tuple(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]


@dataset.command()
@click.argument("name")
@DATA_DIR
def show(name: str, data_dir: Path | None) -> None:
    """Show the card of NAME: source, licence, citation, files, split, published results."""
    from titans_seq.evaluation.cards.reading import read_card
    from titans_seq.evaluation.data.locations import find_file

    card = read_card(name)
    for field in ("name", "task", "summary", "source", "url", "licence", "citation"):
        click.echo(f"{field:<10} {getattr(card, field)}")
    click.echo(f"{'split':<10} {card.split_rule}")
    for remark in card.remarks:
        click.echo(f"{'beware':<10} {remark}")
    files = [("file", *each) for each in card.files.items()]
    for kind, file, described in [*files, *(("raw", *each) for each in card.raw.items())]:
        path = find_file(described, data_dir)
        click.echo(f"\n{kind:<10} {file}: {described.path}")
        click.echo(f"  here     {path or 'no'}")
        for field in FIELDS:
            value = getattr(described, field)
            if value is not None:
                click.echo(f"  {field:<8} {value}")
    if card.results:
        click.echo(f"\n{_results(card)}")


def _results(card: DatasetCard) -> str:
    """Return the published results as a table, with their sources and remarks below."""
    from titans_seq.evaluation.scores.report import format_score, text_table

    columns: dict[str, None] = {}
    rows = []
    for result in card.results:
        cells: dict[str, str] = {}
        for name, value in result.scores.items():
            figures = value if isinstance(value, dict) else {"": value}
            for horizon, figure in figures.items():
                cells[f"{name} {horizon}".strip()] = format_score(float(figure))
        columns |= dict.fromkeys(cells)
        mark = "" if result.comparable else "*"
        rows.append((f"{result.model}{mark}", cells))
    table = text_table(
        ("model", *columns),
        [(model, *(cells.get(column, "-") for column in columns)) for model, cells in rows],
    )
    notes = [
        f"{one.model}: {one.source}" + (f" ({one.remark})" if one.remark else "")
        for one in card.results
    ]
    return "\n".join((table, "* cannot be compared with ours; see below", "", *notes))


@dataset.command()
@click.argument("name")
@DATA_DIR
def fetch(name: str, data_dir: Path | None) -> None:
    """Fetch the files of NAME into the cache, checked before use.

    Files that must be brought by hand are named, with where they belong; the exit code is then
    5. Stopped in the midst of a large file, the same command goes on with it.
    """
    from titans_seq.evaluation.cards.reading import read_card
    from titans_seq.evaluation.data.fetch import fetch_dataset
    from titans_seq.exceptions import MissingDataError

    states = fetch_dataset(read_card(name), data_dir)
    _show(states)
    lacking = [one for one in states if one.state == "missing"]
    if lacking:
        raise MissingDataError(lacking[0].message)


@dataset.command()
@click.argument("name", required=False)
@DATA_DIR
def verify(name: str | None, data_dir: Path | None) -> None:
    """Compare the files of NAME, or all that are here, with their cards.

    The exit code is 4 if a file is another one, and 5 if a file of NAME is nowhere.
    """
    from titans_seq.evaluation.cards.reading import list_cards, read_card
    from titans_seq.evaluation.data.fetch import verify_dataset
    from titans_seq.exceptions import DataError, MissingDataError

    names = [name] if name else list_cards()
    found = {one: verify_dataset(read_card(one), data_dir) for one in names}
    for dataset_name, states in found.items():
        here = [one for one in states if name or one.state != "missing"]
        if here:
            click.echo(dataset_name)
            _show(here)
    states = [one for own in found.values() for one in own]
    wrong = [one for one in states if one.state == "wrong"]
    if wrong:
        raise DataError(wrong[0].message)
    missing = [one for one in states if one.state == "missing"]
    if name and missing:
        raise MissingDataError(missing[0].message)


def _show(states: Sequence[FileState]) -> None:
    """Print one line a file."""
    for one in states:
        words = f"  {one.message}" if one.state == "ok" and one.message else ""
        click.echo(f"  {one.state:<8} {one.file:<16} {one.path or '-'}{words}")
