"""The parts of the memory benchmark, on sizes that take no time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from memory_cells import subjects
from memory_cells.cells import SUBJECTS, Grid, Group, Shape, large_grid
from memory_cells.claims import check, ratio_of
from memory_cells.floor import floor_operations, operations
from memory_cells.running import Settings, ratio, run_group
from memory_cells.table import claim_lines, whole_table
from memory_cells.worker import reason

TINY: dict[str, Any] = {
    "dim": 8, "heads": 2, "depth": 2, "chunk": 4, "batch": 2, "time": 12, "expansion": 4.0,
}  # fmt: skip


def product(*sizes: int) -> float:
    """Return the operations of a matrix product (a x b) (b x c)."""
    rows, inner, columns = sizes
    return 2.0 * rows * inner * columns


@pytest.mark.parametrize("chunk", [1, 16, 64])
def test_the_floor_counts_the_products_of_one_chunk_of_a_deep_memory(chunk: int) -> None:
    width, hidden, heads, dim = 32, 128, 4, 128
    one_head = [
        product(chunk, width, hidden), product(chunk, hidden, width),  # keys
        product(chunk, width, hidden),  # errors, back through the last layer
        product(chunk, width, hidden), product(chunk, width, hidden),  # queries, first layer
        product(chunk, width, chunk), product(chunk, chunk, hidden),  # the chunk's own writes
        product(chunk, hidden, width), product(chunk, hidden, width),  # queries, last layer
        product(chunk, hidden, chunk), product(chunk, chunk, width),
        *[product(width, chunk, hidden)] * 4,  # the chunk's end, weights and momentum
        product(chunk, chunk, chunk),  # masks
    ]  # fmt: skip
    projections = [product(chunk, dim, 4 * dim), product(chunk, dim, 3 * heads)]
    sizes = dict(TINY, dim=dim, heads=heads, chunk=chunk)
    assert sum(operations(sizes).values()) * chunk == heads * sum(one_head) + sum(projections)


@pytest.mark.parametrize("chunk", [1, 16])
def test_the_floor_of_the_exact_form_counts_its_solve(chunk: int) -> None:
    width, heads = 32, 4
    one_head = [
        *[product(chunk, width, width)] * 6,  # keys and queries through W and S, the end
        product(chunk, width, chunk), product(chunk, width, chunk), product(chunk, chunk, width),
        0.5 * product(chunk, chunk, width),  # a triangular solve
        product(chunk, chunk, chunk),
    ]  # fmt: skip
    sizes = dict(TINY, dim=128, heads=heads, chunk=chunk, depth=1, time=chunk, batch=1)
    assert floor_operations("ours-exact-op", "forward", sizes) == heads * sum(one_head)
    assert floor_operations("ours-exact-op", "train", sizes) == 3 * heads * sum(one_head)


def test_decoding_and_peers_have_no_floor() -> None:
    assert floor_operations("ours-titans", "decode", TINY) is None
    assert floor_operations("fla-op", "train", TINY) is None


def test_a_slow_moment_that_hits_both_leaves_the_ratio_alone() -> None:
    assert ratio({1: 2.0, 2: 20.0, 3: 2.0}, {1: 1.0, 2: 10.0, 3: 1.0}) == 2.0


def test_subjects_without_a_common_turn_are_compared_by_their_medians() -> None:
    assert ratio({0: 30.0}, {1: 1.0, 2: 3.0, 3: 2.0}) == 15.0


def test_a_training_job_returns_what_a_reading_job_returns() -> None:
    read = subjects.build("ours-titans", "forward", TINY, seed=0)(12)
    train = subjects.build("ours-titans", "train", TINY, seed=0)(12)
    torch.testing.assert_close(train, read)


def test_a_training_job_gives_every_parameter_and_the_input_a_gradient() -> None:
    module, step = subjects.LAYER_MAKERS["ours-titans"](TINY)
    seen: list[torch.Tensor] = []

    def watched(tokens: torch.Tensor, state: Any) -> Any:
        seen.append(tokens)
        return step(tokens, state)

    subjects.training(module, watched, torch.randn(2, 12, 8))(12)
    assert all(one.grad is not None for one in module.parameters())
    assert seen[0].grad is not None


def test_a_decode_job_goes_on_from_the_state_of_the_tokens_before() -> None:
    _, step = subjects.LAYER_MAKERS["ours-titans"](TINY)
    past, x = torch.randn(2, 4, 8), torch.randn(2, 5, 8)
    last = subjects.decoding(step, x, past)(5)
    with torch.no_grad():
        whole, _ = step(torch.cat([past, x], dim=1), None)
    torch.testing.assert_close(last, whole[:, -1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["forward", "train", "decode"])
@pytest.mark.parametrize(
    ("subject", "package"),
    [
        ("titans-pytorch-refresh", "titans_pytorch"),
        ("titans-pytorch-default", "titans_pytorch"),
        ("titans-unofficial", "titans"),
    ],
)
def test_a_peer_reads_what_ours_reads(subject: str, package: str, mode: str) -> None:
    pytest.importorskip(package)
    y = subjects.build(subject, mode, TINY, seed=0)(12)
    assert y.shape == (2, 1 if mode == "decode" else 12, 8)
    assert y.abs().sum() > 0


@pytest.mark.parametrize("chunk", [1, 5, 12])
@pytest.mark.filterwarnings("ignore")  # fla-core warns of a machine without a GPU
def test_both_operators_compute_the_same(chunk: int) -> None:
    pytest.importorskip("fla")
    torch.manual_seed(0)
    q, k, v, *rates = subjects.problem(TINY)
    theirs = subjects.fla_reference(q, k, v, rates, chunk)
    q, k, v, *rates = (one.transpose(1, 2) for one in (q, k, v, *rates))
    ours = subjects.ours_exact(q, k, v, rates, chunk).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def group(**changes: Any) -> Group:
    """Return a group of one subject."""
    return Group(mode="forward", shape=Shape(**dict(TINY, **changes)), subjects=("ours-titans",))


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_a_cell_tells_its_speed_its_peak_and_its_share_of_the_floor(clock: str) -> None:
    (record,) = run_group(group(), Settings(rounds=1, turn=0.0, clock=clock))
    assert record["status"] == "ok"
    assert record["finite"]
    assert record["tokens_per_second"] == pytest.approx(24 / record["median_seconds"])
    assert record["peak_mb"] >= record["import_mb"] > 0
    assert record["share_of_floor"] > 0


def test_a_cell_that_takes_too_long_is_noted() -> None:
    (record,) = run_group(group(), Settings(limit=0.01))
    assert record["status"] == "too slow: over 0.01 s"


@pytest.mark.slow
def test_a_cell_that_needs_too_much_memory_is_noted() -> None:
    (record,) = run_group(group(time=10**9), Settings(memory_limit=4000))
    assert record["status"] == "out of memory"


def test_an_absent_peer_is_named() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        __import__("a_peer_that_nobody_has")
    assert reason(caught.value) == "not installed: a_peer_that_nobody_has"


def test_the_grid_leaves_out_what_makes_no_sense() -> None:
    grid = Grid(
        dim=8, heads=2, depths=(1, 2), chunks=(4, 8), batches=(1,), times=(16, 8),
        modes=("train", "decode"), subjects=SUBJECTS, decode_time=3,
    )  # fmt: skip
    groups = list(grid.groups())
    keys = [one.key(subject) for one in groups for subject in one.subjects]
    assert len(keys) == len(set(keys))
    assert [one.shape.time for one in groups] == sorted(
        (one.shape.time for one in groups), key=[8, 16, 3].index
    )
    for one in groups:
        if one.shape.depth == 2:
            assert not {"ours-exact", "ours-exact-op", "fla-op"} & set(one.subjects)
        if one.mode == "decode":
            assert "ours-exact-op" not in one.subjects
        assert ("titans-unofficial" in one.subjects) <= (one.shape.chunk == 8)


def cell(subject: str, seconds: float, status: str = "ok", **changes: Any) -> dict[str, Any]:
    """Return a made-up cell of training at depth 2."""
    shape = Shape(**dict(TINY, dim=128, chunk=64, batch=1, time=1024) | changes)
    one = Group(mode="train", shape=shape, subjects=(subject,))
    return {
        "key": one.key(subject), "subject": subject, "mode": "train", **one.sizes(),
        "status": status, "measured": "now", "median_seconds": seconds, "finite": True,
        "seconds_by_round": {"1": seconds}, "peak_mb": 1.0, "tokens_per_second": 1 / seconds,
    }  # fmt: skip


def verdicts(*cells: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to the claim about chunk 64, batch 1, depth 2."""
    answers = check({one["key"]: one for one in cells})
    (answer,) = [
        one for one in answers if one["claim"].startswith("train, chunk 64, batch 1, depth 2")
    ]
    return answer


