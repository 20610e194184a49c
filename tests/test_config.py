"""Settings: refused where they cannot work, read strictly from tables."""

from __future__ import annotations

from typing import Any

import pytest

from titans_seq.config import TitansConfig, record_from_table, table_from_record
from titans_seq.exceptions import ConfigError


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"dim": 10, "heads": 4}, "dim must be a positive multiple of heads=4, got 10"),
        ({"dim": 8, "variant": "mad"}, "variant must be one of lmm, mac, mag, mal, attention"),
        ({"dim": 8, "window": 0}, "window must be at least 1, got 0"),
        ({"dim": 8, "memory_depth": 5}, "memory_depth must be 1 to 4, got 5"),
        ({"dim": 8, "dropout": 1.0}, "dropout must be below 1, got 1.0"),
        ({"dim": 8, "memory_expansion": 0.0}, "memory_expansion must be above 0, got 0.0"),
    ],
)
def test_refuses_settings_that_cannot_work(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        TitansConfig(**settings)


def test_a_record_survives_the_way_through_a_table() -> None:
    config = TitansConfig(dim=32, variant="mag", dropout=0.1)
    assert record_from_table(TitansConfig, table_from_record(config), "x.toml") == config


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"dim": 8, "windw": 4}, "x.toml: unknown key 'windw'; did you mean 'window'?"),
        ({"dim": "8"}, "x.toml: dim = '8' is not of type int"),
        ({"dim": True}, "x.toml: dim = True is not of type int"),
        ({"heads": 2}, "x.toml: missing dim"),
        ({"dim": 8, "variant": "mad"}, "x.toml: variant = 'mad' is not of type"),
        ({"dim": 9, "heads": 2}, "x.toml: TitansConfig.dim must be a positive multiple of heads=2"),
    ],
)
def test_reads_tables_strictly(table: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match.replace("?", r"\?")):
        record_from_table(TitansConfig, table, "x.toml")
