import gzip

import pytest

from titans_seq.evaluation.data.regions import (
    canonical_name,
    labelled_sequences,
    read_regions,
)
from titans_seq.exceptions import DataError

HEADER = "id,region,start,end,strand\n"


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa.gz"
    with gzip.open(path, "wt") as out:
        out.write(
            ">7 dna:chromosome\nACGTNacg\nTTTT\n>MT dna\nGATTACA\n>ENST00000001.5 cdna\nCCCC\n"
        )
    return path


def places(tmp_path, *lines, name="list.csv"):
    path = tmp_path / name
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def test_places_are_cut_by_both_strands_whatever_the_records_are_called(tmp_path, genome):
    yes = places(tmp_path, "1,chr7,1,6,+", "2,chr7,0,4,-", "3,chrM,4,7,", name="yes.csv")
    no = places(tmp_path, "4,ENST00000001,0,2,+", "5,chr7,8,12,-", name="no.csv")
    sequences, labels = labelled_sequences([(yes, "yes", "g"), (no, "no", "g")], {"g": genome})
    assert sequences == ["CGTNA", "ACGT", "ACA", "CC", "AAAA"]
    assert labels == ["yes"] * 3 + ["no"] * 2


def test_each_list_has_a_genome_of_its_own(tmp_path, genome):
    other = tmp_path / "worm.fa"
    other.write_text(">I\nGGGG\n")
    lists = [
        (places(tmp_path, "1,I,0,2,+", name="a.csv"), "worm", "worm"),
        (places(tmp_path, "1,chr7,0,2,+", name="b.csv"), "human", "human"),
    ]
    sequences, labels = labelled_sequences(lists, {"human": genome, "worm": other})
    assert (sequences, labels) == (["GG", "AC"], ["worm", "human"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,chr7,5,5,+", r"list\.csv, line 2: start and end must be integers with .* got 5 and 5"),
        ("1,chr7,-1,5,+", "line 2: .* got -1 and 5"),
        ("1,chr7,a,5,+", "line 2: .* got a and 5"),
        ("1,chr7,1,5,x", r"line 2: strand must be \+ or -, got 'x'"),
        ("1,chr8,1,5,+", "line 2: .* has no record 'chr8'; is it the right genome"),
        ("1,chr7,1,13,+", "line 2: end 13 is beyond the 12 letters of record 'chr7'"),
    ],
)
def test_a_place_that_cannot_be_is_named_by_its_line(line, message, tmp_path, genome):
    with pytest.raises(DataError, match=message):
        labelled_sequences([(places(tmp_path, line), "a", "g")], {"g": genome})


def test_a_list_without_a_column_is_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("region,start,stop,strand\n")
    with pytest.raises(DataError, match="no column 'end'; it needs region, start, end, strand"):
        read_regions(path)


def test_names_are_compared_without_what_lists_and_genomes_spell_differently():
    assert canonical_name("chr7") == canonical_name("7")
    assert canonical_name("MT") == canonical_name("chrM") == canonical_name("mitochondrion_genome")
    assert canonical_name("ENST00000217185.3") == canonical_name("ENST00000217185")
    assert canonical_name("II") != canonical_name("I")
