import gzip
import hashlib

import pytest

from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.evaluation.data import locations
from titans_seq.exceptions import ConfigError, DataError, MissingDataError


def card(**changes):
    file = {"path": "toy/train.csv", "rows": 1, "sha256": hashlib.sha256(b"a\n1\n").hexdigest()}
    return DatasetCard(
        name="toy", task="classification", summary="", source="", url="https://example.org",
        licence="", citation="", split_rule="", files={"train": DataFile(**{**file, **changes})},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(locations.DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv(locations.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    return tmp_path / "data" / "toy"


def test_a_file_is_found_in_the_data_folder_and_compared_with_its_digest(folder):
    with pytest.raises(MissingDataError, match=r"no file toy/train\.csv; get it from https://exam"):
        locations.data_path(card(), "train")
    (folder / "train.csv").write_text("a\n2\n")
    with pytest.raises(DataError, match=r"sha256 is fa39ab7b.* the card expects 309b0e45"):
        locations.data_path(card(), "train")
    (folder / "train.csv").write_text("a\n1\n")
    assert locations.data_path(card(), "train") == folder / "train.csv"


def test_a_compressed_copy_will_do_and_its_content_is_compared(folder):
    (folder / "train.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    assert locations.data_path(card(), "train") == folder / "train.csv.gz"
    (folder / "train.csv.gz").write_bytes(gzip.compress(b"a\n2\n"))
    with pytest.raises(DataError, match=r"train\.csv\.gz: sha256 is"):
        locations.data_path(card(), "train")


def test_the_cache_comes_last(folder, tmp_path):
    kept = tmp_path / "cache" / "toy" / "train.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("a\n1\n")
    assert locations.data_path(card(), "train") == kept
    (folder / "train.csv").write_text("a\n1\n")
    assert locations.data_path(card(), "train") == folder / "train.csv"


def test_without_a_digest_the_rows_are_counted(folder):
    told = card(sha256=None, check="two rows")
    (folder / "train.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match="2 rows below the header, but the card expects 1"):
        locations.data_path(told, "train")
    (folder / "train.csv").write_text("a\n1")
    assert locations.data_path(told, "train") == folder / "train.csv"


def test_a_file_that_the_card_lacks_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'trian'; did you mean 'train'"):
        locations.data_path(card(), "trian")


def test_a_file_that_can_be_fetched_says_how():
    found = locations.how_to_get(card(url="https://example.org/a.csv"), card().files["train"])
    assert "`titans-seq dataset fetch toy`" not in found
    told = card(url="https://example.org/a.csv")
    assert "`titans-seq dataset fetch toy` fetches it" in locations.how_to_get(
        told, told.files["train"]
    )
