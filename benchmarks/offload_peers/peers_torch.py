"""PyTorch's training step of the same model, and its own way to host memory. No JAX in here."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5
RATE = 1e-3
WAYS = ("all saved", "save_on_cpu")

Sizes = dict[str, int]


def missing() -> str | None:
    """Why PyTorch cannot be measured, or None."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"no PyTorch: {error}"
    return None


def measure(sizes: Sizes, device: str, rounds: int) -> dict[str, Any]:
    """The record of both ways: seconds and peak bytes, or what failed.

    Args:
        sizes: the fields of `model.Config`.
        device: "cuda" or "cpu".
        rounds: steps that are timed, after one that is not.
    """
    found = {way: _guarded(sizes, device, rounds, way) for way in WAYS}
    seconds = [found[way].get("seconds") for way in WAYS]
    record: dict[str, Any] = {"contenders": found}
    if None not in seconds:
        record["ratio"] = seconds[1] / seconds[0]
    return record


def _guarded(sizes: Sizes, device: str, rounds: int, way: str) -> dict[str, Any]:
    import torch

    try:
        return _measure(sizes, device, rounds, way)
    except Exception as error:  # out of memory, of the device or of what can be pinned
        text = f"{type(error).__name__}: {error}"
        return {"oom" if "out of memory" in text else "error": text[:300]}
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _measure(sizes: Sizes, device: str, rounds: int, way: str) -> dict[str, Any]:
    import torch

    cuda = device == "cuda"
    torch.manual_seed(0)
    params = _init(sizes, device)
    shape = (sizes["batch"], sizes["steps"] + 1)
    given = [torch.randint(sizes["vocabulary"], shape, device=device) for _ in range(2)]

    def saved() -> Any:
        if way == "all saved":
            return contextlib.nullcontext()
        return torch.autograd.graph.save_on_cpu(pin_memory=cuda)

    _timed(lambda: _step(sizes, params, given[0], saved), cuda)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = [
        _timed(lambda i=i: _step(sizes, params, given[i % 2], saved), cuda) for i in range(rounds)
    ]
    record: dict[str, Any] = {"seconds": statistics.median(seconds), "rounds": seconds}
    if cuda:
        record["peak_bytes"] = torch.cuda.max_memory_allocated()
    return record


def _timed(call: Callable[[], Any], cuda: bool) -> float:
    import torch

    if cuda:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _init(sizes: Sizes, device: str) -> dict[str, Any]:
    """Parameters as in `model.init`, a list of layers each."""
    import torch

    d = sizes["hidden"]

    def matrix(rows: int, columns: int) -> Any:
        made = torch.randn(rows, columns, device=device, dtype=torch.bfloat16) * rows**-0.5
        return made.requires_grad_()

    shapes = {"qkv": (d, 3 * d), "proj": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
    layers = {k: [matrix(*shape) for _ in range(sizes["layers"])] for k, shape in shapes.items()}
    return layers | {"tokens": [matrix(sizes["vocabulary"], d)]}


def _layer(sizes: Sizes, params: dict[str, Any], number: int, x: Any) -> Any:
    """As `model.layer`; x is [batch, steps, hidden]."""
    from torch.nn import functional

    d, heads = sizes["hidden"], sizes["heads"]
    qkv = functional.rms_norm(x, (d,), eps=1e-6) @ params["qkv"][number]
    split = qkv.view(*x.shape[:2], 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(*split.unbind(0), is_causal=True)
    x = x + mixed.transpose(1, 2).reshape(x.shape) @ params["proj"][number]
    up = functional.rms_norm(x, (d,), eps=1e-6) @ params["up"][number]
    return x + functional.gelu(up, approximate="tanh") @ params["down"][number]


def _step(sizes: Sizes, params: dict[str, Any], given: Any, saved: Callable[[], Any]) -> None:
    """Forward, backward and SGD."""
    import torch
    from torch.nn import functional

    (table,) = params["tokens"]
    with saved():
        x = table[given[:, :-1]]
        for number in range(sizes["layers"]):
            x = _layer(sizes, params, number, x)
        logits = functional.rms_norm(x, (sizes["hidden"],), eps=1e-6) @ table.T
        loss = functional.cross_entropy(logits.float().flatten(0, 1), given[:, 1:].flatten())
    loss.backward()
    with torch.no_grad():
        for param in (p for group in params.values() for p in group):
            param -= RATE * param.grad
            param.grad = None
