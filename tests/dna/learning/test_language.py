"""The model of DNA: it never sees what it is asked for, and it learns what is there."""

from __future__ import annotations

import pytest
import torch

from titans_seq.dna.alphabet import encode
from titans_seq.dna.learning.batches import pad
from titans_seq.dna.learning.language import LanguageConfig, TitansDNALanguage, base_losses
from titans_seq.exceptions import ConfigError
from titans_seq.training import seeded

TEXT = "ACGTTGCAACGGTTACGATTACAGGTACCGTAAGCTTGCATGCAACTG"


def network(objective: str, tokens: str, **changes: object) -> TitansDNALanguage:
    config = LanguageConfig(
        **{"dim": 8, "layers": 1, "heads": 2, "motifs": 6, "context": 4}
        | {"objective": objective, "tokens": tokens}
        | changes
    )
    with seeded(0):
        return TitansDNALanguage(config).double().eval()


@pytest.mark.parametrize("tokens", ["motif", "base", "3-mer"])
@pytest.mark.parametrize("variant", ["mag", "mac"])
def test_the_next_base_is_told_from_those_before_it_alone(tokens: str, variant: str) -> None:
    model = network("next", tokens, variant=variant)
    before = model(**pad([encode(TEXT)]))
    for place in (0, 1, 7, 20, 30, len(TEXT) - 1):
        other = "A" if TEXT[place] != "A" else "C"
        after = model(**pad([encode(TEXT[:place] + other + TEXT[place + 1 :])]))
        torch.testing.assert_close(after[:, : place + 1], before[:, : place + 1])
    moved = (after - before).abs().sum(dim=-1)[0]
    assert not moved.any()  # nothing stands behind the last base


@pytest.mark.parametrize("tokens", ["motif", "base", "3-mer"])
def test_every_base_before_counts_but_for_what_no_token_covers(tokens: str) -> None:
    model = network("next", tokens)
    before = model(**pad([encode(TEXT)]))
    for place in range(len(TEXT) - 1):
        other = "A" if TEXT[place] != "A" else "C"
        after = model(**pad([encode(TEXT[:place] + other + TEXT[place + 1 :])]))
        assert (after - before).abs()[0, place + 1].max() > 1e-9  # the head sees it at once
    assert (after - before).abs()[0, -1].max() > 1e-9
    start = model(**pad([encode("C" + TEXT[1:])]))
    assert (start - before).abs()[0, -1].max() > 0  # and the tokens carry it to the end


def test_a_hidden_base_is_told_from_both_sides_and_not_from_itself() -> None:
    model = network("masked", "motif")
    hidden = TEXT[:20] + "N" + TEXT[21:]
    before = model(**pad([encode(hidden)]))[0, 20]
    for place in (17, 23):
        changed = hidden[:place] + ("A" if TEXT[place] != "A" else "C") + hidden[place + 1 :]
        assert (model(**pad([encode(changed)]))[0, 20] - before).abs().max() > 1e-9


@pytest.mark.parametrize("objective", ["next", "masked"])
def test_padding_and_neighbours_change_nothing(objective: str) -> None:
    model = network(objective, "motif")
    rows = [encode(TEXT), encode(TEXT[:13]), encode("A")]
    together = model(**pad(rows))
    for index, row in enumerate(rows):
        alone = model(**pad([row]))[0]
        torch.testing.assert_close(together[index, : len(row)], alone)
        torch.testing.assert_close(alone.exp().sum(-1), torch.ones(len(row)).double())


def test_losses_are_of_single_bases_asked_for() -> None:
    codes = torch.from_numpy(encode("ACGTN"))[None]
    said = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(1, 5, 4)
    asked = torch.tensor([[True, True, False, True, True]])
    total, count = base_losses(said, codes, asked)
    assert int(count) == 3
    assert float(total) == pytest.approx(-float(torch.tensor(0.1 * 0.2 * 0.4).log()))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="objective must be next or masked, got 'previous'"):
        LanguageConfig(objective="previous")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="context must be at least 1, got 0"):
        LanguageConfig(context=0)
