"""Tries an installed wheel in a folder that holds no checkout: ``try_wheel.py core`` or ``all``."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import titans_seq

EMBEDDED = {"nyc13": ("hourly",), "ecoli_coding_vs_intergenic": ("train", "test")}


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``titans-seq`` with these words."""
    return subprocess.run(["titans-seq", *words], capture_output=True, text=True, check=False)


def done(*words: str) -> str:
    """Run ``titans-seq`` and return what it printed; it must end well."""
    answer = command(*words)
    assert answer.returncode == 0, (words, answer.stderr)
    return answer.stdout


def try_core() -> None:
    """Without extras: import, help, embedded data, the backbone; heads say what they lack."""
    version = importlib.metadata.version("titans-seq")
    assert "site-packages" in str(titans_seq.__file__), titans_seq.__file__
    assert not {"torch", "pandas"} & set(sys.modules), "import titans_seq loads too much"
    assert done("--version").split()[-1] == version
    assert "compiled memory      built" in command("doctor").stdout
    for words in ([], ["forecast"], ["dna"], ["forecast", "fit"], ["dna", "predict"]):
        assert "Usage: titans-seq" in done(*words, "--help")

    for head, data in (("dna", embedded("ecoli_coding_vs_intergenic", "test")),
                       ("forecast", embedded("nyc13", "hourly"))):  # fmt: skip
        more = ("--horizon", "3") if head == "forecast" else ()
        answer = command(head, "fit", str(data), *more, "--model", "m")
        assert answer.returncode == 5, answer
        assert "pip install 'titans-seq[" in answer.stderr, answer.stderr
        assert answer.stderr.count("\n") == 1, answer.stderr

    import torch

    from titans_seq import TitansBackbone, TitansConfig

    backbone = TitansBackbone(TitansConfig(dim=16, heads=2))
    output, _ = backbone(torch.randn(1, 70, 16))
    output.square().mean().backward()


def embedded(name: str, file: str) -> Path:
    """Return a file of an embedded data set, after counting its rows."""
    from titans_seq.evaluation import data_path, read_card

    card = read_card(name)
    path = data_path(card, file)
    assert "site-packages" in str(path), path
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        if ".fa" in path.suffixes:
            rows = sum(line.startswith(">") for line in handle)
        else:
            rows = sum(1 for _ in csv.reader(handle)) - 1
    assert rows == card.files[file].rows, (path, rows)
    return path


def try_all() -> None:
    """With all extras: fit, evaluate and predict with both heads."""
    assert "ready" in done("doctor")
    data = str(embedded("nyc13", "hourly"))
    columns = ("--id-col", "airport", "--time-col", "ds_utc", "--target-col", "late")
    short = ("--horizon", "24", "--context-length", "48", "--max-epochs", "1")
    done("forecast", "fit", data, *columns, *short, "--split", "0.2,0.1,0.7", "--model", "late")
    assert "titans-seq" in done("forecast", "evaluate", data, "--model", "late", "--stride", "97")
    assert done("forecast", "predict", data, "--model", "late").count("\n") == 1 + 3 * 24

    data = str(embedded("ecoli_coding_vs_intergenic", "test"))
    done("dna", "fit", data, "--max-epochs", "1", "--model", "coding")
    done("dna", "predict", data, "--model", "coding", "--out", "labels.tsv")
    assert Path("labels.tsv").read_text("utf-8").startswith("id\tlabel\t")


{"core": try_core, "all": try_all}[sys.argv[1]]()
print(f"the wheel works ({sys.argv[1]})")
