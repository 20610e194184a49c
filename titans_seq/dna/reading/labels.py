"""Read labelled sequences: a table beside a FASTA file, its headers, or one table of both.

All three give sequences and labels of the same length; labels are strings, as in the file.
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
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


class LabelledSequences(NamedTuple):
    """Names, sequences and labels of the same length."""

    names: list[str]
    """Name of each record, or row number in a table, from 1."""

    sequences: list[str]

    labels: list[str]
    """Label of each sequence; empty if labels were not read."""


def read_labelled(path: str | Path, labels: str | Path | None = None) -> LabelledSequences:
    """Read sequences with their labels.

    Parameters
    ----------
    path
        FASTA file (``-`` is standard input), or a table ``.csv`` / ``.tsv`` (also ``.gz``)
        with columns ``sequence`` and ``label``.
    labels
        Table ``id<TAB>label`` for a FASTA file; by default, the headers of the file contain
        ``label=NAME``.

    Raises
    ------
    DataError
        If a sequence or table is invalid, or a record has no label.
    """
    if table_separator(path) is not None:
        if labels is not None:
            raise DataError(f"{path} is a table with its own labels; leave out {labels}")
        return read_sequence_table(path)
    records = list(read_fasta(path))
    by_record = _header_labels(records, path) if labels is None else match_labels(records, labels)
    return LabelledSequences([r.name for r in records], [r.sequence for r in records], by_record)


def read_sequences(path: str | Path) -> LabelledSequences:
    """Read sequences without labels: FASTA, or the sequence column of a table."""
    if table_separator(path) is not None:
        return read_sequence_table(path, with_labels=False)
    records = list(read_fasta(path))
    return LabelledSequences([r.name for r in records], [r.sequence for r in records], [])


def label_table(labels: Sequence[str], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return sets of labels, such as ``tata;gc``, as an indicator matrix of 0 and 1.

    Parameters
    ----------
    labels
        Labels of each sequence, separated by ``;``; ``none`` or ``-`` is the empty set.
    names
        Columns of the matrix; every label that occurs by default.

    Raises
    ------
    DataError
        If a label is not in ``names``.
    """
    import pandas as pd

    sets = [{name.strip() for name in text.split(";")} - {"", "-", "none"} for text in labels]
    occurring = set().union(*sets)
    names = sorted(occurring) if names is None else names
    unknown = sorted(occurring - set(names))
    if unknown:
        raise DataError(
            f"label {unknown[0]!r} is not one of the model's labels: {', '.join(names)}"
        )
    return pd.DataFrame([[int(name in row) for name in names] for row in sets], columns=names)


def label_values(data: LabelledSequences, where: str) -> list[float]:
    """Return numeric labels as floats.

    Raises
    ------
    DataError
        If a label is not a number; the message names its record.
    """
    values = []
    for name, label in zip(data.names, data.labels, strict=True):
        try:
            values.append(float(label))
        except ValueError:
            raise DataError(f"{where}, record {name}: value {label!r} is not a number") from None
    return values


def table_separator(path: str | Path) -> str | None:
    """Return the column separator of a table, by its file name; None if it is no table."""
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes and suffixes[-1] in {".gz", ".bgz"}:
        suffixes.pop()
    return _SEPARATORS.get(suffixes[-1]) if suffixes else None


def read_sequence_table(path: str | Path, with_labels: bool = True) -> LabelledSequences:
    """Read a table of sequences and labels: columns of those names, or the first two.

    Raises
    ------
    DataError
        If the table is empty, a row lacks a column, or a letter is not IUPAC; the message names
        file and line.
    """
    where = source_name(path)
    data = LabelledSequences([], [], [])
    columns: tuple[int, int] | None = None
    for number, cells in _rows(path, table_separator(path) or ","):
        if columns is None:
            columns = _columns(cells)
            if {cell.strip().lower() for cell in cells} & (_SEQUENCE_TITLES | _LABEL_TITLES):
                continue
        if max(columns[0], columns[1] if with_labels else 0) >= len(cells):
            raise DataError(
                f"{where}, line {number}: {len(cells)} column(s); a row needs sequence and label"
            )
        encode(cells[columns[0]].strip(), f"{where}, line {number}")
        data.names.append(str(len(data.names) + 1))
        data.sequences.append(cells[columns[0]].strip())
        if with_labels:
            data.labels.append(_label(cells[columns[1]], f"{where}, line {number}"))
    if not data.sequences:
        raise DataError(f"{where} is empty; a table needs rows of sequence and label")
    return data


def read_labels(path: str | Path) -> dict[str, str]:
    """Return the label of each id of a table ``id<TAB>label``, with a title line or without.

    Raises
    ------
    DataError
        If the table is empty, a line has fewer than two columns, or an id occurs twice.
    """
    where = source_name(path)
    labels: dict[str, str] = {}
    first = True
    for number, cells in _rows(path, "\t"):
        if len(cells) < 2:
            raise DataError(
                f"{where}, line {number}: {cells[0]!r} has no label; write id, a tab, and the label"
            )
        name, label = cells[0].strip(), _label(cells[1], f"{where}, line {number}")
        is_title = first and name.lower() in _ID_TITLES and label.lower() in _LABEL_TITLES
        first = False
        if is_title:
            continue
        if name in labels:
            raise DataError(f"{where}, line {number}: id {name!r} occurs twice")
        labels[name] = label
    if not labels:
        raise DataError(f"{where} is empty; it needs lines of id, a tab, and the label")
    return labels


def match_labels(records: Sequence[FastaRecord], path: str | Path) -> list[str]:
    """Return the label of each record from a table ``id<TAB>label``.

    Warns
    -----
    UserWarning
        If the table contains ids that no record has.

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
            f"{source_name(path)}: {len(unknown)} id(s) match no record, {min(unknown)!r} first",
            UserWarning,
            stacklevel=2,
        )
    return [table[record.name] for record in records]


def _header_labels(records: Sequence[FastaRecord], path: str | Path) -> list[str]:
    """Return the labels written in the headers."""
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
    """Yield the rows of a table that are not blank, with their line numbers."""
    where = source_name(path)
    with open_text(path) as handle:
        reader = csv.reader((line for _, line in text_lines(handle, where)), delimiter=separator)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{where}, line {reader.line_num}: {error}") from error


def _columns(cells: Sequence[str]) -> tuple[int, int]:
    """Return the column numbers of sequence and label, by title or else the first two."""
    titles = [cell.strip().lower() for cell in cells]
    sequence = next((i for i, title in enumerate(titles) if title in _SEQUENCE_TITLES), 0)
    label = next((i for i, title in enumerate(titles) if title in _LABEL_TITLES), 1)
    return sequence, label


def _label(cell: str, where: str) -> str:
    """Return a label, stripped; raise if it is empty."""
    if not cell.strip():
        raise DataError(f"{where}: the label is empty")
    return cell.strip()
