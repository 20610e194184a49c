"""What a trained network does with a text of any length: read it, and go on with it.

Both carry the state, so that their memory does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.language.corpus import BEGIN, as_batch
from titans_seq.language.needles import LETTERS, Bytes
from titans_seq.language.network import TokenNetwork
from titans_seq.nn.state import StackState

PIECE = 2048
"""Bytes that are handed over at a time; the state is carried from piece to piece."""

Losses = npt.NDArray[np.float64]


@torch.inference_mode()
def losses(network: TokenNetwork, text: Bytes) -> Losses:
    """Return the surprise of each byte, in bits, the memory carried from first to last."""
    device, state, before, found = _device(network), None, BEGIN, []
    for start in range(0, len(text), PIECE):
        piece = torch.from_numpy(np.asarray(text[start : start + PIECE]).astype(np.int64))[None]
        tokens = torch.cat([torch.tensor([[before]]), piece[:, :-1]], dim=1)
        scores, state = network(tokens.to(device), state, keep_state=True)
        found.append(bits(scores, piece)[0])
        before = int(piece[0, -1])
    return np.concatenate(found) if found else np.empty(0)


@torch.inference_mode()
def losses_apart(network: TokenNetwork, text: Bytes, length: int, rows: int = 32) -> Losses:
    """Return the same where nothing is carried from one stretch of ``length`` bytes on."""
    whole = len(text) // length * length
    stretches = np.asarray(text[:whole]).reshape(-1, length)
    pieces = [stretches[start : start + rows] for start in range(0, len(stretches), rows)]
    if whole < len(text):
        pieces.append(np.asarray(text[whole:])[None])
    device, found = _device(network), []
    for piece in pieces:
        batch = as_batch(piece)
        found.append(bits(network(batch["tokens"].to(device))[0], batch["targets"]).ravel())
    return np.concatenate(found) if found else np.empty(0)


@torch.inference_mode()
def retrieved(network: TokenNetwork, rows: Bytes) -> float:
    """Return the share of the last ``LETTERS`` bytes of all rows that were the likeliest ones.

    Parameters
    ----------
    network
        Trained.
    rows
        (rows, time), see :func:`titans_seq.language.needles.haystacks`.
    """
    batch, device, state = as_batch(rows), _device(network), None
    guesses = []
    for piece in batch["tokens"].split(PIECE, dim=1):
        scores, state = network(piece.to(device), state, keep_state=True)
        guesses.append(scores[:, -LETTERS:].argmax(dim=-1).cpu())
    guess = torch.cat(guesses, dim=1)[:, -LETTERS:]
    return float((guess == batch["targets"][:, -LETTERS:]).double().mean())


@torch.inference_mode()
def continuation(
    network: TokenNetwork, prompt: Bytes, *, temperature: float, generator: torch.Generator
) -> Iterator[int]:
    """Yield bytes that go on from a prompt, without end.

    Parameters
    ----------
    network
        Trained.
    prompt
        What stands before; may be empty.
    temperature
        0 takes the likeliest byte, 1 draws as the network says.
    generator
        Where the chance comes from.
    """
    device = _device(network)
    state: StackState | None = None
    tokens = np.concatenate([[BEGIN], prompt]).astype(np.int64)
    for start in range(0, len(tokens), PIECE):
        piece = torch.from_numpy(tokens[start : start + PIECE])[None]
        scores, state = network(piece.to(device), state, keep_state=True)
    while True:
        one = _choose(scores[0, -1].cpu(), temperature, generator)
        yield one
        scores, state = network(torch.tensor([[one]], device=device), state, keep_state=True)


def bits(scores: Tensor, targets: Tensor) -> Losses:
    """Return what each target cost, in bits."""
    chances = scores.cpu().double().log_softmax(dim=-1)
    nats = -chances.gather(-1, targets[..., None]).squeeze(-1)
    found: Losses = (nats / np.log(2)).numpy()
    return found


def _device(network: TokenNetwork) -> torch.device:
    return network.answer.weight.device


def _choose(scores: Tensor, temperature: float, generator: torch.Generator) -> int:
    if not temperature:
        return int(scores.argmax())
    chances = (scores.double() / temperature).softmax(dim=-1)
    return int(torch.multinomial(chances, 1, generator=generator))
