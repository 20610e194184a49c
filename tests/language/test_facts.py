"""Facts to be recalled: how they are drawn, and how answers are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq import TitansConfig
from titans_seq.config import VARIANTS
from titans_seq.language import facts as facts_module
from titans_seq.language.facts import (
    KEYS,
    MAX_ZONE,
    RECALL_TASKS,
    VALUES,
    VOCABULARY,
    FactBatch,
    count_recalled,
    difficulty,
    needle,
    recall,
)
from titans_seq.language.network import NO_TARGET, TokenNetwork


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of chance."""
    return torch.Generator().manual_seed(seed)


def facts(tokens: Tensor) -> dict[int, list[int]]:
    """Return the values that stand right behind each key of one sequence."""
    found: dict[int, list[int]] = {}
    for one, following in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
        if one < KEYS and KEYS <= following < KEYS + VALUES:
            found.setdefault(one, []).append(following - KEYS)
    return found


@pytest.mark.parametrize("pairs", [1, 4, 8])
@pytest.mark.parametrize("length", [32, 33, 128, 500])
def test_every_query_asks_for_the_one_value_behind_its_key(length: int, pairs: int) -> None:
    batch = recall(5, length, pairs, generator())
    for tokens, targets in zip(*batch, strict=True):
        known = facts(tokens)
        assert len(known) == pairs
        places = (targets != NO_TARGET).nonzero().flatten().tolist()
        assert {int(tokens[place]) for place in places} == set(known)
        assert all(known[int(tokens[place])] == [int(targets[place])] for place in places)


@pytest.mark.parametrize("length", [48, 128, 500])
def test_facts_stand_in_the_first_tokens_and_queries_in_the_last(length: int) -> None:
    tokens, targets = recall(9, length, 4, generator())
    zone = min(length // 2, MAX_ZONE)
    between = tokens[:, zone : length - zone]
    assert (between >= KEYS + VALUES).all()
    assert (targets[:, : length - zone] == NO_TARGET).all()
    values = (tokens >= KEYS) & (tokens < KEYS + VALUES)
    assert (values[:, :zone].sum(1) == 4).all()
    assert ((targets != NO_TARGET).sum(1) == zone // 2).all()


def test_keys_are_asked_for_equally_often() -> None:
    tokens, targets = recall(6, 256, 4, generator())
    for row, wanted in zip(tokens, targets, strict=True):
        counts = row[wanted != NO_TARGET].bincount()
        assert counts[counts > 0].tolist() == [MAX_ZONE // 2 // 4] * 4


@pytest.mark.parametrize("length", [32, 101])
def test_a_needle_is_one_fact_asked_for_by_the_last_token(length: int) -> None:
    batch = needle(20, length, 4, generator())
    for tokens, targets in zip(*batch, strict=True):
        assert facts(tokens) == {int(tokens[-1]): [int(targets[-1])]}
        assert (targets[:-1] == NO_TARGET).all()
        assert int((tokens < KEYS).sum()) == 2


@pytest.mark.parametrize("name", RECALL_TASKS)
def test_the_same_seed_draws_the_same_batch_and_another_one_does_not(name: str) -> None:
    one, same, other = (RECALL_TASKS[name](4, 64, 4, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.tokens, other.tokens)


def test_training_begins_easy_and_stays_within_its_bounds() -> None:
    bounds = {"pairs": 4, "shortest": 48, "longest": 512}
    drawn = {
        share: [difficulty(share, **bounds, generator=generator(seed)) for seed in range(200)]
        for share in (0.0, 0.5, 1.0)
    }
    for every in drawn.values():
        assert all(48 <= length <= 512 for length, _ in every)
    assert {length for length, _ in drawn[0.0]} == {48}
    assert {pairs for _, pairs in drawn[0.0]} == {1, 2}
    assert {pairs for _, pairs in drawn[1.0]} == set(range(1, 4 + 1))


class Oracle(torch.nn.Module):
    """Know the first ``share`` of the targets by heart, and name a wrong value for the rest."""

    def __init__(self, batch: FactBatch, share: float) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        right = batch.targets.clamp(min=0)
        known = torch.arange(len(right)) < share * len(right)
        self.says = torch.where(known.unsqueeze(1), right, (right + 1) % VALUES)
        self.read = 0

    def forward(self, tokens: Tensor, state: Any, *, keep_state: bool) -> tuple[Tensor, Any]:
        """Return scores that name what is known."""
        assert keep_state
        says = self.says[:, self.read : self.read + tokens.shape[1]]
        self.read += tokens.shape[1]
        return torch.nn.functional.one_hot(says, VALUES).float(), state


@pytest.mark.parametrize("name", RECALL_TASKS)
@pytest.mark.parametrize("known", [0.0, 0.25, 1.0])
def test_the_score_counts_the_queries_answered_rightly_and_their_facts(
    name: str, known: float
) -> None:
    sequences = 4
    batch = RECALL_TASKS[name](sequences, 64, 4, generator(5))
    oracle: Any = Oracle(batch, known)
    counts = count_recalled(oracle, name, 64, pairs=4, tokens=256, seed=5)
    assert counts.share == known
    assert counts.asked == int((batch.targets != NO_TARGET).sum())
    assert counts.facts == sequences * (1 if name == "needle" else 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_reading_in_pieces_answers_as_one_reading(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = TitansConfig(dim=16, heads=1, layers=1, variant=variant, segment_len=64, window=64,
                          rule="titans-exact", memory_depth=1)  # fmt: skip
    model = TokenNetwork(config, VOCABULARY, VALUES).double().eval()
    heard: list[Tensor] = []

    def listen(module: Any, inputs: Any, outputs: tuple[Tensor, Any]) -> None:
        heard.append(outputs[0])

    model.register_forward_hook(listen)
    count_recalled(model, "recall", 128, pairs=4, tokens=256, seed=5)
    (whole,) = heard
    heard.clear()
    monkeypatch.setattr(facts_module, "PIECE_TOKENS", 37)
    count_recalled(model, "recall", 128, pairs=4, tokens=256, seed=5)
    assert len(heard) == 4
    torch.testing.assert_close(torch.cat(heard, dim=1), whole)
