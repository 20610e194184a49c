"""Read an endless stream with carried state: memory, speed and finiteness along it.

    python benchmarks/stream.py [--tokens 2000000] [--variants mac lmm] [--out FILE]
    python benchmarks/stream.py --hostile [--tokens 100000] [--chunks 16 64]

A process of its own reads the stream of each variant and chunk, in pieces, under
inference_mode. Peak memory is measured at 10,000 tokens and at the end, speed for each tenth
of the stream. With --hostile every variant reads six streams at once: one token repeated, values
of 1e12, noise, alternating signs, zeros, and silence with spikes. Exit status 1 if anything is
not finite.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_cells.machine import environment, peak_megabytes

from titans_seq.config import VARIANTS, TitansConfig, Variant
from titans_seq.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from titans_seq.nn.state import StackState

EARLY = 10_000
"""Tokens after which peak memory is first measured."""

HOSTILE = ("repeated", "huge", "noise", "alternating", "zeros", "spikes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One stream, and the backbone that reads it."""

    variant: Variant
    chunk: int
    tokens: int
    piece: int
    dim: int
    heads: int
    threads: int
    hostile: bool
    seed: int


def pieces(stream: Stream) -> Iterator[Tensor]:
    """Yield the stream piece by piece, (rows, tokens, dim), with new numbers in each."""
    import torch

    source = torch.Generator().manual_seed(stream.seed)
    repeated = torch.randn(1, stream.dim, generator=source)
    for first in range(0, stream.tokens, stream.piece):
        time = min(stream.piece, stream.tokens - first)
        noise = torch.randn(time, stream.dim, generator=source)
        if not stream.hostile:
            yield noise.unsqueeze(0)
            continue
        position = torch.arange(first, first + time).unsqueeze(-1)
        rows = {
            "repeated": repeated.expand(time, -1),
            "huge": 1e12 * noise,
            "noise": noise,
            "alternating": torch.where(position % 2 == 0, repeated, -repeated),
            "zeros": torch.zeros_like(noise),
            "spikes": torch.where(position % 997 == 0, 1e6 * noise, 0.0),
        }
        yield torch.stack([rows[name] for name in HOSTILE])


def read(stream: Stream) -> dict[str, Any]:
    """Read a whole stream in this process."""
    import torch

    from titans_seq import TitansBackbone

    if stream.threads:
        torch.set_num_threads(stream.threads)
    torch.manual_seed(stream.seed)
    config = TitansConfig(
        dim=stream.dim, layers=2, heads=stream.heads, variant=stream.variant,
        segment_len=stream.chunk, window=stream.chunk, chunk_size=stream.chunk,
    )  # fmt: skip
    backbone = TitansBackbone(config).eval()
    record: dict[str, Any] = {"import_mb": peak_megabytes(), "threads": torch.get_num_threads()}
    state: StackState | None = None
    done, largest, finite, marks = 0, 0.0, True, [(0, time.perf_counter(), time.process_time())]
    for piece in pieces(stream):
        with torch.inference_mode():
            y, state = backbone(piece, state)
        assert state is not None
        done += piece.shape[1]
        size = float(y.abs().max())
        finite, largest = finite and math.isfinite(size), max(largest, size)
        marks.append((done, time.perf_counter(), time.process_time()))
        if "first_mb" not in record and done >= min(EARLY, stream.tokens):
            record |= {"first_mb": peak_megabytes(), "first_at": done, "first_bytes": state.nbytes}
    assert state is not None
    state_sizes = [
        float(tensor.abs().max()) for tensor in state.tensors() if tensor.is_floating_point()
    ]
    return record | {
        "peak_mb": peak_megabytes(),
        "state_bytes": state.nbytes,
        "finite": finite and all(map(math.isfinite, state_sizes)),
        "largest_output": largest,
        "largest_state": max(state_sizes),
        "seconds": marks[-1][1] - marks[0][1],
        "cpu_seconds": marks[-1][2] - marks[0][2],
        **speeds(marks),
    }


