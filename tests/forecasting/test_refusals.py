"""Bad input of every kind: one line that names column, series and row, and the right exception.

The exit codes are those that the command line gives; what names a file or a folder is tried
there, too (``tests/cli``).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from titans_seq import TitansBackbone, TitansConfig
from titans_seq.exceptions import BundleError, ConfigError, DataError, TitansSeqError
from titans_seq.forecasting import TitansForecaster, read_frame
from titans_seq.nn.state import StackState

ROLES: dict[str, Any] = {
    "id_col": "shop", "time_col": "when", "target_col": "sold", "static": ("area",),
    "past": ("wind",), "future": ("plan",),
}  # fmt: skip
SMALL: dict[str, Any] = {"horizon": 4, "context_length": 12, "dim": 8, "max_epochs": 1,
                         "random_state": 0, "device": "cpu"}  # fmt: skip
ROWS = 60
Change = Callable[[pd.DataFrame], Any]


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    """Two shops by the hour: rows 0 to 63 are north's, 64 to 127 south's; the last 4 are ahead."""
    rng = np.random.default_rng(0)
    count = ROWS + SMALL["horizon"]
    parts = [
        pd.DataFrame({
            "shop": name, "when": pd.date_range("2024-01-01", periods=count, freq="h"),
            "sold": rng.normal(size=count), "area": float(size), "wind": rng.normal(size=count),
            "plan": rng.normal(size=count),
        })
        for size, name in enumerate(("north", "south"))
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def past(whole: pd.DataFrame) -> pd.DataFrame:
    """Rows 0 to 59 are north's, 60 to 119 south's."""
    return whole.groupby("shop").head(ROWS).reset_index(drop=True)


@pytest.fixture(scope="module")
def ahead(whole: pd.DataFrame) -> pd.DataFrame:
    """Rows 0 to 3 are north's, 4 to 7 south's."""
    return whole.groupby("shop").tail(4)[["shop", "when", "plan"]].reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(past: pd.DataFrame) -> TitansForecaster:
    return TitansForecaster(**SMALL, **ROLES).fit(past)


def _refused(
    action: Callable[[], object], kind: type[TitansSeqError], code: int, *words: str
) -> None:
    """Check that an action fails in one line with these words."""
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"


def _set(column: str, row: int, value: object) -> Change:
    """Return a change of one cell."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype({column: object})
        changed.loc[row, column] = value
        return changed

    return change


