from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from titans_seq.forecasting.network.tokens import Coded, PatchReader


@pytest.mark.parametrize("rows", [1, 3, 7, 8])
@pytest.mark.parametrize("at_end", [True, False])
def test_a_token_is_what_its_rows_are_and_nothing_for_those_that_fill_it_up(
    rows: int, at_end: bool
) -> None:
    torch.manual_seed(0)
    reader = PatchReader(rows, 4, 2 + 1 + 3, 5, at_end=at_end)
    one, two = torch.randn(2, rows), torch.randn(2, rows, 2)
    coded = Coded(torch.randn(6, 3), torch.randint(0, 6, (2, rows)))
    tokens = reader([one, two], [coded])

    looked_up = coded.vectors[coded.codes]
    spare = reader.tokens * 4 - rows
    pad = (0, 0, spare, 0) if at_end else (0, 0, 0, spare)
    parts = [
        functional.pad(part, pad).reshape(2, reader.tokens, -1)
        for part in (one[..., None], two, looked_up)
    ]
    torch.testing.assert_close(tokens, reader.project(torch.cat(parts, dim=-1)))


def test_chosen_tokens_are_those_of_all() -> None:
    torch.manual_seed(0)
    reader = PatchReader(12, 4, 1 + 2, 5, at_end=True)
    columns = [torch.randn(2, 12)]
    coded = [Coded(torch.randn(3, 2), torch.randint(0, 3, (2, 12)))]
    chosen = torch.tensor([[0, 2], [1, 2]])
    every = reader(columns, coded)
    wanted = torch.stack([every[0, [0, 2]], every[1, [1, 2]]])
    torch.testing.assert_close(reader(columns, coded, chosen), wanted)
