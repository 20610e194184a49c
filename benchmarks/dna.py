"""Speed of reading and predicting DNA beside other readers, and memory on long records.

    python benchmarks/dna.py [--parts reading windows predict genomes] [--data FOLDER]
        [--lengths 10000 ... 100000000] [--most 2000000] [--out FILE]

``reading``: MB of file per CPU second of every reader, for five kinds of file; ours also checks and
encodes each letter. ``windows``: one record of each length, checked, encoded and cut into
windows, without a network. ``predict``: the same record through the network of a
default classifier, with windows at such a stride that about ``--most`` letters reach the network
(all of a shorter record); once more with the memory carried along a record of that many letters.
``genomes``: E. coli and yeast from ``--data``, every letter through the network unless
``--stride`` says otherwise. Cells of the
last three parts run in a process each, so that peak memory is theirs alone. Results are added to
those in FILE. The other readers come with ``pip install 'titans-seq[bench]'``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from dna_parts import reading
from dna_parts.files import letters, write_record, write_shapes
from dna_parts.long_records import run_cell, run_in_process
from memory_cells.machine import environment

from titans_seq.files import write_json

PARTS = ("reading", "windows", "predict", "genomes")
GENOMES = {
    "E. coli": "ecoli_MG1655_U00096.3.fna.gz",
    "yeast": "sacCer3.fa.gz",
}
GOAL_MB = 600
"""Highest peak memory allowed for a process that reads a record of any length."""


def train_model(folder: Path, window: int) -> Path:
    """Train a classifier of the default size for one epoch; its accuracy does not matter."""
    from titans_seq.dna import TitansDNAClassifier

    sequences = [letters(window, seed).decode() for seed in range(64)]
    labels = ["more G" if text.count("G") > text.count("A") else "less G" for text in sequences]
    classifier = TitansDNAClassifier(max_epochs=1, random_state=0).fit(sequences, labels)
    classifier.save(folder / "model")
    return folder / "model"


def show(part: str, name: str, figures: dict[str, Any]) -> None:
    """Print the results of one cell in a line."""
    if part == "reading":
        shown = ", ".join(
            f"{reader} {speed['mb_per_cpu_second']:.0f}" for reader, speed in figures.items()
        )
        print(f"{part:8} {name:28} MB/s: {shown}", flush=True)
        return
    speed = figures.get("network_bp_per_second", figures.get("bp_per_cpu_second", 0))
    print(
        f"{part:8} {name:28} {speed:13,.0f} bp/s {figures['seconds']:8.1f} s "
        f"peak {figures['peak_mb']:6.0f} MB",
        flush=True,
    )


def cells(args: argparse.Namespace, folder: Path) -> Any:
    """Yield part, name and results of each cell, as they are measured."""
    if "reading" in args.parts:
        for name, path in write_shapes(folder, args.megabases).items():
            yield "reading", name, reading.measure(path, args.rounds)
    if set(args.parts) & {"predict", "genomes"}:
        model = str(train_model(folder, args.window))
    for length in args.lengths if set(args.parts) & {"windows", "predict"} else ():
        path = folder / f"{length}.fa"
        write_record(path, length)
        base = {"path": str(path), "length": length, "window": args.window}
        if "windows" in args.parts:
            yield (
                "windows",
                f"{length:,} bp",
                run_in_process(__file__, base | {"part": "windows"}),
            )
        if "predict" in args.parts:
            stride = max(args.window, length * args.window // args.most)
            cell = base | {"part": "predict", "model": model, "stride": stride, "carry": False}
            yield "predict", f"{length:,} bp", run_in_process(__file__, cell)
            if length <= args.most:
                yield (
                    "predict",
                    f"{length:,} bp, carried",
                    run_in_process(__file__, cell | {"stride": args.window, "carry": True}),
                )
        path.unlink()
    for name in args.genomes if "genomes" in args.parts else ():
        path = next(args.data.rglob(GENOMES[name]))
        cell = {"path": str(path), "window": args.window, "part": "genome", "model": model}
        yield (
            "genomes",
            name,
            run_in_process(__file__, cell | {"stride": args.stride or args.window, "carry": False}),
        )


def main() -> None:
    """Measure the parts named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--lengths", type=int, nargs="+", default=[10**k for k in range(4, 9)])
    add("--window", type=int, default=200)
    add("--stride", type=int, help="of `genomes`; the window if left out")
    add("--most", type=int, default=2_000_000, help="letters of a record through the network")
    add("--megabases", type=int, default=48, help="letters of a file of `reading`")
    add("--rounds", type=int, default=3)
    add("--genomes", nargs="+", choices=list(GENOMES), default=list(GENOMES))
    add("--data", type=Path, help="folder with the genomes' FASTA files")
    add("--out", type=Path, default=Path(__file__).parent / "results" / "dna-cpu.json")
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(run_cell(json.loads(args.worker))))
        return
    if "genomes" in args.parts and args.data is None:
        parser.error("--parts genomes needs --data")
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part, name, figures in cells(args, Path(folder)):
            show(part, name, figures)
            figures.pop("path", None)
            results.setdefault(part, {})[name] = figures
            results["environment"], results["goal_peak_mb"] = environment(), GOAL_MB
            write_json(args.out, results)


if __name__ == "__main__":
    main()
