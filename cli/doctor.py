"""``titans-seq doctor``: versions, devices, the data folder, and what works here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

import click

from titans_seq.exceptions import MissingExtraError

CORE = ("titans-seq", "torch", "numpy", "click", "einops", "jaxtyping", "safetensors")
SHARED = {"lightning": "lightning", "matplotlib": "matplotlib", "pandas": "pandas",
          "pyarrow": "pyarrow", "scikit-learn": "sklearn", "tqdm": "tqdm"}  # fmt: skip
HEADS = {
    "forecasting": {**SHARED, "pytorch-forecasting": "pytorch_forecasting"},
    "dna": {**SHARED, "biopython": "Bio"},
}
"""What each extra needs: names of distributions, and of the modules in them."""


@click.command()
def doctor() -> None:
    """Show versions, devices, the data folder, and what works.

    Ends with exit code 5 if neither head can be used.
    """
    from titans_seq.evaluation.data.locations import cache_folder

    _line("python", f"{platform.python_version()} on {platform.platform()}")
    for name in CORE:
        _line(name, _version(name))
    for name in sorted(HEADS["forecasting"].keys() | HEADS["dna"].keys()):
        _line(name, _version(name))
    for device in _devices():
        _line(*device)
    _line("compiled memory", _compiled())
    for rule in _rules():
        _line(*rule)
    _line("data folder", _data_folder())
    _line("cache", str(cache_folder()))
    works = []
    for head, needs in HEADS.items():
        missing = [name for name, module in needs.items() if not importlib.util.find_spec(module)]
        hint = f"needs {', '.join(missing)}: pip install 'titans-seq[{head}]'"
        _line(head, hint if missing else "ready")
        works.append(not missing)
    if not any(works):
        raise MissingExtraError("what either head needs", extra="all")


def _line(name: str, text: str) -> None:
    click.echo(f"{name:<20} {text}")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[tuple[str, str]]:
    """Return each device with the verdict of a small training step on it."""
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    found = [("cpu", f"{torch.get_num_threads()} threads, {_try_out('cpu')}")]
    for name in names:
        what = torch.cuda.get_device_name(name) if name.startswith("cuda") else "Apple GPU"
        found.append((name, f"{what}, {_try_out(name)}"))
    return found


def _try_out(device: str) -> str:
    """Read and learn from one random sequence on ``device``; return how it went."""
    import torch

    from titans_seq import NeuralMemory

    try:
        memory = NeuralMemory(dim=16, heads=2, depth=2, chunk_size=8).to(device)
        output, _ = memory(torch.ones(1, 24, 16, device=device))
        output.sum().backward()
    except Exception as error:  # whatever it is, the doctor reports it and goes on
        return f"fails: {type(error).__name__}: {error}"
    return "works" if bool(torch.isfinite(output).all()) else "fails: results are not finite"


def _compiled() -> str:
    """Return whether the memory's compiled form was built with the package."""
    from titans_seq.ops.cpu import library as kernels

    if kernels.library() is None:
        return (
            "not built, or of another version: install again where there is a C compiler; "
            "the memory is slower"
        )
    return "built"


def _rules() -> list[tuple[str, str]]:
    """Return, for each rule and device, its back end and why faster ones do not run it."""
    import torch

    from titans_seq.nn.rules import RULES
    from titans_seq.ops.memory import choose_back_end, example_call, reasons_against_faster

    lines = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, rule in RULES.items():
            depth = 1 if rule.update.gradient_point == "token" else 2
            call = example_call(rule.update, depth, device)
            text = f"runs on the {choose_back_end(call).name} back end"
            names: dict[str, list[str]] = {}
            for back_end, reason in reasons_against_faster(call).items():
                names.setdefault(reason, []).append(back_end)
            for reason, back_ends in names.items():
                text += f"; not {' or '.join(back_ends)}: {reason}"
            lines.append((f"{name} on {device}", text))
    return lines


def _data_folder() -> str:
    folder = os.environ.get("TITANS_SEQ_DATA")
    if not folder:
        return "not set (TITANS_SEQ_DATA); the embedded data sets are always there"
    return folder if Path(folder).is_dir() else f"{folder} does not exist (TITANS_SEQ_DATA)"
