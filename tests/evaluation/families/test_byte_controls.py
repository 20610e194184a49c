import math
import random
from collections import Counter

import numpy as np
import pytest

from titans_seq.evaluation.families.byte_controls import ByteCounts, score_byte_controls


def _text(size: int, seed: int) -> bytes:
    draw = random.Random(seed)
    return bytes(draw.choices(b"abcd", weights=(6, 3, 2, 1), k=size))


def _slow(train: bytes, text: bytes, place: int, order: int) -> float:
    """Witten and Bell's chance of a byte, as written."""
    if order < 0:
        return 1 / 256
    context = text[max(place - order, 0) : place]
    shorter = _slow(train, text, place, min(order, len(context)) - 1)
    if len(context) < order:
        return _slow(train, text, place, order - 1)
    found = Counter(
        train[i + order] for i in range(len(train) - order) if train[i : i + order] == context
    )
    total, kinds = sum(found.values()), len(found)
    if not total:
        return shorter
    return (found[text[place]] + kinds * shorter) / (total + kinds)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_counts_agree_with_the_estimate_as_written(order: int) -> None:
    train, text = _text(200, 0), _text(40, 1) + b"zz"
    fast = ByteCounts(3).fit(np.frombuffer(train, np.uint8)).bits(np.frombuffer(text, np.uint8))
    slow = [-math.log2(_slow(train, text, place, order)) for place in range(len(text))]
    np.testing.assert_allclose(fast[order], slow)


def test_chances_of_all_bytes_add_up_to_one() -> None:
    model = ByteCounts(2).fit(np.frombuffer(_text(300, 0), np.uint8))
    texts = (np.frombuffer(b"ab" + bytes([last]), np.uint8) for last in range(256))
    assert sum(2 ** -model.bits(text)[2][2] for text in texts) == pytest.approx(1)


def test_who_has_read_a_text_before_needs_hardly_anything_to_tell_it_again() -> None:
    text = np.frombuffer(random.Random(0).randbytes(3000), np.uint8)
    found = {name: one["bits_per_byte"] for name, one in score_byte_controls(text, text).items()}
    assert found["any byte alike"] == 8
    assert found["counts, 0 bytes before"] > 7
    assert found["lzma, after the train part"] < 0.3
    assert found["counts, 5 bytes before"] < found["counts, 1 byte before"]
