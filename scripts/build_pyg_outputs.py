#!/usr/bin/env python3
"""Builds tests/nn/pyg_outputs.npz: what PyTorch Geometric's layers give on small graphs.

    python scripts/build_pyg_outputs.py             # needs torch and torch_geometric 2.8, no GPU

For every case: the options, the graph, the inputs, the parameters, and the outputs and the
gradients of `sum(output * cotangent)` (of the nodes' outputs, not of attention weights), computed
in float64 and stored in float32. Without pyg-lib, RGCNConv takes its loop over relations, the path
that averages per relation as documented.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch_geometric import nn

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "nn" / "pyg_outputs.npz"

NODES, RELATIONS, WIDTH, EDGE_WIDTH = 9, 4, 6, 3
MULTIPLICATIVE = "multiplicative-self-attention"
WITHIN = "within-relation"

RGCN = {
    "mean": {},
    "sum": {"aggr": "add"},
    "bases": {"num_bases": 2},
    "blocks": {"num_blocks": 2},
    "bare": {"root_weight": False, "bias": False},
    "featureless": {"in_channels": NODES},
    "featureless_bases": {"in_channels": NODES, "num_bases": 3},
}
RGAT = {
    "plain": {},
    "one_head": {"heads": 1},
    "mean_of_heads": {"concat": False},
    "bases": {"num_bases": 2},
    "blocks": {"num_blocks": 2, "bias": False},
    "edges": {"edge_dim": EDGE_WIDTH},
    "slope": {"negative_slope": 0.5, "edge_dim": EDGE_WIDTH, "concat": False},
    "within": {"attention_mechanism": WITHIN},
    "within_edges": {"attention_mechanism": WITHIN, "edge_dim": EDGE_WIDTH},
    "product": {"attention_mode": MULTIPLICATIVE, "dim": 3},
    "product_edges": {"attention_mode": MULTIPLICATIVE, "dim": 2, "edge_dim": EDGE_WIDTH},
    "product_mean": {"attention_mode": MULTIPLICATIVE, "dim": 2, "concat": False},
    "product_within": {"attention_mode": MULTIPLICATIVE, "attention_mechanism": WITHIN},
    "additive": {"mod": "additive"},
    "scaled": {"mod": "scaled"},
    "f_additive": {"mod": "f-additive"},
    "f_scaled": {"mod": "f-scaled"},
    "product_additive": {"attention_mode": MULTIPLICATIVE, "dim": 2, "mod": "additive"},
    "product_scaled": {"attention_mode": MULTIPLICATIVE, "dim": 2, "mod": "scaled"},
}
NODE_TYPES = {"author": 4, "paper": 6, "tag": 3}
EDGE_TYPES = {
    ("author", "writes", "paper"): 9,
    ("paper", "cites", "paper"): 7,
    ("paper", "by", "author"): 5,
    ("tag", "of", "paper"): 4,
}
HGT = {
    "same_width": {"in_channels": WIDTH, "heads": 2},
    "skip": {"in_channels": 8, "heads": 4},
    "widths": {"in_channels": {"author": 5, "paper": 8, "tag": 3}, "heads": 2},
}


def numbers(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Standard normal numbers that float32 represents."""
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).double()


def randomize(layer: torch.nn.Module, rng: np.random.Generator) -> None:
    """Every parameter is drawn anew: PyG starts many of them at 0 or 1."""
    for parameter in layer.parameters():
        parameter.data = numbers(rng, *parameter.shape) / 2


