"""PyTorch's convolutions, channels_last, cuDNN's algorithms tried out. No JAX in here."""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .problem import BUSY, OPERANDS, RESULTS, Problem
from .sampled import samples

SYNC_S = 0.06
# Of an operand in NHWC or HWIO, the axes that make it NCHW or OIHW; and those that undo it.
TO_TORCH = {False: (0, 3, 1, 2), True: (3, 2, 0, 1)}
FROM_TORCH = {False: (0, 2, 3, 1), True: (2, 3, 1, 0)}


def missing() -> str | None:
    """Why PyTorch cannot be measured, or None."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"no PyTorch: {error}"
    return None


def measure(problem: Problem, what: str, device: str, rounds: int) -> dict[str, Any]:
    """The record of a pass: seconds and errors, or what failed."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = problem.mode != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = problem.mode != "fp32"
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            return _measure(problem, what, device, rounds)
    except Exception as error:  # out of memory, or a convolution that it does not have
        text = f"{type(error).__name__}: {error}"
        return {"oom" if "out of memory" in text else "error": text[:300]}
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _operand(problem: Problem, operand: str, device: str) -> Any:
    """A random tensor in PyTorch's shape: channels_last, or over time as it is."""
    import torch

    kind = torch.bfloat16 if problem.mode == "bf16" else torch.float32
    shape = [problem.shape(operand)[a] for a in TO_TORCH[operand == "w"]]
    if problem.layer.one_d:
        del shape[2]
        return torch.randn(shape, device=device, dtype=kind)
    tensor = torch.empty(shape, device=device, dtype=kind, memory_format=torch.channels_last)
    return tensor.normal_()


def one_pass(problem: Problem, what: str) -> Callable[..., tuple]:
    """A pass of its operands in the order of `problem.OPERANDS`; returns a tuple.

    Padding that differs between the ends of an axis is done by `pad` before, and its gradient by
    a view.
    """
    import torch
    from torch.nn import functional

    layer = problem.layer
    pads = problem.pads[1:] if layer.one_d else problem.pads
    even = all(low == high for low, high in pads)
    padding = [low if even else 0 for low, _ in pads]
    around = [size for pad in reversed(pads) for size in pad]
    strides = [layer.stride] * len(pads)
    rest = (strides, padding, [1] * len(pads), False, [0] * len(pads), layer.groups)
    x_shape = [problem.shape("x")[a] for a in TO_TORCH[False]]
    for axis, (low, high) in zip((2, 3), problem.pads, strict=True):
        x_shape[axis] += 0 if even else low + high
    if layer.one_d:
        del x_shape[2]

    def padded(x: Any) -> Any:
        return x if even else functional.pad(x, around)

    def inner(x: Any) -> Any:
        if even:
            return x
        for axis, (low, high) in enumerate(pads, start=2):
            x = x.narrow(axis, low, x.shape[axis] - low - high)
        return x

    def backward(x: Any, w: Any, y: Any, mask: list[bool]) -> tuple:
        x_bar, w_bar, _ = torch.ops.aten.convolution_backward(y, x, w, None, *rest, mask)
        return x_bar, w_bar

    def like(x_of: Any) -> Any:
        """Stands for an x that is not read: one number, of its shape and strides."""
        form = torch.contiguous_format if layer.one_d else torch.channels_last
        return torch.empty(x_shape, device=x_of.device, dtype=x_of.dtype, memory_format=form)

    held: dict[str, Any] = {}

    def forward(x: Any, w: Any) -> tuple:
        return (torch.ops.aten.convolution(padded(x), w, None, *rest),)

    def dgrad(y: Any, w: Any) -> tuple:
        if "x" not in held:
            held["x"] = like(y)
        return (inner(backward(held["x"], w, y, [True, False, False])[0]),)

    def wgrad(x: Any, y: Any) -> tuple:
        if "w" not in held:
            shape = [problem.shape("w")[a] for a in TO_TORCH[True]]
            if layer.one_d:
                del shape[2]
            form = torch.contiguous_format if layer.one_d else torch.channels_last
            held["w"] = torch.empty(shape, device=y.device, dtype=y.dtype, memory_format=form)
        return (backward(padded(x), held["w"], y, [False, True, False])[1],)

    def training(x: Any, w: Any, y: Any) -> tuple:
        wide = padded(x)
        out = torch.ops.aten.convolution(wide, w, None, *rest)
        x_bar, w_bar = backward(wide, w, y, [True, True, False])
        return out, inner(x_bar), w_bar

    return {"forward": forward, "dgrad": dgrad, "wgrad": wgrad, "training": training}[what]