def speeds(marks: list[tuple[int, float, float]]) -> dict[str, Any]:
    """Return tokens a second of each tenth of the stream, by wall clock and by CPU time.

    Parameters
    ----------
    marks
        Tokens read, wall clock and CPU time, at the start and after every piece.
    """
    count = min(10, len(marks) - 1)
    borders = [marks[round(part * (len(marks) - 1) / count)] for part in range(count + 1)]
    spans = list(itertools.pairwise(borders))
    clock = [(after[0] - before[0]) / (after[1] - before[1]) for before, after in spans]
    cpu = [(after[0] - before[0]) / max(after[2] - before[2], 1e-9) for before, after in spans]
    return {
        "tokens_per_second": clock,
        "tokens_per_cpu_second": cpu,
        "fastest_over_slowest": max(clock) / min(clock),
        "fastest_over_slowest_cpu": max(cpu) / min(cpu),
    }


def read_apart(stream: Stream) -> dict[str, Any]:
    """Read a stream in a separate process."""
    worker = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(dataclasses.asdict(stream))],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    record: dict[str, Any] = dataclasses.asdict(stream) | json.loads(worker.stdout)
    record["peak_over_first"] = record["peak_mb"] / record["first_mb"]
    return record


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--hostile", action="store_true")
    add("--tokens", type=int, help="2,000,000; 100,000 a row with --hostile")
    add("--variants", nargs="+", choices=VARIANTS, help="mac lmm; all with --hostile")
    add("--chunks", type=int, nargs="+", help="chunk, segment and window; 64; 16 64 if hostile")
    add("--piece", type=int, default=5_000, help="tokens a call")
    add("--dim", type=int, default=64)
    add("--heads", type=int, default=4)
    add("--threads", type=int, default=0, help="0 leaves torch's default")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="results/stream-cpu.json or stream-hostile-cpu.json")
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    hostile = args.hostile
    args.tokens = args.tokens or (100_000 if hostile else 2_000_000)
    args.variants = args.variants or (list(VARIANTS) if hostile else ["mac", "lmm"])
    args.chunks = args.chunks or ([16, 64] if hostile else [64])
    name = "stream-hostile-cpu.json" if hostile else "stream-cpu.json"
    args.out = args.out or Path(__file__).parent / "results" / name
    return args


def line(record: dict[str, Any]) -> str:
    """Return one line of the printed table."""
    rates = record["tokens_per_second"]
    return (
        f"{record['variant']:10} {record['chunk']:5} {record['tokens']:9,} "
        f"{record['seconds']:7.1f} {min(rates):9,.0f} {max(rates):9,.0f} "
        f"{record['fastest_over_slowest_cpu']:7.2f} "
        f"{record['first_mb']:8.1f} {record['peak_mb']:8.1f} {record['peak_over_first']:6.3f} "
        f"{record['first_bytes']:9,} {record['state_bytes']:9,} "
        f"{record['largest_output']:9.3g} {record['largest_state']:9.3g}"
        f"  {'yes' if record['finite'] else 'NO'}"
    )


def main() -> int:
    """Read every stream, print and store the table."""
    args = arguments()
    if args.worker:
        print(json.dumps(read(Stream(**json.loads(args.worker)))))
        return 0
    print(
        f"{'variant':10} chunk    tokens seconds  slowest   fastest cpu f/s   MB 1e4   MB end"
        "  ratio  state 1e4 state end    output     state  finite"
    )
    records = []
    for variant in args.variants:
        for chunk in args.chunks:
            stream = Stream(
                variant=variant, chunk=chunk, tokens=args.tokens, piece=args.piece,
                dim=args.dim, heads=args.heads, threads=args.threads,
                hostile=args.hostile, seed=args.seed,
            )  # fmt: skip
            records.append(read_apart(stream))
            print(line(records[-1]), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {"environment": environment(), "streams": records})
    return int(not all(record["finite"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
