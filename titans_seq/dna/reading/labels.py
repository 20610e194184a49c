"""Labels of sequences: beside a FASTA file, in its headers, or in one table with them.

Three ways in, one way out: sequences and labels of the same length. Labels are words, as
they stand in the file.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from titans_seq.dna.alphabet import encode
from titans_seq.dna.reading.fasta import FastaRecord, read_fasta
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

_ID_TITLES = {"id", "name", "record", "record_id", "seq_id", "sequence_id", "seqid", "sequence"}
_LABEL_TITLES = {"label", "labels", "class", "target", "y"}
_SEQUENCE_TITLES = {"sequence", "seq"}
_TABLES = {".csv": ",", ".tsv": "\t"}


class LabelledSequences(NamedTuple):
    """Named sequences and their labels, row by row."""

    names: list[str]
    """Name of each record, or number of each row of a table."""

    sequences: list[str]
    """Letters of each."""

    labels: list[str]
    """Label of each; empty if none were asked for and none stand there."""


def read_labelled(path: str | Path, labels: str | Path | None = None) -> LabelledSequences:
    """Read sequences with their labels.

    Parameters
    ----------
    path
        FASTA file (``-`` is standard input), or a table ``.csv`` / ``.tsv`` (also ``.gz``)
        with columns ``sequence`` and ``label``.
    labels
        Table ``id<TAB>label`` for a FASTA file; without it, labels stand in the headers as
        ``label=NAME``.

    Raises
    ------
    DataError
        If a sequence or table is refused, or a record has no label.
    """
    if table_separator(path) is not None:
        if labels is not None:
            raise DataError(f"{path} is a table with its own labels; leave out {labels}")
        return read_table(path)
    records = list(read_fasta(path))
    found = _from_headers(records, path) if labels is None else match_labels(records, labels)
    return LabelledSequences([r.name for r in records], [r.sequence for r in records], found)


def read_sequences(path: str | Path) -> LabelledSequences:
    """Read sequences alone: FASTA, or the sequence column of a table; labels stay empty."""
    if table_separator(path) is not None:
        return read_table(path, with_labels=False)
    records = list(read_fasta(path))
    return LabelledSequences([r.name for r in records], [r.sequence for r in records], [])


def label_table(labels: Sequence[str], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return sets of labels, such as ``tata;gc``, as a table of 0 and 1 with a column for each.

    Parameters
    ----------
    labels
        Labels of each sequence, parted by ``;``; ``none`` or ``-`` is the empty set.
    names
        The columns; left out, every label that occurs.

    Raises
    ------
    DataError
        If a label is none of ``names``.
    """
    import pandas as pd

    sets = [{word.strip() for word in one.split(";")} - {"", "-", "none"} for one in labels]
    found = set().union(*sets)
    names = sorted(found) if names is None else names
    strange = sorted(found - set(names))
    if strange:
        raise DataError(f"label {strange[0]!r} is none of the model's labels: {', '.join(names)}")
    return pd.DataFrame([[int(name in one) for name in names] for one in sets], columns=names)


def label_values(data: LabelledSequences, where: str) -> list[float]:
    """Return labels that are numbers as numbers.

    Raises
    ------
    DataError
        If one is none; the message names its record.
    """
    values = []
    for name, label in zip(data.names, data.labels, strict=True):
        try:
            values.append(float(label))
        except ValueError:
            raise DataError(f"{where}, record {name}: value {label!r} is not a number") from None
    return values


def table_separator(path: str | Path) -> str | None:
    """Return what parts the columns if the name is that of a table, else None."""
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes and suffixes[-1] in {".gz", ".bgz"}:
        suffixes.pop()
    return _TABLES.get(suffixes[-1]) if suffixes else None