PEER = "titans-pytorch-refresh"


def test_a_claim_holds_by_its_worst_cell() -> None:
    fast = [cell("ours-titans", 1.0), cell(PEER, 9.0)]
    slow = [cell("ours-titans", 1.0, time=256), cell(PEER, 2.4, time=256)]
    assert verdicts(*fast)["holds"]
    answer = verdicts(*fast, *slow)
    assert not answer["holds"]
    assert answer["worst"] == 2.4
    assert answer["where"] == slow[0]["key"]


def test_a_claim_falls_short_where_ours_fails_and_not_where_the_peer_does() -> None:
    good = [cell("ours-titans", 1.0), cell(PEER, 9.0)]
    dead_peer = [cell("ours-titans", 1.0, time=256), cell(PEER, 1.0, "too slow", time=256)]
    dead_ours = [cell("ours-titans", 1.0, "too slow", time=512), cell(PEER, 1.0, time=512)]
    answer = verdicts(*good, *dead_peer)
    assert answer["holds"]
    assert answer["peer_failed"] == [dead_peer[0]["key"]]
    assert verdicts(*good, *dead_ours)["holds"] is False


def test_a_claim_without_cells_is_neither_kept_nor_broken() -> None:
    assert verdicts()["holds"] is None


def test_cells_of_two_runs_are_compared_by_their_medians() -> None:
    ours, peer = cell("ours-titans", 1.0), cell(PEER, 3.0)
    peer |= {"measured": "later", "median_seconds": 4.0}
    assert ratio_of(ours, PEER, {one["key"]: one for one in (ours, peer)}) == 4.0


def test_the_large_cells_are_those_that_the_claims_speak_of() -> None:
    for one in large_grid(("ours-titans",), ["forward", "train", "decode"]).groups():
        made = cell("ours-titans", 1.0, **one.sizes()) | {"mode": one.mode, "share_of_floor": 0.3}
        (answer,) = [
            a for a in check({made["key"]: made}) if "dim 512" in a["claim"] and a["cells"]
        ]
        assert answer["claim"].startswith(one.mode)
        assert not answer["holds"]


def test_the_table_names_every_cell_and_every_claim() -> None:
    made = [
        cell("ours-titans", 1.0),
        cell(PEER, 9.0),
        cell("ours-titans", 1.0, "too slow", chunk=16),
    ]
    cells = {one["key"]: one for one in made}
    text = whole_table(cells)
    assert "refresh 9.00" in text
    assert "too slow" in text
    lines = claim_lines(check(cells))
    assert "holds        train, chunk 64, batch 1, depth 2" in lines
    assert "not measured decode" in lines
