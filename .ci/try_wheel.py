"""Tries an installed wheel without extras: run it in a folder that holds no checkout."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import titans_seq


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``titans-seq`` with these words."""
    return subprocess.run(["titans-seq", *words], capture_output=True, text=True, check=False)


def main() -> None:
    """Import the package, run the command, read the embedded data, learn from one sequence."""
    version = importlib.metadata.version("titans-seq")
    assert "site-packages" in str(titans_seq.__file__), titans_seq.__file__
    assert not {"torch", "pandas"} & set(sys.modules), "import titans_seq loads too much"
    assert command("--version").stdout.split()[-1] == version
    for words in ([], ["forecast"], ["dna"], ["forecast", "fit"], ["dna", "predict"]):
        answer = command(*words, "--help")
        assert answer.returncode == 0, answer.stderr
        assert "Usage: titans-seq" in answer.stdout

    # Neither head's packages are here: one line that says what to install, and exit code 5.
    fasta = Path("one.fa")
    fasta.write_text(">a label=x\nACGT\n")
    answer = command("dna", "fit", str(fasta), "--model", "m")
    assert answer.returncode == 5, answer
    assert "titans-seq[" in answer.stderr, answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr

    from titans_seq.evaluation.cards import data_path, list_cards, read_card

    for name in list_cards():
        card = read_card(name)
        for file, described in card.files.items():
            path = data_path(card, file)
            with gzip.open(path, "rt", encoding="utf-8") as handle:
                if ".fa" in path.suffixes:
                    rows = sum(line.startswith(">") for line in handle)
                else:
                    rows = sum(1 for _ in csv.reader(handle)) - 1
            assert rows == described.rows, (name, file)
    assert {"nyc13", "ecoli_coding_vs_intergenic"} <= set(list_cards())

    import torch

    from titans_seq import TitansBackbone, TitansConfig

    backbone = TitansBackbone(TitansConfig(dim=16, heads=2))
    output, _ = backbone(torch.randn(1, 70, 16))
    output.square().mean().backward()
    print(f"titans-seq {version}: the wheel works")


main()