def read_table(path: str | Path, with_labels: bool = True) -> LabelledSequences:
    """Read a table of sequences and labels: columns of those names, or the first two.

    Raises
    ------
    DataError
        If the table is empty, a row lacks a column, or a letter is no DNA; the message names
        file and line.
    """
    where = source_name(path)
    out = LabelledSequences([], [], [])
    columns: tuple[int, int] | None = None
    for number, cells in _rows(path, table_separator(path) or ","):
        if columns is None:
            columns = _columns(cells)
            if _titles(cells) & (_SEQUENCE_TITLES | _LABEL_TITLES):
                continue
        if max(columns[0], columns[1] if with_labels else 0) >= len(cells):
            raise DataError(
                f"{where}, line {number}: {len(cells)} column(s); a row needs sequence and label"
            )
        encode(cells[columns[0]].strip(), f"{where}, line {number}")
        out.names.append(str(len(out.names) + 1))
        out.sequences.append(cells[columns[0]].strip())
        if with_labels:
            out.labels.append(_label(cells[columns[1]], f"{where}, line {number}"))
    if not out.sequences:
        raise DataError(f"{where} is empty; a table needs rows of sequence and label")
    return out


def read_labels(path: str | Path) -> dict[str, str]:
    """Return the label of each id of a table ``id<TAB>label``, with a title line or without.

    Raises
    ------
    DataError
        If the table is empty, a line has not two columns, or an id stands there twice.
    """
    where = source_name(path)
    labels: dict[str, str] = {}
    first = True
    for number, cells in _rows(path, "\t"):
        if len(cells) < 2:
            raise DataError(
                f"{where}, line {number}: {cells[0]!r} stands alone; write id, a tab, and the label"
            )
        name, label = cells[0].strip(), _label(cells[1], f"{where}, line {number}")
        titles = first and name.lower() in _ID_TITLES and label.lower() in _LABEL_TITLES
        first = False
        if titles:
            continue
        if name in labels:
            raise DataError(f"{where}, line {number}: id {name!r} stands there twice")
        labels[name] = label
    if not labels:
        raise DataError(f"{where} is empty; it needs lines of id, a tab, and the label")
    return labels


def match_labels(records: Sequence[FastaRecord], path: str | Path) -> list[str]:
    """Return the label of each record from a table ``id<TAB>label``.

    Warns
    -----
    UserWarning
        If the table names ids that no record has.

    Raises
    ------
    DataError
        If a record has no label; the message names the first.
    """
    table = read_labels(path)
    missing = [record.name for record in records if record.name not in table]
    if missing:
        raise DataError(
            f"{source_name(path)}: no label for {len(missing)} of {len(records)} records, "
            f"{missing[0]!r} first"
        )
    unknown = table.keys() - {record.name for record in records}
    if unknown:
        warnings.warn(
            f"{source_name(path)}: {len(unknown)} id(s) belong to no record, "
            f"{min(unknown)!r} among them",
            UserWarning,
            stacklevel=2,
        )
    return [table[record.name] for record in records]


def _from_headers(records: Sequence[FastaRecord], path: str | Path) -> list[str]:
    """Return the labels that stand in the headers."""
    labels = []
    for record in records:
        if record.label is None:
            raise DataError(
                f"{source_name(path)}, record {record.name}: no label; write label=NAME in the "
                "header, or give a table of id and label"
            )
        labels.append(record.label)
    return labels


def _rows(path: str | Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that hold anything, with the number of their line."""
    where = source_name(path)
    with open_text(path) as handle:
        reader = csv.reader((line for _, line in text_lines(handle, where)), delimiter=separator)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{where}, line {reader.line_num}: {error}") from error


def _titles(cells: Sequence[str]) -> set[str]:
    """Return the cells as titles of columns."""
    return {cell.strip().lower() for cell in cells}


def _columns(cells: Sequence[str]) -> tuple[int, int]:
    """Return the places of sequence and label, by title or else the first two."""
    titles = [cell.strip().lower() for cell in cells]
    sequence = next((i for i, title in enumerate(titles) if title in _SEQUENCE_TITLES), 0)
    label = next((i for i, title in enumerate(titles) if title in _LABEL_TITLES), 1)
    return sequence, label


def _label(cell: str, where: str) -> str:
    """Return a label, refusing an empty one."""
    if not cell.strip():
        raise DataError(f"{where}: the label is empty")
    return cell.strip()