def typed_edges(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges with repeats, self loops, a relation without edges and a node without in-edges."""
    src = rng.integers(0, NODES, 30)
    dst = rng.integers(0, NODES - 1, 30)
    etype = rng.choice([0, 1, 3], 30)
    src[:2], dst[:2], etype[:2] = 5, 3, 1
    src[2], dst[2] = 4, 4
    return torch.from_numpy(np.stack([src, dst])), torch.from_numpy(etype)


def record(
    layer: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: dict[str, torch.Tensor],
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """The arrays of a case, by name."""
    cotangents = {
        name: numbers(rng, *value.shape) for name, value in outputs.items() if name != "alpha"
    }
    loss = sum((outputs[name] * cotangents[name]).sum() for name in cotangents)
    loss.backward()
    arrays = {f"input/{name}": value for name, value in inputs.items()}
    for name, value in inputs.items():
        if value.requires_grad:
            arrays[f"input_gradient/{name}"] = value.grad
    arrays |= {f"output/{name}": value for name, value in outputs.items()}
    arrays |= {f"cotangent/{name}": value for name, value in cotangents.items()}
    for name, parameter in layer.named_parameters():
        arrays[f"state/{name}"] = parameter
        gradient = parameter.grad
        arrays[f"gradient/{name}"] = torch.zeros_like(parameter) if gradient is None else gradient
    return arrays


def rgcn(rng: np.random.Generator, in_channels: int = WIDTH, **options: Any) -> dict:
    edges, etype = typed_edges(rng)
    layer = nn.RGCNConv(in_channels, 4, RELATIONS, **options)
    randomize(layer, rng)
    inputs = {}
    if in_channels != NODES:
        inputs["x"] = numbers(rng, NODES, in_channels).requires_grad_()
    outputs = {"y": layer(inputs.get("x"), edges, etype)}
    graph = {"edges": edges, "etype": etype}
    return graph | record(layer, inputs, outputs, rng)


def rgat(rng: np.random.Generator, heads: int = 2, **options: Any) -> dict:
    edges, etype = typed_edges(rng)
    layer = nn.RGATConv(WIDTH, 4, RELATIONS, heads=heads, **options)
    randomize(layer, rng)
    inputs = {"x": numbers(rng, NODES, WIDTH).requires_grad_()}
    if "edge_dim" in options:
        inputs["edge_attr"] = numbers(rng, edges.shape[1], EDGE_WIDTH).requires_grad_()
    y, (_, alpha) = layer(
        inputs["x"], edges, etype, inputs.get("edge_attr"), return_attention_weights=True
    )
    graph = {"edges": edges, "etype": etype}
    return graph | record(layer, inputs, {"y": y, "alpha": alpha}, rng)


def hgt(rng: np.random.Generator, in_channels: Any, heads: int) -> dict:
    metadata = (list(NODE_TYPES), list(EDGE_TYPES))
    layer = nn.HGTConv(in_channels, 8, metadata, heads=heads)
    randomize(layer, rng)
    edges = {}
    for (source, name, target), count in EDGE_TYPES.items():
        # The last node of each type has no in-edges.
        ends = [rng.integers(0, NODE_TYPES[source], count)]
        ends.append(rng.integers(0, NODE_TYPES[target] - 1, count))
        edges[source, name, target] = torch.from_numpy(np.stack(ends))
    widths = in_channels
    if isinstance(in_channels, int):
        widths = dict.fromkeys(metadata[0], in_channels)
    inputs = {
        name: numbers(rng, count, widths[name]).requires_grad_()
        for name, count in NODE_TYPES.items()
    }
    outputs = layer(dict(inputs), edges)
    graph = {f"edges/{'__'.join(name)}": value for name, value in edges.items()}
    return graph | record(layer, inputs, outputs, rng)


def pack(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, np.ndarray]:
    """Two vectors and an index instead of hundreds of members: name -> offset and shape."""
    vectors, index = {"float32": [], "int32": []}, {}
    for name, array in arrays.items():
        kind = "float32" if array.dtype.kind == "f" else "int32"
        index[name] = [kind, sum(part.size for part in vectors[kind]), list(array.shape)]
        vectors[kind].append(array.reshape(-1).astype(kind))
    packed = {kind: np.concatenate(parts) for kind, parts in vectors.items()}
    return packed | {"index": np.array(json.dumps(about | {"arrays": index}))}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    if torch_geometric.typing.WITH_SEGMM:
        raise SystemExit("pyg-lib is installed: RGCNConv would average over all relations together")
    arrays, options = {}, {}
    for model, cases, build in (("rgcn", RGCN, rgcn), ("rgat", RGAT, rgat), ("hgt", HGT, hgt)):
        for number, (name, case) in enumerate(cases.items()):
            made = build(np.random.default_rng([len(model), ord(model[-1]), number]), **case)
            options[f"{model}/{name}"] = case
            for key, value in made.items():
                arrays[f"{model}/{name}/{key}"] = value.detach().numpy()
    about = {
        "versions": {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__},
        "cases": options,
        "node_types": NODE_TYPES,
        "edge_types": [list(name) for name in EDGE_TYPES],
    }
    np.savez_compressed(OUTPUT, **pack(arrays, about))
    print(f"{OUTPUT}: {len(options)} cases, {OUTPUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
