"""The explicit form of Im2win feature by feature, and what each form holds in memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from harness.goals import geomean
from harness.results import Results

from . import ours
from .benchmark import Conv
from .cases import Case
from .problem import Problem, make
from .report import OURS, XLA, ratio
from .run import Contender, Context
from .shapes import TWELVE

FULL, WINDOWS = "explicit", "no product"  # the second: its windows alone
EXPLICIT = "im2win_explicit"

Record = dict[str, Any]


class Ablation(Conv):
    """The same layers by the explicit form, whole and in parts."""

    name = "conv_ablation"
    peer = ""

    def cases(self) -> Iterable[Case]:
        return cases(self.platform == "cuda")

    def contenders(self) -> tuple[Callable[..., Iterator[Contender]], tuple[str, ...]]:
        return contenders, (WINDOWS,)

    def judge(self, results: Results) -> None:
        """Prints the tables, and keeps their means."""
        for record in results.data["cases"].values():
            derive(record, results.data["runs"][record["run"]]["small"])
        lines, results.data["means"] = tables(results.data["cases"])
        print("", *lines, sep="\n", flush=True)


class Layer(Case):
    """A layer with all contenders, some of them slow."""

    @property
    def seconds(self) -> float:
        return {"conv4": 25.0, "conv8": 15.0}.get(self.layer, 9)


def cases(on_gpu: bool) -> list[Case]:
    """The twelve layers forward, at float32 accuracy."""
    batch = 128 if on_gpu else 8
    return [Layer("layer", layer.name, batch, "valid", "fp32", "forward", 0) for layer in TWELVE]


def contenders(ctx: Context, problem: Problem) -> Iterator[Contender]:
    """The explicit form whole and in parts, our kernels that order windows on the way, and XLA."""
    if ours.missing() is None:
        yield FULL, "nhwc", ours.function(), {"implementation": EXPLICIT}
        from jaxdirect.conv._explicit import VARIANTS

        parts = VARIANTS[1:] if ctx.platform == "cuda" else (WINDOWS,)
        for name in parts:
            yield name, "nhwc", _variant(problem, name), {}
        yield OURS, "nhwc", ours.function(), {"implementation": "native"}
    yield XLA[0], "nhwc", jax.lax.conv_general_dilated, {}


def _variant(problem: Problem, name: str) -> Callable:
    """A part of the explicit form, called as JAX's convolution is."""
    from jaxdirect.conv import _explicit, _ops
    from jaxdirect.conv.geometry import Geometry

    (pad_h, _), (pad_w, _) = problem.pads
    geometry = Geometry.of(
        *(problem.shape(operand) for operand in "xwy"),
        stride_h=problem.layer.stride,
        stride_w=problem.layer.stride,
        pad_h=pad_h,
        pad_w=pad_w,
    )
    options = _ops.Options(tuple(geometry.window.items()), 1, False)
    return lambda x, w, *_, **__: _explicit.fprop(name)(options, problem.out, x, w)


def derive(record: Record, is_small: bool) -> None:
    """Adds what is made of a layer's figures."""
    if "contenders" in record:
        record["memory"] = _memory(make(record["params"], is_small), record)
        record["ablation"] = _ablation(record)


def _memory(problem: Problem, record: Record) -> Record:
    """Bytes of a layer: what all need, and what each form takes beside that."""
    layer, (height, width) = problem.layer, problem.out
    r, s = layer.kernel
    rows = problem.batch * height * r * layer.channels * problem.itemsize  # of one column
    found = {
        "operands_and_result": problem.nbytes("xwy"),
        "im2win": rows * layer.width,
        "im2col": rows * width * s,
    }
    for key, name in (("explicit", FULL), ("fused", OURS), ("xla", XLA[0])):
        found[key] = record["contenders"].get(name, {}).get("workspace_bytes")
    return found


def _ablation(record: Record) -> Record:
    """Seconds of the windows and of the whole product; the other products' time over its."""
    found = record["contenders"]
    rounds = {k: f["rounds"] for k, f in found.items() if "rounds" in f}
    if FULL not in rounds or WINDOWS not in rounds:
        return {}

    def product(name: str) -> float:
        pairs = zip(rounds[name], rounds[WINDOWS], strict=True)
        return statistics.median(whole - windows for whole, windows in pairs)

    seconds = product(FULL)
    parts = [name for name in rounds if name not in (FULL, WINDOWS, OURS, XLA[0])]
    peers = {name: ratio(found, name, FULL) for name in (OURS, XLA[0])}
    return {
        "windows_s": found[WINDOWS]["seconds"],
        "product_s": seconds,
        "product_tflops": record["flops"] / seconds / 1e12,
        "slower": {name: product(name) / seconds for name in parts},
        "peers": {name: value for name, value in peers.items() if value is not None},
    }


def tables(records: dict[str, Record]) -> tuple[list[str], Record]:
    """Lines for the terminal, and the means for the file."""
    done = {name: r for name, r in records.items() if "memory" in r}
    lines = [*_memory_lines(done), "", *_ablation_lines(done)]
    parts = [r["ablation"] for r in done.values() if r["ablation"]]
    means = {
        kind: {
            name: geomean(p[kind][name] for p in parts if name in p[kind])
            for name in dict.fromkeys(n for p in parts for n in p[kind])
        }
        for kind in ("slower", "peers")
    }
    lines += ["", f"geometric means of {len(parts)} layers:"]
    titles = {"slower": "", "peers": " / explicit"}
    lines += [
        f"  {name + titles[kind]:<24} {value:6.2f}x"
        for kind, found in means.items()
        for name, value in found.items()
        if value is not None
    ]
    return lines, means


def _memory_lines(done: dict[str, Record]) -> list[str]:
    keys = ("operands_and_result", "im2win", "im2col", "explicit", "fused", "xla")
    titles = ("operands+result", "im2win", "im2col", "explicit ws", "fused ws", "XLA ws")
    lines = ["MB".ljust(28) + "".join(f"{title:>16}" for title in titles)]
    for name, record in done.items():
        values = (record["memory"][key] for key in keys)
        cells = ("-" if value is None else f"{value / 1e6:.2f}" for value in values)
        lines.append(f"{name:<28}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def _ablation_lines(done: dict[str, Record]) -> list[str]:
    lines = [
        "windows and product in ms; products without a feature, and whole peers, over explicit's"
    ]
    for name, record in done.items():
        if not (part := record["ablation"]):
            continue
        cells = [f"{name:<28} {part['windows_s'] * 1e3:8.3f} + {part['product_s'] * 1e3:8.3f}"]
        cells.append(f"({part['product_tflops']:.3g} TFLOPS)")
        cells += [f"| {k} {v:.2f}x" for k, v in {**part["slower"], **part["peers"]}.items()]
        lines.append(" ".join(cells))
    return lines
