"""Frames and panels that the tests of forecasting share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from titans_seq.forecasting.network.network import Windows


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two hourly series of unequal length with every kind of covariate; rows shuffled."""
    rng = np.random.default_rng(0)
    parts = []
    for shift, (name, rows) in enumerate({"a": 150, "b": 120}.items()):
        step = np.arange(rows)
        plan = rng.normal(size=rows)
        parts.append(
            pd.DataFrame(
                {
                    "shop": name,
                    "when": pd.date_range("2024-01-01", periods=rows, freq="h"),
                    "sold": np.sin(step / 4 + shift) + plan + 10 * shift,
                    "plan": plan,
                    "holiday": rng.choice(["yes", "no"], rows),
                    "wind": rng.normal(size=rows),
                    "sky": rng.choice(["clear", "grey"], rows),
                    "area": float(shift + 1),
                    "town": f"town {name}",
                }
            )
        )
    return pd.concat(parts).sample(frac=1, random_state=0)


@pytest.fixture
def windows() -> Windows:
    """Five windows: 13 rows behind, 7 ahead, with every kind of covariate and some gaps."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def codes(*shape: int) -> torch.Tensor:
        return torch.randint(1, 4, shape, generator=generator)

    seen = torch.rand(5, 13, generator=generator) < 0.8
    seen[0, :9] = False
    return Windows(
        history=normal(5, 13) * seen,
        seen=seen,
        past=normal(5, 13, 2),
        past_codes=codes(5, 13, 1),
        future=normal(5, 20, 1),
        future_codes=codes(5, 20, 2),
        static=normal(5, 1),
        static_codes=codes(5, 2),
    )
