"""PyTorch Geometric's convolutions. Imports torch on first use; no JAX in here."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .graphs import Graph

CLASSES = {"rgcn": ("RGCNConv", "FastRGCNConv"), "rgat": ("RGATConv",), "hgt": ("HGTConv",)}
LIMIT_BYTES = 400 * 10**9
SYNC_S = 0.03
ROUNDS = 3


def missing() -> str | None:
    """Why PyG cannot be measured, or None."""
    try:
        import torch_geometric.nn  # noqa: F401
    except ImportError as error:
        return f"no PyTorch Geometric: {error}"
    return None


def largest_bytes(name: str, graph: Graph, features: int, itemsize: int) -> int:
    """Bytes of the largest tensor between the inputs and the output."""
    row = features * itemsize
    if name in ("FastRGCNConv", "RGATConv"):  # a weight for each edge
        return graph.edges * features * row
    if name == "HGTConv":  # keys of all nodes of its source type for each relation
        return int(graph.type_sizes[_ends(graph)[0]].sum()) * row
    return max(graph.nodes, int(np.diff(graph.relation_ptr).max())) * row


def _ends(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Source and destination type of each relation (0 of one without edges)."""
    first = np.minimum(graph.relation_ptr[:-1], graph.edges - 1)
    empty = np.diff(graph.relation_ptr) == 0
    return tuple(np.where(empty, 0, graph.ntype[e[first]]) for e in (graph.src, graph.dst))


def measure(
    name: str, graph: Graph, features: int, heads: int, dtype: str, device: str
) -> dict[str, Any]:
    """Records of the forward pass (without gradients) and of the training step of one class."""
    import torch

    size = largest_bytes(name, graph, features, 2 if dtype == "bf16" else 4)
    if size > LIMIT_BYTES:
        oom = {"oom": f"OOM (estimated {size / 2**30:.0f} GiB)"}
        return {"forward": oom, "training": dict(oom)}
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32, as XLA's default
    records: dict[str, Any] = {}
    for what in ("forward", "training"):
        try:
            records[what] = _time(_step(name, graph, features, heads, dtype, device, what), device)
        except Exception as error:  # out of memory, or an operation without this dtype
            text = f"{type(error).__name__}: {error}"
            memory = isinstance(error, torch.OutOfMemoryError) or "out of memory" in text
            key = "oom" if memory else "error"
            records[what] = {
                key: f"OOM (at least {size / 2**30:.0f} GiB)" if memory else text[:300]
            }
            del error
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return records


def _step(
    name: str, graph: Graph, features: int, heads: int, dtype: str, device: str, what: str
) -> Callable[[int], None]:
    """step(index): one call on one of three inputs."""
    import torch

    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    train = what == "training"
    run, parameters = layer(name, graph, features, heads, kind, device)
    shape = (graph.nodes, features)
    xs = [torch.randn(shape, device=device, dtype=kind, requires_grad=train) for _ in range(3)]
    cotangent = torch.randn(shape, device=device, dtype=kind) if train else None

    def step(index: int) -> None:
        x = xs[index % 3]
        if not train:
            with torch.no_grad():
                run(x)
            return
        for leaf in (x, *parameters):
            leaf.grad = None
        outputs, places = run(x)
        grads = [cotangent[a:b] for a, b in places]
        torch.autograd.backward(outputs, grads)

    return step


def layer(name: str, graph: Graph, features: int, heads: int, kind: Any, device: str):
    """(run, parameters): run(x) gives output tensors and the node ranges that they belong to."""
    import torch
    from torch_geometric import nn

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(array.astype(np.int64)).to(device)

    if name == "HGTConv":
        return _hgt(graph, features, heads, kind, device, tensor)
    options: dict[str, Any] = {"bias": False}
    if name == "RGATConv":
        options |= {"heads": heads, "attention_mechanism": "across-relation"}
    else:
        options["root_weight"] = False
    width = features // heads if name == "RGATConv" else features
    module = getattr(nn, name)(features, width, graph.relations, **options).to(device, kind)
    edge_index = tensor(np.stack([graph.src, graph.dst]))
    edge_type = tensor(graph.etype)

    def run(x):
        return [module(x, edge_index, edge_type)], [(0, graph.nodes)]

    return run, list(module.parameters())


def _hgt(graph: Graph, features: int, heads: int, kind: Any, device: str, tensor: Callable):
    """HGTConv over dictionaries by type. It also has an output projection and a skip."""
    from torch_geometric import nn

    starts = np.concatenate([[0], np.cumsum(graph.type_sizes)])
    types = [str(t) for t in range(len(graph.type_sizes))]
    src_type, dst_type = _ends(graph)
    edges = {}
    for r, (a, b) in enumerate(zip(graph.relation_ptr[:-1], graph.relation_ptr[1:], strict=True)):
        s, d = src_type[r], dst_type[r]
        local = np.stack([graph.src[a:b] - starts[s], graph.dst[a:b] - starts[d]])
        edges[(types[s], f"r{r}", types[d])] = tensor(local)
    module = nn.HGTConv(features, features, (types, list(edges)), heads).to(device, kind)
    places = {t: (int(starts[k]), int(starts[k + 1])) for k, t in enumerate(types)}

    def run(x):
        out = module({t: x[a:b] for t, (a, b) in places.items()}, edges)
        found = {t: y for t, y in out.items() if y is not None}
        return list(found.values()), [places[t] for t in found]

    return run, list(module.parameters())


def _time(step: Callable[[int], None], device: str) -> dict[str, Any]:
    """Seconds a call: the median of `ROUNDS` of at least `SYNC_S` each; and peak bytes."""
    import torch

    cuda = device == "cuda"

    def timed(calls: int) -> float:
        if not cuda:
            begin = time.perf_counter()
            for i in range(calls):
                step(i)
            return (time.perf_counter() - begin) / calls
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for i in range(calls):
            step(i)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    timed(2)
    estimate = timed(1)
    calls = max(1, min(200, round(SYNC_S / estimate + 0.5)))
    seconds = [timed(calls) for _ in range(ROUNDS)]
    record: dict[str, Any] = {"seconds": statistics.median(seconds), "rounds": seconds}
    if cuda:
        record["peak_bytes"] = torch.cuda.max_memory_allocated()
    return record
