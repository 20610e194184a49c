import gzip
import hashlib

import pytest

from titans_seq.evaluation.data.checksums import checksums


@pytest.mark.parametrize("content", [b"", b"one", b"one\n", b"one\ntwo\n" * 5000])
@pytest.mark.parametrize("git", [False, True])
def test_a_compressed_file_has_digests_of_its_content_and_as_stored(tmp_path, content, git):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(content))
    found = checksums(path, decompress=True, git=git)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert found.git_blob == (blob if git else None)
    assert (found.bytes, found.lines) == (len(content), len(content.splitlines()))
    stored = path.read_bytes()
    assert found.stored_sha256 == hashlib.sha256(stored).hexdigest()
    assert found.stored_bytes == len(stored)
    plain = checksums(path)
    assert plain.sha256 == plain.stored_sha256 == found.stored_sha256
