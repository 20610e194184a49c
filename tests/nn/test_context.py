"""Memory as context: the equations, written out, and what a young mixer writes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_seq import TitansConfig
from titans_seq.nn.context import ContextMixer
from titans_seq.ops.attention.rotary import prefix_keys, turn, turns

DIM, HEADS, SEGMENT = 8, 2, 6


def mixer(dim: int = DIM, segment_len: int = SEGMENT) -> ContextMixer:
    """Return a mixer with learned weights that are not all ones."""
    torch.manual_seed(0)
    config = TitansConfig(
        dim=dim, heads=HEADS, variant="mac", segment_len=segment_len, chunk_size=4,
        persistent_tokens=3,
    )  # fmt: skip
    made = ContextMixer(config).double()
    for name, one in made.named_parameters():
        if "norm" in name or name.startswith("join"):
            torch.nn.init.normal_(one, mean=1.0, std=0.3)
    return made


def by_the_equations(mixer: ContextMixer, tokens: Tensor) -> Tensor:
    """Return equations 21 to 25 with residual connections, a segment and a token at a time."""
    state, outputs = None, []
    for segment in tokens.split(SEGMENT, dim=1):
        carry = None if state is None else state.carry
        weights = mixer.memory.weights(carry, len(segment))
        asked = mixer.query(segment).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        context = mixer.norm(mixer.memory.read(asked, weights))
        y = torch.stack(
            [attend(mixer, context, segment, place) for place in range(segment.shape[1])], dim=1
        )
        recalled, state = mixer.memory(mixer.write_norm(segment + y), state)
        gate = torch.sigmoid(mixer.join.attended(y))
        outputs.append(y + (gate * mixer.join.recalled(recalled)) @ mixer.join.out.weight.T)
    return torch.cat(outputs, dim=1)


def attend(mixer: ContextMixer, context: Tensor, segment: Tensor, place: int) -> Tensor:
    """Return what one token sees of the persistent tokens, the context and its segment."""
    width = DIM // HEADS
    table = turns(torch.arange(place + 1), width, segment.dtype)
    query, key, value = mixer.attention.project.weight.chunk(3)

    def heads(rows: Tensor, weight: Tensor) -> Tensor:
        return (rows @ weight.T).unflatten(-1, (HEADS, width)).transpose(-2, -3)

    persistent = mixer.tokens.expand(len(segment), -1, -1)
    sources = [context[:, : place + 1], segment[:, : place + 1]]
    keys = [prefix_keys(heads(persistent, key)), *(turn(heads(s, key), table) for s in sources)]
    values = [heads(persistent, value), *(heads(s, value) for s in sources)]
    asks = turn(heads(segment[:, : place + 1], query), table)[:, :, -1:]
    shares = (asks @ torch.cat(keys, 2).mT * width**-0.5).softmax(-1)
    seen = (shares @ torch.cat(values, 2)).transpose(1, 2).flatten(2)
    return F.linear(seen, mixer.attention.out.weight)[:, 0]


def test_agrees_with_the_equations_in_values_and_gradients() -> None:
    made = mixer()
    tokens = torch.randn(2, 20, DIM, dtype=torch.float64, requires_grad=True)
    problem = [tokens, *made.parameters()]
    fast, _ = made(tokens, None, None)
    slow = by_the_equations(made, tokens)
    torch.testing.assert_close(fast, slow)

    weight = torch.randn_like(fast)
    fast_grads = torch.autograd.grad((fast * weight).sum(), problem)
    slow_grads = torch.autograd.grad((slow * weight).sum(), problem)
    torch.testing.assert_close(fast_grads, slow_grads)


def written(mixer: ContextMixer, tokens: Tensor) -> Tensor:
    """Return what the memory reads."""
    seen: list[Tensor] = []
    handle = mixer.memory.gates.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    mixer(tokens, None, None)
    handle.remove()
    return torch.cat(seen, dim=1)


def test_a_young_mixer_writes_what_tells_its_tokens_apart() -> None:
    torch.manual_seed(0)
    config = TitansConfig(dim=64, heads=4, variant="mac", segment_len=32)
    tokens = torch.randn(1, 96, 64)
    read = F.normalize(written(ContextMixer(config), tokens)[0], dim=-1)
    likeness = read @ F.normalize(tokens[0], dim=-1).T
    assert likeness.diagonal().min() > 0.8
    assert (likeness.argmax(0) == torch.arange(96)).all()


def test_what_is_written_keeps_its_scale_however_attention_grows() -> None:
    made = mixer()
    torch.nn.init.ones_(made.write_norm.weight)
    tokens = torch.randn(2, 20, DIM).double()
    for scale in (0.0, 1.0, 1e4):
        torch.nn.init.normal_(made.attention.out.weight, std=scale)
        size = written(made, tokens).square().mean(-1).sqrt()
        torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-3, atol=1e-3)
