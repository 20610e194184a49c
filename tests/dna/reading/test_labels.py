"""Labels beside a FASTA file, in its headers, or in one table with the sequences."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from titans_seq.dna import read_labelled, read_labels, read_sequences
from titans_seq.exceptions import DataError

FASTA = ">a\nACGT\n>b\nGGCC\n"


def _write(folder: Path, content: str, name: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "table",
    ["b\ty\na\tx\n", "id\tlabel\nb\ty\na\tx\n", "b\ty\r\n\r\na\tx\r\n", "\ufeffb\ty\na\tx\tmore\n"],
)
def test_a_table_labels_records_by_name(tmp_path: Path, table: str) -> None:
    data = read_labelled(_write(tmp_path, FASTA, "x.fa"), _write(tmp_path, table, "labels.tsv"))
    assert data.names == ["a", "b"]
    assert data.sequences == ["ACGT", "GGCC"]
    assert data.labels == ["x", "y"]


def test_a_record_may_be_called_id(tmp_path: Path) -> None:
    assert read_labels(_write(tmp_path, "id\tx\nb\ty\n", "t.tsv")) == {"id": "x", "b": "y"}


def test_labels_may_stand_in_the_headers(tmp_path: Path) -> None:
    data = read_labelled(_write(tmp_path, ">a label=x n=1\nAC\n>b label=y\nGT\n", "x.fa"))
    assert data.labels == ["x", "y"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a\tx\n", r"t\.tsv: no label for 1 of 2 records, 'b' first"),
        ("a\tx\na\ty\n", r"t\.tsv, line 2: id 'a' occurs twice"),
        ("a\tx\nb\n", r"t\.tsv, line 2: 'b' has no label"),
        ("a\tx\nb\t \n", r"t\.tsv, line 2: the label is empty"),
        ("", r"t\.tsv is empty"),
        ("id\tlabel\n", r"t\.tsv is empty"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labelled(_write(tmp_path, FASTA, "x.fa"), _write(tmp_path, table, "t.tsv"))


def test_labels_without_a_record_are_told(tmp_path: Path) -> None:
    table = _write(tmp_path, "a\tx\nb\ty\nc\tz\n", "t.tsv")
    with pytest.warns(UserWarning, match=r"t.tsv: 1 id\(s\) match no record, 'c'"):
        assert read_labelled(_write(tmp_path, FASTA, "x.fa"), table).labels == ["x", "y"]


def test_a_header_without_a_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.fa, record b: no label"):
        read_labelled(_write(tmp_path, ">a label=x\nAC\n>b label=\nGT\n", "x.fa"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "sequence,label\nACGT,x\nGG,y\n"),
        ("t.csv", "label,seq\nx,ACGT\ny,GG\n"),
        ("t.csv", "ACGT,x\nGG,y\n"),
        ("t.TSV", "sequence\tlabel\nACGT\tx\nGG\ty\n"),
        ("t.csv.gz", "sequence,label\r\nACGT,x\r\n\r\nGG,y\r\n"),
    ],
)
def test_a_table_holds_sequences_and_labels(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    path.write_bytes(packed)
    data = read_labelled(path)
    assert (data.sequences, data.labels) == (["ACGT", "GG"], ["x", "y"])
    assert read_sequences(path).sequences == ["ACGT", "GG"]


def test_sequences_alone_need_no_labels(tmp_path: Path) -> None:
    assert read_sequences(_write(tmp_path, FASTA, "x.fa")).names == ["a", "b"]
    table = _write(tmp_path, "sequence\nACGT\nGG\n", "t.csv")
    assert read_sequences(table).sequences == ["ACGT", "GG"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv is empty"),
        ("sequence,label\n", r"t\.csv is empty"),
        ("sequence,label\nACGT\n", r"t\.csv, line 2: 1 column"),
        ("sequence,label\nACGT,x\nACLT,y\n", r"t\.csv, line 3: letter 'L' at position 3"),
        ("sequence,label\n,x\n", r"t\.csv, line 2: the sequence is empty"),
        ("sequence,label\nACGT,\n", r"t\.csv, line 2: the label is empty"),
    ],
)
def test_tables_of_sequences_are_checked(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labelled(_write(tmp_path, content, "t.csv"))


def test_a_table_takes_no_second_labels(tmp_path: Path) -> None:
    table = _write(tmp_path, "sequence,label\nACGT,x\n", "t.csv")
    with pytest.raises(DataError, match=r"its own labels"):
        read_labelled(table, table)
