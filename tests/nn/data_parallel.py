"""One of two processes that train on half a batch each; run by test_distributed.py.

    python data_parallel.py RANK STORE VARIANT...

Leaves with a message if the averaged gradients of the halves are not those of the batch.
"""

from __future__ import annotations

import copy
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from titans_seq import TitansBackbone, TitansConfig


def compare(variant: str, rank: int) -> None:
    """Compare gradients of one variant; each half has a mean loss of its own."""
    torch.manual_seed(0)
    config = TitansConfig(dim=8, heads=2, variant=variant, segment_len=4, window=4, chunk_size=4)  # type: ignore[arg-type]
    alone = TitansBackbone(config).double()
    shared = DistributedDataParallel(copy.deepcopy(alone))
    x = torch.randn(4, 10, 8).double()
    shared(x[2 * rank : 2 * rank + 2])[0].square().mean().backward()
    alone(x)[0].square().mean().backward()
    for (name, ours), theirs in zip(alone.named_parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(
            theirs.grad, ours.grad, rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
        )


def main() -> None:
    """Join the group, and compare every variant."""
    rank, store, variants = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        for variant in variants:
            compare(variant, rank)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
