"""Compiled code as operators of torch's: opaque to ``torch.compile``, of known shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.cpu import library as kernels

SPACE = "titans_seq"
"""Namespace of the operators: ``torch.ops.titans_seq``."""


BUILT = kernels.library() is not None
"""A constant, which a compiler can read; to mark a function as one would import the compiler."""


def at_hand() -> bool:
    """Return whether the compiled code was built; compilers may call this."""
    return BUILT if torch.compiler.is_compiling() else kernels.library() is not None


def define(
    name: str,
    schema: str,
    compute: Callable[..., Any],
    shapes: Callable[..., Any],
    *,
    keep: Callable[..., None] | None = None,
    differentiate: Callable[..., Any] | None = None,
) -> None:
    """Register an operator for CPUs.

    Parameters
    ----------
    compute
        Its implementation; its results share no memory with its inputs or with each other.
    shapes
        Its fake implementation: empty results of the same shapes and types.
    keep, differentiate
        Its context and its gradient, as :func:`torch.library.register_autograd` takes them.
    """
    full = f"{SPACE}::{name}"
    torch.library.define(full, schema)
    torch.library.impl(full, "CPU", compute)
    torch.library.register_fake(full, shapes)
    if differentiate is not None:
        torch.library.register_autograd(full, differentiate, setup_context=keep)


@contextmanager
def recording() -> Iterator[None]:
    """Record gradients inside an operator, whoever calls it.

    A compiled graph that needs none calls its operators with autograd's dispatch switched off;
    ``enable_grad`` alone would record nothing there, and gradients come out as zeros.
    """
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in (torch._C.DispatchKey.AutogradCPU, torch._C.DispatchKey.AutogradFunctionality):
        excluded = excluded.remove(key)
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        yield


def apart(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return results that share no memory, with a copy of each that shares some."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    separate: list[Tensor] = []
    # backwards, so that of results that share a storage the last is not copied
    for result in reversed(results):
        storage = result.untyped_storage().data_ptr()
        separate.append(result.clone() if storage in taken else result)
        taken.add(storage)
    return separate[::-1]
