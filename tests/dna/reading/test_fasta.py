"""Records of FASTA; the files that are read or refused stand in ``test_fasta_files.py``."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from titans_seq.dna import read_fasta
from titans_seq.dna.alphabet import decode
from titans_seq.dna.reading.records import read_pieces
from titans_seq.exceptions import DataError

PLAIN = b">a first one\nACGTN\nRYK\n>b label=x\nGGCC\n"


def _write(folder: Path, content: bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN, mtime=0)])
def test_standard_input_reads_as_a_file(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert [record.name for record in read_fasta("-")] == ["a", "b"]
    assert not stdin.buffer.closed


def test_headers_keep_their_words(tmp_path: Path) -> None:
    first, second = read_fasta(_write(tmp_path, PLAIN))
    assert (first.description, first.label) == ("a first one", None)
    assert (second.description, second.label) == ("b label=x", "x")


def test_a_name_that_occurs_twice_is_kept_and_told(tmp_path: Path) -> None:
    path = _write(tmp_path, b">a\nAC\n>a\nGT\n>b\nA\n")
    with pytest.warns(UserWarning, match=r"x.fa: 1 name\(s\) occur more than once, 'a' first"):
        records = list(read_fasta(path))
    assert [record.sequence for record in records] == ["AC", "GT", "A"]


def test_paths_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path.name} is a folder"):
        list(read_fasta(tmp_path))
    with pytest.raises(DataError, match=r"missing\.fa cannot be read: No such file"):
        list(read_fasta(tmp_path / "missing.fa"))


def test_a_real_genome_reads_whole(shared_data: Path) -> None:
    path = shared_data / "dna" / "genomes" / "ecoli_MG1655_U00096.3.fna.gz"
    (record,) = read_fasta(path)
    assert len(record.sequence) == 4_641_652
    assert set(record.sequence) == set("ACGT")


def test_both_readers_find_the_same_genome(shared_data: Path) -> None:
    path = shared_data / "dna" / "genomes" / "sacCer3.fa.gz"
    parts: dict[str, list[str]] = {}
    for piece in read_pieces(path):
        parts.setdefault(piece.head.name, []).append(decode(piece.codes))
    wanted = {record.name: record.sequence.upper() for record in read_fasta(path)}
    assert {name: "".join(found) for name, found in parts.items()} == wanted
    assert sum(map(len, wanted.values())) == 12_157_105
