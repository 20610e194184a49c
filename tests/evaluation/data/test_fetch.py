"""Fetching, against a server with every fault: recovered, or one clear line; never wrong bytes."""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.evaluation.data import derive, download, fetch, locations
from titans_seq.exceptions import DataError, MissingDataError


def _load_server() -> ModuleType:
    path = Path(__file__).with_name("faulty_server.py")
    spec = importlib.util.spec_from_file_location("faulty_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


faulty = _load_server()
CONTENT: bytes = faulty.CONTENT
QUICK: dict[str, Any] = {
    "attempts": 3, "pause": 0.01, "timeout": (2.0, 0.6), "keep_above": 8000,
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(locations.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(locations.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_BLOCK", 1000)  # of which a cut loses the last one
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def server() -> Any:
    with faulty.serving() as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(server: Any) -> None:
    server.asked.clear()
    server.ranges.clear()


def _card(url: str | None, **changes: Any) -> DatasetCard:
    file: dict[str, Any] = {
        "path": "toy/table.csv",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "url": url,
        **changes,
    }
    return DatasetCard(
        name="toy", task="forecasting", summary="", source="", url="https://example.org",
        licence="", citation="", split_rule="", files={"table": DataFile(**file)},
    )  # fmt: skip


def _left(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ("plain", 1), ("redirect", 1), ("busy", 2), ("cut", 2), ("stall_once", 2),
        ("no_length_cut", 2), ("wrong_once", 2), ("zipped", 1), ("ranges", 2), ("changed", 2),
        ("changed_in_silence", 3), ("knows_no_ranges", 2), ("another_range", 3),
        ("no_such_range", 3),
    ],
)  # fmt: skip
def test_a_fault_that_passes_is_recovered(
    fault: str, requests: int, sized: bool, server: Any, cache: Path
) -> None:
    size = {"bytes": len(CONTENT)} if sized else {}
    (state,) = fetch.fetch_dataset(_card(f"{server.url}/{fault}", **size), **QUICK)
    assert state.state == "fetched"
    assert state.path is not None
    assert state.path.read_bytes() == CONTENT
    assert _left(cache) == ["toy/table.csv"]
    assert server.asked[fault] == requests


@pytest.mark.slow
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("missing", MissingDataError, "the server answers 404 Not Found"),
        ("broken", MissingDataError, "the server answers 500 Internal Server Error, 3 times"),
        ("circle", MissingDataError, "too many redirects, 3 times"),
        ("always_cut", MissingDataError, "the connection"),
        ("stall", MissingDataError, "the server does not respond, 3 times"),
        (
            "too_long",
            (MissingDataError, DataError),
            "the connection|expected 22428 bytes",
        ),
        ("too_short", DataError, "sha256 is|expected 22428 bytes, the server sent"),
        ("wrong", DataError, "sha256 is .* the card expects"),
        ("page", DataError, "sha256 is|expected 22428 bytes, the server sent 26"),
        ("endless", DataError, "sha256 is|expected 22428 bytes, the server sent more"),
    ],
)
def test_a_fault_that_stays_is_told_in_one_line(
    fault: str, error: type[Exception], words: str, sized: bool, server: Any, cache: Path
) -> None:
    size = {"bytes": len(CONTENT)} if sized else {}
    card = _card(f"{server.url}/{fault}", **size)
    with pytest.raises(error, match=words) as caught:
        fetch.fetch_dataset(card, **QUICK)
    assert "\n" not in str(caught.value)
    assert f"{server.url}/{fault}" in str(caught.value)
    assert str(caught.value).startswith("data set toy: ")
    assert all(name.endswith((".part", ".etag")) for name in _left(cache))


def test_nobody_there_is_told_with_what_to_do(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        fetch.fetch_dataset(_card("http://127.0.0.1:9/x"), tmp_path, **QUICK)
    assert str(caught.value) == (
        "data set toy: downloading http://127.0.0.1:9/x failed: no connection, 3 times; try again "
        f"later, or get the file elsewhere and put it at {tmp_path}/toy/table.csv"
    )


def test_a_large_file_goes_on_in_another_process_where_it_was_cut(server: Any, cache: Path) -> None:
    card = _card(f"{server.url}/ranges")
    with pytest.raises(MissingDataError):
        fetch.fetch_dataset(card, **{**QUICK, "attempts": 1})
    tag, part = sorted(path for path in cache.rglob("*.*") if path.is_file())
    assert part.read_bytes() == CONTENT[:9000]
    assert tag.read_text() == '"one"'
    fetch.fetch_dataset(card, **QUICK)
    assert server.ranges == [None, "bytes=9000-"]
    assert _left(cache) == ["toy/table.csv"]


def test_a_small_file_begins_again(server: Any, cache: Path) -> None:
    fetch.fetch_dataset(_card(f"{server.url}/cut"), **QUICK)
    assert server.ranges == [None, None]


def test_what_is_there_is_not_fetched_and_what_is_damaged_in_the_cache_is(
    server: Any, cache: Path
) -> None:
    card = _card(f"{server.url}/plain")
    fetch.fetch_dataset(card, **QUICK)
    assert [one.state for one in fetch.fetch_dataset(card, **QUICK)] == ["ok"]
    (cache / "toy" / "table.csv").write_bytes(faulty.OTHER)
    assert [one.state for one in fetch.fetch_dataset(card, **QUICK)] == ["fetched"]
    assert server.asked["plain"] == 2


def test_the_data_folder_comes_first_and_is_never_written_to(
    server: Any, cache: Path, tmp_path: Path
) -> None:
    card = _card(f"{server.url}/plain", also=["elsewhere/t.csv"])
    place = tmp_path / "data" / "elsewhere" / "t.csv.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(gzip.compress(CONTENT))
    assert locations.data_path(card, "table", tmp_path / "data") == place
    place.write_bytes(gzip.compress(faulty.OTHER))
    with pytest.raises(DataError, match=r"t\.csv\.gz: sha256 is .* remove it and fetch it again"):
        fetch.fetch_dataset(card, tmp_path / "data", **QUICK)
    place.write_bytes(gzip.compress(CONTENT)[:-20])
    with pytest.raises(DataError, match="incomplete gzip file"):
        locations.data_path(card, "table", tmp_path / "data")
    assert server.asked["plain"] == 0


def test_a_git_id_will_do_where_no_digest_is_published(server: Any, cache: Path) -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    card = _card(f"{server.url}/plain", sha256=None, git_blob=blob)
    assert [one.state for one in fetch.fetch_dataset(card, **QUICK)] == ["fetched"]
    card = _card(f"{server.url}/wrong", path="toy/other.csv", sha256=None, git_blob=blob)
    with pytest.raises(DataError, match="git_blob is"):
        fetch.fetch_dataset(card, **QUICK)


def test_a_full_disk_is_told_by_name(
    server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*values: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("titans_seq.evaluation.data.download._blocks", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.part'"):
        fetch.fetch_dataset(_card(f"{server.url}/plain"), **QUICK)
    assert "toy/table.csv" not in _left(cache)


def _zip(names: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as pack:
        for name, content in names.items():
            pack.writestr(name, content)
    return data.getvalue()


def _tar(names: dict[str, bytes], link: str | None = None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as pack:
        for name, content in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            pack.addfile(entry, io.BytesIO(content))
        if link is not None:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            pack.addfile(entry)
    return data.getvalue()


@pytest.mark.parametrize("pack", [_zip, _tar])
def test_a_member_is_taken_out_of_an_archive(pack: Any, server: Any, cache: Path) -> None:
    server.archive = pack({"a/read.me": b"hello", "a/table.csv": CONTENT})
    card = _card(f"{server.url}/archive/pack", member="a/table.csv", bytes=len(CONTENT))
    (state,) = fetch.fetch_dataset(card, **QUICK)
    assert state.path is not None
    assert state.path.read_bytes() == CONTENT
    assert _left(cache) == ["toy/table.csv"]


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (_zip({"../evil": b"", "a/table.csv": CONTENT}), "'../evil' leads out of the archive's"),
        (_zip({"/evil": b"", "a/table.csv": CONTENT}), "'/evil' leads out"),
        (_tar({"a/../../evil": b"", "a/table.csv": CONTENT}), "leads out"),
        (_tar({}, link="a/table.csv"), "a/table.csv is a link or a device, not a file"),
        (_zip({"b/table.csv": CONTENT}), "has no member a/table.csv"),
        (_zip({"a/table.csv": CONTENT * 9}), "expected 22428 bytes, the archive's member has more"),
        (_zip({"a/table.csv": faulty.OTHER}), "sha256 is"),
        (_zip({"a/table.csv": CONTENT})[:-30], "is not a readable archive"),
        (b"<html>no</html>", "is not a readable archive"),
    ],
)
def test_an_archive_that_is_not_as_it_should_be_is_refused(
    archive: bytes, words: str, server: Any, cache: Path
) -> None:
    server.archive = archive
    card = _card(f"{server.url}/archive/pack", member="a/table.csv", bytes=len(CONTENT))
    with pytest.raises(DataError, match=words):
        fetch.fetch_dataset(card, **QUICK)
    assert _left(cache) == []
    assert not (cache.parent / "evil").exists()


def test_what_cannot_be_fetched_says_what_to_put_where(cache: Path) -> None:
    card = _card(None, obtain="ask the owner")
    (state,) = fetch.fetch_dataset(card)
    assert state.state == "missing"
    assert state.message == (
        "data set toy: no file toy/table.csv; ask the owner; put it at toy/table.csv in a folder, "
        "and set TITANS_SEQ_DATA to that folder"
    )


def _derived(url: str, made: bytes) -> DatasetCard:
    """Return the card of a set whose one file is made from what the server has."""
    raw = DataFile(path="raw/toy", sha256=hashlib.sha256(CONTENT).hexdigest(), url=url)
    digest = hashlib.sha256(made).hexdigest()
    file = DataFile(path="toy/made.csv", sha256=digest, made_from="raw", made_by="reversed")
    return DatasetCard(
        name="toy", task="forecasting", summary="", source="", url="https://example.org",
        licence="", citation="", split_rule="", files={"table": file}, raw={"raw": raw},
    )  # fmt: skip


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> list[derive.DerivedFile]:
    """Let a builder turn files round; what was asked of it."""
    asked: list[derive.DerivedFile] = []

    def turn(raw: Path, derived: derive.DerivedFile) -> bytes:
        asked.append(derived)
        return raw.read_bytes()[::-1]

    monkeypatch.setitem(derive.BUILDERS, "reversed", turn)
    return asked


def test_a_derived_file_is_made_from_what_is_fetched(
    server: Any, cache: Path, backwards: list[derive.DerivedFile]
) -> None:
    card = _derived(f"{server.url}/plain/toy", CONTENT[::-1])
    (before,) = fetch.verify_dataset(card)
    assert "`titans-seq dataset fetch toy` makes it" in before.message
    (state,) = fetch.fetch_dataset(card, **QUICK)
    assert state == fetch.FileState("table", "fetched", cache / "toy" / "made.csv")
    assert backwards == [("toy", "table")]
    assert (cache / "toy" / "made.csv").read_bytes() == CONTENT[::-1]
    (state,) = fetch.fetch_dataset(card, **QUICK)
    assert state.state == "ok"
    (cache / "toy" / "made.csv").write_bytes(b"damaged")
    fetch.fetch_dataset(card, **QUICK)
    assert len(server.asked) == 1  # the raw file was still there
    assert (cache / "toy" / "made.csv").read_bytes() == CONTENT[::-1]


def test_a_raw_file_in_the_data_folder_is_not_fetched(
    server: Any, cache: Path, tmp_path: Path, backwards: list[derive.DerivedFile]
) -> None:
    card = _derived(f"{server.url}/plain/toy", CONTENT[::-1])
    (tmp_path / "data" / "raw").mkdir(parents=True)
    raw = tmp_path / "data" / "raw" / "toy"
    raw.write_bytes(CONTENT)
    fetch.fetch_dataset(card, tmp_path / "data", **QUICK)
    assert not server.asked
    assert _left(cache) == ["toy/made.csv"]
    raw.write_bytes(b"another one")
    (cache / "toy" / "made.csv").unlink()
    with pytest.raises(DataError, match=r"raw/toy: sha256 is .* the card expects"):
        fetch.fetch_dataset(card, tmp_path / "data", **QUICK)


def test_what_is_not_made_as_the_card_says_gets_no_name(
    server: Any, cache: Path, backwards: list[derive.DerivedFile]
) -> None:
    card = _derived(f"{server.url}/plain/toy", b"something else")
    with pytest.raises(DataError, match=r"toy, table, derived from .*nothing was kept"):
        fetch.fetch_dataset(card, **QUICK)
    assert _left(cache) == ["raw/toy"]
    gone = _derived(f"{server.url}/missing/toy", CONTENT[::-1])
    (cache / "raw" / "toy").unlink()
    with pytest.raises(MissingDataError, match=r"downloading .* failed"):
        fetch.fetch_dataset(gone, **QUICK)