FRAMES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a column is missing": (lambda f: f.drop(columns="sold"), ("df: no column 'sold'", "it has")),
    "a column is there twice": (
        lambda f: pd.concat([f, f[["wind"]]], axis=1), ("df: 2 columns named 'wind'",),
    ),
    "the target is text": (
        _set("sold", 70, "many"), ("row 70", "'sold'", "series 'south'", "'many'", "no finite"),
    ),
    "the target is infinite": (
        _set("sold", 3, np.inf), ("row 3", "'sold'", "series 'north'", "inf"),
    ),
    "a covariate is infinite": (
        _set("wind", 61, -np.inf), ("row 61", "'wind'", "series 'south'", "-inf"),
    ),
    "an id is missing": (_set("shop", 9, None), ("row 9", "column 'shop' is empty")),
    "a time is missing": (
        lambda f: f.assign(when=f["when"].mask(f.index == 62)),
        ("row 62", "'when'", "series 'south'", "holds nothing", "no time"),
    ),
    "a time cannot be read": (
        _set("when", 5, "noon"), ("row 5", "'when'", "series 'north'", "'noon'", "no time"),
    ),
    "a time is there twice": (
        lambda f: f.assign(when=f["when"].mask(f.index == 101, f["when"][100])),
        ("row 101", "'when'", "series 'south'", "a second time", "row 100"),
    ),
    "a time is off the grid": (
        _set("when", 59, pd.Timestamp("2024-01-03 11:20")),
        ("row 59", "'when'", "series 'north'", "11:20", "not on the grid of frequency 'h'"),
    ),
    "a time is two hundred years late": (
        _set("when", 119, pd.Timestamp("2224-01-03 11:00")),
        ("row 119", "'when'", "series 'south'", "jumps from 2024"),
    ),
    "a static column changes": (
        _set("area", 80, 7.0), ("row 80", "static column 'area'", "series 'south'", "1.0 to 7.0"),
    ),
    "a series has no value": (
        lambda f: f.assign(sold=f["sold"].mask(f["shop"] == "south")),
        ("series 'south' has no value in the target column",),
    ),
    "there are no rows": (lambda f: f[:0], ("df: has no rows",)),
    "no series is long enough": (
        lambda f: f.groupby("shop").head(4), ("no window to train on", "4 rows", "horizon=4"),
    ),
    "it is no frame": (lambda f: "sales.csv", ("df must be a DataFrame or an array, got str",)),
    "it is an array with covariates named": (
        lambda f: np.zeros((2, 60)), ("df: covariates and several targets need a DataFrame",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FRAMES)
def test_frames_to_fit(past: pd.DataFrame, what: str) -> None:
    change, words = FRAMES[what]
    forecaster = TitansForecaster(**SMALL, **ROLES)
    _refused(lambda: forecaster.fit(change(past)), DataError, 4, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("wind", 70, "calm"), ("row 70", "'wind'", "series 'south'", "'calm'")),
        (
            lambda f: f.assign(when=f.groupby("shop").cumcount()),
            ("df: column 'when' must hold time stamps, as in fit",),
        ),
        (lambda f: f.drop(columns="shop"), ("df: no column 'shop'",)),
    ],
)
def test_frames_to_predict_from(
    fitted: TitansForecaster,
    past: pd.DataFrame,
    ahead: pd.DataFrame,
    change: Change,
    words: tuple[str, ...],
) -> None:
    _refused(lambda: fitted.predict(change(past), ahead), DataError, 4, *words)


FUTURES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "there is none": (lambda f: None, ("future_df is needed", "plan of the next 4 times")),
    "a column is missing": (lambda f: f.drop(columns="plan"), ("future_df: no column 'plan'",)),
    "a series is missing": (
        lambda f: f[:4], ("column 'when'", "series 'south' lacks 4 of the 4", "2024-01-03 12:00"),
    ),
    "two times are missing": (
        lambda f: f.drop(index=[1, 2]),
        ("'when'", "series 'north' lacks 2 of the 4", "first 2024-01-03 13:00"),
    ),
    "a value is missing": (
        _set("plan", 6, None), ("row 6", "'plan'", "series 'south'", "empty at 2024-01-03 14:00"),
    ),
    "a value is text": (
        _set("plan", 2, "none"), ("row 2", "'plan'", "series 'north'", "'none'", "no finite"),
    ),
    "a row is there twice": (
        lambda f: pd.concat([f, f[5:6]], ignore_index=True),
        ("row 8", "'when'", "series 'south'", "2024-01-03 13:00:00 a second time"),
    ),
    "a time cannot be read": (
        _set("when", 7, "late"), ("row 7", "'when'", "series 'south'", "'late'", "no time"),
    ),
    "times have a zone of their own": (
        lambda f: f.assign(when=f["when"].dt.tz_localize("UTC")),
        ("column 'when' has UTC, the history no time zone",),
    ),
    "times are numbers": (
        lambda f: f.assign(when=range(8)), ("'when' must hold time stamps, as the history does",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FUTURES)
def test_futures(
    fitted: TitansForecaster, past: pd.DataFrame, ahead: pd.DataFrame, what: str
) -> None:
    change, words = FUTURES[what]
    _refused(lambda: fitted.predict(past, change(ahead)), DataError, 4, *words)


def test_a_future_that_was_not_asked_for(past: pd.DataFrame, ahead: pd.DataFrame) -> None:
    forecaster = TitansForecaster(**SMALL, **ROLES | {"future": ()}).fit(past)
    _refused(
        lambda: forecaster.predict(past, ahead), DataError, 4, "future_df was given", "future=()"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"past": ("sold",)}, ("column 'sold'", "target_col", "past")),
        ({"freq": 1}, ("freq=1", "column 'when'", "time stamps")),
        ({"freq": "fortnight"}, ("freq='fortnight'", "no frequency")),
        ({"quantiles": (0.5, 0.5)}, ("quantiles", "rising")),
    ],
)
def test_settings(past: pd.DataFrame, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    forecaster = TitansForecaster(**SMALL | ROLES | settings)
    _refused(lambda: forecaster.fit(past), ConfigError, 3, *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", ("not a table",)),
        ("latin.csv", "ds,y\n1,né\n".encode("latin-1"), ("not a table in UTF-8",)),
        ("cut.csv.gz", gzip.compress(b"ds,y\n1,2\n" * 99, mtime=0)[:-9], ("cannot be read",)),
        ("sheet.xlsx", b"PK", ("name a .csv",)),
        ("broken.parquet", b"PAR1", ("cannot be read",)),
    ],
)
def test_files(tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    _refused(lambda: read_frame(path), DataError, 4, str(path), *words)


def _json(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**held, **changes}))

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


BUNDLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "no JSON": (lambda f: (f / "preprocess.json").write_text("{"), "preprocess.json"),
    "another kind": (_json("config.json", format="classifier"), "not 'forecaster'"),
    "a later layout": (_json("config.json", version=99), "has layout 99, this titans-seq reads 1"),
    "an unknown setting": (
        _json("config.json", config={"horizont": 3}), "there is no setting 'horizont'",
    ),
    "another field": (_json("preprocess.json", scale=[1]), "scale"),
    "weights cut short": (_cut, "model.safetensors"),
    "a weight is gone": (_weights(lambda t: t.pop("linear.bias")), "linear.bias"),
    "a weight of another shape": (
        _weights(lambda t: t.update({"linear.bias": torch.zeros(3)})), "linear.bias",
    ),
    "a weight of another type": (
        _weights(lambda t: t.update({"linear.bias": t["linear.bias"].double()})), "float64",
    ),
    "a weight that is not finite": (
        _weights(lambda t: t.update({"linear.bias": t["linear.bias"] / 0})), "must be finite",
    ),
    "half a calibration": (
        _weights(lambda t: t.pop("calibration.scores")), "calibration's scores must have the shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BUNDLES)
def test_bundles(fitted: TitansForecaster, tmp_path: Path, what: str) -> None:
    spoil, word = BUNDLES[what]
    folder = tmp_path / "model"
    fitted.save(folder)
    _json("config.json", sha256={})(folder)  # as a folder of before there were digests
    spoil(folder)
    _refused(lambda: TitansForecaster.load(folder), BundleError, 3, str(folder), word)


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "no state file, or is damaged"), (b"x" * 100, "no state file, or is damaged")],
)
def test_states(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    _refused(lambda: StackState.load(path), DataError, 4, str(path), word)


def test_a_state_of_another_backbone(tmp_path: Path) -> None:
    narrow, wide = (TitansBackbone(TitansConfig(dim=dim, layers=1, heads=2)) for dim in (8, 16))
    _, state = narrow(torch.zeros(1, 3, 8))
    state.save(tmp_path / "state.safetensors")
    again = StackState.load(tmp_path / "state.safetensors")
    _refused(lambda: wide(torch.zeros(1, 3, 16), again), DataError, 4, "state")


def test_what_was_loaded_has_no_rows_to_go_on_from(
    fitted: TitansForecaster, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    for method in ("predict", "sample", "plot", "make_future_frame"):
        _refused(getattr(loaded, method), DataError, 4, f"{method} needs df")