def canonical(problem: Problem, operand: str, tensor: Any) -> Any:
    """A tensor as a view in NHWC or HWIO, with H."""
    if problem.layer.one_d:
        tensor = tensor.unsqueeze(2)
    return tensor.permute(FROM_TORCH[operand == "w"])


def fetch(tensor: Any, index: tuple) -> np.ndarray:
    """Elements of a tensor, as `sampled.Fetch` says."""
    import torch

    on = tuple(
        torch.from_numpy(np.asarray(i)).to(tensor.device) if isinstance(i, np.ndarray) else i
        for i in index
    )
    return tensor[on].float().cpu().numpy()


def errors(problem: Problem, what: str, operands: tuple, results: tuple) -> dict[str, Any]:
    """Errors of the results of a pass, by result."""
    named = {o: canonical(problem, o, t) for o, t in zip(OPERANDS[what], operands, strict=True)}
    found = samples(problem, RESULTS[what], named, fetch)
    return {
        r: found[r].errors(fetch(canonical(problem, r, t), found[r].index))
        for r, t in zip(RESULTS[what], results, strict=True)
    }


def _measure(problem: Problem, what: str, device: str, rounds: int) -> dict[str, Any]:
    import torch

    cuda = device == "cuda"
    count = problem.copies(what) if cuda else 2
    sets = [tuple(_operand(problem, o, device) for o in OPERANDS[what]) for _ in range(count)]
    function = one_pass(problem, what)
    last = function(*sets[-1])  # tries the algorithms out
    record: dict[str, Any] = {"accuracy": errors(problem, what, sets[-1], last)}
    if cuda:
        size = sum(t.nbytes for t in last)
        del last
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(*sets[0])
        record["workspace_bytes"] = torch.cuda.max_memory_allocated() - before - size
    run = _captured(function, sets, record) if cuda else lambda: _all(function, sets)
    timed = _with_events if cuda else _with_clock
    timed(run, 1)
    outer = max(1, min(200, round(SYNC_S / max(timed(run, 1), 1e-6) + 0.5)))
    seconds = [timed(run, outer) / count for _ in range(rounds)]
    return record | {"seconds": statistics.median(seconds), "rounds": seconds, "sets": count}


def _all(function: Callable[..., tuple], sets: list[tuple]) -> list[tuple]:
    return [function(*operands) for operands in sets]


def _captured(
    function: Callable[..., tuple], sets: list[tuple], record: dict[str, Any]
) -> Callable[[], Any]:
    """The calls as a CUDA graph, which takes their launches off the host; or the calls."""
    import torch

    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*sets[0])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = _all(function, sets)
        record["graph"] = True
    except Exception as error:  # then the host launches them
        torch.cuda.synchronize()
        record["graph"] = f"{type(error).__name__}: {error}"[:200]
        return lambda: _all(function, sets)
    return lambda: (graph.replay(), held)


def _with_clock(run: Callable[[], Any], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


@functools.cache
def _busy_matrix() -> Any:
    import torch

    return torch.randn(BUSY[0], BUSY[0], device="cuda", dtype=torch.bfloat16)


def _busy_clocks() -> None:
    """As the other process does before its timings."""
    found = matrix = _busy_matrix()
    for _ in range(BUSY[1]):
        found = matrix @ found / BUSY[0] ** 0.5


def _with_events(run: Callable[[], Any], calls: int) -> float:
    import torch

    _busy_clocks()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / calls
