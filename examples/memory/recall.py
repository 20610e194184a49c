"""
Recall facts from far outside the window
========================================

Attention sees its window and nothing before it. Here a fact is given once, at the beginning, and
queried long after it has left the window. Two small models, one with a memory and one without, are
trained on the same short sequences and then tested on sequences many times as long.
"""

# %%
# The task
# --------
# A sequence starts with two facts, each a key and its value; fillers follow, and at the end both
# keys appear again, in either order. The model must predict the value of each, one of eight.

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_seq import TitansBackbone, TitansConfig

KEYS, VALUES, FILLERS = 8, 8, 8
FACTS = 2


def draw(
    batch: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return tokens (batch, length) and the values of the keys in the last two."""
    tokens = torch.randint(
        KEYS + VALUES,
        KEYS + VALUES + FILLERS,
        (batch, length),
        generator=generator,
    )
    keys = torch.rand(batch, KEYS, generator=generator).argsort(1)[:, :FACTS]
    values = torch.randint(VALUES, (batch, FACTS), generator=generator)
    tokens[:, 0 : 2 * FACTS : 2], tokens[:, 1 : 2 * FACTS : 2] = (
        keys,
        values + KEYS,
    )
    order = torch.rand(batch, FACTS, generator=generator).argsort(1)
    tokens[:, -FACTS:] = keys.gather(1, order)
    return tokens, values.gather(1, order)


# %%
# Two models
# ----------
# Width, window and training are the same. ``lmm`` is the memory alone. ``attention`` is the control;
# it has two layers, because one layer cannot even associate a key with its value.

WINDOW = 16


class Recaller(nn.Module):
    """Predict a score for each value at the last tokens."""

    def __init__(self, variant: str, layers: int) -> None:
        super().__init__()
        config = TitansConfig(
            dim=32,
            layers=layers,
            heads=1,
            variant=variant,
            window=WINDOW,
            segment_len=WINDOW,
            rule="titans-exact",
            memory_depth=1,
            chunk_size=32,
        )
        self.embed = nn.Embedding(KEYS + VALUES + FILLERS, config.dim)
        self.backbone = TitansBackbone(config)
        self.answer = nn.Linear(config.dim, VALUES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores (batch, facts, values)."""
        hidden, _ = self.backbone(self.embed(tokens), keep_state=False)
        return self.answer(hidden[:, -FACTS:])


# %%
# Train on short sequences
# ------------------------
# Lengths are 8 to 64 tokens, at most four windows.


def train(model: Recaller, steps: int) -> None:
    """Train on new random sequences in every step."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=8e-3, weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 8e-3, total_steps=steps
    )
    for step in range(steps):
        longest = 8 + round(56 * min(1, 2 * step / steps))
        length = int(torch.randint(8, longest + 1, (), generator=generator))
        tokens, values = draw(32, length, generator)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), values.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


models = {}
for variant, layers in (("lmm", 1), ("attention", 2)):
    torch.manual_seed(0)
    models[variant] = Recaller(variant, layers)
    train(models[variant], steps=400)

# %%
# Test on long sequences
# ----------------------

lengths = [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
accuracy: dict[str, list[float]] = {name: [] for name in models}
with torch.inference_mode():
    for length in lengths:
        tokens, values = draw(
            100, length, torch.Generator().manual_seed(length)
        )
        for name, model in models.items():
            accuracy[name].append(
                float((model(tokens).argmax(-1) == values).float().mean())
            )

figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
for name, values_by_length in accuracy.items():
    axes.plot(lengths, values_by_length, marker="o", label=name)
axes.axhline(1 / VALUES, color="black", linestyle=":", label="chance")
axes.axvspan(0, WINDOW, color="0.92", label="window")
axes.axvline(64, color="0.6", linestyle="--", label="longest in training")
axes.set_xscale("log", base=2)
axes.set(xlabel="sequence length", ylabel="facts recalled", ylim=(0, 1.05))
axes.set_title(
    "Facts recalled by a memory and by attention with the same window"
)
axes.legend(loc="center right")
plt.show()

# %%
import pandas as pd

pd.DataFrame(accuracy, index=lengths).T.round(2)
