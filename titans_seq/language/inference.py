"""Score and continue texts of any length with a trained network, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.language.corpus import BEGIN, byte_batch
from titans_seq.language.needles import SECRET_LETTERS, ByteArray
from titans_seq.language.network import TokenNetwork
from titans_seq.nn.state import StackState

PIECE_BYTES = 2048
"""Bytes per call of the network; the state is carried from piece to piece."""


@torch.inference_mode()
def carried_losses(network: TokenNetwork, text: ByteArray) -> npt.NDArray[np.float64]:
    """Return the loss of each byte, in bits, with the memory carried from first to last."""
    device, state, previous = _device(network), None, BEGIN
    losses: list[npt.NDArray[np.float64]] = []
    for start in range(0, len(text), PIECE_BYTES):
        piece = np.asarray(text[start : start + PIECE_BYTES]).astype(np.int64)
        targets = torch.from_numpy(piece)[None]
        tokens = torch.cat([torch.tensor([[previous]]), targets[:, :-1]], dim=1)
        logits, state = network(tokens.to(device), state, keep_state=True)
        losses.append(loss_bits(logits, targets)[0])
        previous = int(targets[0, -1])
    return np.concatenate(losses) if losses else np.empty(0)


@torch.inference_mode()
def window_losses(
    network: TokenNetwork, text: ByteArray, length: int, batch_size: int = 32
) -> npt.NDArray[np.float64]:
    """Return the loss of each byte, in bits, with the memory reset every ``length`` bytes."""
    whole = len(text) // length * length
    windows = np.asarray(text[:whole]).reshape(-1, length)
    batches = [windows[start : start + batch_size] for start in range(0, len(windows), batch_size)]
    if whole < len(text):
        batches.append(np.asarray(text[whole:])[None])
    device = _device(network)
    losses: list[npt.NDArray[np.float64]] = []
    for rows in batches:
        batch = byte_batch(rows)
        logits, _ = network(batch["tokens"].to(device))
        losses.append(loss_bits(logits, batch["targets"]).ravel())
    return np.concatenate(losses) if losses else np.empty(0)


@torch.inference_mode()
def secret_accuracy(network: TokenNetwork, rows: ByteArray) -> float:
    """Return the share of the last ``SECRET_LETTERS`` bytes of all rows predicted correctly.

    Parameters
    ----------
    network
        Trained.
    rows
        (rows, time), see :func:`titans_seq.language.needles.haystacks`.
    """
    batch, device, state = byte_batch(rows), _device(network), None
    predicted = []
    for piece in batch["tokens"].split(PIECE_BYTES, dim=1):
        logits, state = network(piece.to(device), state, keep_state=True)
        predicted.append(logits[:, -SECRET_LETTERS:].argmax(dim=-1).cpu())
    last = torch.cat(predicted, dim=1)[:, -SECRET_LETTERS:]
    return float((last == batch["targets"][:, -SECRET_LETTERS:]).double().mean())


@torch.inference_mode()
def continuation(
    network: TokenNetwork, prompt: ByteArray, *, temperature: float, generator: torch.Generator
) -> Iterator[int]:
    """Yield bytes that continue a prompt, without end.

    Parameters
    ----------
    network
        Trained.
    prompt
        Text to continue; may be empty.
    temperature
        0 takes the most probable byte, 1 samples from the predicted distribution.
    generator
        Draws the bytes.
    """
    device = _device(network)
    state: StackState | None = None
    tokens = np.concatenate([[BEGIN], prompt]).astype(np.int64)
    for start in range(0, len(tokens), PIECE_BYTES):
        piece = torch.from_numpy(tokens[start : start + PIECE_BYTES])[None]
        logits, state = network(piece.to(device), state, keep_state=True)
    while True:
        byte = _sample(logits[0, -1].cpu(), temperature, generator)
        yield byte
        logits, state = network(torch.tensor([[byte]], device=device), state, keep_state=True)


def loss_bits(logits: Tensor, targets: Tensor) -> npt.NDArray[np.float64]:
    """Return the negative log-likelihood of each target, in bits."""
    log_probabilities = logits.cpu().double().log_softmax(dim=-1)
    nats = -log_probabilities.gather(-1, targets[..., None]).squeeze(-1)
    return np.asarray((nats / np.log(2)).numpy())


def _device(network: TokenNetwork) -> torch.device:
    return network.answer.weight.device


def _sample(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if not temperature:
        return int(logits.argmax())
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))
