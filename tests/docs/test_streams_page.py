"""The page on streams: its example runs, and its methods exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream import ForecastStream


@pytest.mark.slow
def test_the_example_runs_and_every_method_of_the_table_exists(root: Path) -> None:
    page = (root / "docs" / "streams.md").read_text(encoding="utf-8")
    times = pd.date_range("2024-01-01", periods=110, freq="h")
    rows = pd.DataFrame({"ds": times, "y": np.sin(np.arange(110) / 4)})
    names: dict[str, Any] = {"history": rows[:100], "new_rows": rows[100:]}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    exec(compile(code, "docs/streams.md", "exec", dont_inherit=True), names)
    assert names["stream"].rows == {"y": 110}
    assert len(names["stream"].surprise) == 10
    table = page.split("| | |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    methods = {name for cell in cells for name in re.findall(r"`(\w+)(?=[(`])", cell)}
    assert {"update", "forecast", "surprise", "copy", "restore", "reset", "add"} <= methods
    for name in methods:
        assert hasattr(ForecastStream, name), name
    assert {"adapt", "context_length"} <= set(TitansForecaster().get_params())
