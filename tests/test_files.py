from __future__ import annotations

import errno
import json
import math
import os
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from titans_seq.bundles import add_metrics, load_bundle, save_bundle
from titans_seq.exceptions import BundleError, ConfigError
from titans_seq.files import write_json, write_whole, write_whole_folder


def _save(folder: Path, **changes: Any) -> None:
    values: dict[str, Any] = {
        "kind": "forecaster",
        "config": {"horizon": 24, "quantiles": (0.1, 0.9)},
        "tensors": {"weight": torch.arange(6.0).view(2, 3).T, "count": torch.tensor(7)},
        "preprocess": {"mean": np.float32(0.5), "ids": np.array(["a", "b"])},
        "metrics": {"mse": 0.25, "undefined": math.nan},
        "card": "# A model\n",
    }
    save_bundle(folder, **{**values, **changes})


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with write_whole(path) as temporary:
        temporary.write_text("a,b\n")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "a,b\n"
    assert _names(tmp_path) == ["table.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), write_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["table.csv"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")
    with write_whole(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_what_is_no_regular_file_is_written_into_not_replaced(tmp_path: Path) -> None:
    with write_whole("/dev/null") as temporary:
        temporary.write_text("gone")
    assert Path("/dev/null").is_char_device()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), write_whole(tmp_path / "nowhere" / "x"):
        pass


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"), write_whole(tmp_path):
        pass


def test_a_folder_appears_only_when_it_is_finished(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with write_whole_folder(target) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "x").write_text("1")
        assert not target.exists()
    assert (target / "inner" / "x").read_text() == "1"
    assert _names(target.parent) == ["run"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    (target / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), write_whole_folder(target, force=True) as temporary:
        (temporary / "x").write_text("new")
        raise ZeroDivisionError
    assert (target / "x").read_text() == "old"
    assert _names(tmp_path) == ["run"]


def test_a_folder_is_replaced_only_by_force_and_only_if_it_is_ours(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    with write_whole_folder(target):
        pass  # empty: free to use
    (target / "letters.txt").write_text("dear")
    with pytest.raises(ConfigError, match="exists already"), write_whole_folder(target):
        pass
    with (
        pytest.raises(ConfigError, match="holds other files"),
        write_whole_folder(target, force=True, marker="config.json"),
    ):
        pass
    assert (target / "letters.txt").read_text() == "dear"


def test_json_holds_numpy_and_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": np.float64(1), "b": (math.inf, np.int64(3))})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1.0, "b": [None, 3]}


def test_a_bundle_comes_back_as_it_went_in(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    bundle = load_bundle(tmp_path / "model", "forecaster")
    assert bundle.config == {"horizon": 24, "quantiles": [0.1, 0.9]}
    assert bundle.preprocess == {"mean": 0.5, "ids": ["a", "b"]}
    assert bundle.metrics == {"mse": 0.25, "undefined": None}
    torch.testing.assert_close(bundle.tensors["weight"], torch.arange(6.0).view(2, 3).T)
    assert bundle.tensors["count"].item() == 7


def test_no_file_of_a_bundle_is_a_pickle(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    assert _names(tmp_path / "model") == [
        "card.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "preprocess.json",
    ]
    for path in (tmp_path / "model").iterdir():
        with pytest.raises(ValueError):  # noqa: PT011 - the pickle reader's own words
            list(pickletools.genops(path.read_bytes()))


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    _save(tmp_path / "model", tensors={"a": shared, "b": shared[:2]})
    tensors = load_bundle(tmp_path / "model", "forecaster").tensors
    torch.testing.assert_close(tensors["b"], tensors["a"][:2])


def test_a_model_is_overwritten_only_by_force(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    with pytest.raises(BundleError, match="exists already"):
        _save(tmp_path / "model", config={"horizon": 1})
    _save(tmp_path / "model", config={"horizon": 1}, force=True)
    assert load_bundle(tmp_path / "model", "forecaster").config == {"horizon": 1}


def test_force_takes_nothing_away_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("five years")
    with pytest.raises(BundleError, match="holds other files"):
        _save(tmp_path, force=True)
    assert (tmp_path / "thesis.tex").exists()


def test_what_is_no_model_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model folder .*none does not exist"):
        load_bundle(tmp_path / "none", "forecaster")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"file is a file"):
        load_bundle(tmp_path / "file", "forecaster")
    with pytest.raises(BundleError, match=r"is not a model folder: it has no config.json"):
        load_bundle(tmp_path, "forecaster")


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    with pytest.raises(BundleError, match="kind 'forecaster', not 'dna-classifier'"):
        load_bundle(tmp_path / "model", "dna-classifier")


@pytest.mark.parametrize("name", ["model.safetensors", "preprocess.json", "metrics.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    _save(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(tmp_path / "model", "forecaster")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocess.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    _save(tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        load_bundle(tmp_path / "model", "forecaster")


@pytest.mark.parametrize("name", ["model.safetensors", "preprocess.json", "metrics.json"])
def test_a_file_of_another_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    _save(tmp_path / "model")
    other = {"tensors": {"weight": torch.ones(3, 2), "count": torch.tensor(7)}}
    _save(tmp_path / "other", **other, preprocess={"mean": 1}, metrics={"mse": 1})
    (tmp_path / "other" / name).replace(tmp_path / "model" / name)
    with pytest.raises(BundleError, match=f"{name} is damaged, or belongs to another model"):
        load_bundle(tmp_path / "model", "forecaster")


def test_a_folder_without_digests_is_loaded(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    head = json.loads(path.read_text())
    del head["sha256"]
    path.write_text(json.dumps(head))
    assert load_bundle(tmp_path / "model", "forecaster").metrics["mse"] == 0.25


def test_metrics_can_be_added(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    add_metrics(tmp_path / "model", {"split": "8,1,1"})
    assert load_bundle(tmp_path / "model", "forecaster").metrics["split"] == "8,1,1"


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(BundleError, match="layout 2, this titans-seq reads 1"):
        load_bundle(tmp_path / "model", "forecaster")


def test_a_full_disk_is_told_under_the_name_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for writing, file in ((write_whole, ""), (write_whole_folder, "file")):
        place = tmp_path / writing.__name__
        told = re.escape(f"No space left on device: '{place}'")
        with pytest.raises(OSError, match=told), writing(place) as temporary:
            (temporary / file).write_text("new")
    assert not list(tmp_path.iterdir())
